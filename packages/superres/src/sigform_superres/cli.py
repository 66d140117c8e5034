"""`sigform-upscale`: larger pictures from the command line."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sigform_kit.batch import stage_progress, threads_of
from sigform_kit.commands import App, complete_path
from sigform_kit.errors import UsageError
from sigform_kit.options import Common, Source, common_options
from sigform_kit.running import run
from sigform_superres.batch import (
    COMPARISONS,
    FORMATS,
    Job,
    scales_of,
    tasks_for,
    work_through,
)

app = App(
    "sigform-upscale",
    help="Upscale pictures 2, 3 or 4 times, or to any size, with small transformer networks.",
    distribution="sigform-superres",
    default="upscale",
)

FILE = click.Path(path_type=Path)
ARCHITECTURES = ("craft", "dlgsanet-tiny", "dlgsanet-light", "dlgsanet")


class Format(click.Choice[str]):
    """The name of a format, also as its suffix has it."""

    def __init__(self) -> None:
        super().__init__(list(FORMATS), case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = {"jpg": "jpeg", "tif": "tiff"}
        name = str(value).lower().removeprefix(".")
        return super().convert(known.get(name, name), param, ctx)


class Comparison(click.ParamType):
    """png, html, or a file of one of them."""

    name = "comparison"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.search(r"(^|\.)(png|html)$", value):
            wanted = " or ".join(COMPARISONS)
            self.fail(f"{value!r} is no comparison; needs {wanted}, or a file of them", param, ctx)
        return value


weights_option = click.option(
    "-w", "--weights", default="default", show_default=True, metavar="NAME|FILE",
    shell_complete=complete_path,
    help="Shipped weights (see `models`), or a file of ours or of others.",
)  # fmt: skip
scale_option = click.option(
    "-s", "--scale", type=click.Choice((2, 3, 4)),
    help="How many times larger.  [default: 4, or what the weights do]",
)  # fmt: skip
tile_option = click.option(
    "--tile", type=click.IntRange(96), metavar="PIXELS",
    help="Largest side that goes through at once.  [default: by free memory]",
)  # fmt: skip
ensemble_option = click.option(
    "--ensemble", is_flag=True,
    help="Average over eight flips and turns: eight times slower, a little better.",
)  # fmt: skip


@app.add("upscale")
@click.command(short_help="Upscale each picture, animation or video; this is the default.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_path)
@scale_option
@weights_option
@click.option("-o", "--output", type=FILE, metavar="PATH",
              help="File to write, a folder, or - for stdout.")  # fmt: skip
@click.option("--format", type=Format(), metavar="|".join(FORMATS),
              help="Format to write.  [default: that of the input]")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), metavar="1-100",
              help="Of JPEG (95), WebP (90), AVIF (85) and videos.")  # fmt: skip
@click.option("--strip", is_flag=True, help="Leave out profile, EXIF and other metadata.")
@click.option("--factor", type=click.FloatRange(0, min_open=True), metavar="TIMES",
              help="How many times larger, such as 2.5: network, then Lanczos.")  # fmt: skip
@click.option("--width", type=click.IntRange(1), metavar="PIXELS", help="Width of the result.")
@click.option("--height", type=click.IntRange(1), metavar="PIXELS", help="Height of the result.")
@tile_option
@ensemble_option
@click.option("--compare", type=Comparison(), metavar="png|html|FILE",
              help="Also write before and after, as a picture or a page.")  # fmt: skip
@click.option("--backend", type=click.Choice(("torch", "openvino")), default="torch",
              show_default=True, help="openvino can be quicker for videos and many pictures of one "
              "size, with CRAFT; each size is compiled first, about 15 s.")  # fmt: skip
@common_options(
    "device", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config", dtype=None
)
def upscale(
    files: tuple[str, ...], scale: int | None, weights: str, output: Path | None,
    format: str | None, compare: str | None, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Upscale each FILE: a picture, an animation, a video, a folder of pictures, or - for stdin.

    Writes FILE_x4 beside it. Metadata, transparency and 16 bits are kept where the format can.
    """
    if options["factor"] and (options["width"] or options["height"]):
        raise UsageError("--factor and --width or --height exclude each other")
    sized = any(options[name] is not None for name in ("factor", "width", "height"))
    job = Job(
        weights=weights,
        scales=scales_of(weights, scale, sized=sized),
        device=common.device,
        # Left out, it is what the device does well.
        dtype=common.dtype or "auto",
        threads=threads_of(common),
        **options,
    )
    tasks = tasks_for(files, job, common, output=output, format=format, compare=compare)
    work_through(job, tasks, common)


