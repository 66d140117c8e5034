"""`sigform-decode`: what a person's EEG says, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from sigform_eeg.batch import (
    RUN_WEIGHTS,
    Job,
    card_of,
    events_of,
    model_and_places,
    names_of,
    numbers_of,
    tasks_for,
    work_through,
)
from sigform_kit.batch import stage_progress, threads_of
from sigform_kit.commands import App, complete_path
from sigform_kit.errors import InputError, UsageError
from sigform_kit.options import Common, Source, common_options
from sigform_kit.running import run

app = App(
    "sigform-decode",
    help="Decode EEG recordings and streams with small transformer networks, also spiking ones.",
    distribution="sigform-eeg",
    default="run",
)

FILE = click.Path(path_type=Path)
ARCHITECTURES = ("dbconformer", "lmuformer", "lmuformer-spiking")
PROTOCOLS = ("co", "cv", "loso", "held-out", "runs")
ALIGN = ("none", "subject", "online")
EXAMPLE = Path("simulated")
EXAMPLE_RECIPE = {"epochs": 16.0, "batch_size": 8}
"""Of --example where nothing else is said: half a minute of training."""

POSITIVE = click.FloatRange(0, min_open=True)


weights_option = click.option(
    "-w", "--weights", metavar="NAME|PATH",
    shell_complete=complete_path,
    help="The model, instead of as first word.  [default: default, the shipped one]",
)  # fmt: skip
align_option = click.option(
    "--align", type=click.Choice(ALIGN), metavar="|".join(ALIGN),
    help="Euclidean alignment; only online is causal.  [default: as the model was trained]",
)  # fmt: skip
events_option = click.option(
    "-e", "--events", multiple=True, metavar="CLASS=EVENT[,EVENT]",
    help="The annotations or stim codes of a class, such as left=T1; once for each class. `info` "
    "lists them.  [default: every cue is a class]",
)  # fmt: skip
runs_option = click.option(
    "--runs", metavar="N,N,...", help="Keep the recordings with these run numbers.",
)  # fmt: skip


@app.add("run")
@click.command("run", short_help="Decode recordings, window after window; this is the default.")
@click.argument(
    "words", nargs=-1, required=True, metavar="[MODEL] RECORDING...",
    shell_complete=complete_path,
)  # fmt: skip
@weights_option
@click.option("-o", "--output", type=FILE, metavar="PATH",
              help="CSV file to write, a folder, or - for stdout.  "
              "[default: RECORDING_decoded.csv]")  # fmt: skip
@click.option("--hop", type=POSITIVE, default=0.5, show_default=True, metavar="S",
              help="Seconds from one window to the next.")  # fmt: skip
@align_option
@click.option("--annotate", type=FILE, metavar="OUT.fif",
              help="Also write the recording with what was decoded as annotations; a file or a "
              "folder.")  # fmt: skip
@common_options("device", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config")
def run_command(
    words: tuple[str, ...], weights: str | None, output: Path | None, hop: float,
    align: str | None, annotate: Path | None, common: Common,
) -> None:  # fmt: skip
    """Decode each RECORDING by MODEL: a shipped name, a weight file or the folder of a training.

    Recordings are whatever MNE reads, or folders of them. Channels are found by name, rates
    reconciled. Writes a row for each window: where it ends, the probability of each class, and the
    likeliest.
    """
    model, names = model_and_places(words, weights)
    if not names:
        raise UsageError("needs a RECORDING")
    job = Job(
        weights=model,
        hop=hop,
        align=align,
        device=common.device,
        threads=threads_of(common),
    )
    work_through(job, tasks_for(names, common, output=output, annotate=annotate), common)


@app.add("stream")
@click.command(short_help="Decode a stream as it comes: a file in real time, or LSL.")
@click.argument("model", required=False, metavar="[MODEL]", shell_complete=complete_path)
@weights_option
@click.option("--source", required=True, metavar="FILE|lsl:NAME",
              help="A recording played as if live, or an LSL stream.")  # fmt: skip
@click.option("--hop", type=POSITIVE, metavar="S",
              help="Seconds between answers.  [default: every token, or 0.5]")  # fmt: skip
@align_option
@click.option("--calibrate", type=Source(), metavar="FILE",
              help="An earlier recording, to align by with --align subject.")  # fmt: skip
@click.option("--speed", type=POSITIVE, metavar="TIMES",
              help="How much faster than it was recorded a file comes.  "
              "[default: as fast as it is read]")  # fmt: skip
@click.option("--seconds", type=POSITIVE, metavar="S", help="Stop after this much of the stream.")
@click.option("--unit", metavar="UNIT", help="Of an LSL stream that does not state its own.")
@click.option("--reconnect", type=click.FloatRange(0), default=10.0, show_default=True, metavar="S",
              help="How long a dropped LSL stream has to come back.")  # fmt: skip
@common_options("device", "json", "config", threads=1)
def stream(
    model: str | None, weights: str | None, source: str, hop: float | None, align: Any,
    calibrate: Path | None, speed: float | None, seconds: float | None, unit: str | None,
    reconnect: float, common: Common,
) -> None:  # fmt: skip
    """Print a line for each answer of MODEL while a stream comes in, and step times at the end.

    Nothing that comes later plays a part in an answer. Memory does not grow with the stream.
    """
    if model is not None and weights is not None:
        raise UsageError(f"MODEL {model} and --weights {weights} are both given; needs one")
    live = source.startswith("lsl:")
    if live and speed is not None:
        raise UsageError(f"{source} comes as fast as it comes; --speed is for files")
    if not live and not Path(source).exists():
        raise InputError(f"{source}: no such file")
    from sigform_eeg.decoder import Decoder
    from sigform_eeg.jobs import calibration
    from sigform_eeg.streaming import Latency, open_source
    from sigform_eeg.streaming import stream as posteriors

    chosen, _ = model_and_places([model] if model else [], weights or model)
    decoder = Decoder.load(chosen, align=align, device=common.device, threads=common.threads)
    matrix = calibration(decoder, calibrate)
    latency = Latency()
    opened = open_source(
        source, channels=None if live else decoder.channels, speed=speed, unit=unit,
        reconnect=reconnect, on_note=common.console.warn,
    )  # fmt: skip
    count = 0
    with opened:
        for note in opened.notes:
            common.console.say(note)
        try:
            for told in posteriors(decoder, opened, hop=hop, matrix=matrix, latency=latency):
                if seconds is not None and told.time > seconds:
                    break
                count += 1
                shares = dict(zip(decoder.classes, told.probabilities.tolist(), strict=True))
                likeliest = max(shares, key=lambda name: shares[name])
                text = "  ".join(f"{name} {share:.3f}" for name, share in shares.items())
                common.console.result(
                    {"time": told.time, "class": likeliest, "probabilities": shares},
                    f"{told.time:9.3f} s  {text}  {likeliest}",
                )
        finally:
            if count:
                p50, p99 = 1000 * latency.p50, 1000 * latency.p99
                common.console.say(
                    f"{count} answers; step p50 {p50:.2f} ms, p99 {p99:.2f} ms "
                    f"({decoder.align} alignment)"
                )
    if not count:
        raise InputError(
            f"{source}: ended before the first answer, which takes {decoder.window_seconds:g} s"
        )


@app.add("train")
@click.command(short_help="Train a network on recordings and test it by folds.")
@click.argument("folder", type=FILE, required=False, metavar="[FOLDER]")
@events_option
@click.option("-o", "--output", type=FILE, metavar="RUN_DIR",
              help="Folder of the run.  [default: FOLDER_ARCHITECTURE]")  # fmt: skip
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default="dbconformer",
              show_default=True, help="Network to train; the LMUFormers stream.")  # fmt: skip
@click.option("--protocol", type=click.Choice(PROTOCOLS), metavar="|".join(PROTOCOLS),
              help="How it is tested: within subjects in time, in five parts or by run; or leaving "
              "out one subject, or every fifth.  [default: loso; cv for one subject]")  # fmt: skip
@click.option("--align", type=click.Choice(ALIGN), default="online", show_default=True,
              help="Euclidean alignment of test trials; only online is causal.")  # fmt: skip
@runs_option
@click.option("--channels", metavar="NAME,NAME,...",
              help="Channels to use.  [default: EEG that all recordings have]")  # fmt: skip
@click.option("--start", type=float, default=0.0, show_default=True, metavar="S",
              help="Where the window begins, after the cue.")  # fmt: skip
@click.option("--stop", type=float, default=4.0, show_default=True, metavar="S",
              help="Where it ends.")  # fmt: skip
@click.option("--low", type=click.FloatRange(0), default=8.0, show_default=True, metavar="HZ",
              help="Lower edge of the band; 0 for none.")  # fmt: skip
@click.option("--high", type=POSITIVE, default=32.0, show_default=True, metavar="HZ",
              help="Upper edge of the band.")  # fmt: skip
@click.option("--sample-rate", type=POSITIVE, default=160.0, show_default=True, metavar="HZ",
              help="Rate at which the network works.")  # fmt: skip
@click.option("--epochs", type=POSITIVE, default=40.0, show_default=True, metavar="N",
              help="Times that every trial is seen.")  # fmt: skip
@click.option("--learning-rate", type=POSITIVE, default=3e-3, show_default=True, metavar="RATE",
              help="Highest learning rate.")  # fmt: skip
@click.option("--weight-decay", type=click.FloatRange(0), default=1e-2, show_default=True,
              metavar="RATE", help="Of the matrices, as AdamW has it.")  # fmt: skip
@click.option("--final/--no-final", default=True, show_default=True,
              help="Train once more on all trials for the weights, or keep those of the only "
              "fold.")  # fmt: skip
@click.option("--card", multiple=True, metavar="NAME=TEXT",
              help="Say more in the weights' card, such as an attribution.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an earlier run.")
@click.option("--example", is_flag=True,
              help="Simulate small recordings in FOLDER (simulated), train on them.")  # fmt: skip
@common_options(
    "device", "threads", "overwrite", "json", "dry_run", "config", seed=0, batch_size=32
)
@click.pass_context
def train(
    ctx: click.Context, folder: Path | None, events: tuple[str, ...], output: Path | None,
    architecture: str, protocol: str | None, align: Any, runs: str | None, channels: str | None,
    start: float, stop: float, low: float, high: float, sample_rate: float, final: bool,
    card: tuple[str, ...], resume: bool, example: bool, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Train on the recordings in FOLDER, of one subject or many, and test by the protocol.

    Writes to RUN_DIR: weights.safetensors, metrics.json, report.html, the settings, checkpoints.
    CSP+LDA is tested on the same folds. After Ctrl-C or a kill, --resume goes on from there.

    Channels that are flat, have NaN or are marked bad are interpolated from the others.
    """
    if folder is None and not example:
        raise UsageError("needs a FOLDER of recordings, or --example")
    if example and events:
        raise UsageError("--example has its own events; needs no --events")
    folder = folder or EXAMPLE
    if not example and not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    named = events_of(events)
    told = card_of(card)
    numbers = numbers_of(runs)
    here = folder if folder.name not in ("", "..") else folder.resolve()
    run_dir = output or here.with_name(f"{here.name}_{architecture}")
    weights = run_dir / RUN_WEIGHTS
    options["batch_size"] = common.batch_size or 32
    if example:
        options |= {
            name: value
            for name, value in EXAMPLE_RECIPE.items()
            if ctx.get_parameter_source(name) is ParameterSource.DEFAULT
        }
    from sigform_core.device import set_threads
    from sigform_eeg import jobs
    from sigform_eeg.fitting import Plan, fit_subjects, make_setup
    from sigform_eeg.preprocessing import Preprocessing
    from sigform_eeg.protocols import folds_of
    from sigform_eeg.reading import read_trials
    from sigform_eeg.simulated import EVENTS
    from sigform_eeg.training import Recipe
    from sigform_kit.outputs import check_target
    from sigform_kit.settings import resolved_settings, write_settings

    preprocessing = Preprocessing(
        channels=names_of(channels), sample_rate=sample_rate, low=low, high=high,
        start=start, stop=stop,
    )  # fmt: skip
    recipe = Recipe(seed=common.seed or 0, device=common.device, **options)
    if not check_target(weights, common.policy, make_parents=True):
        common.console.say(f"{weights} exists; skipped")
        return
    jobs.check_run(run_dir, resume=resume, anew=common.overwrite)
    if example:
        if common.dry_run:
            common.console.result({"weights": weights}, f"would simulate {folder}, train {weights}")
            return
        made = jobs.example(folder, common.policy, resume=resume)
        common.console.say(f"simulated {len(made)} recordings in {folder}, of no person")
        told = {"data": "simulated by sigform-eeg, from no person"} | told
    read = read_trials(folder, preprocessing, events=EVENTS if example else named, runs=numbers)
    for note in read.notes:
        common.console.say(note)
    protocol = protocol or ("loso" if len(read.subjects) > 1 else "cv")
    folds = folds_of(protocol, read.subjects)
    if not final and len(folds) > 1:
        raise UsageError(
            f"--no-final keeps the network of the only fold; --protocol {protocol} has {len(folds)}"
        )
    setup = make_setup(read.subjects, preprocessing, align)
    plan = Plan(
        setup=setup, architecture=architecture, protocol=protocol, recipe=recipe,
        keep="all" if final else "fold",
    )  # fmt: skip
    trials = sum(len(one) for one in read.subjects)
    text = f"{trials} trials of {len(read.subjects)} subjects, {len(folds)} folds ({protocol})"
    if common.dry_run:
        record = {
            "weights": weights, "subjects": len(read.subjects), "trials": trials,
            "folds": len(folds), "protocol": protocol, "classes": setup.classes,
        }  # fmt: skip
        common.console.result(record, f"would train {weights} on {text}")
        return
    common.console.say(text)
    jobs.clear_run(run_dir, resume=resume)
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = run_dir / "settings.toml"
    if not resume or not settings.exists():  # a run goes on with what it began with
        write_settings(settings, resolved_settings(ctx), f"sigform-decode train {folder}")
    set_threads(common.threads)
    words = f"train '{folder}' -o '{run_dir}' --config '{settings}' --resume"
    stage = Folds(common)
    try:
        with stage_progress(common) as on_stage:
            fitted = fit_subjects(
                read.subjects, run_dir, plan, card=told, resume=resume, on_fold=stage,
                on_progress=lambda step, steps, _: on_stage(stage.name, step, steps),
            )  # fmt: skip
    except KeyboardInterrupt:
        common.console.say(f"saved; to go on: sigform-decode {words}")
        raise
    written = [fitted.weights, fitted.metrics, *jobs.reports(fitted, run_dir, read.subjects)]
    causal = "which is causal" if align == "online" else "which is not causal"
    aligned = "no alignment" if align == "none" else f"{align} alignment, {causal}"
    common.console.result(
        jobs.fitted_record(fitted, run_dir, written, align),
        f"{jobs.scores_text(fitted.network)}\n"
        f"chance {fitted.network['chance']:.1%}, CSP+LDA "
        f"{fitted.csp_lda['all']['accuracy']['mean']:.1%} on the same folds; {aligned}\n"
        f"wrote {', '.join(map(str, written))}",
    )


