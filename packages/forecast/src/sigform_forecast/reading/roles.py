"""Which columns tell the series apart, and which hold what is to be forecast."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigform_forecast.reading.columns import ID_NAME, Column, RawTable
from sigform_forecast.reading.wish import Wish
from sigform_forecast.wording import counted, listed, short

_TARGET_NAMES = ("y", "target", "value", "values", "sales", "demand", "quantity", "qty", "units")


def find_ids(raw: RawTable, wish: Wish) -> list[str]:
    """The columns that tell the series apart; none when every value column is a series."""
    if wish.id is not None:
        return [wish.id]
    if wish.layout == "wide":
        return []
    if "unique_id" in raw.columns:
        return ["unique_id"]
    rows, distinct = len(raw.ds), _distinct(raw.ticks)
    if rows - distinct < 0.02 * rows and wish.layout is None:
        return []
    stamps = pd.factorize(raw.ds)[0]
    candidates = sorted(
        (not ID_NAME.fullmatch(name), column.kind == "number", place, name)
        for place, (name, column) in enumerate(raw.columns.items())
        if name not in wish.values
    )
    coded: dict[str, tuple[NDArray[np.intp], int]] = {}
    for unlike, number, _, name in candidates:
        codes, texts = _codes(raw.columns[name])
        # A number without an id's name is one only if every series has every timestamp.
        balanced = 0.8 < len(texts) * distinct / rows < 1.25
        if 1 < len(texts) <= rows // 2 and (not number or not unlike or balanced):
            coded[name] = codes, len(texts)
    for name, (codes, _) in coded.items():
        if _repeats(codes, stamps) <= 0.02 * rows:
            return [name]
    for first, second in itertools.combinations(coded, 2):
        codes = coded[first][0] * coded[second][1] + coded[second][0]
        if _repeats(codes, stamps) <= 0.02 * rows:
            return [first, second]
    repeats = {name: _repeats(codes, stamps) for name, (codes, _) in coded.items()}
    best = min(repeats, key=lambda name: repeats[name], default=None)
    if best is not None and repeats[best] < 0.1 * rows:
        return [best]
    if wish.layout == "long" or distinct < 0.5 * rows:
        raise ValueError(
            f"{raw.name}: {rows:,} rows have {distinct:,} different times and no column tells the "
            "series apart; needs --id, or --layout wide "
            f"(columns: {listed([raw.time, *raw.columns])})"
        )
    return []


def _repeats(codes: NDArray[np.intp], stamps: NDArray[np.intp]) -> int:
    """How many rows repeat the timestamp of another row of the same series."""
    return len(codes) - _distinct(codes * (int(stamps.max()) + 1) + stamps)


def _distinct(values: NDArray[np.int64]) -> int:
    # Sorting is much faster than np.unique's hashing when nearly all values differ.
    return 1 + int((np.diff(np.sort(values)) > 0).sum())


def _codes(column: Column) -> tuple[NDArray[np.intp], list[str]]:
    """Numbered values of a column in order of appearance; no values when it cannot name series."""
    if column.kind == "text":
        codes, used = pd.factorize(column.codes)
        return codes, [column.texts[code] for code in used]
    values = column.values
    if column.kind == "time" or np.isnan(values).any() or (values != np.floor(values)).any():
        return np.zeros(0, np.intp), []
    codes, used = pd.factorize(values)
    return codes, [str(int(value)) for value in used]


def series_of_rows(raw: RawTable, ids: list[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Number of the series of each row, and the names in order of appearance."""
    if not ids:
        return np.zeros(len(raw.ds), np.intp), [""]
    codes, names = _codes(raw.columns[ids[0]])
    if not names:
        raise ValueError(f"{raw.name}: id column {ids[0]!r} holds no names or whole numbers")
    for other in ids[1:]:
        more, texts = _codes(raw.columns[other])
        codes, used = pd.factorize(codes * len(texts) + more)
        names = [f"{names[both // len(texts)]}/{texts[both % len(texts)]}" for both in used]
    if "" in names:
        row = int((codes == names.index("")).argmax())
        raise raw.fault(row, f"id column {ids[0]!r} is blank")
    return codes, names


def find_free(raw: RawTable, ids: list[str], wish: Wish) -> list[str]:
    """The columns of numbers that are no id and no covariate; row numbers are dropped."""
    taken = {*ids, *wish.known, *wish.past}
    free = [
        name
        for name, column in raw.columns.items()
        if column.kind == "number" and name not in taken and not _is_text_throughout(column)
    ]
    for name in [name for name in free if _is_row_number(name, raw.columns[name])]:
        if name not in wish.targets:
            raw.notes.append(f"ignored column {name!r}: it numbers the rows")
            del raw.columns[name]
            free.remove(name)
    return free


def find_targets(free: list[str], ids: list[str]) -> list[str]:
    """All free columns, or of a long table the one that is named like a target."""
    if not ids or len(free) == 1:
        return free
    named = [name for wanted in _TARGET_NAMES for name in free if name.lower() == wanted]
    return named[:1] or free


def check_values(raw: RawTable, used: list[str]) -> None:
    """Raise ValueError at the first cell of the used columns that is no finite number."""
    for name in used:
        column = raw.columns.get(name)
        if column is None or column.kind != "number":
            raise ValueError(f"{raw.name}: column {name!r} holds no numbers; needs numbers")
        if column.bad is not None:
            row, text = column.bad
            infinite = re.fullmatch(r"\s*[+-]?inf(inity)?\s*", text, re.IGNORECASE)
            needs = "a finite number" if infinite else "a number"
            raise raw.fault(row, f"column {name!r} holds {short(text)!r}; needs {needs}")


def _is_row_number(name: str, column: Column) -> bool:
    number = re.fullmatch(
        r"#|id|no\.?|nr\.?|num|index|idx|row|row[_ ]?(?:id|num|no|nr)", name.lower()
    )
    return number is not None and bool((np.diff(column.values) == 1).all())


def _is_text_throughout(column: Column) -> bool:
    return column.bad is not None and bool(np.isnan(column.values).all())


def note_roles(
    raw: RawTable, ids: list[str], names: list[str], targets: list[str], free: list[str], wish: Wish
) -> None:
    """Say which columns are used for what, and which are not."""
    used = [*targets, *wish.known, *wish.past]
    if ids:
        label = " and ".join(repr(name) for name in ids)
        what = counted(len(names), "series")
        raw.notes.append(f"long layout: id column {label}, {what}, target {listed(targets)}")
    else:
        what = counted(len(targets), "series")
        raw.notes.append(f"wide layout: {what} ({listed(targets)})")
    unused = [name for name in free if name not in targets]
    if unused:
        options = "--target, --known or --past"
        raw.notes.append(f"not used: {listed(unused)} (name them with {options})")
    for name, column in raw.columns.items():
        if name in ids or name in unused or name in used:
            continue
        distinct = f" ({counted(len(_codes(column)[1]), 'distinct text')})"
        raw.notes.append(f"ignored text column {name!r}" + distinct * (column.kind == "text"))
    gaps = {name: count for name in used if (count := raw.columns[name].missing)}
    for name, count in list(gaps.items())[:10]:
        raw.notes.append(f"{counted(count, 'missing value')} in {name!r}")
    if len(gaps) > 10:
        raw.notes.append(f"missing values in {len(gaps) - 10} more columns")
