"""Whatever is wrong with an input costs one clear line, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runner import largest_file, undisturbed
from PIL import Image
from superres.commands import (
    command,
    moving,
    picture,
    pixels,
    saved_network,
)

from sigform_core.weights import save_weights
from sigform_superres import jobs, tiling
from sigform_superres.reading import read_picture
from sigform_superres.upscaler import Upscaler


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A weight file for a scale of 4."""
    return saved_network(tmp_path_factory.mktemp("weights"))


def refused(*args: object, code: int = 1) -> str:
    """The one line of a command that must fail and leave the folder as it was."""
    with undisturbed(Path()):
        told = command(*args)
    assert told.code == code, told.err
    assert told.raw == b""
    return told.error


# --- files ---------------------------------------------------------------------------------------


def in_format(format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 3600 megapixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (head, data, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


FILES = {
    "empty": ("a.png", b"", "a.png: is empty"),
    "text": ("a.png", b"no picture", "a.png: is not a picture that can be read; needs PNG, JPEG"),
    "other binary": ("a.jpg", bytes(range(256)), "a.jpg: is not a picture that can be read"),
    "cut PNG": ("a.png", in_format("PNG")[:-400], "a.png: is a broken or truncated PNG file"),
    "cut JPEG": ("a.jpg", in_format("JPEG")[:-400], "a.jpg: is a broken or truncated JPEG file"),
    "cut WebP": ("a.webp", in_format("WEBP")[:-90], "a.webp: is a broken or truncated WEBP file"),
    "cut GIF": ("a.gif", in_format("GIF")[:-90], "a.gif: is a broken or truncated GIF file"),
    "cut TIFF": ("a.tif", in_format("TIFF")[:-90], "a.tif: is a broken or truncated TIFF file"),
    "cut BMP": ("a.bmp", in_format("BMP")[:-90], "a.bmp: is a broken or truncated BMP file"),
    "cut AVIF": ("a.avif", in_format("AVIF")[:-90], "a.avif: is a broken or truncated AVIF file"),
    "only a head": ("a.png", in_format("PNG")[:20], "a.png: is a broken or truncated PNG file"),
    "bomb": ("a.png", bomb(), "a.png: has more than 512 megapixels, the limit"),
}


@pytest.mark.parametrize(("name", "content", "reason"), FILES.values(), ids=FILES)
def test_a_bad_file_costs_one_line(net, name, content, reason):
    Path(name).write_bytes(content)
    assert refused(name, "-w", net).startswith(reason)


def test_what_is_not_there_costs_one_line(net):
    assert refused("a.png", "-w", net) == "a.png: no such file or folder"
    assert refused("*.png", "-w", net).startswith("*.png: no file ending in .avif, .bmp")
    Path("sub").mkdir()
    Path("sub/notes.md").write_text("nothing")
    assert refused("sub", "-w", net).startswith("sub: no file ending in .avif, .bmp")


def test_bad_bytes_on_stdin_cost_one_line(net):
    for content, reason in ((b"", "is empty"), (b"text", "is not a picture"), (bomb(), "has more")):
        told = command("-", "-w", net, stdin=content)
        assert (told.code, told.raw) == (1, b"")
        assert told.error.startswith(f"stdin: {reason}")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (40, 1), (3, 5)])
def test_the_smallest_pictures_are_upscaled(net, width, height):
    Image.fromarray(np.full((height, width, 3), 100, np.uint8)).save("a.png")
    told = command("a.png", "-w", net, "--compare", "png")
    assert told.code == 0, told.err
    made = read_picture("a_x4.png").colour
    assert made.shape == (4 * height, 4 * width, 3)


def test_names_with_spaces_and_other_letters_are_kept(net):
    name = "in/Füße im Schnee, 日本 [1].png"
    picture(name)
    told = command(name, "-w", net, "--compare", "html")
    assert told.code == 0, told.err
    assert Path("in/Füße im Schnee, 日本 [1]_x4.png").exists()
    assert "Füße im Schnee, 日本 [1].png" in told.out


# --- weights -------------------------------------------------------------------------------------


def weights_for(kind: str, net: Path) -> str:
    """A file or name that `-w` must refuse."""
    whole = net.read_bytes()
    if kind == "of another model":
        save_weights(Path("w.safetensors"), {"a": torch.ones(2)}, model="informer", config={})
    elif kind == "cut":
        Path("w.safetensors").write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        Path("w.safetensors").write_text("no weights")
    elif kind == "picture":
        return str(picture())
    elif kind == "of no network":
        torch.save({"params": {"layer.weight": torch.ones(2, 2)}}, "w.pth")
        return "w.pth"
    elif kind == "misspelt":
        return "crafft-x4"
    elif kind == "folder":
        Path("w").mkdir()
        return "w"
    return "w.safetensors"