@app.add("evaluate")
@click.command(short_help="Measure PSNR and SSIM on a folder of large pictures.")
@click.argument("folder", type=Source(), metavar="DIR")
@scale_option
@weights_option
@click.option("--protocol", type=click.Choice(["rgb", "srcnn"]), default="rgb", show_default=True,
              help="rgb as in the CRAFT and DLGSANet papers, srcnn as in older ones.")  # fmt: skip
@click.option("--lr", type=Source(), metavar="DIR",
              help="Small pictures to start from.  [default: made by bicubic]")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="A metric of pyiqa too, such as lpips; may be repeated.")  # fmt: skip
@click.option("--csv", "table", type=FILE, metavar="FILE", help="Write the scores as CSV.")
@tile_option
@ensemble_option
@common_options("device", "threads", "overwrite", "json", "config", dtype=None)
def evaluate(
    folder: Path, scale: int | None, weights: str, protocol: Any, lr: Path | None,
    metrics: tuple[str, ...], table: Path | None, tile: int | None, ensemble: bool, common: Common,
) -> None:  # fmt: skip
    """Reduce each picture in DIR, enlarge it, and compare: PSNR and SSIM on luma, beside bicubic.

    The papers' way: border of the scale cut off, means over the pictures last.
    """
    if lr is not None and protocol != "rgb":
        raise UsageError("--lr gives the small pictures; needs --protocol rgb")
    from sigform_core.device import set_threads
    from sigform_kit.outputs import check_target
    from sigform_kit.outputs import output as writing
    from sigform_superres.jobs import evaluate_folder, pictures_in, score_rows, write_scores
    from sigform_superres.upscaler import Upscaler

    if table is not None and not check_target(table, common.policy, make_parents=True):
        common.console.say(f"{table} exists; skipped")
        return
    set_threads(common.threads)
    upscaler = Upscaler.load(
        weights, scale=scale, device=common.device, dtype=common.dtype or "auto",
        tile=tile, ensemble=ensemble,
    )  # fmt: skip
    with common.console.progress("evaluating", len(pictures_in(folder))) as advance:
        evaluation = evaluate_folder(
            folder, upscaler, protocol=protocol, small=lr, metrics=metrics, advance=advance
        )
    rows = score_rows(evaluation)
    if table is not None:
        with writing(table, common.policy, make_parents=True) as place:
            write_scores(rows, place)
    if common.json:
        common.console.table(rows, list(rows[0]))
    else:
        header, cells = evaluation.table()
        common.console.table([dict(zip(header, row, strict=True)) for row in cells], header)


@app.add("train")
@click.command(short_help="Train a network on a folder of pictures.")
@click.argument("folder", type=Source(), metavar="FOLDER")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default="craft",
              show_default=True, help="Network to train.")  # fmt: skip
@click.option("-s", "--scale", type=click.Choice((2, 3, 4)), default=4, show_default=True,
              help="How many times larger.")  # fmt: skip
@click.option("-o", "--output", type=FILE, metavar="RUN_DIR",
              help="Folder of the run.  [default: FOLDER_craft-x4]")  # fmt: skip
@click.option("--start", metavar="NAME|FILE", shell_complete=complete_path,
              help="Weights to start from, of the same architecture and any scale.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=20_000, show_default=True, metavar="N",
              help="Training steps.")  # fmt: skip
@click.option("--patch", type=click.IntRange(1), default=48, show_default=True, metavar="PIXELS",
              help="Side of a crop of the small picture.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=5e-4,
              show_default=True, metavar="RATE", help="Highest learning rate.")  # fmt: skip
