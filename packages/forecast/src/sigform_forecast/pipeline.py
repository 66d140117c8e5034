"""From a file to its forecast: read, diagnose, fit or load, predict, and write what belongs to it.

The command line stands on this; `work_off` is what an engine calls for each input.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.diagnosis import Diagnosis, Duplicates, Fill, diagnose, repair
from sigform_forecast.forecaster import Forecaster, OnStage
from sigform_forecast.reading import Dialect, Table, read_table
from sigform_forecast.report import Report

if TYPE_CHECKING:
    from sigform_forecast.upstream import PublishedForecaster
from sigform_kit.outputs import STDOUT, Policy, check_target, output

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
    timezone: str | None = None

    def table(self, source: Path) -> Table:
        """The table of a file, or of stdin for "-"."""
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
            timezone=self.timezone,
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
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One input and where its forecast goes."""

    source: Path
    targets: Targets


def work_off(job: Job) -> Callable[[Task], dict[str, Any]]:
    """The worker of an engine: loads the model once a process, then is called with each task."""
    from sigform_core.device import set_threads

    set_threads(job.threads)
    model = None if job.model is None else load_model(job.model)

    def work(task: Task) -> dict[str, Any]:
        return run(job, task, model)

    return work


def run(
    job: Job,
    task: Task,
    model: Forecaster | PublishedForecaster | None = None,
    *,
    say: Callable[[str], None] | None = None,
    on_progress: OnStage | None = None,
) -> dict[str, Any]:
    """Forecast one input and write its files; returns what a `--json` line says of it.

    `model` is that of `job.model`, loaded; without one the input's own is fitted. `say` gets a
    plain line for everything found in the file. Raises ValueError or OSError in one line; nothing
    is left half written.
    """
    targets = task.targets
    wanted = [check_target(path, targets.policy, make_parents=True) for path in targets.all]
    record: dict[str, Any] = {"input": str(task.source), "output": str(targets.table)}
    if not wanted[0]:
        return {**record, "status": "skipped"}
    table = job.reading.table(task.source)
    told = list(table.notes)
    future = future_of(table, job)
    if model is None:
        horizon = horizon_for(table, job.horizon, told)
        forecaster = Forecaster(horizon, on_progress=on_progress, **job.fit).fit(table.frame)
        told += forecaster.notes_
        forecast = forecaster.predict(X_df=future)
    else:
        forecaster = model
        if job.horizon not in (None, forecaster.settings.h):
            raise ValueError(
                f"{job.model} forecasts {forecaster.settings.h} rows and {job.horizon} are asked "
                "for; needs a model of that horizon"
            )
        forecast = forecaster.predict(table.frame, X_df=future)
        told += forecaster.notes_
    for note in told if say is not None else ():
        say(note)
    report = forecaster.report_
    write(report, table, forecast, targets, told)
    return {
        **record,
        "status": "done",
        "files": [str(path) for path in targets.all],
        "rows": len(forecast),
        "model": forecaster.model_,
        "report": report.to_dict(),
        "found": told,
        "summary": report.summary(),
    }


def load_model(path: Path) -> Forecaster | PublishedForecaster:
    """A saved forecaster, or a published Informer checkpoint in its folder."""
    if path.suffix == ".pth":
        from sigform_forecast.upstream import PublishedForecaster

        return PublishedForecaster(path)
    return Forecaster.load(path)


