"""`sigform-generate`: images, video, and video with sound from the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sigform_generate.batch import FORMATS, MODES, Job, pieces_of, work_through
from sigform_generate.full_size import MODELS, settle
from sigform_kit.batch import is_folder, stage_progress
from sigform_kit.commands import App, complete_path
from sigform_kit.errors import UsageError
from sigform_kit.options import Common, Source, common_options
from sigform_kit.outputs import check_targets
from sigform_kit.running import run

app = App(
    "sigform-generate",
    help="Generate images, video, and video with sound, with StyleSwin, VDT and AV-DiT.",
    distribution="sigform-generate",
    default="image",
)

FILE = click.Path(path_type=Path)


class Steps(click.ParamType):
    """ddimN, or N for ancestral steps."""

    name = "steps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"(ddim)?[1-9]\d{0,3}", str(value)):
            self.fail(f"{value!r} are no steps; needs a number, or ddim and a number", param, ctx)
        return str(value)


class Box(click.ParamType):
    """X,Y,W,H in pixels."""

    name = "box"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"\d+,\d+,[1-9]\d*,[1-9]\d*", str(value)):
            self.fail(f"{value!r} is no box; needs X,Y,WIDTH,HEIGHT in pixels", param, ctx)
        return tuple(int(number) for number in str(value).split(","))


weights_option = click.option(
    "-w", "--weights", default="default", show_default=True, metavar="NAME|FILE",
    shell_complete=complete_path,
    help="Shipped weights (see `models`), or a file of ours or of the authors.",
)  # fmt: skip
count_option = click.option(
    "-n", "--count", type=click.IntRange(1), default=1, show_default=True, metavar="N",
    help="How many. Sample k comes from --seed + k, whatever the batch size.",
)  # fmt: skip
output_option = click.option(
    "-o", "--output", type=FILE, default=Path(), metavar="PATH",
    help="Folder, file, or - for stdout.  [default: this folder]",
)  # fmt: skip
grid_option = click.option(
    "--grid", is_flag=True, help="Also write grid.png, a picture of all of them."
)
steps_option = click.option(
    "--steps", type=Steps(), metavar="ddimN|N",
    help="Denoising steps: ddim50, or 250 ancestral ones.  [default: by weights]",
)  # fmt: skip
truncation_option = click.option(
    "--truncation", type=click.FloatRange(0, 1), default=1.0, show_default=True, metavar="0-1",
    help="Below 1: more typical, less varied (StyleSwin).",
)  # fmt: skip
latents_option = click.option(
    "--latents", type=Source(), metavar="DIR",
    help="A copy of stabilityai/sd-vae-ft-mse, for networks that work on latents.",
)  # fmt: skip
sound_latents_option = click.option(
    "--sound-latents", type=Source(), metavar="DIR",
    help="A copy of cvssp/audioldm-s-full-v2, for the sound of such networks.",
)  # fmt: skip
sampled = common_options(
    "device", "dtype", "threads", "batch_size", "overwrite", "json", "dry_run", "config", seed=0
)


def format_option(kind: str) -> Callable[..., Any]:
    return click.option(
        "--format", type=click.Choice(FORMATS[kind]),
        help=f"Format to write.  [default: by -o, else {FORMATS[kind][0]}]",
    )  # fmt: skip


def add(name: str, group: click.Group = app) -> Callable[[click.Command], click.Command]:
    """Register a command under a name."""

    def register(command: click.Command) -> click.Command:
        group.add_command(command, name)
        return command

    return register


# --- making --------------------------------------------------------------------------------------


@add("image")
@click.command(short_help="Make images; this is the default.")
@count_option
@weights_option
@output_option
@format_option("image")
@grid_option
@truncation_option
@steps_option
@latents_option
@click.option("--label", type=click.IntRange(0), metavar="CLASS", help="Class of a DiT.")
@click.option("--guidance", type=click.FloatRange(1), default=1.0, show_default=True,
              metavar="SCALE", help="Towards the class, of a DiT: 4 is usual.")  # fmt: skip
@sampled
def image(
    count: int, output: Path, format: str | None, grid: bool, common: Common, **options: Any
) -> None:
    """Make images: PNG files named by their seed, the settings inside and in a .json beside."""
    make(job_of("image", count, common, options), output, format, grid, common)


@add("video")
@click.command(short_help="Make videos, or the missing part of one.")
@count_option
@click.option("--mode", type=click.Choice(MODES), default=MODES[0], show_default=True,
              help="What is missing: all, the end, the beginning, the frames between, all but a "
              "still picture, or a box of each frame.")  # fmt: skip
@click.option("--given", type=FILE, metavar="FILE", help="The clip, or for animate a picture.")
@click.option("--mask", type=Box(), metavar="X,Y,W,H",
              help="With complete: the box to fill, in pixels of the given clip.")  # fmt: skip
@weights_option
@output_option
@format_option("video")
@grid_option
@steps_option
@latents_option
@sampled
def video(
    count: int, output: Path, format: str | None, grid: bool, common: Common, **options: Any
) -> None:
    """Make videos, or with --mode and --given the missing part of one.

    A given clip of any size and rate is brought to what the weights know, and it is said how.
    """
    mode, given, mask = options["mode"], options["given"], options["mask"]
    if (given is None) != (mode == MODES[0]):
        needs = "needs --given FILE" if given is None else "takes no --given"
        raise UsageError(f"--mode {mode} {needs}")
    if (mask is None) == (mode == "complete"):
        needs = "needs --mask X,Y,W,H" if mask is None else "takes no --mask"
        raise UsageError(f"--mode {mode} {needs}")
    make(job_of("video", count, common, options), output, format, grid, common)


@add("av")
@click.command(short_help="Make videos with their sound.")
@count_option
@weights_option
@output_option
@format_option("av")
@grid_option
@steps_option
@latents_option
@sound_latents_option
@sampled
def av(
    count: int, output: Path, format: str | None, grid: bool, common: Common, **options: Any
) -> None:
    """Make videos with sound, both denoised together; the sound also goes to a WAV file."""
    make(job_of("av", count, common, options), output, format, grid, common)


def job_of(kind: str, count: int, common: Common, options: dict[str, Any]) -> Job:
    return Job(
        kind=kind,
        count=count,
        seed=common.seed or 0,
        device=common.device,
        dtype=common.dtype,
        threads=common.threads,
        batch_size=common.batch_size,
        **options,
    )


def make(job: Job, output: Path, format: str | None, grid: bool, common: Common) -> None:
    """Plans the files of a job and makes them."""
    if str(output) == "-" and common.json:
        raise UsageError("the result and --json would share stdout; needs -o with a file")
    if grid and not is_folder(output):
        raise UsageError("--grid writes grid.png into a folder; needs -o with a folder")
    pieces = pieces_of(job, output, format)
    work_through(job, pieces, output / "grid.png" if grid else None, common)


@add("project")
@click.command(short_help="Make a video that wanders through the images of StyleSwin.")
@click.option("-n", "--count", type=click.IntRange(2), default=4, show_default=True, metavar="N",
              help="Images that the way leads through, from --seed on.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True,
              metavar="S", help="From one image to the next.")  # fmt: skip
@click.option("--fps", type=click.IntRange(1, 120), default=15, show_default=True, metavar="N",
              help="Frames a second.")  # fmt: skip
@weights_option
@truncation_option
@click.option("-o", "--output", type=FILE, default=Path("project.mp4"), show_default=True,
              metavar="FILE", help="Video to write: .mp4, .webm or .gif.")  # fmt: skip
@sampled
def project(
    count: int, seconds: float, fps: int, output: Path, common: Common, **options: Any
) -> None:
    """Make a video that goes from one image to the next through the latent space, and back."""
    suffix = output.suffix.removeprefix(".").lower()
    if suffix not in FORMATS["video"]:
        known = ", .".join(FORMATS["video"])
        raise UsageError(f"{output}: suffix is {output.suffix!r}; needs .{known}")
    job = job_of("image", count, common, options)
    files = (output.with_suffix(".json"), output)
    if not check_targets(files, common.policy, make_parents=True)[-1]:
        common.console.say(f"{output} exists; skipped")
        return
    if common.dry_run:
        names = [str(file) for file in files]
        common.console.result({"files": names}, f"would write {', '.join(names)}")
        return
    from sigform_generate.jobs import wander

    with stage_progress(common) as on_progress:
        record = wander(
            job, files, fps=fps, frames=round(seconds * fps), policy=common.policy,
            on_progress=on_progress,
        )  # fmt: skip
    common.console.result(record, f"{record['frames']} frames -> {output}")


# --- training ------------------------------------------------------------------------------------

train = click.Group(
    "train", short_help="Train on a folder of images, clips, or clips with sound.",
    help="Train on your own images, clips, or clips with sound.",
)  # fmt: skip
app.add_command(train)


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What every training takes; what is left out is the recipe's."""
    for option in reversed(
        (
            click.argument("folder", type=Source(), required=False, metavar="FOLDER"),
            click.option("-o", "--output", type=FILE, metavar="RUN_DIR",
                         help="Folder of the run.  [default: FOLDER_image, ...]"),
            click.option("--start", metavar="NAME|FILE", shell_complete=complete_path,
                         help="Weights to start from."),
            click.option("--steps", type=click.IntRange(1), metavar="N",
                         help="Training steps.  [default: by recipe]"),
            click.option("--learning-rate", type=click.FloatRange(0, min_open=True),
                         metavar="RATE", help="Highest learning rate.  [default: by recipe]"),
            click.option("--validate-every", type=click.IntRange(1), metavar="STEPS",
                         help="Steps between validations, savings and sample sheets.  "
                         "[default: by recipe]"),
            click.option("--devices", type=click.IntRange(1), default=1, show_default=True,
                         metavar="N", help="GPUs that share each batch."),
            click.option("--resume", is_flag=True,
                         help="Go on from the checkpoint of an earlier run."),
            common_options("device", "dtype", "threads", "overwrite", "json", "dry_run",
                           "config", "batch_size", seed=0),
            click.pass_context,
        )
    ):  # fmt: skip
        function = option(function)
    return function


