"""Writes the tables of models in the READMEs from the catalogues of the domains.

`python scripts/readme_tables.py --write` renews what stands between the markers; `--check` says
which README is out of date and ends with 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sigform_kit.catalogue import FILE, Entry, Figure, read_catalogue

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- models: begin; scripts/readme_tables.py writes this -->", "<!-- models: end -->"
SHORT = ("model", "parameters", "ours", "published", "licence of published weights")
HEADER = ("model", "for", *SHORT[1:])


def catalogues() -> dict[Path, list[Entry]]:
    """The models of each domain by the folder of its distribution."""
    found = sorted(ROOT.glob(f"packages/*/src/*/{FILE}"))
    return {path.parents[2]: read_catalogue(path) for path in found}


def readmes() -> dict[Path, list[str]]:
    """The table that belongs into each README."""
    domains = catalogues()
    rows = [
        [f"[{folder.name}]({folder.relative_to(ROOT)})", *_short(entry)]
        for folder, entries in domains.items()
        for entry in entries
        if entry.paper
    ]
    tables = {ROOT / "README.md": _table(("domain", *SHORT), rows)}
    for folder, entries in domains.items():
        tables[folder / "README.md"] = _table(HEADER, [_row(entry, folder) for entry in entries])
    return tables


def renewed(text: str, table: list[str]) -> str | None:
    """The text with the table between its markers; None where they are not there, once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        return None
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n" + "\n".join(table) + f"\n\n{END}{rest.split(END)[1]}"


def _short(entry: Entry) -> list[str]:
    figures = [figure.text() if figure else "" for figure in (entry.ours, entry.published)]
    return [_model(entry, f"`{entry.name}`"), _size(entry.parameters), *figures, entry.licence]


def _row(entry: Entry, folder: Path) -> list[str]:
    """With what it is for, its card, and who says the figures."""
    name = f"`{entry.name}`"
    if entry.card:
        package = next(folder.glob(f"src/*/{FILE}")).parent
        name = f"[{name}]({(package / entry.card).relative_to(folder)})"
    figures = [_figure(entry.ours), _figure(entry.published)]
    return [_model(entry, name), entry.task, _size(entry.parameters), *figures, entry.licence]


def _model(entry: Entry, name: str) -> str:
    what = entry.model
    if entry.paper:
        what = f"[{what}](https://arxiv.org/abs/{entry.paper})"
    return f"{name}: {what}"


def _size(parameters: int | None) -> str:
    if parameters is None:
        return ""
    if parameters >= 1e6:
        return f"{parameters / 1e6:.3g} M"
    return f"{parameters:,}"


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.text()}; {figure.source}"


def _table(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    lines = [list(header), ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def main() -> int:
    """Renews the READMEs, or says which are out of date; the exit code."""
    parser = argparse.ArgumentParser(description="Tables of models in the READMEs.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="renew the tables")
    what.add_argument("--check", action="store_true", help="say which are out of date")
    write = parser.parse_args().write
    late, bare = [], False
    for path, table in readmes().items():
        text = path.read_text("utf-8")
        new = renewed(text, table)
        if new == text:
            continue
        if new is None:
            sys.stdout.write(f"no markers in {path.relative_to(ROOT)}\n")
            bare = True
            continue
        late.append(path.relative_to(ROOT))
        if write:
            path.write_text(new, encoding="utf-8", newline="\n")
    for path in late:
        verb = "renewed" if write else "out of date:"
        sys.stdout.write(f"{verb} {path}\n")
    return int(bare or (bool(late) and not write))


if __name__ == "__main__":
    sys.exit(main())