class Folds:
    """Which training is under way: a line for each, and the name of its bar."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self.name = "training"

    def __call__(self, number: int, count: int, name: str) -> None:
        self.name = f"{name} ({number} of {count})"
        self.common.console.detail(f"training {number} of {count}: {name}")


@app.add("evaluate")
@click.command(short_help="Test a model on recordings whose cues are known.")
@click.argument(
    "words", nargs=-1, required=True, metavar="[MODEL] FOLDER", shell_complete=complete_path
)
@weights_option
@events_option
@runs_option
@align_option
@click.option("--baseline", is_flag=True,
              help="Also CSP+LDA, trained on FOLDER: leaving one subject out, or in five parts of "
              "a single one.")  # fmt: skip
@click.option("--csv", "table", type=FILE, metavar="FILE.csv", help="Write the scores as CSV.")
@click.option("--report", type=FILE, metavar="FILE.json",
              help="Write all scores, with intervals and confusions, as JSON.")  # fmt: skip
@click.option("--curve", type=FILE, metavar="FILE.png",
              help="Draw accuracy against seconds after the cue, with a CSV beside it; for "
              "LMUFormers.")  # fmt: skip
@common_options("device", "threads", "overwrite", "json", "config")
def evaluate(
    words: tuple[str, ...], weights: str | None, events: tuple[str, ...], runs: str | None,
    align: Any, baseline: bool, table: Path | None, report: Path | None, curve: Path | None,
    common: Common,
) -> None:  # fmt: skip
    """Compare what MODEL says of each trial in FOLDER with its cue, beside chance.

    FOLDER is a recording or a folder of them, of one subject or many.
    """
    model, places = model_and_places(words, weights)
    if len(places) != 1:
        raise UsageError(f"got {len(places)} folders; needs one FOLDER, perhaps after a MODEL")
    place = Path(places[0])
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    for path, suffix in ((table, ".csv"), (report, ".json"), (curve, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"{path}: suffix is {path.suffix!r}; needs {suffix}")
    named = events_of(events)
    numbers = numbers_of(runs)
    from sigform_eeg import jobs
    from sigform_eeg.decoder import Decoder
    from sigform_kit.jsonlines import to_json
    from sigform_kit.outputs import check_targets
    from sigform_kit.outputs import output as writing

    files = [path for path in (table, report, curve) if path is not None]
    if curve is not None:
        files.append(curve.with_suffix(".csv"))
    wanted = check_targets(files, common.policy, make_parents=True)
    if files and not any(wanted):
        common.console.say(f"{', '.join(map(str, files))}: all of it exists; skipped")
        return
    decoder = Decoder.load(model, align=align, device=common.device, threads=common.threads)
    read = jobs.labelled(place, decoder.setup, named, numbers)
    for note in read.notes:
        common.console.say(note)
    told = jobs.measure(decoder, read.subjects, baseline=baseline)
    rows = jobs.score_rows(told)
    if table is not None:
        with writing(table, common.policy, make_parents=True) as target:
            jobs.write_rows(rows, target)
    if report is not None:
        with writing(report, common.policy, make_parents=True) as target:
            target.write_text(to_json(told) + "\n", "utf-8")
    if curve is not None:
        common.console.say(jobs.draw_curve(decoder, read.subjects, curve, common.policy))
    columns = list(rows[0])
    if not common.json:
        columns = [name for name in columns if any(row[name] is not None for row in rows)]
        rows = [{name: rounded(value) for name, value in row.items()} for row in rows]
    common.console.table(rows, columns)
    if decoder.align == "subject":
        common.console.say("subject alignment saw all trials first; only online is causal")


@app.add("info")
@click.command(short_help="Say what a recording, a folder of them or a model holds.")
@click.argument("word", metavar="FILE|FOLDER|MODEL", shell_complete=complete_path)
@common_options("json")
def info(word: str, common: Common) -> None:
    """Say what is there: channels, rate, events with their counts; or what a model needs."""
    from sigform_eeg.jobs import describe

    record = describe(word)
    common.console.result(record, "\n".join(lines_of(record)))


@app.add("models")
@click.command(short_help="List the shipped models.")
@common_options("json")
def models(common: Common) -> None:
    """List the shipped models, what they tell apart, and their accuracy on unseen people."""
    from sigform_eeg.jobs import list_models

    rows = list_models()
    if not rows:
        raise InputError("no models are in this package; install sigform-eeg again, or train one")
    common.console.table(rows, list(rows[0]))


@app.add("doctor")
@click.command(short_help="Check that this machine is fit for decoding.")
@common_options("json")
def doctor(common: Common) -> int:
    """Check that this machine is fit for decoding, and say what to do if not."""
    from sigform_eeg.jobs import own_checks
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks

    names = (
        "sigform-eeg", "sigform-core", "sigform-kit", "torch", "mne", "scikit-learn", "matplotlib",
    )  # fmt: skip
    checks = [*standard_checks(*names, cache=cache_folder()), *own_checks()]
    return run_checks(checks, common.console)


def rounded(value: object) -> object:
    """A score as a reader wants it, to a thousandth."""
    return round(value, 3) if isinstance(value, float) else value


def lines_of(record: dict[str, Any]) -> list[str]:
    """A line for each thing that is known, tables spread out and files left to --json."""
    lines = []
    for name, value in record.items():
        if name == "notes":
            lines += [f"note: {entry}" for entry in value]
        elif name == "files":
            lines.append(f"files: {len(value)}")
        elif isinstance(value, dict):
            lines += [f"{name}: {inner}: {worded(known)}" for inner, known in value.items()]
        elif value not in (None, []):
            lines.append(f"{name}: {worded(value)}")
    return lines


def worded(value: object) -> str:
    """A list as words between commas."""
    if isinstance(value, list):
        return ", ".join(map(str, cast(list[object], value)))
    return str(value)


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