BOUNCING = "bouncing"
"""What a run without a folder is called."""

size_option = click.option(
    "--size", type=click.IntRange(8), metavar="PIXELS",
    help="Side of what is made.  [default: by recipe, 64 or 256]",
)  # fmt: skip
recipe_option = click.option(
    "--recipe", type=click.Choice(("small", "published")), default="small", show_default=True,
    help="A small network in hours, or that of the paper in weeks of GPUs.",
)  # fmt: skip
mirror_option = click.option(
    "--mirror/--no-mirror", default=None,
    help="Show what is mirrored as well: wrong for letters.  [default: by recipe]",
)  # fmt: skip
frames_option = click.option(
    "--frames", type=click.IntRange(2), default=16, show_default=True, metavar="N",
    help="Frames of a clip.",
)  # fmt: skip


def fps_option(default: float) -> Callable[..., Any]:
    return click.option(
        "--fps", type=click.FloatRange(0, min_open=True), default=default, show_default=True,
        metavar="N", help="Frames a second.",
    )  # fmt: skip


@add("image", train)
@click.command(short_help="Train a StyleSwin on a folder of images.")
@size_option
@mirror_option
@recipe_option
@training_options
def train_image(ctx: click.Context, common: Common, **options: Any) -> None:
    """Train a StyleSwin on the images in FOLDER and write RUN_DIR/weights.safetensors.

    A GAN with R1, balanced consistency and averaged weights. Sample sheets go to RUN_DIR/samples.
    """
    train_kind("image", ctx, common, options)


