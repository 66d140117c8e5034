"""`sigform-separate`: a file for each speaker, from the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sigform_kit.batch import stage_progress, threads_of
from sigform_kit.commands import App, complete_path
from sigform_kit.errors import InputsFailedError, UsageError
from sigform_kit.options import Common, Source, common_options
from sigform_kit.running import run
from sigform_speech.batch import FORMATS, Job, speakers_of, tasks_for, work_through

app = App(
    "sigform-separate",
    help="Separate the speakers in a recording with MossFormer, a small transformer network.",
    distribution="sigform-speech",
    default="separate",
)

FILE = click.Path(path_type=Path)
ARCHITECTURES = ("mossformer-small", "mossformer", "mossformer2")
LIBRIMIX = ("train-100", "train-360")


class Format(click.Choice[str]):
    """The suffix of a format, with a dot or without."""

    def __init__(self) -> None:
        super().__init__(list(FORMATS), case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(str(value).removeprefix("."), param, ctx)


weights_option = click.option(
    "-w", "--weights", default="default", show_default=True, metavar="NAME|PATH",
    shell_complete=complete_path,
    help="Shipped or published weights (see `models`), or a checkpoint of ours or of others.",
)  # fmt: skip
speakers_option = click.option(
    "-s", "--speakers", type=click.IntRange(2), metavar="N",
    help="How many speakers there are.  [default: as many as the weights separate]",
)  # fmt: skip


@app.add("separate")
@click.command(short_help="Separate the speakers of each recording; this is the default.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_path)
@speakers_option
@weights_option
@click.option("-o", "--output", type=FILE, metavar="PATH",
              help="A folder, - for stdout, or a name: talk.wav becomes talk_speaker1.wav, and {} "
              "in it the number.")  # fmt: skip
@click.option("--format", type=Format(), metavar="|".join(FORMATS),
              help="Format to write.  [default: that of the input]")  # fmt: skip
@click.option("--mono", is_flag=True, help="Mix the channels down to one first.")
@click.option("--plot", is_flag=True,
              help="Also write a picture: waveforms and spectrograms.")  # fmt: skip
@common_options(
    "device", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config", dtype=None
)
def separate(
    files: tuple[str, ...], speakers: int | None, weights: str, output: Path | None,
    format: str | None, mono: bool, plot: bool, common: Common,
) -> None:  # fmt: skip
    """Separate the speakers of each FILE: a recording, a folder of them, or - for stdin.

    Writes FILE_speaker1, FILE_speaker2 beside it, at its rate, with its channels and its samples'
    format. To stdout goes one file: the channels of the first speaker, then those of the next.
    """
    job = Job(
        weights=weights,
        speakers=speakers_of(weights, speakers),
        mono=mono,
        device=common.device,
        # Left out, it is what the device does well.
        dtype=common.dtype or "auto",
        threads=threads_of(common),
    )
    tasks = tasks_for(files, job, common, output=output, format=format, plot=plot)
    work_through(job, tasks, common)


@app.add("evaluate")
@click.command(short_help="Measure a separation against its references: SI-SDR and others.")
@click.argument("source", type=Source(), required=False, metavar="[MIXTURE|FOLDER]")
@click.option("-r", "--reference", "references", type=Source(), multiple=True, metavar="FILE",
              help="What one speaker said; once for each.")  # fmt: skip
@click.option("--estimate", "estimates", type=Source(), multiple=True, metavar="FILE",
              help="Compare these instead of separating; once for each speaker.")  # fmt: skip
@click.option("--corpus", type=Source(), metavar="FOLDER",
              help="Separate mixtures of the speakers of a corpus, a folder each.")  # fmt: skip
@click.option("--split", default="test", show_default=True, metavar="NAME",
              help="Part of the corpus.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=200, show_default=True, metavar="N",
              help="Mixtures of the corpus.")  # fmt: skip
@click.option("--cut", is_flag=True, help="Compare up to the end of the shortest file.")
@click.option("--csv", "table", type=FILE, metavar="FILE.csv", help="Write the scores as CSV.")
@click.option("--report", type=FILE, metavar="FILE.json",
              help="Write the scores of each speaker as JSON.")  # fmt: skip
@speakers_option
@weights_option
@common_options("device", "threads", "overwrite", "json", "config", dtype=None, seed=0)
def evaluate(
    source: Path | None, references: tuple[Path, ...], estimates: tuple[Path, ...],
    corpus: Path | None, split: str, count: int, cut: bool, table: Path | None,
    report: Path | None, speakers: int | None, weights: str, common: Common,
) -> None:  # fmt: skip
    """Separate and compare with what each speaker truly said, beside the unprocessed mixture.

    A MIXTURE needs a --reference for each speaker. A FOLDER has folders with mix, s1, s2, ... or is
    one, or has LibriMix's mix_clean, s1, s2. All scores are in dB except PESQ and STOI.
    """
    if (source is None) == (corpus is None) and not estimates:
        raise UsageError("needs a MIXTURE with --reference, a FOLDER, or --corpus")
    if corpus is not None and (references or estimates):
        raise UsageError("--corpus has its own references; needs no others")
    if source is not None and source.is_dir() and (references or estimates):
        raise UsageError(f"{source} is a folder, which has its references; needs no others")
    if source is not None and source.is_file() and not references:
        raise UsageError(f"{source} needs a --reference for each speaker")
    for path, suffix in ((table, ".csv"), (report, ".json")):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"{path}: suffix is {path.suffix!r}; needs {suffix}")
    from sigform_kit.outputs import check_targets
    from sigform_speech import evaluation
    from sigform_speech.jobs import measure
    from sigform_speech.separator import Separator

    written = [path for path in (table, report) if path is not None]
    wanted = check_targets(written, common.policy, make_parents=True)
    if written and not any(wanted):
        common.console.say(f"{', '.join(map(str, written))}: all of it exists; skipped")
        return
    separator = None
    if not estimates:
        separator = Separator.load(
            weights, speakers=speakers, device=common.device, dtype=common.dtype or "auto",
            threads=common.threads,
        )  # fmt: skip
    with stage_progress(common) as on_progress:
        result = measure(
            separator, source=source, references=references, estimates=estimates, corpus=corpus,
            split=split, count=count, seed=common.seed or 0, cut=cut, on_progress=on_progress,
        )  # fmt: skip
    for path in written:
        evaluation.write_scores(result, path, common.policy)
    for note in result.notes:
        common.console.say(note)
    rows = evaluation.table(result)
    columns = list(rows[0])
    if not common.json:
        columns = [name for name in columns if any(row[name] is not None for row in rows)]
        rows = [{name: rounded(value) for name, value in row.items()} for row in rows]
    common.console.table(rows, columns)
    if result.failures:
        raise InputsFailedError(result.failures, len(result.rows) + len(result.failures))


@app.add("train")
@click.command(short_help="Train a network on recordings of single speakers.")
@click.argument("folder", type=Source(), metavar="FOLDER")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default="mossformer-small",
              show_default=True, help="Network to train.")  # fmt: skip
@click.option("-s", "--speakers", type=click.IntRange(2), default=2, show_default=True,
              metavar="N", help="Speakers in a mixture.")  # fmt: skip
@click.option("--sample-rate", type=click.IntRange(1000), default=8000, show_default=True,
              metavar="HZ", help="Rate at which the network works.")  # fmt: skip
@click.option("-o", "--output", type=FILE, metavar="RUN_DIR",
              help="Folder of the run.  [default: FOLDER_mossformer-small]")  # fmt: skip
@click.option("--valid", "validation", type=Source(), metavar="FOLDER",
              help="Speakers to validate on.  [default: a tenth of those in FOLDER]")  # fmt: skip
@click.option("--librimix", type=click.Choice(LIBRIMIX),
              help="FOLDER is LibriMix: train on this set, validate on dev.")  # fmt: skip
@click.option("--start", metavar="NAME|FILE", shell_complete=complete_path,
              help="Weights to start from; they say the network, speakers and rate.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=100_000, show_default=True, metavar="N",
              help="Training steps.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True,
              metavar="S", help="Length of a mixture.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3,
              show_default=True, metavar="RATE", help="Highest learning rate.")  # fmt: skip
@click.option("--weight-decay", type=click.FloatRange(0), default=1e-2, show_default=True,
              metavar="RATE", help="Of the matrices, as AdamW has it.")  # fmt: skip
@click.option("--warm-up", type=click.IntRange(0), default=200, show_default=True,
              metavar="STEPS", help="Steps up to the highest learning rate.")  # fmt: skip
@click.option("--gain-db", type=click.FloatRange(0), default=5.0, show_default=True, metavar="DB",
              help="Speakers are up to this much louder or quieter.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0, 0.5, max_open=True), default=0.1,
              show_default=True, metavar="SHARE",
              help="Speakers are up to this share faster or slower.")  # fmt: skip
@click.option("--turns", type=click.FloatRange(0, 1), default=0.15, show_default=True,
              metavar="SHARE", help="Of mixtures, in which one speaker pauses.")  # fmt: skip
@click.option("--validate-every", type=click.IntRange(1), default=500, show_default=True,
              metavar="STEPS", help="Steps between validations, and savings.")  # fmt: skip
@click.option("--validation-items", type=click.IntRange(1), default=100, show_default=True,
              metavar="N", help="Mixtures to validate on.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Processes that mix.")  # fmt: skip
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="GPUs that share each batch.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an earlier run.")
@common_options(
    "device", "threads", "overwrite", "json", "dry_run", "config", dtype="bfloat16", seed=0,
    batch_size=4,
)  # fmt: skip
@click.pass_context
def train(
    ctx: click.Context, folder: Path, architecture: str, speakers: int, sample_rate: int,
    output: Path | None, validation: Path | None, librimix: str | None, start: str | None,
    resume: bool, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Train a network on FOLDER, which has a folder of recordings for each speaker.

    The speakers are mixed anew at every step; some are held out for validation. Weights,
    checkpoints, metrics.csv and the settings go to RUN_DIR; after Ctrl-C or a kill, --resume goes
    on from there.
    """
    if librimix is not None and validation is not None:
        raise UsageError("--librimix has its own validation set; needs no --valid")
    run_dir = output or folder.with_name(f"{folder.resolve().name}_{architecture}")
    weights = run_dir / "weights.safetensors"
    from sigform_core.device import set_threads
    from sigform_kit.outputs import check_target
    from sigform_kit.runs import check_run, clear_run
    from sigform_kit.settings import resolved_settings, write_settings
    from sigform_speech.catalogue import find_weights
    from sigform_speech.data import find_voices
    from sigform_speech.fitting import fit_folder
    from sigform_speech.training import Recipe

    if not check_target(weights, common.policy, make_parents=True):
        common.console.say(f"{weights} exists; skipped")
        return
    settings = resolved_settings(ctx)
    same = ("architecture", "speakers", "sample-rate")
    check_run(run_dir, settings, same=same, resume=resume, anew=common.overwrite)
    started_from = None if start is None else find_weights(start)
    recipe = Recipe(
        batch_size=common.batch_size or 4,
        seed=common.seed or 0,
        device=common.device,
        dtype=common.dtype,
        **options,
    )
    if common.dry_run:
        voices = None if librimix is not None else len(find_voices(folder))
        what = f"{librimix} of LibriMix" if voices is None else f"{voices} voices"
        text = f"would train {weights} on {what}"
        common.console.result({"weights": weights, "voices": voices}, text)
        return
    if not resume:
        clear_run(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_settings(run_dir / "settings.toml", settings, f"sigform-separate train {folder}")
    set_threads(common.threads)
    try:
        with stage_progress(common) as on_stage:
            fitted = fit_folder(
                folder, run_dir, recipe, architecture=architecture, speakers=speakers,
                sample_rate=sample_rate, validation=validation, librimix=librimix,
                start=started_from, resume=resume, on_progress=Validations(common, on_stage),
            )  # fmt: skip
    except KeyboardInterrupt:
        if (run_dir / "last.ckpt").exists():
            words = f"train '{folder}' -o '{run_dir}' --config '{run_dir / 'settings.toml'}'"
            common.console.say(f"saved; to go on: sigform-separate {words} --resume")
        raise
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # one of several processes of a training tells
    common.console.result(
        {**asdict(fitted), "run": run_dir},
        f"validation: SI-SDRi {fitted.best_si_sdri:.2f} dB\nwrote {fitted.weights}",
    )


class Validations:
    """The progress of a training: a bar, and a line for each validation."""

    def __init__(self, common: Common, on_stage: Callable[[str, int, int | None], None]) -> None:
        self.common = common
        self.on_stage = on_stage
        self.last: float | None = None

    def __call__(self, step: int, steps: int | None, metrics: dict[str, float]) -> None:
        self.on_stage("training", step, steps)
        score = metrics.get("val_si_sdri")
        if score is not None and score != self.last:
            self.common.console.say(f"step {step} of {steps}: SI-SDRi {score:.2f} dB")
        self.last = score


@app.add("models")
@click.command(short_help="List the weights: shipped ones and those that authors offer.")
@click.option("--fetch", metavar="NAME", help="Download published weights, once, and say where.")
@common_options("json")
def models(fetch: str | None, common: Common) -> None:
    """List the weights, what they reach (SI-SDRi in dB, as published), and where they are."""
    if fetch is not None:
        from sigform_speech.jobs import fetch_weights

        with stage_progress(common) as on_progress:
            path = fetch_weights(fetch, on_progress)
        common.console.result({"name": fetch, "weights": path}, str(path))
        return
    from sigform_speech.jobs import list_models

    rows = list_models()
    if not common.json:
        for row in rows:
            scores = row["si_sdri"].items()
            row["si_sdri"] = ", ".join(f"{name} {score:g}" for name, score in scores)
    common.console.table(rows, list(rows[0]))


@app.add("info")
@click.command(short_help="Say what a recording or a weight file holds.")
@click.argument("file", type=Source())
@common_options("json")
def info(file: Path, common: Common) -> None:
    """Say what a recording or a weight file holds."""
    from sigform_speech.jobs import describe_file

    record = describe_file(file)
    common.console.result(record, "\n".join(lines_of(record)))


@app.add("export")
@click.command(short_help="Write weights as a checkpoint that other programs load.")
@click.argument("weights", metavar="NAME|PATH", shell_complete=complete_path)
@click.argument("target", type=FILE, metavar="OUT.pt")
@common_options("overwrite", "json")
def export(weights: str, target: Path, common: Common) -> None:
    """Write weights with the published names, as ModelScope's and ClearerVoice's code loads them.

    OUT ends in .pt, .pth, .bin or .ckpt; .safetensors is a weight file of ours.
    """
    from sigform_kit.outputs import check_targets
    from sigform_kit.outputs import output as writing
    from sigform_speech.catalogue import find_weights
    from sigform_speech.upstream import export as export_network
    from sigform_speech.upstream import load_any

    source = find_weights(weights)
    if not check_targets([target], common.policy, inputs=[source], make_parents=True)[0]:
        common.console.say(f"{target} exists; skipped")
        return
    network = load_any(source)
    with writing(target, common.policy, make_parents=True) as place:
        export_network(network, place)
    common.console.result({"weights": source, "output": target}, f"wrote {target}")


@app.add("doctor")
@click.command(short_help="Check that this machine is fit for separating.")
@common_options("json")
def doctor(common: Common) -> int:
    """Check that this machine is fit for separating, and say what to do if not."""
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks
    from sigform_speech.jobs import own_checks

    names = (
        "sigform-speech", "sigform-core", "sigform-kit", "torch", "soundfile", "soxr", "matplotlib",
    )  # fmt: skip
    checks = [*standard_checks(*names, cache=cache_folder()), *own_checks()]
    return run_checks(checks, common.console)


def rounded(value: object) -> object:
    """A score as a reader wants it, to a hundredth."""
    return round(value, 2) if isinstance(value, float) else value


def lines_of(record: dict[str, Any]) -> list[str]:
    """A line for each thing that is known, lists and tables spread out."""
    lines = []
    for name, value in record.items():
        if isinstance(value, dict):
            lines += [f"{name}: {inner}: {known}" for inner, known in value.items()]
        elif isinstance(value, list):
            lines += [f"note: {entry}" for entry in value]
        elif value is not None:
            lines.append(f"{name}: {value}")
    return lines


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