WEIGHTS = {
    "of another model": r"w\.safetensors is for informer; needs one of craft, dlgsanet",
    "cut": r"w\.safetensors is cut short; needs to be copied again",
    "text": r"w\.safetensors ",
    "picture": r"a\.png is no readable PyTorch checkpoint",
    "of no network": r"w\.pth has layer\.weight",
    "misspelt": r"weights 'crafft-x4' are neither a file nor one of",
    "folder": r"w is a folder; needs a weight file",
    "missing": r"weights 'w\.safetensors' are neither a file nor one of",
}


@pytest.mark.parametrize("scale", [(), ("-s", "4")], ids=["free", "x4"])
@pytest.mark.parametrize(("kind", "reason"), WEIGHTS.items(), ids=WEIGHTS)
def test_bad_weights_cost_one_line(net, kind, reason, scale):
    weights = weights_for(kind, net)
    picture()
    error = refused("a.png", "-w", weights, *scale)
    assert re.match(reason, error), error


def test_a_scale_that_the_weights_do_not_do_costs_one_line(net):
    picture()
    assert refused("a.png", "-w", net, "-s", "2") == f"scale is 2; the weights {net} need 4"
    assert "'5' is not one of" in refused("a.png", "-w", net, "-s", "5", code=2)
    assert refused("evaluate", ".", "-w", net, "-s", "3") == f"scale is 3; the weights {net} need 4"


# --- options -------------------------------------------------------------------------------------

OPTIONS = {
    "factor and width": (("--factor", "2", "--width", "9"), 2, "--factor and --width or --height"),
    "no factor": (("--factor", "0"), 2, "'--factor': 0.0 is not in the range"),
    "endless factor": (("--factor", "inf"), 1, "factor is inf; needs more than 0"),
    "nan factor": (("--factor", "nan"), 1, "factor is nan; needs more than 0"),
    "no width": (("--width", "0"), 2, "'--width': 0 is not in the range"),
    "quality": (("--quality", "101"), 2, "'--quality': 101 is not in the range"),
    "format": (("--format", "jpx"), 2, "'--format': 'jpx' is not one of 'png', 'jpeg'"),
    "tile": (("--tile", "95"), 2, "'--tile': 95 is not in the range"),
    "comparison": (("--compare", "jpg"), 2, "'jpg' is no comparison; needs png or html"),
    "device": (("--device", "tpu"), 2, "device is 'tpu'; needs auto, cpu"),
    "absent device": (("--device", "cuda:99"), 1, "'cuda:99'"),
    "dtype": (("--dtype", "float16", "--device", "cpu"), 1, "dtype is 'float16' on the CPU"),
    "two formats": (("-o", "b.png", "--format", "webp"), 2, "--format is webp and b.png is png"),
    "no format": (("-o", "b.dat"), 2, r"b\.dat: suffix is '\.dat'; needs \.png, \.jpg"),
    "stdout twice": (("-o", "-", "--json"), 2, "the picture and --json would share stdout"),
    "no name": (("-o", "-", "--compare", "png"), 2, "--compare png has no name beside stdout"),
    "too large": (("--width", "20000", "-o", "b.webp"), 1, "webp cannot hold 20000 x 15000"),
    "missing config": (("--config", "none.toml"), 2, "'none.toml' does not exist"),
}