@add("video", train)
@click.command(short_help="Train a VDT on a folder of clips.")
@size_option
@frames_option
@fps_option(15.0)
@mirror_option
@recipe_option
@click.option("--model", type=click.Choice(MODELS),
              help=f"Size of the published network.  [default: {MODELS[0]}]")  # fmt: skip
@latents_option
@training_options
def train_video(ctx: click.Context, common: Common, **options: Any) -> None:
    """Train a VDT on the clips in FOLDER, in all modes at once.

    Writes RUN_DIR/weights.safetensors, and sample sheets to RUN_DIR/samples. --recipe published
    trains on latents and needs --latents.
    """
    train_kind("video", ctx, common, options)


@add("av", train)
@click.command(short_help="Train an AV-DiT on a folder of clips with sound.")
@size_option
@frames_option
@fps_option(10.0)
@click.option("--backbone-steps", type=click.IntRange(1), metavar="N",
              help="Steps of the image DiT, first, unless --start.  [default: by recipe]",
              )  # fmt: skip
@recipe_option
@latents_option
@sound_latents_option
@click.option(
    "--bouncing",
    is_flag=True,
    help="In place of FOLDER, balls that bounce and are heard, drawn as they are needed.",
)
@training_options
def train_av(ctx: click.Context, common: Common, **options: Any) -> None:
    """Train an AV-DiT on the clips with sound in FOLDER, or on --bouncing balls.

    First an image DiT on the frames, or the one of --start; then the layers around it. Writes
    RUN_DIR/weights.safetensors, and sample sheets to RUN_DIR/samples. --recipe published trains
    DiT-XL/2 on latents and needs --latents and --sound-latents.
    """
    train_kind("av", ctx, common, options)


