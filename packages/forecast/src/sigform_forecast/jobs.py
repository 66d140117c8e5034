"""What is to be done with which inputs: plain values that travel to every worker.

Imported before there is work to do, so it stays on the kit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sigform_kit.inputs import STDIN
from sigform_kit.outputs import STDOUT, Policy

if TYPE_CHECKING:
    from sigform_forecast.reading import Table

SUFFIXES = (".csv", ".tsv", ".txt", ".gz", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a table is to be read, where the user knows better than what would be found."""

    time: str | None = None
    id: str | None = None
    target: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    date_format: str | None = None
    dayfirst: bool | None = None
    timezone: str | None = None
    layout: Literal["wide", "long"] | None = None

    def table(self, source: Path) -> Table:
        """The table of a file, or of stdin for "-". Raises ValueError or OSError."""
        from sigform_forecast.reading import read_table

        return read_table(
            str(source),
            time=self.time,
            id=self.id,
            target=list(self.target) or None,
            known=self.known,
            past=self.past,
            separator=self.separator,
            decimal=self.decimal,
            encoding=self.encoding,
            date_format=self.date_format,
            dayfirst=self.dayfirst,
            timezone=self.timezone,
            layout=self.layout,
        )


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The files of one forecast; None for what is not wanted. "-" is stdout."""

    table: Path
    plot: Path | None = None
    report: Path | None = None
    policy: Policy = "refuse"
    like_input: bool = False

    @classmethod
    def beside(
        cls, table: Path, *, plot: bool, report: bool, policy: Policy, like: bool
    ) -> Targets:
        """Plot and report under the table's name; neither when the table goes to stdout."""
        files = str(table) != STDOUT
        stem = table.with_name(table.name.removesuffix(".gz")).with_suffix("")
        return cls(
            table=table,
            plot=stem.with_suffix(".png") if plot and files else None,
            report=stem.with_suffix(".md") if report and files else None,
            policy=policy,
            like_input=like,
        )

    @property
    def all(self) -> list[Path]:
        """Every file that will be there."""
        return [path for path in (self.table, self.plot, self.report) if path is not None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with every input: fit with these arguments, or forecast with a saved model."""

    reading: Reading
    fit: dict[str, Any] = field(default_factory=dict)
    horizon: int | None = None
    model: Path | None = None
    future: Path | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One input and where its forecast goes."""

    source: Path
    targets: Targets

    @property
    def outputs(self) -> list[Path]:
        """Every file that will be there."""
        return self.targets.all


def stem_of(source: Path) -> str:
    """The name of an input without its suffixes, to name outputs after."""
    if str(source) == STDIN:
        return "stdin"
    return Path(source.name.removesuffix(".gz")).stem
