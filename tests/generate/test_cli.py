"""The subcommands of `sigform-generate` as a person at a terminal meets them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from command_runner import undisturbed
from generate.commands import (
    FPS,
    FRAMES,
    SAMPLES,
    SIZE,
    clip,
    clip_with_sound,
    command,
    picture,
    saved,
)

from sigform_generate import about, catalogue, cli
from sigform_generate.generator import ImageGenerator, VideoGenerator
from sigform_generate.media import read_clip
from sigform_generate.pictures import read_image, read_settings

HEAVY = (
    "torch", "numpy", "PIL", "lightning", "torchvision", "torchaudio", "torchmetrics", "av",
    "soundfile", "diffusers", "scipy", "ray", "rich",
)  # fmt: skip
VERBS = list(cli.app.commands)
WORDS = [
    *([verb] for verb in VERBS),
    *(["train", kind] for kind in cli.train.commands),
    *(["evaluate", kind] for kind in cli.evaluate.commands),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weight files of tiny networks by what they make."""
    folder = tmp_path_factory.mktemp("weights")
    return {kind: saved(folder, kind) for kind in ("image", "dit", "video", "av")}


@pytest.fixture
def shipped(nets: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks in the place of the shipped ones."""
    files = {name: nets[kind] for kind, name in catalogue.DEFAULTS.items()}
    monkeypatch.setattr(catalogue, "SHIPPED", files)
    monkeypatch.setattr(about, "SHIPPED", files)


def files_here() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


# --- help ----------------------------------------------------------------------------------------


def test_no_help_imports_what_is_heavy() -> None:
    script = (
        "import json, sys, sigform_generate\n"
        "from sigform_generate.cli import app\n"
        "from sigform_kit.running import run\n"
        "codes = [run(app, [*words, '--help']) for words in json.loads(sys.argv[1])]\n"
        f"print([name for name in {HEAVY} if name in sys.modules], codes)\n"
    )
    words = json.dumps([[], *WORDS])
    done = subprocess.run(
        [sys.executable, "-c", script, words], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[] {[0] * (len(WORDS) + 1)}"
    assert done.stderr == ""


def test_help_is_quick_and_whole() -> None:
    begun = time.perf_counter()
    words = [sys.executable, "-m", "sigform_generate", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    # It takes 0.2 s; the bound is for a machine that does much else.
    assert time.perf_counter() - begun < 5
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout.split("Commands:")[1]
    found = [line.split()[0] for line in listed.splitlines() if line[:3].strip()]
    assert found == VERBS or all(verb in listed for verb in VERBS)
    assert "..." not in listed


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_each_help_names_its_options_in_words(words: list[str]) -> None:
    told = command(*words, "--help")
    assert told.code == 0
    assert "RANGE" not in told.out.split("--device")[0]
    assert told.out.startswith(f"Usage: sigform-generate {' '.join(words)}")


def test_without_arguments_the_help_comes() -> None:
    told = command()
    assert told.code == 2
    assert "Usage: sigform-generate" in told.out + told.err


# --- making --------------------------------------------------------------------------------------


def test_images_are_named_by_their_seed(nets: dict[str, Path]) -> None:
    told = command("image", "-n", 3, "--seed", 7, "-w", nets["image"], "-o", "out", "--grid")
    assert told.code == 0
    assert told.out.splitlines()[0] == "seed 7 -> out/image_00007.json, out/image_00007.png"
    names = {f"out/image_0000{seed}.{kind}" for seed in (7, 8, 9) for kind in ("png", "json")}
    assert files_here() == {*names, "out/grid.png"}
    made = ImageGenerator.load(str(nets["image"]), device="cpu")(3, seed=7)
    for seed, pixels in zip((7, 8, 9), made, strict=True):
        np.testing.assert_array_equal(read_image(Path(f"out/image_0000{seed}.png")), pixels)
    assert read_image(Path("out/grid.png")).shape == (2 * SIZE + 2, 2 * SIZE + 2, 3)


@pytest.mark.usefixtures("shipped")
def test_images_are_what_is_made_unless_said_otherwise() -> None:
    assert command("--seed", 1).code == 0
    assert files_here() == {"image_00001.png", "image_00001.json"}


def test_the_settings_are_inside_and_beside(nets: dict[str, Path]) -> None:
    assert command("image", "-w", nets["image"], "--truncation", 0.7, "-o", "a.png").code == 0
    inside, beside = read_settings(Path("a.png")), json.loads(Path("a.json").read_text())
    assert inside == beside
    assert inside["seed"] == 0
    assert inside["truncation"] == 0.7
    assert inside["model"] == "styleswin"
    assert inside["weights"] == "tiny-image.safetensors"
    assert len(inside["sha256"]) == 64


def test_the_settings_make_it_again(nets: dict[str, Path]) -> None:
    words = ("video", "-w", nets["video"], "--steps", "ddim2")
    assert command(*words, "--seed", 3, "-n", 2, "-o", "one").code == 0
    told = json.loads(Path("one/video_00004.json").read_text())
    assert command(*words, "--seed", told["seed"], "-o", "again.mp4").code == 0
    first, second = read_clip(Path("one/video_00004.mp4")), read_clip(Path("again.mp4"))
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.settings is not None
    assert first.settings["steps"] == "ddim2"


@pytest.mark.parametrize("format", ["mp4", "webm", "gif"])
def test_every_format_has_every_frame(nets: dict[str, Path], format: str) -> None:
    told = command("video", "-w", nets["video"], "--format", format, "-o", "out", "--json")
    (record,) = told.records
    assert record["files"] == ["out/video_00000.json", f"out/video_00000.{format}"]
    found = read_clip(Path(f"out/video_00000.{format}"))
    assert found.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert abs(float(found.fps) - FPS) < 0.1
    made = VideoGenerator.load(str(nets["video"]), device="cpu")()[0]
    # The colours of noise are lost in films; the brightness stays.
    brightness = [frames.mean(axis=-1).ravel() for frames in (found.frames, made.frames)]
    assert np.corrcoef(*brightness)[0, 1] > 0.7


def test_sound_comes_inside_and_beside(nets: dict[str, Path]) -> None:
    told = command("av", "-w", nets["av"], "-o", "out", "--grid")
    assert told.code == 0
    names = {f"out/av_00000.{kind}" for kind in ("mp4", "wav", "json")}
    assert files_here() == {*names, "out/grid.png"}
    found = read_clip(Path("out/av_00000.mp4"))
    assert found.audio is not None
    assert (len(found.frames), found.audio.shape) == (FRAMES, (1, SAMPLES))
    with wave.open("out/av_00000.wav") as file:
        assert (file.getnframes(), file.getframerate()) == (SAMPLES, 16_000)
    beside = json.loads(Path("out/av_00000.json").read_text())
    assert (beside["frames"], beside["samples"]) == (FRAMES, SAMPLES)


def test_one_image_goes_to_stdout(nets: dict[str, Path]) -> None:
    told = command("image", "-w", nets["image"], "-o", "-")
    assert told.code == 0
    assert told.raw.startswith(b"\x89PNG")
    assert files_here() == set()


@pytest.mark.parametrize("mode", ["predict", "backward", "interpolate"])
def test_the_missing_part_of_a_clip_is_made(nets: dict[str, Path], mode: str) -> None:
    given = clip("given.mp4", 12)
    told = command("video", "--mode", mode, "--given", given, "-w", nets["video"], "-o", "a.mp4")
    assert told.code == 0
    assert "given.mp4: cropped 24x20 to 20x20" in told.err
    assert "given.mp4: resized to 16x16" in told.err
    settings = read_clip(Path("a.mp4")).settings
    assert settings is not None
    assert (settings["mode"], settings["given"]) == (mode, "given.mp4")


def test_a_photograph_is_animated(nets: dict[str, Path]) -> None:
    given = picture("photo.png", height=SIZE, width=SIZE)
    words = ("--mode", "animate", "--given", given, "-w", nets["video"], "-o", "a.mp4")
    assert command("video", *words).code == 0
    first = read_clip(Path("a.mp4")).frames[0].astype(int)
    assert np.abs(first - read_image(Path("photo.png"))).mean() < 12


def test_a_box_of_a_clip_is_made_anew(nets: dict[str, Path]) -> None:
    given = clip("given.mp4", FRAMES)
    words = ("--mode", "complete", "--given", given, "--mask", "4,4,10,10", "-w", nets["video"])
    assert command("video", *words, "-n", 2, "-o", "out").code == 0
    settings = json.loads(Path("out/video_00001.json").read_text())
    assert settings["mask"] == [4, 4, 10, 10]


def test_a_way_through_the_images(nets: dict[str, Path]) -> None:
    words = ("-w", nets["image"], "-n", 2, "--seconds", 0.4, "--fps", 10)
    assert command("project", *words).code == 0
    found = read_clip(Path("project.mp4"))
    assert (len(found.frames), float(found.fps)) == (8, 10.0)
    assert json.loads(Path("project.json").read_text())["seeds"] == [0, 1]
    assert command("project", *words, "--skip-existing").err == "project.mp4 exists; skipped\n"
    assert command("project", *words, "--dry-run", "-o", "b.gif").out.startswith("would write")


# --- again ---------------------------------------------------------------------------------------


def test_an_existing_file_is_kept(nets: dict[str, Path]) -> None:
    words = ("image", "-w", nets["image"], "-o", "out", "--grid")
    assert command(*words).code == 0
    with undisturbed(Path()):
        told = command(*words, "-n", 2)
    assert told.code == 1
    assert told.error == (
        "out/image_00000.json exists; --overwrite replaces it, --skip-existing leaves it"
    )
    assert command(*words, "--overwrite").code == 0


def test_the_rest_is_made_on_request(nets: dict[str, Path]) -> None:
    words = ("image", "-w", nets["image"], "-o", "out")
    assert command(*words, "-n", 4).code == 0
    Path("out/image_00002.png").unlink()
    kept = Path("out/image_00001.png").stat().st_mtime_ns
    told = command(*words, "-n", 4, "--skip-existing")
    assert told.code == 0
    assert told.out == "seed 2 -> out/image_00002.json, out/image_00002.png\n"
    assert told.err.count("exists; skipped") == 3
    assert Path("out/image_00001.png").stat().st_mtime_ns == kept


def test_a_run_can_be_rehearsed(nets: dict[str, Path]) -> None:
    told = command("av", "-w", nets["av"], "-n", 2, "--dry-run")
    assert told.code == 0
    assert told.out.splitlines() == [
        f"seed {seed} -> av_0000{seed}.json, av_0000{seed}.wav, av_0000{seed}.mp4"
        for seed in (0, 1)
    ]
    assert files_here() == set()


def test_a_config_file_fills_the_defaults(nets: dict[str, Path]) -> None:
    Path("a.toml").write_text('seed = 5\ncount = 2\noutput = "out"\n')
    assert command("image", "-w", nets["image"], "--config", "a.toml", "-n", 1).code == 0
    assert files_here() == {"a.toml", "out/image_00005.png", "out/image_00005.json"}


# --- evaluating ----------------------------------------------------------------------------------


def folder(kind: str, count: int = 6) -> Path:
    for seed in range(count):
        if kind == "image":
            picture(f"real/{seed}.png", seed=seed)
        elif kind == "video":
            clip(f"real/{seed}.mp4", seed=seed)
        else:
            clip_with_sound(f"real/{seed}.mp4", seed=seed)
    return Path("real")


def test_figures_of_images_say_what_they_are(nets: dict[str, Path]) -> None:
    Path("real").mkdir()
    Path("real/notes.txt").touch()
    told = command("evaluate", "image", folder("image"), "-w", nets["image"], "-n", 4, "--json")
    names = [record["figure"] for record in told.records]
    assert names == ["proxy-FID", "proxy-KID"]
    for record in told.records:
        assert (record["made"], record["real"]) == (4, 6)
        assert record["by"] == "fixed random convnet v1"
        assert None not in (record["halves"], record["mean item"], record["noise"])
    assert "skipped real/notes.txt" in told.err
    assert "figures by a proxy, as" in told.err


def test_figures_of_clips(nets: dict[str, Path]) -> None:
    told = command("evaluate", "video", folder("video"), "-w", nets["video"], "-n", 4, "--json")
    assert [record["figure"] for record in told.records] == [
        "proxy-FVD", "proxy-KVD", "change a frame, of 255", "flicker",
    ]  # fmt: skip


def test_figures_of_clips_with_sound(nets: dict[str, Path]) -> None:
    told = command("evaluate", "av", folder("av"), "-w", nets["av"], "-n", 4, "--json")
    assert {"proxy-FVD", "proxy-FAD"} <= {record["figure"] for record in told.records}
    assert "no impact is seen" in told.err


# --- models, info, doctor ------------------------------------------------------------------------


def test_info_tells_how_a_file_was_made(nets: dict[str, Path]) -> None:
    command("av", "-w", nets["av"], "-o", "a.mp4")
    told = command("info", "a.mp4")
    assert told.code == 0
    assert "frames: 8" in told.out
    assert f"sound: 1 x {SAMPLES} samples" in told.out
    assert "settings: model: av-dit" in told.out
    command("image", "-w", nets["image"], "-o", "b.png")
    assert "settings: seed: 0" in command("info", "b.png").out
    (record,) = command("info", nets["video"], "--json").records
    assert (record["model"], record["makes"]) == ("vdt", "video")
    assert record["sampling"]["frames"] == FRAMES


@pytest.mark.usefixtures("shipped")
def test_models_lists_the_shipped_and_the_published() -> None:
    told = command("models")
    assert told.code == 0
    for name in catalogue.DEFAULTS.values():
        assert name in told.out
    assert "FFHQ_256.pt" in told.out
    assert "non-commercial" in told.out


@pytest.mark.usefixtures("shipped")
def test_doctor_says_what_is_installed() -> None:
    told = command("doctor", "--json")
    found = {record["name"]: record["status"] for record in told.records}
    assert found["weights"] == "ok"
    assert found["encoders"] == "ok"


def test_doctor_misses_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "SHIPPED", {})
    told = command("doctor")
    assert told.code == 1
    assert "styleswin-64, vdt-64, av-dit-64 not in the package" in told.out