def train_kind(kind: str, ctx: click.Context, common: Common, options: dict[str, Any]) -> None:
    """One training, whatever it is of; after Ctrl-C it says how to go on."""
    folder, output, resume = (options.pop(name) for name in ("folder", "output", "resume"))
    bouncing = options.get("bouncing", False)
    if bouncing == (folder is not None):
        raise UsageError("FOLDER and --bouncing exclude each other" if bouncing else
                         "Missing argument 'FOLDER'.", ctx)  # fmt: skip
    settle(kind, ctx, options)
    source = Path(BOUNCING) if folder is None else folder
    run_dir = output or source.with_name(f"{source.resolve().name}_{kind}")
    weights = run_dir / "weights.safetensors"
    from sigform_core.device import set_threads
    from sigform_generate.teaching import PARTS, SAME, prepare, teach
    from sigform_kit.outputs import check_target
    from sigform_kit.runs import check_run, clear_run
    from sigform_kit.settings import resolved_settings, write_settings

    if not resume and not check_target(weights, common.policy, make_parents=True):
        common.console.say(f"{weights} exists; skipped")
        return
    settings = resolved_settings(ctx)
    same = [name for name in SAME if name in settings]
    for part in PARTS[kind]:
        check_run(run_dir / part, settings, same=same, resume=resume, anew=common.overwrite)
    lesson = prepare(kind, folder, options, common)
    for note in lesson.notes:
        common.console.say(note)
    if common.dry_run:
        what = "bouncing balls" if bouncing else f"{len(lesson.sources)} files"
        record = {"weights": weights, "files": len(lesson.sources)}
        common.console.result(record, f"would train {weights} on {what}")
        return
    if not resume:
        for part in {".", *PARTS[kind]}:
            clear_run(run_dir / part)
    given = "--bouncing" if folder is None else f"'{folder}'"
    heading = f"sigform-generate train {kind} {given}"
    for part in {".", *PARTS[kind]}:
        (run_dir / part).mkdir(parents=True, exist_ok=True)
        write_settings(run_dir / part / "settings.toml", settings, heading)
    set_threads(common.threads)
    try:
        with stage_progress(common) as on_progress:
            fitted = teach(
                lesson, run_dir, resume=resume, on_progress=on_progress, on_note=common.console.say
            )
    except KeyboardInterrupt:
        if any(run_dir.rglob("last.ckpt")):
            words = f"train {kind} {given} -o '{run_dir}' --config '{run_dir}/settings.toml'"
            common.console.say(f"saved; to go on: sigform-generate {words} --resume")
        raise
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # one of several processes of a training tells
    reached = ", ".join(f"{name} {value:.4g}" for name, value in fitted.metrics.items())
    common.console.result(
        {**asdict(fitted), "run": run_dir},
        f"validation: {reached or 'nothing measured'}\nwrote {fitted.weights}",
    )


