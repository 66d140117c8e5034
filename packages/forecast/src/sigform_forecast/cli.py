"""`sigform-forecast`: forecast tables of time series from the command line."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from sigform_forecast.batch import tasks_for, threads_of, work_through
from sigform_forecast.jobs import Job, Reading, stem_of
from sigform_kit.batch import stage_progress
from sigform_kit.commands import App, complete_path
from sigform_kit.errors import InputError, UsageError, did_you_mean
from sigform_kit.inputs import STDIN
from sigform_kit.options import Common, common_options
from sigform_kit.running import run

app = App(
    "sigform-forecast",
    help="Forecast the next rows of a table, with intervals, a plot and an honest report.",
    distribution="sigform-forecast",
    default="forecast",
)

FILE = click.Path(path_type=Path)
METHODS = (
    "auto",
    "Informer",
    "LastValue",
    "SeasonalNaive",
    "SeasonalProfile",
    "NLinear",
    "AutoETS",
)
FILLS = ("interpolate", "previous", "zero", "seasonal", "drop", "error")
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Source(click.Path):
    """A file to read, or - for stdin; a missing one is refused before anything is imported."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(path) != STDIN and not path.exists():
            raise InputError(f"{path}: no such file")
        return path


class Width(click.ParamType):
    """A width that the heads of Informer share evenly."""

    name = "width"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not re.fullmatch(r"\d+", str(value)) or int(value) == 0 or int(value) % 4:
            self.fail(f"width is {value}; needs a multiple of 4", param, ctx)
        return int(value)


class Duration(click.ParamType):
    """Seconds, written 90, 90s, 5m or 2h."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|)\s*", str(value))
        if match is None or float(match[1]) <= 0:
            self.fail(f"{value!r} is no time span; needs one such as 60s, 5m or 2h", param, ctx)
        return float(match[1]) * UNITS[match[2]]


class Names(click.ParamType):
    """Column names, separated by commas; one that holds a comma itself stands in quotes."""

    name = "columns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        del param, ctx
        if not isinstance(value, str):
            return tuple(value)
        cells = next(csv.reader([value], skipinitialspace=True), [])
        return tuple(name for cell in cells if (name := cell.strip()))


class Method(click.Choice[str]):
    """The name of a method, in upper or lower case."""

    def __init__(self) -> None:
        super().__init__(METHODS, case_sensitive=False)

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        del ctx
        hint = did_you_mean(str(value).lower(), [name.lower() for name in METHODS])
        return f"{value!r} is no method; needs one of {', '.join(METHODS)}.{hint}"


def stack(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Several click options as one decorator, shown in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


columns_options = stack([
    click.option("--time", metavar="COLUMN", help="Column of the dates."),
    click.option("--id", metavar="COLUMN", help="Column that names the series (long layout)."),
    click.option("--target", type=Names(), default=(), help="Columns to forecast."),
    click.option("--known", type=Names(), default=(), help="Covariates whose future is known."),
    click.option("--past", type=Names(), default=(), help="Covariates known only so far."),
    click.option("--separator", help="Between the cells of a row."),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal sign."),
    click.option("--encoding", help="Of the text, such as utf-8 or cp1252."),
    click.option("--date-format", help="Such as %d.%m.%Y."),
    click.option("--day-first/--month-first", "dayfirst", default=None,
                 help="How 03/04/2024 is meant.  [default: by the other rows]"),
    click.option("--timezone", help="Zone of times without one, such as Europe/Berlin."),
    click.option("--layout", type=click.Choice(["wide", "long"]),
                 help="A column a series, or a row a series and time.  [default: found]"),
])  # fmt: skip

repair_options = stack([
    click.option("--freq", help="Step of the data as a pandas alias, such as h, D, W-SUN, ME."),
    click.option("--fill", type=click.Choice(FILLS), default="interpolate", show_default=True,
                 help="How gaps are filled."),
    click.option("--duplicates", type=click.Choice(["mean", "last", "first", "error"]),
                 default="mean", show_default=True, help="How rows of the same time are merged."),
])  # fmt: skip

fit_options = stack([
    click.option("--model", type=Method(), default="auto", show_default=True, metavar="METHOD",
                 help=f"{', '.join(METHODS[1:])}, or auto: the best on the file's own tail."),
    click.option("--level", "levels", type=click.IntRange(1, 99), multiple=True, default=(80, 95),
                 show_default=True, metavar="PERCENT",
                 help="Level of an interval; may be repeated."),
    click.option("--season", "season_length", type=click.IntRange(1), metavar="ROWS",
                 help="Length of the season.  [default: by validation]"),
    click.option("--look-back", type=click.IntRange(2), metavar="ROWS",
                 help="Rows that Informer reads.  [default: by validation]"),
    click.option("--budget", type=Duration(), default="60s", show_default=True,
                 help="Time for training and backtest."),
    click.option("--steps", type=click.IntRange(1), metavar="N",
                 help="Training steps, instead of as many as fit the budget."),
    click.option("--d-model", type=Width(), default=32, show_default=True, metavar="N",
                 help="Width of Informer, a multiple of 4."),
    click.option("--attention", "attn", type=click.Choice(["prob", "full"]), default="prob",
                 show_default=True, help="ProbSparse or full attention."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=5e-4,
                 show_default=True, metavar="RATE",
                 help="Highest learning rate of the training."),
])  # fmt: skip

output_options = stack([
    click.option("-o", "--output", type=FILE, metavar="PATH",
                 help="Table to write (.csv, .csv.gz, .parquet), a folder, or - for stdout."),
    click.option("--plot/--no-plot", default=True, show_default=True, help="Write a PNG."),
    # --report is the manifest of many inputs, here as in every domain.
    click.option("--no-report", is_flag=True, help="Write no report (.md)."),
    click.option("--like-input", is_flag=True,
                 help="Write separator, decimal sign, encoding and dates as in the input."),
])  # fmt: skip

horizon_option = click.option(
    "-n", "--horizon", type=click.IntRange(1), metavar="ROWS", help="How many rows to forecast."
)


@app.add("forecast")
@click.command(short_help="Forecast the next rows of each FILE; this is the default.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_path)
@horizon_option
@fit_options
@columns_options
@repair_options
@click.option("--future", type=Source(), help="File with the known covariates of the rows to come.")
@output_options
@common_options(
    "device", "dtype", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config",
    seed=0, batch_size=32,
)  # fmt: skip
def forecast(
    files: tuple[str, ...], horizon: int | None, future: Path | None, output: Path | None,
    plot: bool, no_report: bool, like_input: bool, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Forecast the next rows of each FILE (CSV, TSV, parquet, gzipped, or - for stdin).

    Writes FILE_forecast.csv, .png and .md beside it. Columns, dates and frequency are found and
    said; gaps are repaired by the stated rule.
    """
    reading, fit = split_options(options, common)
    job = Job(reading=reading, fit=fit, horizon=horizon, future=future, threads=threads_of(common))
    work_through(job, tasks_for(files, output, plot, not no_report, like_input, common), common)