def horizon_for(table: Table, asked: int | None, told: list[str]) -> int:
    """The horizon asked for, or a season's worth of rows where there are enough."""
    if asked is not None:
        return asked
    calendar = infer_calendar(table.frame)
    rows = int(table.frame["unique_id"].value_counts().max())
    horizon = max(1, min(max(calendar.season_length, 7), rows // 4))
    told.append(f"no --horizon: forecasting {horizon} rows")
    return horizon


def future_of(table: Table, job: Job) -> pd.DataFrame | None:
    """Known covariates of the rows to come: from their own file, or from the table's last rows."""
    if job.future is None:
        return table.future
    first, *others = job.reading.known
    rows = replace(job.reading, target=(first,), known=tuple(others), past=()).table(job.future)
    future = rows.frame.rename(columns={"y": first})
    # In a wide file the covariates stand once, for every series.
    return future.drop(columns="unique_id") if rows.layout == "wide" else future


def write(
    report: Report, table: Table, forecast: pd.DataFrame, targets: Targets, told: list[str]
) -> None:
    """Write table, plot and report: all of them whole, or none."""
    with ExitStack() as files:

        def place(path: Path) -> Path:
            return files.enter_context(output(path, targets.policy, make_parents=True))

        dialect = table.dialect if targets.like_input else None
        write_table(forecast, place(targets.table), dialect, targets.table)
        if targets.plot is not None:
            from sigform_forecast.plotting import plot_forecast

            plot_forecast(table.frame, forecast, place(targets.plot), title=table.name)
        if targets.report is not None:
            text = report.text()
            if notes := [f"- {note}\n" for note in told if note not in report.notes]:
                text += "\n## The file\n\n" + "".join(notes)
            place(targets.report).write_text(text, encoding="utf-8")


def write_table(frame: pd.DataFrame, path: Path, dialect: Dialect | None, name: Path) -> None:
    """Write a table as the suffix of `name` says: parquet, gzipped CSV or CSV.

    With a dialect, a CSV has the separator, decimal sign, encoding and dates of the input.
    """
    if name.suffix == ".parquet":
        frame.to_parquet(path, index=False)
        return
    compression = "gzip" if name.suffix == ".gz" else None
    if dialect is None:
        frame.to_csv(path, index=False, compression=compression)
        return
    separator = " " if dialect.separator == "whitespace" else dialect.separator or ","
    frame.assign(ds=dialect.dates(pd.Index(frame["ds"]))).to_csv(
        path,
        index=False,
        sep=separator,
        decimal=dialect.decimal,
        encoding=dialect.encoding,
        compression=compression,
    )


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a file holds, what is wrong with it, and what a repair would do."""

    table: Table
    calendar: str
    diagnosis: Diagnosis
    repairs: list[str]

    @classmethod
    def of(
        cls,
        source: Path,
        reading: Reading,
        freq: str | None,
        fill: Fill,
        duplicates: Duplicates,
    ) -> Inspection:
        """Read and diagnose a file without training anything. Raises ValueError."""
        table = reading.table(source)
        calendar = infer_calendar(table.frame, freq)
        diagnosis = diagnose(table.frame, calendar)
        _, repairs = repair(table.frame, calendar, fill=fill, duplicates=duplicates)
        return cls(table=table, calendar=calendar.describe(), diagnosis=diagnosis, repairs=repairs)

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for `--json`."""
        table = self.table
        return {
            "file": table.name,
            "layout": table.layout,
            "time": table.time,
            "id": table.id,
            "targets": table.targets,
            "step": self.calendar,
            "rows": len(table.frame),
            "series": [
                {"unique_id": name, "rows": rows, "first": first, "last": last}
                for name, rows, first, last in self.sizes()
            ],
            "notes": table.notes,
            "findings": [asdict(finding) for finding in self.diagnosis.findings],
            "repairs": self.repairs,
        }

    def text(self, most: int = 10) -> str:
        """The same for a reader; at most `most` series are listed."""
        sizes, table = self.sizes(), self.table
        lines = [f"{table.name}: {len(table.frame)} rows in {len(sizes)} series, {self.calendar}"]
        lines += [f"  {note}" for note in table.notes]
        lines += [f"  {name}: {rows} rows, {a} to {b}" for name, rows, a, b in sizes[:most]]
        if len(sizes) > most:
            lines.append(f"  and {len(sizes) - most} more series")
        findings = self.diagnosis.findings
        lines.append("found:" if findings else "found: nothing wrong")
        lines += [f"  {finding.severity}: {finding.message}" for finding in findings]
        lines.append("a repair would do:" if self.repairs else "a repair would do: nothing")
        lines += [f"  {line}" for line in self.repairs]
        return "\n".join(lines)

    def sizes(self) -> list[tuple[str, int, object, object]]:
        """Name, rows, first and last time of each series."""
        groups = self.table.frame.groupby("unique_id", sort=False)["ds"]
        return [(str(name), len(times), times.min(), times.max()) for name, times in groups]
