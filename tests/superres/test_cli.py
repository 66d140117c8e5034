"""The subcommands of `sigform-upscale` as a person at a terminal meets them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from command_runner import undisturbed
from PIL import Image, ImageCms
from superres.commands import (
    command,
    moving,
    picture,
    pixels,
    saved_network,
    tiny,
)

import sigform_superres
from sigform_superres import batch, catalogue, cli, networks, tiling, writing
from sigform_superres.reading import open_animation, read_picture
from sigform_superres.resizing import imresize
from sigform_superres.training import Recipe
from sigform_superres.upscaler import Upscaler

HEAVY = (
    "torch", "numpy", "PIL", "lightning", "torchvision", "av", "imagecodecs", "tifffile", "scipy",
    "ray", "rich",
)  # fmt: skip
VERBS = list(cli.app.commands)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> dict[str, Path]:
    """Weight files of tiny networks for every scale, by the names of the shipped ones."""
    folder = tmp_path_factory.mktemp("weights")
    return {f"craft-x{scale}": saved_network(folder, scale) for scale in (2, 3, 4)}


@pytest.fixture(scope="module")
def net(nets) -> Path:
    """A weight file for a scale of 4."""
    return nets["craft-x4"]


@pytest.fixture
def shipped(nets, monkeypatch) -> None:
    """Tiny networks in the place of the shipped ones."""
    monkeypatch.setattr(catalogue, "SHIPPED", nets)


# --- help ----------------------------------------------------------------------------------------


def test_no_help_imports_what_is_heavy():
    script = (
        "import json, sys, sigform_superres\n"
        "from sigform_superres.cli import app\n"
        "from sigform_kit.running import run\n"
        "codes = [run(app, [*words, '--help']) for words in json.loads(sys.argv[1])]\n"
        f"print([name for name in {HEAVY} if name in sys.modules], codes)\n"
    )
    words = json.dumps([[], *([verb] for verb in VERBS)])
    done = subprocess.run(
        [sys.executable, "-c", script, words], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[] {[0] * (len(VERBS) + 1)}"
    assert done.stderr == ""


def test_help_is_quick_and_whole():
    begun = time.perf_counter()
    words = [sys.executable, "-m", "sigform_superres", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # It takes 0.2 s; the bound is for a machine that does much else.
    assert time.perf_counter() - begun < 5
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout.split("Commands:")[1]
    assert [line.split()[0] for line in listed.strip().splitlines()] == VERBS
    assert "..." not in listed


@pytest.mark.parametrize("verb", VERBS)
def test_each_help_names_its_options_in_words(verb):
    told = command(verb, "--help")
    assert told.code == 0
    assert "RANGE" not in told.out.split("--device")[0]
    assert told.out.startswith(f"Usage: sigform-upscale {verb}")


def test_without_arguments_the_help_comes():
    told = command()
    assert told.code == 2
    assert "Usage: sigform-upscale" in told.out + told.err


def test_what_the_command_line_repeats_is_what_the_library_says():
    assert {name: limits.suffixes for name, limits in writing.FORMATS.items()} == batch.FORMATS
    assert set(cli.ARCHITECTURES) == set(networks.ARCHITECTURES)
    assert tiling.SMALLEST == 96


def test_the_library_is_reached_from_its_name():
    for name in sigform_superres.__all__:
        assert getattr(sigform_superres, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Upscalr'"):
        _ = sigform_superres.Upscalr


# --- upscale -------------------------------------------------------------------------------------


def test_a_picture_comes_out_larger_beside_itself(net):
    picture("photo.png")
    told = command("photo.png", "-w", net)
    assert (told.code, told.err) == (0, "")
    assert told.out == "photo.png (16x12) -> photo_x4.png (64x48)\n"
    found = read_picture("photo_x4.png").colour
    np.testing.assert_array_equal(found, Upscaler.load(net)(pixels()))
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(found - imresize(pixels(), 4).astype(int))[inner].mean() < 4


@pytest.mark.parametrize("format", batch.FORMATS)
def test_every_format_is_kept_and_can_be_asked_for(net, format):
    source = picture(f"a{batch.FORMATS[format][-1]}")
    assert command(source, "-w", net).code == 0
    assert command(picture("b.bmp"), "-w", net, "--format", format).code == 0
    for name in (f"a_x4{source.suffix}", f"b_x4{batch.FORMATS[format][0]}"):
        with Image.open(name) as image:
            assert (image.format or "").lower() == format
            assert image.size == (64, 48)


@pytest.mark.parametrize(
    ("name", "asked", "format"),
    [("out.webp", (), "WEBP"), ("out.JPG", (), "JPEG"), ("out", ("--format", "jpg"), "JPEG"),
     ("out.dat", ("--format", ".TIF"), "TIFF")],
)  # fmt: skip
def test_the_output_says_its_format(net, name, asked, format):
    picture()
    (record,) = command("a.png", "-w", net, "-o", name, *asked, "--json").records
    with Image.open(record["output"]) as image:
        assert image.format == format


def test_quality_is_taken_and_strip_leaves_metadata_out(net):
    exif, icc = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x010F] = "Maker"
    Image.fromarray(pixels(40, 40)).save("a.jpg", exif=exif, icc_profile=icc, dpi=(72, 72))
    for name, words in {
        "full": (), "low": ("--quality", "20"), "bare": ("--strip",)
    }.items():  # fmt: skip
        assert command("a.jpg", "-w", net, "-o", f"{name}.jpg", *words).code == 0
    full, low, bare = (Path(f"{name}.jpg") for name in ("full", "low", "bare"))
    assert low.stat().st_size < full.stat().st_size
    kept = read_picture(full).metadata
    assert (kept.icc, kept.dpi) == (icc, (72, 72))
    assert b"Maker" in (kept.exif or b"")
    stripped = read_picture(bare).metadata
    assert (stripped.icc, stripped.exif) == (None, None)


def test_grey_alpha_and_16_bits_stay(net):
    Image.fromarray(pixels(channels=1)[..., 0]).save("grey.png")
    Image.fromarray(pixels(channels=4)).save("alpha.png")
    deep = (pixels(channels=1)[..., 0].astype(np.uint16) << 8) + 7
    Image.fromarray(deep).save("deep.png")
    for name in ("grey", "alpha", "deep"):
        assert command(f"{name}.png", "-w", net).code == 0
    grey, alpha, deeper = (read_picture(f"{n}_x4.png") for n in ("grey", "alpha", "deep"))
    assert grey.colour.shape == (48, 64, 1)
    assert alpha.alpha is not None
    assert deeper.colour.dtype == np.uint16


def test_a_conversion_is_said(net):
    Image.fromarray(pixels(channels=4)).save("a.png")
    told = command("a.png", "-w", net, "--format", "jpeg")
    assert told.err == "a.png: jpeg holds no transparency: laid on white\n"
    quiet = command("a.png", "-w", net, "--format", "jpeg", "--overwrite", "-q")
    assert quiet.err == ""
    (record,) = command("a.png", "-w", net, "--format", "bmp", "--json").records
    assert record["notes"] == ["bmp holds no transparency: laid on white"]


def test_stdin_and_stdout(net):
    data = picture("a.jpg").read_bytes()
    told = command("-", "-w", net, stdin=data)
    assert told.code == 0
    assert told.err == "- (16x12) -> - (64x48)\n"
    assert read_picture(told.raw).colour.shape == (48, 64, 3)
    with Image.open(io.BytesIO(told.raw)) as image:
        assert image.format == "PNG"
    with Image.open(io.BytesIO(command("a.jpg", "-w", net, "-o", "-").raw)) as image:
        assert image.format == "JPEG"
    assert command("-", "-w", net, "-o", "out.webp", stdin=data).code == 0
    moved = command("-", "-w", net, "--format", "gif", stdin=moving("m.gif").read_bytes())
    with Image.open(io.BytesIO(moved.raw)) as image:
        assert getattr(image, "n_frames", 1) == 3
    still = command("-", "-w", net, "--format", "webp", stdin=data)
    assert read_picture(still.raw).width == 64


def test_json_tells_everything(net):
    picture()
    (record,) = command("a.png", "-w", net, "--json", "--compare", "html").records
    assert record.pop("seconds") > 0
    assert record == {
        "input": "a.png",
        "output": "a_x4.png",
        "status": "done",
        "comparison": "a_x4_compare.html",
        "from": "16x12",
        "size": "64x48",
        "width": 64,
        "height": 48,
        "scale": 4,
        "frames": 1,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("words", "name", "size", "scale"),
    [
        ((), "a_x4.png", (64, 48), 4),
        (("-s", "3"), "a_x3.png", (48, 36), 3),
        (("--factor", "2.5"), "a_x2.5.png", (40, 30), 3),
        (("--factor", "2"), "a_x2.png", (32, 24), 2),
        (("--factor", "0.5"), "a_x0.5.png", (8, 6), 2),
        (("--factor", "6"), "a_x6.png", (96, 72), 4),
        (("--factor", "2", "-s", "4"), "a_x2.png", (32, 24), 4),
        (("--width", "40"), "a_w40.png", (40, 30), 3),
        (("--height", "48"), "a_h48.png", (64, 48), 4),
        (("--width", "20", "--height", "25"), "a_20x25.png", (20, 25), 3),
    ],
)
@pytest.mark.usefixtures("shipped")
def test_any_size_takes_the_smallest_network_that_reaches_it(words, name, size, scale):
    picture()
    (record,) = command("a.png", *words, "--json").records
    assert (record["output"], record["width"], record["height"]) == (name, *size)
    assert record["scale"] == scale
    with Image.open(name) as image:
        assert image.size == size
    beyond = ["enlarged 6 times: 4 times by the network, the rest by Lanczos"]
    assert record["notes"] == (beyond if "6" in words else [])


def test_the_options_of_the_upscaler_reach_it(net, monkeypatch):
    seen = {}

    def load(weights, **options):
        seen.update(options, weights=weights)
        raise ValueError("enough")

    monkeypatch.setattr(Upscaler, "load", load)
    picture()
    assert command("a.png", "-w", net).error == "enough"
    plain = {"weights": str(net), "scale": 4, "device": "auto", "dtype": "auto"}
    assert seen == {**plain, "tile": None, "ensemble": False, "backend": "torch"}
    words = ("--tile", "96", "--ensemble", "--device", "cpu", "--dtype", "bfloat16")
    for verb in ("upscale", "evaluate"):
        seen.clear()
        assert command(verb, "a.png", "-w", net, "-s", "4", *words).error == "enough"
        chosen = {**plain, "device": "cpu", "dtype": "bfloat16", "tile": 96, "ensemble": True}
        assert seen == (chosen if verb == "evaluate" else {**chosen, "backend": "torch"})


def test_comparisons_are_written_beside_the_picture(net):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels(channels=4)).save("a.png", icc_profile=icc)
    told = command("a.png", "-w", net, "--compare", "png")
    assert told.out == "a.png (16x12) -> a_x4.png (64x48), a_x4_compare.png\n"
    with Image.open("a_x4_compare.png") as image:
        assert image.width > 1000
    assert command("a.png", "-w", net, "--compare", "look.html", "-o", "-").code == 0
    assert "<title>a.png</title>" in Path("look.html").read_text()


@pytest.mark.parametrize(("kind", "format"), [("gif", "webp"), ("webp", "gif")])
def test_animations_are_upscaled_frame_by_frame(net, kind, format):
    source = moving(f"m.{kind}", loop=2, **({"lossless": True} if kind == "webp" else {}))
    told = command(source, "-w", net, "--compare", "png")
    assert told.out == f"m.{kind} (12x8) -> m_x4.{kind} (48x32), 3 frames, m_x4_compare.png\n"
    assert command(source, "-w", net, "--format", format).code == 0
    before = open_animation(source)
    assert before is not None
    upscaler = Upscaler.load(net)
    for name in (f"m_x4.{kind}", f"m_x4.{format}"):
        after = open_animation(name)
        assert after is not None
        assert (after.width, after.height, after.plays) == (48, 32, before.plays)
        for old, new in zip(before, after, strict=True):
            assert new.duration == old.duration
            wanted = upscaler(old.picture).colour.astype(int)
            # GIF dithers and WebP loses a little; a wrong frame differs by 60 and more.
            assert np.abs(wanted - new.picture.colour).mean() < 12


def test_of_an_animation_other_formats_get_the_first_frame_and_say_so(net):
    told = command(moving("m.gif"), "-w", net, "--format", "png")
    assert told.code == 0
    assert told.err == "m.gif: holds 3 frames; the first was read\n"


def test_a_video_goes_to_the_video_module(net, monkeypatch):
    seen: dict[str, object] = {}

    def upscale_video(source, target, upscaler, *, size, quality, on_frame):
        target.write_bytes(b"a video")
        on_frame(1, None)
        seen.update(source=source, scale=upscaler.scale, size=size, quality=quality)
        return ["the sound was kept"]

    fake = ModuleType("sigform_superres.video")
    fake.__dict__["upscale_video"] = upscale_video
    monkeypatch.setitem(sys.modules, "sigform_superres.video", fake)
    Path("clip.MP4").write_bytes(b"frames")
    told = command("clip.MP4", "-w", net, "--quality", "70")
    assert (told.code, told.err) == (0, "clip.MP4: the sound was kept\n")
    assert told.out == "clip.MP4 -> clip_x4.MP4\n"
    assert Path("clip_x4.MP4").read_bytes() == b"a video"
    assert seen == {"source": Path("clip.MP4"), "scale": 4, "size": None, "quality": 70}
    assert command("clip.MP4", "-w", net, "--width", "99", "-o", "b.mkv").code == 0
    assert getattr(seen["size"], "width", None) == 99


def test_a_config_file_fills_the_defaults(net):
    picture()
    Path("settings.toml").write_text(f'weights = "{net}"\nformat = "webp"\nquality = 50\n')
    assert command("a.png", "--config", "settings.toml").code == 0
    assert Path("a_x4.webp").exists()


def test_debug_shows_the_traceback(net):
    Path("a.png").write_text("text")
    told = command("a.png", "-w", net, "--debug")
    assert told.code == 1
    assert "Traceback" in told.err


# --- evaluate ------------------------------------------------------------------------------------


def test_evaluate_tells_scores_beside_those_of_bicubic(net):
    for seed in range(2):
        picture(f"set/p{seed}.png", height=48, width=56, seed=seed)
    told = command("evaluate", "set", "-w", net, "--csv", "scores.csv")
    assert told.code == 0, told.err
    header, *rows = told.out.splitlines()
    assert header.split() == ["image", "PSNR", "SSIM", "bicubic", "PSNR", "bicubic", "SSIM"]
    assert [row.split()[0] for row in rows] == ["p0", "p1", "mean"]
    records = command("evaluate", "set", "-w", net, "--json").records
    assert [record["image"] for record in records] == ["p0", "p1", "mean"]
    assert records[2]["psnr"] == pytest.approx((records[0]["psnr"] + records[1]["psnr"]) / 2)
    assert abs(records[2]["bicubic_psnr"] - records[2]["psnr"]) < 10
    with Path("scores.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in written] == [record["psnr"] for record in records]
    older = command("evaluate", "set", "-w", net, "--protocol", "srcnn", "--json").records
    assert older[2]["bicubic_psnr"] != records[2]["bicubic_psnr"]


def test_evaluate_takes_small_pictures(net):
    picture("set/p.png", height=48, width=56)
    picture("small/px4.png", height=12, width=14, seed=3)
    (own, _), (given, _) = (
        command("evaluate", "set", "-w", net, "--json", *words).records
        for words in ((), ("--lr", "small"))
    )
    assert own["bicubic_psnr"] > given["bicubic_psnr"]
    picture("small/px4.png", height=13, width=14)
    refused = command("evaluate", "set", "-w", net, "--lr", "small")
    assert refused.error == "p: the small picture is 14x13; needs 14x12 for x4"
    both = command("evaluate", "set", "-w", net, "--lr", "small", "--protocol", "srcnn")
    assert (both.code, both.error.split(" (")[0]) == (
        2, "--lr gives the small pictures; needs --protocol rgb"
    )  # fmt: skip


def test_evaluate_says_what_is_missing(net, monkeypatch):
    picture("set/p.png", height=48, width=56)
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    told = command("evaluate", "set", "-w", net, "--metric", "lpips")
    assert told.error == "lpips needs pyiqa: pip install 'sigform-superres[metrics]'"
    Path("none").mkdir()
    assert command("evaluate", "none", "-w", net).error.startswith("none: no file ending in")
    assert command("evaluate", "gone", "-w", net).error == "gone: no such file or folder"
    Path("scores.csv").write_text("mine")
    told = command("evaluate", "set", "-w", net, "--csv", "scores.csv")
    assert told.error.startswith("scores.csv exists; --overwrite replaces it")


# --- train ---------------------------------------------------------------------------------------

SHORT = ("--steps", "4", "--patch", "8", "--batch-size", "2", "--validate-every", "2")


@pytest.fixture
def folder(monkeypatch) -> Path:
    """Pictures to train on, and a tiny network in the place of CRAFT."""
    monkeypatch.setitem(networks.ARCHITECTURES, "craft", tiny)
    for seed in range(4):
        picture(f"set/p{seed}.png", height=72, width=80, seed=seed)
    return Path("set")


def test_train_writes_weights_settings_and_what_they_reach(folder):
    told = command("train", folder, *SHORT, "--json")
    (record,) = told.records
    assert record["weights"] == "set_craft-x4/weights.safetensors"
    assert (record["steps"], record["train_pictures"], record["validation_pictures"]) == (4, 3, 1)
    run = Path("set_craft-x4")
    names = {path.name for path in run.iterdir()}
    assert names == {
        "settings.toml", "last.ckpt", "best.ckpt", "metrics.csv", "weights.safetensors",
        "card.json", "pairs",
    }  # fmt: skip
    assert "patch = 8" in (run / "settings.toml").read_text()
    again = command("train", folder, *SHORT)
    assert again.error.startswith("set_craft-x4/weights.safetensors exists; --overwrite replaces")
    skipped = command("train", folder, *SHORT, "--skip-existing")
    assert (skipped.code, skipped.err) == (0, f"{record['weights']} exists; skipped\n")
    other = command("train", folder, *SHORT, "-s", "2", "-o", run, "--resume", "--overwrite")
    assert other.error == (
        "set_craft-x4 holds a run with scale 4; --resume with 2 needs a run of its own"
    )
    # Two steps more, by the settings of the first run.
    longer = command(
        "train", folder, "-o", run, "--config", run / "settings.toml", "--steps", "6", "--resume",
        "--overwrite", "--json",
    )  # fmt: skip
    assert longer.records[0]["steps"] == 6
    assert command("p0.png", "-w", record["weights"], "-o", "large.png").code == 1
    assert command("set/p0.png", "-w", record["weights"], "-o", "large.png").code == 0
    assert read_picture("large.png").width == 4 * 80


def fitting_that(monkeypatch, action) -> None:
    monkeypatch.setattr("sigform_superres.fitting.fit_folder", action)


def test_an_interrupted_training_says_how_to_go_on(folder, monkeypatch):
    def interrupted(pictures, architecture, scale, run_dir, recipe, **options):
        del pictures, architecture, scale, recipe, options
        (run_dir / "last.ckpt").write_text("saved")
        raise KeyboardInterrupt

    fitting_that(monkeypatch, interrupted)
    told = command("train", folder, "-o", "run", *SHORT)
    assert told.code == 130
    assert told.err.splitlines() == [
        "saved; to go on: sigform-upscale train 'set' -o 'run' --config 'run/settings.toml' "
        "--resume",
        "sigform-upscale: interrupted",
    ]
    again = command("train", folder, "-o", "run", *SHORT)
    assert again.error == "run holds a run; --resume goes on, --overwrite starts anew"


def test_train_hands_everything_on(folder, shipped, monkeypatch):
    del shipped
    seen = {}

    def stopped(pictures, architecture, scale, run_dir, recipe, **options):
        seen.update(locals())
        raise ValueError("enough")

    fitting_that(monkeypatch, stopped)
    told = command(
        "train", folder, "--architecture", "dlgsanet-tiny", "-s", "3", "-o", "run", *SHORT,
        "--learning-rate", "1e-3", "--workers", "2", "--devices", "3", "--seed", "7",
        "--device", "cpu", "--dtype", "bfloat16", "--start", "craft-x2", "--resume",
    )  # fmt: skip
    assert told.error == "enough"
    assert [path.name for path in seen["pictures"]] == [f"p{seed}.png" for seed in range(4)]
    assert (seen["architecture"], seen["scale"]) == ("dlgsanet-tiny", 3)
    assert (seen["options"]["start"], seen["options"]["resume"]) == (
        catalogue.SHIPPED["craft-x2"], True
    )  # fmt: skip
    assert seen["recipe"] == Recipe(
        steps=4, batch_size=2, patch=8, learning_rate=1e-3, validate_every=2, workers=2, devices=3,
        seed=7, device="cpu", dtype="bfloat16",
    )  # fmt: skip


def test_train_without_words_is_the_recipe(folder, monkeypatch):
    seen = {}

    def stopped(pictures, architecture, scale, run_dir, recipe, **options):
        seen.update(locals())
        raise ValueError("enough")

    fitting_that(monkeypatch, stopped)
    assert command("train", folder).error == "enough"
    assert seen["recipe"] == Recipe()


def test_train_can_be_rehearsed(folder):
    with undisturbed(Path()):
        told = command("train", folder, "--dry-run")
    assert told.out == "would train set_craft-x4/weights.safetensors on 4 pictures\n"


def test_train_says_what_is_wrong(folder):
    assert command("train", folder, "--patch", "60").error.startswith("none of 3 pictures is")
    Path("empty").mkdir()
    assert command("train", "empty").error.startswith("empty: no file ending in")
    picture("one/a.png")
    assert command("train", "one", "-o", "r").error == "1 picture is given; needs 2 or more"
    broken = folder / "p4.png"
    broken.write_bytes(b"no picture")
    told = command("train", folder, *SHORT, "-o", "run")
    assert told.error.startswith("set/p4.png: is not a picture that can be read")
    assert command("train", folder, "--start", "crft").error.startswith("weights 'crft' are")
    assert command("train", folder, "--architecture", "swin").code == 2


# --- info, models, export, doctor ----------------------------------------------------------------


def test_info_tells_what_a_picture_holds():
    exif, icc = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x010F] = "Maker"
    Image.fromarray(pixels(channels=4)).save("a.png", icc_profile=icc, exif=exif, dpi=(72, 72))
    told = command("info", "a.png")
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[:6] == [
        "file: a.png", "width: 16", "height: 12", "mode: RGB", "bits: 8", "alpha: yes"
    ]  # fmt: skip
    assert "profile: sRGB built-in" in lines
    assert "exif: " in told.out
    (record,) = command("info", moving("m.webp"), "--json").records
    assert (record["frames"], record["alpha"], record["profile"]) == (3, False, None)


def test_info_tells_what_weights_are_whatever_their_name(net):
    (record,) = command("info", net, "--json").records
    parameters = sum(p.numel() for p in tiny(4).parameters())
    assert record == {
        "file": str(net),
        "architecture": "tiny",
        "scale": 4,
        "parameters": parameters,
        "card": {"architecture": "tiny", "set5_psnr": 30.5},
    }
    Path("weights.png").write_bytes(net.read_bytes())
    assert f"parameters: {parameters}" in command("info", "weights.png").out
    torch.save({"params": tiny(2).published_state()}, "net.bin")
    (record,) = command("info", "net.bin", "--json").records
    assert (record["architecture"], record["scale"], record["card"]) == ("CRAFT", 2, {})


def test_info_of_what_is_neither_costs_one_line():
    Path("a.png").write_text("text")
    assert command("info", "a.png").error.startswith("a.png: is not a picture that can be read")
    Path("b.safetensors").write_text("text")
    assert command("info", "b.safetensors").error.startswith("b.safetensors ")
    assert command("info", "c").error == "c: no such file or folder"


@pytest.mark.usefixtures("shipped")
def test_models_lists_the_shipped_and_the_published():
    rows = command("models", "--json").records
    assert [row["name"] for row in rows[:4]] == ["craft-x2", "craft-x3", "craft-x4", "CRAFT"]
    assert (rows[0]["scales"], rows[0]["set5"]) == (2, 30.5)
    assert "github.com" in rows[-1]["where"]
    assert command("models").out.splitlines()[0].startswith("name ")


def test_export_writes_what_others_load(net):
    told = command("export", net, "out/net.pth")
    assert (told.code, told.out) == (0, "wrote out/net.pth\n")
    state = torch.load("out/net.pth", weights_only=True)["params"]
    assert set(state) == set(tiny(4).published_state())
    picture()
    assert command("a.png", "-w", "out/net.pth").code == 0
    assert command("a.png", "-w", net, "-o", "b.png").code == 0
    assert Path("a_x4.png").read_bytes() == Path("b.png").read_bytes()
    assert command("export", net, "out/net.pth").error.startswith("out/net.pth exists")
    assert command("export", net, net, "--overwrite").error.startswith(f"output {net} is also an")
    assert command("export", net, "net.onnx").error.startswith("net.onnx: suffix is '.onnx'")


def test_doctor_says_what_is_installed(shipped, monkeypatch):
    del shipped
    found = {row["name"]: row for row in command("doctor", "--json").records}
    assert found["sigform-superres"]["status"] == "ok"
    assert found["weights"]["detail"] == "craft-x2, craft-x3, craft-x4"
    assert {"torch", "av", "spandrel", "pyiqa"} <= set(found)
    monkeypatch.setattr(catalogue, "SHIPPED", {})
    told = command("doctor")
    assert told.code == 1
    assert "fail  weights: none in the package" in told.out