@pytest.mark.parametrize(("options", "code", "reason"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_does_not_fit_costs_one_line(net, monkeypatch, options, code, reason):
    monkeypatch.setattr(Upscaler, "__call__", lambda *_, **__: pytest.fail("the work began"))
    picture()
    error = refused("a.png", "-w", net, *options, code=code)
    assert re.search(reason, error), error


def test_wrong_words_get_the_nearest_right_one(net):
    picture()
    assert "'evaluat'. Did you mean 'evaluate'?" in refused("evaluat", "a.png", code=2)
    assert "Did you mean '--factor'?" in refused("a.png", "-w", net, "--facto", "2", code=2)


def test_a_video_and_a_picture_do_not_mix(net):
    Path("a.mp4").write_bytes(b"frames")
    error = refused("a.mp4", "-w", net, "-o", "a.gif", code=2)
    assert error.startswith("a.mp4 is a video and a.gif is not; needs .mp4, .mov")
    error = refused("a.mp4", "-w", net, "--compare", "png", code=2)
    assert error.startswith("a.mp4 is a video; --compare needs pictures")


# --- outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code", "reason"),
    [
        ("a.png", 2, "output a.png is also an input"),
        ("./sub/../a.png", 2, "output sub/../a.png is also an input"),
        ("link.png", 2, "output link.png is also an input"),
        ("a.png/out.png", 1, "Not a directory"),
        ("/dev/full", 1, "/dev/full is not a regular file; use - for stdout"),
        ("sub/b.png", 1, "sub/b.png exists; --overwrite replaces it"),
    ],
)
def test_an_output_that_cannot_be_written_costs_one_line(net, monkeypatch, target, code, reason):
    monkeypatch.setattr(Upscaler, "__call__", lambda *_, **__: pytest.fail("the work began"))
    picture()
    picture("sub/b.png")
    Path("link.png").symlink_to("a.png")
    words = ("--format", "png") if target == "/dev/full" else ()
    words += ("--overwrite",) if code == 2 else ()
    error = refused("a.png", "-w", net, "-o", target, *words, code=code)
    assert re.search(reason, error), error


def test_a_folder_that_is_not_writable_is_refused_before_the_work(net, monkeypatch):
    monkeypatch.setattr(Upscaler, "__call__", lambda *_, **__: pytest.fail("the work began"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    picture()
    error = refused("a.png", "-w", net, "-o", "sub/b.png")
    assert re.fullmatch(r"sub/b\.png: folder .* is not writable", error)


def test_existing_outputs_are_refused_before_anything_is_read(net):
    Path("a.png").write_text("no picture")
    for name in ("a_x4.png", "a_x4_compare.png"):
        Path(name).write_text("mine")
        error = refused("a.png", "-w", net, "--compare", "png")
        assert error == f"{name} exists; --overwrite replaces it, --skip-existing leaves it"
        Path(name).unlink()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif", ".gif"])
def test_a_full_disk_leaves_no_half_picture(net, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save("a.png")
    with largest_file(700):
        error = refused("a.png", "-w", net, "-o", f"out{suffix}")
    assert error == f"out{suffix}: File too large"


def test_a_full_disk_leaves_no_half_animation_and_no_half_page(net, monkeypatch):
    moving("m.gif")
    with largest_file(700):
        assert refused("m.gif", "-w", net) == "m_x4.gif: File too large"
        assert refused("m.gif", "-w", net, "--format", "webp") == "m_x4.webp: File too large"
    picture()
    with largest_file(4000):
        error = refused("a.png", "-w", net, "--compare", "html", "--format", "jpg")
    assert re.fullmatch(r"a_x4(_compare)?\.(html|jpg): File too large", error)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused("a.png", "-w", net) == "a_x4.png: No space left on device"


def test_a_full_stdout_costs_one_line(net):
    from sigform_kit.running import run
    from sigform_superres.cli import app

    source, said = picture(), io.StringIO()
    with open("/dev/full", "w") as out, contextlib.redirect_stdout(out):  # noqa: PTH123
        with contextlib.redirect_stderr(said):
            code = run(app, [str(source), "-w", str(net), "-o", "-"])
        with contextlib.suppress(OSError):
            out.flush()
    assert code == 1
    assert said.getvalue() == "sigform-upscale: error: stdout: No space left on device\n"


# --- interrupts and memory -----------------------------------------------------------------------


def interrupting(monkeypatch, owner: object, name: str, call: int) -> None:
    """Ctrl-C during the call of that number."""
    inner = getattr(owner, name)
    calls = []

    def counted(*args, **options):
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return inner(*args, **options)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (tiling.TiledPass, "run", 2),  # alpha, or the second frame
        (jobs, "compare_png", 1),
        (os, "fsync", 1),
    ],
    ids=["network", "comparison", "writing"],
)
@pytest.mark.parametrize("source", ["a.png", "m.gif"])
def test_an_interrupt_leaves_nothing(net, monkeypatch, owner, name, call, source):
    Image.fromarray(pixels(channels=4)).save("a.png")
    moving("m.gif")
    interrupting(monkeypatch, owner, name, call)
    with undisturbed(Path()):
        told = command(source, "-w", net, "--compare", "png", "-o", "new.gif")
    assert told.code == 130
    assert told.err == "sigform-upscale: interrupted\n"
    assert told.raw == b""


def test_too_little_memory_costs_one_line(net, monkeypatch):
    def out_of_memory(*_: object) -> None:
        raise tiling.OutOfMemoryError("a tile of 96 pixels does not fit into the memory of cpu")

    monkeypatch.setattr(tiling.TiledPass, "run", out_of_memory)
    picture()
    assert refused("a.png", "-w", net).startswith("a.png: a tile of 96 pixels does not fit")