@click.option("--validate-every", type=click.IntRange(1), default=500, show_default=True,
              metavar="STEPS", help="Steps between validations, and savings.")  # fmt: skip
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Processes that cut crops.")  # fmt: skip
@click.option("--devices", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="GPUs that share each batch.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an earlier run.")
@common_options(
    "device", "dtype", "threads", "overwrite", "json", "dry_run", "config", seed=0, batch_size=16
)
@click.pass_context
def train(
    ctx: click.Context, folder: Path, architecture: str, scale: int, output: Path | None,
    start: str | None, resume: bool, common: Common, **options: Any,
) -> None:  # fmt: skip
    """Train a network on the pictures in FOLDER and write RUN_DIR/weights.safetensors.

    A few pictures are held out for validation. Checkpoints, metrics.csv and the settings go to
    RUN_DIR; after Ctrl-C or a kill, --resume goes on from there.
    """
    run_dir = output or folder.with_name(f"{folder.resolve().name}_{architecture}-x{scale}")
    weights = run_dir / "weights.safetensors"
    from sigform_core.device import set_threads
    from sigform_kit.outputs import check_target
    from sigform_kit.runs import check_run, clear_run
    from sigform_kit.settings import resolved_settings, write_settings
    from sigform_superres.catalogue import find_weights
    from sigform_superres.fitting import fit_folder
    from sigform_superres.jobs import pictures_in
    from sigform_superres.training import Recipe

    if not check_target(weights, common.policy, make_parents=True):
        common.console.say(f"{weights} exists; skipped")
        return
    settings = resolved_settings(ctx)
    same = ("architecture", "scale")
    check_run(run_dir, settings, same=same, resume=resume, anew=common.overwrite)
    started_from = None if start is None else find_weights(start, scale)
    pictures = pictures_in(folder)
    recipe = Recipe(
        batch_size=common.batch_size or 16,
        seed=common.seed or 0,
        device=common.device,
        dtype=common.dtype,
        **options,
    )
    if common.dry_run:
        text = f"would train {weights} on {len(pictures)} pictures"
        common.console.result({"weights": weights, "pictures": len(pictures)}, text)
        return
    if not resume:
        clear_run(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_settings(run_dir / "settings.toml", settings, f"sigform-upscale train {folder}")
    set_threads(common.threads)
    try:
        with stage_progress(common) as on_progress:
            fitted = fit_folder(
                pictures, architecture, scale, run_dir, recipe, start=started_from, resume=resume,
                on_prepared=lambda done, total: on_progress("reducing", done, total),
                on_progress=lambda step, total, _: on_progress("training", step, total),
            )  # fmt: skip
    except KeyboardInterrupt:
        if (run_dir / "last.ckpt").exists():
            words = f"train '{folder}' -o '{run_dir}' --config '{run_dir / 'settings.toml'}'"
            common.console.say(f"saved; to go on: sigform-upscale {words} --resume")
        raise
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # one of several processes of a training tells
    common.console.result(
        {**asdict(fitted), "run": run_dir},
        f"validation: {fitted.best_psnr:.2f} dB, bicubic {fitted.bicubic_psnr:.2f} dB\n"
        f"wrote {fitted.weights}",
    )


@app.add("models")
@click.command(short_help="List the weights: shipped ones and those that authors offer.")
@common_options("json")
def models(common: Common) -> None:
    """List the weights, what they reach on Set5 (PSNR on Y in dB), and where they are."""
    from sigform_superres.jobs import list_models

    columns = ["name", "paper", "scales", "parameters", "set5", "licence", "where"]
    common.console.table(list_models(), columns)


@app.add("info")
@click.command(short_help="Say what a picture or a weight file holds.")
@click.argument("file", type=Source())
@common_options("json")
def info(file: Path, common: Common) -> None:
    """Say what a picture or a weight file holds."""
    from sigform_superres.jobs import describe_file

    record = describe_file(file)
    common.console.result(record, "\n".join(lines_of(record)))


@app.add("export")
@click.command(short_help="Write weights as a checkpoint that other programs load.")
@click.argument("weights", metavar="NAME|FILE", shell_complete=complete_path)
@click.argument("target", type=FILE, metavar="OUT.pth")
@common_options("overwrite", "json")
def export(weights: str, target: Path, common: Common) -> None:
    """Write weights with the published names, as the authors' code and spandrel load them."""
    from sigform_kit.outputs import check_targets
    from sigform_kit.outputs import output as writing
    from sigform_superres.catalogue import find_weights
    from sigform_superres.jobs import export_weights

    if target.suffix not in (".pth", ".safetensors"):
        raise UsageError(f"{target}: suffix is {target.suffix!r}; needs .pth or .safetensors")
    source = find_weights(weights, None)
    if not check_targets([target], common.policy, inputs=[source], make_parents=True)[0]:
        common.console.say(f"{target} exists; skipped")
        return
    with writing(target, common.policy, make_parents=True) as place:
        export_weights(source, place)
    common.console.result({"weights": source, "output": target}, f"wrote {target}")


@app.add("doctor")
@click.command(short_help="Check that this machine is fit for upscaling.")
@common_options("json")
def doctor(common: Common) -> int:
    """Check that this machine is fit for upscaling, and say what to do if not."""
    from sigform_kit.doctor import cache_folder, run_checks, standard_checks
    from sigform_superres.jobs import own_checks

    names = ("sigform-superres", "sigform-core", "sigform-kit", "torch", "pillow", "lightning")
    checks = [*standard_checks(*names, cache=cache_folder()), *own_checks()]
    return run_checks(checks, common.console)


def lines_of(record: dict[str, Any]) -> list[str]:
    """A line for each thing that is known, lists and tables spread out."""
    lines = []
    for name, value in record.items():
        if isinstance(value, dict):
            lines += [f"{name}: {inner}: {known}" for inner, known in value.items()]
        elif isinstance(value, list):
            lines += [f"note: {entry}" for entry in value]
        elif isinstance(value, tuple):
            lines.append(f"{name}: {' x '.join(f'{part:g}' for part in value)}")
        elif value is not None and value is not False:
            lines.append(f"{name}: {'yes' if value is True else value}")
    return lines


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