@app.add("inspect")
@click.command(short_help="Say how FILE is understood and what is wrong with it.")
@click.argument("file", type=Source())
@columns_options
@repair_options
@common_options("json", "config")
def inspect(file: Path, common: Common, **options: Any) -> None:
    """Say how FILE is understood, what is wrong with it and what a repair would do."""
    from sigform_forecast.pipeline import Inspection

    freq, fill = options.pop("freq"), options.pop("fill")
    duplicates = options.pop("duplicates")
    found = Inspection.of(file, reading_of(options), freq, fill, duplicates)
    common.console.result(found.record(), found.text())


@app.add("train")
@click.command(short_help="Fit a forecaster on FILE and save it.")
@click.argument("file", type=Source())
@horizon_option
@fit_options
@columns_options
@repair_options
@click.option("-o", "--output", type=FILE, metavar="FILE.safetensors", help="Model to write.")
@click.option("--run", "run_dir", type=FILE, help="Folder of checkpoints.  [default: FILE_run]")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints of an earlier run.")
@common_options(
    "device", "dtype", "threads", "overwrite", "json", "dry_run", "config", seed=0, batch_size=32
)
@click.pass_context
def train(
    ctx: click.Context, file: Path, horizon: int | None, output: Path | None,
    run_dir: Path | None, resume: bool, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Fit a forecaster on FILE and save it, for `predict --model`.

    Checkpoints, metrics.csv and the settings go to the run folder; after Ctrl-C or a kill,
    `--resume` goes on from there.
    """
    from sigform_core.device import set_threads
    from sigform_forecast.forecaster import Forecaster
    from sigform_forecast.pipeline import horizon_for
    from sigform_kit.outputs import check_target
    from sigform_kit.outputs import output as writing
    from sigform_kit.settings import resolved_settings, write_settings

    set_threads(threads_of(common))
    reading, fit = split_options(options, common)
    model = file.with_name(f"{stem_of(file)}_model.safetensors") if output is None else output
    folder = file.with_name(f"{stem_of(file)}_run") if run_dir is None else run_dir
    if not check_target(model, common.policy, make_parents=True):
        common.console.say(f"{model} exists; skipped")
        return
    if not resume and (folder / "train" / "last.ckpt").exists() and not common.overwrite:
        raise InputError(f"{folder} holds a run; --resume goes on, --overwrite starts anew")
    if common.dry_run:
        common.console.result({"model": model, "run": folder}, f"would train {model} in {folder}")
        return
    tell = partial(tell_all, common)
    table = reading.table(file)
    tell(table.notes)
    length = horizon_for(table, table.future, horizon, tell)
    if not resume:
        clear_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(
        folder / "settings.toml", resolved_settings(ctx), f"sigform-forecast train {file}"
    )
    try:
        with stage_progress(common) as on_progress:
            forecaster = Forecaster(
                length, run_dir=folder, resume=resume, on_progress=on_progress, **fit
            )
            forecaster.fit(table.frame)
    except KeyboardInterrupt:
        common.console.say(f"{folder} keeps the checkpoints; --resume goes on from there")
        raise
    report = forecaster.report_
    tell([f"steps: {report.step}", *report.notes])
    with writing(model, common.policy, make_parents=True) as place:
        forecaster.save(place)
    common.console.result(
        {"model": str(model), "run": str(folder), "report": report.to_dict()},
        f"{report.summary()}\nwrote {model}",
    )


@app.add("predict")
@click.command(short_help="Forecast each FILE with a saved model.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_path)
@click.option("--model", type=Source(), required=True,
              help="Saved forecaster, or checkpoint.pth of the published code.")  # fmt: skip
@horizon_option
@columns_options
@click.option("--future", type=Source(), help="File with the known covariates of the rows to come.")
@output_options
@common_options("device", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config")
def predict(
    files: tuple[str, ...], model: Path, horizon: int | None, future: Path | None,
    output: Path | None, plot: bool, no_report: bool, like_input: bool, common: Common,
    **options: Any,
) -> None:  # fmt: skip
    """Forecast the next rows of each FILE with a model that `train` saved.

    The covariates that the model was fitted with are found by their names.
    """
    job = Job(
        reading=reading_of(options), model=model, horizon=horizon, future=future,
        device=common.device, threads=threads_of(common),
    )  # fmt: skip
    work_through(job, tasks_for(files, output, plot, not no_report, like_input, common), common)


@app.add("backtest")
@click.command(short_help="Measure every method on the tail of FILE.")
@click.argument("file", type=Source())
@horizon_option
@fit_options
@columns_options
@repair_options
@click.option(
    "-o", "--output", type=FILE, metavar="FILE.csv", help="Write every window's forecast."
)
@common_options("device", "dtype", "threads", "overwrite", "json", "config", seed=0, batch_size=32)
def backtest(
    file: Path, horizon: int | None, output: Path | None, common: Common, **options: Any
) -> None:
    """Measure every method on the tail of FILE, without forecasting."""
    from sigform_core.device import set_threads
    from sigform_forecast.forecaster import Forecaster
    from sigform_forecast.pipeline import horizon_for, write_table
    from sigform_kit.outputs import check_target
    from sigform_kit.outputs import output as writing

    set_threads(threads_of(common))
    if output is not None and not check_target(output, common.policy, make_parents=True):
        common.console.say(f"{output} exists; skipped")
        return
    reading, fit = split_options(options, common)
    tell = partial(tell_all, common)
    table = reading.table(file)
    tell(table.notes)
    length = horizon_for(table, table.future, horizon, tell)
    with stage_progress(common) as on_progress:
        forecaster = Forecaster(length, on_progress=on_progress, **fit).fit(table.frame)
    report = forecaster.report_
    tell([f"steps: {report.step}", *report.notes])
    wrote = ""
    if output is not None:
        with writing(output, common.policy, make_parents=True) as place:
            write_table(forecaster.cross_validation(), place, None, output)
        wrote = f"\nwrote {output}"
    common.console.result({**report.to_dict(), "file": output}, report.summary() + wrote)


@app.add("plot")
@click.command(short_help="Draw a forecast again, with its history.")
@click.argument("file", type=Source(), metavar="FORECAST.csv")
@click.option("--history", type=Source(), help="File that was forecast.")
@click.option("-o", "--output", type=FILE, metavar="FILE.png", help="Picture to write.")
@columns_options
@common_options("overwrite", "json")
def plot(
    file: Path, history: Path | None, output: Path | None, common: Common, **options: Any
) -> None:
    """Draw a forecast table again, with the history it continues."""
    import pandas as pd

    from sigform_forecast.plotting import plot_forecast
    from sigform_kit.outputs import check_target
    from sigform_kit.outputs import output as writing

    target = file.with_name(f"{stem_of(file)}.png") if output is None else output
    if not check_target(target, common.policy, make_parents=True):
        common.console.say(f"{target} exists; skipped")
        return
    past = None if history is None else reading_of(options).table(history).frame
    try:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
        if "ds" in table and not pd.api.types.is_numeric_dtype(table["ds"]):
            table["ds"] = pd.to_datetime(table["ds"])
        with writing(target, common.policy, make_parents=True) as place:
            plot_forecast(past, table, place, title=stem_of(file))
    except ValueError as error:
        raise InputError(f"{file} is no forecast table: {error}") from error
    common.console.result({"plot": target}, f"wrote {target}")


@app.add("info")
@click.command(short_help="Say what a saved model or checkpoint holds.")
@click.argument("file", type=Source())
@common_options("json")
def info(file: Path, common: Common) -> None:
    """Say what a saved model or a published checkpoint holds."""
    if file.suffix == ".pth":
        from sigform_forecast.upstream import load_published

        network = load_published(file)
        config = asdict(network.config)
        count = sum(p.numel() for p in network.parameters())
        text = [f"{file}: published {type(network).__name__}, {count:,} parameters"]
        text += [f"  {name}: {value}" for name, value in config.items()]
        common.console.result({"file": str(file), "parameters": count, **config}, "\n".join(text))
        return
    from sigform_forecast.saving import load_forecaster

    settings, fitted = load_forecaster(file)
    network = fitted.network
    count = 0 if network is None else sum(p.numel() for p in network.parameters())
    record = {
        "file": str(file),
        "model": fitted.model,
        "horizon": settings.h,
        "step": fitted.calendar.describe(),
        "series": len(fitted.ids),
        "look_back": None if network is None else network.config.look_back,
        "parameters": count,
        "known": list(settings.known),
        "past": list(settings.past),
        "levels": list(settings.levels),
        "report": fitted.report.to_dict(),
    }
    lines = [
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in record.items()
        if name != "report" and value not in (None, [])
    ]
    common.console.result(record, "\n".join([*lines, "", fitted.report.summary()]))


@app.add("models")
@click.command(short_help="List the methods and where they come from.")
@common_options("json")
def models(common: Common) -> None:
    """List the methods, where they come from, and their error beside the paper's."""
    from sigform_kit.catalogue import FILE as CATALOGUE
    from sigform_kit.catalogue import read_catalogue

    rows = [
        {
            "name": entry.name,
            "what": entry.task,
            "source": entry.origin,
            "ours": entry.ours.text() if entry.ours else None,
            "published": entry.published.text() if entry.published else None,
        }
        for entry in read_catalogue(Path(__file__).with_name(CATALOGUE))
    ]
    common.console.table(rows, list(rows[0]))


@app.add("doctor")
@click.command(short_help="Check that this machine is fit for forecasting.")
@common_options("json")
def doctor(common: Common) -> int:
    """Check that this machine is fit for forecasting, and say what to do if not."""
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks

    names = ("sigform-forecast", "sigform-core", "sigform-kit", "torch", "lightning", "pandas")
    return run_checks(standard_checks(*names, cache=cache_folder()), common.console)


@app.add("benchmark")
@click.command(short_help="Train and test in the paper's protocol.")
@click.option("--data", type=FILE, required=True, help="Folder of the benchmark's CSV files.")
@click.option("--dataset", default="ETTh1", show_default=True, help="File name without .csv.")
@click.option("--features", type=click.Choice(["S", "M", "MS"]), default="S", show_default=True,
              help="One column, all, or all to one.")  # fmt: skip
@click.option("--target", default="OT", show_default=True, help="Column to forecast.")
@click.option("-n", "--horizon", type=click.IntRange(1), default=24, show_default=True,
              metavar="ROWS", help="How many rows to forecast.")  # fmt: skip
@click.option("--look-back", type=click.IntRange(2), metavar="ROWS",
              help="Rows that Informer reads.  [default: by validation]")  # fmt: skip
@click.option("--season", type=click.IntRange(1), metavar="ROWS",
              help="Length of the season.  [default: by validation]")  # fmt: skip
@click.option("--profile/--no-profile", default=None,
              help="Residual on the seasonal profile.  [default: by validation]")  # fmt: skip
@click.option("--seeds", default="0,1,2", show_default=True, help="One training each.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, metavar="N",
              help="Training steps.")  # fmt: skip
@click.option("--d-model", type=Width(), default=64, show_default=True, metavar="N",
              help="Width of Informer, a multiple of 4.")  # fmt: skip
@click.option("--attention", "attn", type=click.Choice(["prob", "full"]), default="prob",
              show_default=True, help="ProbSparse or full attention.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-4,
              show_default=True, metavar="RATE", help="Highest learning rate.")  # fmt: skip
@click.option("--naive", is_flag=True, help="Only the methods that learn nothing.")
@click.option("--runs", type=FILE, default=Path("runs"), show_default=True,
              help="Folder of checkpoints.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from the checkpoints of an earlier run.")
@common_options("device", "dtype", "threads", "json", "config", batch_size=32)
def benchmark(
    data: Path, dataset: str, features: Any, target: str, horizon: int, look_back: int | None,
    season: int | None, profile: bool | None, seeds: str, steps: int, d_model: int, attn: str,
    learning_rate: float, naive: bool, runs: Path, resume: bool, common: Common,
) -> None:  # fmt: skip
    """Train and test in the paper's protocol: published splits and scaling, every test window."""
    from sigform_core.device import set_threads
    from sigform_forecast.benchmarking import Plan, run_benchmark, with_mean
    from sigform_forecast.protocol import load_benchmark, naive_table
    from sigform_forecast.training import Recipe

    if not re.fullmatch(r"\d+(,\d+)*", seeds):
        raise UsageError(f"--seeds is {seeds!r}; needs numbers such as 0,1,2")
    set_threads(threads_of(common))
    bench = load_benchmark(data, dataset, features, target)
    if naive:
        scores = naive_table(bench, [horizon])
        rows = [{"method": name, **asdict(score[horizon])} for name, score in scores.items()]
        common.console.table(rows, ["method", "mse", "mae", "windows"])
        return
    numbers = tuple(int(seed) for seed in seeds.split(","))
    plan = Plan(
        horizon=horizon, look_back=look_back, season_length=season, profile=profile,
        d_model=d_model, attn=attn, seeds=numbers, runs=runs, resume=resume,
        recipe=Recipe(
            seconds=None, steps=steps, batch_size=common.batch_size or 32,
            learning_rate=learning_rate, device=common.device, dtype=common.dtype,
        ),
    )  # fmt: skip
    rows = []
    with stage_progress(common) as on_progress:
        for row in run_benchmark(bench, plan, on_progress=on_progress):
            rows.append(row)
            common.console.detail(f"{row.method}: {row.mse:.4f} {row.mae:.4f}")
    columns = ["method", "mse", "mae", "seed", "steps", "look_back", "windows", "seconds"]
    common.console.table(with_mean(rows), columns)


def reading_of(options: dict[str, Any]) -> Reading:
    """The options of `columns_options` as what they mean."""
    return Reading(**options)


READING = (
    "time", "id", "target", "known", "past", "separator", "decimal", "encoding", "date_format",
    "dayfirst", "timezone", "layout",
)  # fmt: skip


def split_options(options: dict[str, Any], common: Common) -> tuple[Reading, dict[str, Any]]:
    """How to read, and the arguments of a `Forecaster`."""
    reading = reading_of({name: options.pop(name) for name in READING})
    if options["steps"] is not None:
        options["budget"] = None
    return reading, {
        **options,
        "known": reading.known,
        "past": reading.past,
        "seed": common.seed or 0,
        "device": common.device,
        "dtype": common.dtype,
        "batch_size": common.batch_size or 32,
    }


def tell_all(common: Common, notes: Iterable[str]) -> None:
    """A message for each note; -q silences them."""
    for note in notes:
        common.console.say(note)


def clear_run(folder: Path) -> None:
    """Remove the checkpoints of an earlier run; other files of the folder stay."""
    for stage in ("train", "refit"):
        if (folder / stage / "plan.json").is_file():
            shutil.rmtree(folder / stage)


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