# --- evaluating ----------------------------------------------------------------------------------

evaluate = click.Group(
    "evaluate", short_help="Measure what weights make, beside real data.",
    help="Measure what weights make against a folder of real data; every figure says of how many.",
)  # fmt: skip
app.add_command(evaluate)


def evaluation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.argument("folder", type=Source(), metavar="FOLDER"),
            click.option("-n", "--count", type=click.IntRange(4), default=256, show_default=True,
                         metavar="N", help="How many are made."),
            weights_option,
            steps_option,
            latents_option,
            common_options("device", "dtype", "threads", "json", "config", seed=0, batch_size=8),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@add("image", evaluate)
@click.command(short_help="FID and KID of images.")
@truncation_option
@evaluation_options
def evaluate_image(folder: Path, count: int, common: Common, **options: Any) -> None:
    """FID and KID against the images in FOLDER.

    With the Inception weights of torch-fidelity where they are; else a named proxy.
    """
    measure("image", folder, count, common, options)


@add("video", evaluate)
@click.command(short_help="A distance like FVD, and how well missing parts are filled.")
@evaluation_options
def evaluate_video(folder: Path, count: int, common: Common, **options: Any) -> None:
    """A proxy of FVD against the clips in FOLDER, and PSNR of each mode that fills in."""
    measure("video", folder, count, common, options)


@add("av", evaluate)
@click.command(short_help="Distances like FVD and FAD, and whether sound and picture agree.")
@sound_latents_option
@evaluation_options
def evaluate_av(folder: Path, count: int, common: Common, **options: Any) -> None:
    """Proxies of FVD and FAD against the clips with sound in FOLDER, and their synchrony.

    The lag between impacts seen and heard means something for bouncing things only.
    """
    measure("av", folder, count, common, options)


def measure(kind: str, folder: Path, count: int, common: Common, options: dict[str, Any]) -> None:
    """One evaluation: a row a figure."""
    job = job_of(kind, count, common, options)
    from sigform_generate.measuring import COLUMNS, measured

    with stage_progress(common) as on_progress:
        rows = measured(job, folder, on_progress=on_progress, on_note=common.console.say)
    common.console.table(rows, COLUMNS)


# --- models, info, doctor ------------------------------------------------------------------------


@add("models")
@click.command(short_help="List the weights: shipped ones and those that authors offer.")
@common_options("json")
def models(common: Common) -> None:
    """List the weights, what they make, their licence, and where they are."""
    from sigform_generate.about import list_models

    columns = ["name", "paper", "makes", "parameters", "figure", "licence", "where"]
    common.console.table(list_models(), columns)


@add("info")
@click.command(short_help="Say what a weight file, picture or clip holds, and how it was made.")
@click.argument("file", type=Source())
@common_options("json")
def info(file: Path, common: Common) -> None:
    """Say what a weight file, picture or clip holds, and the settings it was made with."""
    from sigform_generate.about import describe_file

    record = describe_file(file)
    common.console.result(record, "\n".join(lines_of(record)))


@add("doctor")
@click.command(short_help="Check that this machine is fit for generating.")
@common_options("json")
def doctor(common: Common) -> int:
    """Check that this machine is fit for generating, and say what to do if not."""
    from sigform_generate.about import own_checks
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks

    names = ("sigform-generate", "sigform-core", "sigform-kit", "torch", "torchaudio", "av")
    checks = [*standard_checks(*names, cache=cache_folder()), *own_checks()]
    return run_checks(checks, common.console)


def lines_of(record: dict[str, Any]) -> list[str]:
    """A line for each thing that is known, tables spread out."""
    lines = []
    for name, value in record.items():
        if isinstance(value, dict):
            lines += [f"{name}: {inner}: {known}" for inner, known in value.items()]
        elif value is not None:
            lines.append(f"{name}: {value}")
    return lines


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
