"""From a file to its forecast: read, diagnose, fit or load, predict, and write what belongs to it.

The command line stands on this; `work_off` is what an engine calls for each input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.diagnosis import Diagnosis, diagnose
from sigform_forecast.fitting import OnStage
from sigform_forecast.forecaster import Forecaster
from sigform_forecast.jobs import Job, Reading, Targets, Task
from sigform_forecast.reading import Dialect, Table
from sigform_forecast.repair import Duplicates, Fill, repair
from sigform_forecast.report import Report
from sigform_kit.outputs import check_target, output

if TYPE_CHECKING:
    from sigform_forecast.upstream import PublishedForecaster


def work_off(job: Job, folder: Path) -> Callable[[Task], dict[str, Any]]:
    """The worker of an engine: loads the model once a process, then is called with each task.

    Paths are meant from `folder`, which a cluster's processes need to see as well.
    """
    from sigform_core.device import set_threads

    os.chdir(folder)
    set_threads(job.threads)
    model = None if job.model is None else load_model(job.model, job.device)

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
    told: list[str] = []

    def tell(notes: Sequence[str]) -> None:
        for note in notes:
            told.append(note)
            if say is not None:
                say(note)

    if model is None and job.model is not None:
        model = load_model(job.model, job.device)
    reading = job.reading if model is None else completed(job.reading, model)
    table = reading.table(task.source)
    tell(table.notes)
    future = future_of(table, reading, job.future)
    if model is None:
        horizon = horizon_for(table, future, job.horizon, tell)
        check_future(future, reading, horizon)
        forecaster = Forecaster(horizon, on_progress=on_progress, **job.fit).fit(table.frame)
        tell([f"steps: {forecaster.report_.step}", *forecaster.report_.notes])
        forecast = forecaster.predict(X_df=future)
    else:
        forecaster = model
        if job.horizon not in (None, forecaster.settings.h):
            raise ValueError(
                f"{job.model} forecasts {forecaster.settings.h} rows and {job.horizon} are asked "
                "for; needs a model of that horizon"
            )
        check_future(future, reading, forecaster.settings.h)
        forecast = forecaster.predict(table.frame, X_df=future)
        tell(forecaster.notes_)
        if forecaster.report_.scores:
            tell([f"the scores are those of the data {job.model} was fitted on"])
    report = forecaster.report_
    write(report, table, forecast, targets, told)
    return {
        **record,
        "status": "done",
        "files": [str(path) for path, here in zip(targets.all, wanted, strict=True) if here],
        "rows": len(forecast),
        "model": forecaster.model_,
        "report": report.to_dict(),
        "found": told,
        "summary": report.summary(),
    }


def load_model(path: Path, device: str) -> Forecaster | PublishedForecaster:
    """A saved forecaster, or a published Informer checkpoint in its folder."""
    if path.suffix == ".pth":
        from sigform_forecast.upstream import PublishedForecaster

        return PublishedForecaster(path)
    forecaster = Forecaster.load(path)
    # The device of the training need not be here.
    forecaster.settings = replace(forecaster.settings, device=device)
    return forecaster


def completed(reading: Reading, model: Forecaster | PublishedForecaster) -> Reading:
    """How to read a table for a saved model: with the covariates that it was fitted with."""
    settings = model.settings
    return replace(
        reading, known=reading.known or settings.known, past=reading.past or settings.past
    )


def horizon_for(
    table: Table,
    future: pd.DataFrame | None,
    asked: int | None,
    tell: Callable[[Sequence[str]], None],
) -> int:
    """The horizon asked for; else the rows whose covariates are known, or about a season."""
    if asked is not None:
        return asked
    if future is not None:
        horizon = rows_ahead(future)
        tell([f"no --horizon: forecasting the {horizon} rows with known covariates"])
        return horizon
    calendar = infer_calendar(table.frame)
    rows = int(table.frame["unique_id"].value_counts().max())
    horizon = max(1, min(max(calendar.season_length, 7), rows // 4))
    tell([f"no --horizon: forecasting {horizon} rows"])
    return horizon


def future_of(table: Table, reading: Reading, file: Path | None) -> pd.DataFrame | None:
    """Known covariates of the rows to come: from their own file, or from the table's last rows."""
    if file is None:
        return table.future
    if not reading.known:
        raise ValueError(f"{file} holds known covariates; needs --known with their columns")
    first, *others = reading.known
    rows = replace(reading, target=(first,), known=tuple(others), past=()).table(file)
    future = rows.frame.rename(columns={"y": first})
    # In a wide file the covariates stand once, for every series.
    return future.drop(columns="unique_id") if rows.layout == "wide" else future


def check_future(future: pd.DataFrame | None, reading: Reading, horizon: int) -> None:
    """Raise ValueError, before any training, when known covariates end before the horizon."""
    rows = 0 if future is None else rows_ahead(future)
    if reading.known and rows < horizon:
        raise ValueError(
            f"{', '.join(reading.known)} is known for {rows} rows after the last value; needs "
            f"{horizon}: as rows without a value at the end of the file, or in --future FILE"
        )


def rows_ahead(future: pd.DataFrame) -> int:
    """Rows of the series with the fewest."""
    if "unique_id" not in future:
        return len(future)
    return int(future["unique_id"].value_counts().min())


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
        for name, rows, first, last in sizes[:most]:
            span = f"{first} to {last}".replace(" 00:00:00", "")
            lines.append(f"  {name}: {rows} rows, {span}")
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
