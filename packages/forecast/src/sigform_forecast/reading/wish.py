"""What the caller of `read_table` asked for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sigform_forecast.wording import listed

Layout = Literal["wide", "long"]


@dataclass(frozen=True)
class Wish:
    """Columns and readings that are given; None or empty for those to be found."""

    time: str | None
    id: str | None
    targets: list[str]
    known: list[str]
    past: list[str]
    date_format: str | None
    dayfirst: bool | None
    timezone: str | None
    layout: Layout | None

    @property
    def values(self) -> list[str]:
        """The columns asked for that hold numbers."""
        return [*self.targets, *self.known, *self.past]

    @property
    def columns(self) -> list[str]:
        """All columns asked for."""
        return [*filter(None, (self.time, self.id)), *self.values]

    def check(self, file: str, names: Sequence[str]) -> None:
        """Raise unless the columns asked for are among `names`, each in one role."""
        asked, lower = self.columns, {name.lower(): name for name in names}
        for name in asked:
            if name not in names:
                near = difflib.get_close_matches(name.lower(), lower, 1, 0.5)
                hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
                raise ValueError(f"{file}: has no column {name!r}{hint} (columns: {listed(names)})")
            if asked.count(name) > 1:
                raise ValueError(
                    f"{file}: column {name!r} has {asked.count(name)} roles; needs one"
                )
