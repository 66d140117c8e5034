"""Whatever is wrong with an input costs one clear line, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runner import largest_file, undisturbed
from generate.commands import FRAMES, clip, clip_with_sound, command, frames, picture, saved

from sigform_core.weights import save_weights
from sigform_generate import jobs, pictures
from sigform_generate.media import write_clip, write_wav


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weight files of tiny networks by what they make."""
    folder = tmp_path_factory.mktemp("weights")
    return {kind: saved(folder, kind) for kind in ("image", "dit", "video", "av")}


def refused(*args: object, code: int = 1) -> str:
    """The one line of a command that must fail and leave the folder as it was."""
    with undisturbed(Path()):
        told = command(*args)
    assert told.code == code, told.err
    assert told.raw == b""
    return told.error


# --- given clips ---------------------------------------------------------------------------------


def given_with(nets: dict[str, Path], file: object, mode: str, *more: object) -> str:
    words = ("--mode", mode, "--given", file, "-w", nets["video"], "-o", "out", *more)
    return refused("video", *words)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ("0,0,24,20", "clip.mp4: mask 0,0,24,20 keeps nothing; needs a smaller box"),
        ("0,0,2,20", "clip.mp4: mask 0,0,2,20 keeps everything: it lies outside the middle 20x20"),
        ("20,0,5,5", "clip.mp4: mask 20,0,5,5 reaches outside its 24x20 pixels"),
    ],
)
def test_a_mask_of_all_or_nothing(nets: dict[str, Path], mask: str, reason: str) -> None:
    clip("clip.mp4")
    assert given_with(nets, "clip.mp4", "complete", "--mask", mask).startswith(reason)


@pytest.mark.parametrize("mode", ["predict", "backward", "interpolate"])
def test_a_clip_shorter_than_the_window(nets: dict[str, Path], mode: str) -> None:
    clip("short.mp4", 3)
    assert given_with(nets, "short.mp4", mode).startswith("short.mp4: has 0.30 s, 3 frames at 10")


@pytest.mark.parametrize("size", [(17, 23), (16, 90), (5, 5), (1, 1)])
def test_odd_sizes_are_conformed(nets: dict[str, Path], size: tuple[int, int]) -> None:
    given = clip("odd.mp4", FRAMES, height=size[0], width=size[1])
    told = command("video", "--mode", "predict", "--given", given, "-w", nets["video"])
    assert told.code == 0, told.err
    assert "resized to 16x16" in told.err or size[0] == 16


def test_a_corrupt_video(nets: dict[str, Path]) -> None:
    clip("cut.mp4", 40)
    whole = Path("cut.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert given_with(nets, "cut.mp4", "predict").startswith(
        "cut.mp4: not a video that can be read"
    )
    Path("text.mp4").write_text("no film")
    assert given_with(nets, "text.mp4", "predict") == "text.mp4: not a video that can be read"
    Path("empty.webm").touch()
    assert given_with(nets, "empty.webm", "predict") == "empty.webm: not a video that can be read"


def test_a_film_without_pictures(nets: dict[str, Path]) -> None:
    write_wav(Path("sound.wav"), np.zeros(1000, np.float32), 16_000)
    assert "sound.wav: not an image that can be read" in given_with(nets, "sound.wav", "predict")


def test_a_still_picture_where_a_clip_is_needed(nets: dict[str, Path]) -> None:
    picture("a.png")
    assert given_with(nets, "a.png", "predict") == "a.png: has one frame; predict needs a clip"


def test_what_is_neither_picture_nor_clip(nets: dict[str, Path]) -> None:
    Path("a.txt").write_text("words")
    assert given_with(nets, "a.txt", "animate") == "a.txt: not an image that can be read"
    assert given_with(nets, "b.png", "animate") == "b.png: no such file or folder"
    Path("folder").mkdir()
    assert given_with(nets, "folder", "animate") == "folder is a folder; needs a file"


# --- weights -------------------------------------------------------------------------------------


def test_weights_of_another_kind(nets: dict[str, Path]) -> None:
    line = refused("image", "-w", nets["av"])
    assert line.endswith("is for av-dit, which makes av; needs weights that make image")


def test_weights_of_another_domain() -> None:
    save_weights(Path("craft.safetensors"), {"a": torch.zeros(1)}, model="craft", config={})
    line = refused("image", "-w", "craft.safetensors")
    assert line.startswith("craft.safetensors is for craft; needs one of styleswin")


def test_checkpoints_of_others() -> None:
    torch.save({"layer.weight": torch.zeros(2, 2)}, "other.pt")
    assert refused("image", "-w", "other.pt").startswith("other.pt has layer.weight")
    Path("text.pt").write_text("no checkpoint")
    assert refused("image", "-w", "text.pt") == "text.pt is no readable PyTorch checkpoint"
    Path("text.safetensors").write_text("no checkpoint")
    assert refused("image", "-w", "text.safetensors").startswith("text.safetensors is ")


def test_a_checkpoint_that_is_cut_short(nets: dict[str, Path]) -> None:
    Path("cut.safetensors").write_bytes(nets["image"].read_bytes()[:5000])
    line = refused("image", "-w", "cut.safetensors")
    assert line == "cut.safetensors is cut short; needs to be copied again"


def test_a_misspelt_name() -> None:
    assert "neither a file nor one of" in refused("image", "-w", "stylswin-64")


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("video", "--mode", "predict"), "--mode predict needs --given FILE"),
        (("video", "--given", "a.png"), "--mode unconditional takes no --given"),
        (("video", "--mode", "complete", "--given", "a.png"), "--mode complete needs --mask"),
        (("video", "--mode", "predict", "--given", "a.png", "--mask", "0,0,1,1"),
         "--mode predict takes no --mask"),
        (("video", "--mask", "1,2,3"), "Invalid value for '--mask': '1,2,3' is no box"),
        (("video", "--steps", "ddim"), "Invalid value for '--steps': 'ddim' are no steps"),
        (("image", "-n", "0"), "Invalid value for '-n'"),
        (("image", "-n", "2", "-o", "a.png"), "-o a.png names one file for 2 samples"),
        (("image", "-o", "a.jpg"), "a.jpg: suffix is '.jpg'; needs .png"),
        (("image", "-o", "a.png", "--grid"), "--grid writes grid.png into a folder"),
        (("image", "-o", "-", "--json"), "the result and --json would share stdout"),
        (("project", "-o", "a.png"), "a.png: suffix is '.png'; needs .mp4, .webm, .gif"),
        (("imgae",), "No such command or file 'imgae'. Did you mean 'image'?"),
        (("train", "audio", "x"), "No such command 'audio'"),
    ],
)  # fmt: skip
def test_a_wrong_call_costs_one_line(words: tuple[str, ...], reason: str) -> None:
    picture("a.png")
    assert refused(*words, code=2).startswith(reason)


@pytest.mark.parametrize(
    ("kind", "words", "reason"),
    [
        ("image", ("--steps", "ddim4"), "a StyleSwin takes no steps, label or guidance"),
        ("dit", ("--truncation", "0.5"), "a DiT takes no truncation; needs a StyleSwin"),
        ("dit", ("--label", "9"), "label is 9; this DiT has 0 to 2"),
        ("dit", ("--steps", "ddim999"), "sampling steps are 'ddim999'"),
        ("dit", ("--steps", "2000"), "sampling steps are '2000'; needs at most 1000"),
        ("image", ("--dtype", "float16", "--device", "cpu"), "dtype is 'float16' on the CPU"),
    ],
)
def test_an_option_that_the_network_has_not(
    nets: dict[str, Path], kind: str, words: tuple[str, ...], reason: str
) -> None:
    assert refused("image", "-w", nets[kind], *words).startswith(reason)


def test_cuda_that_is_not_there(nets: dict[str, Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    for kind in ("image", "video", "av"):
        line = refused(kind, "-w", nets[kind], "--device", "cuda")
        assert line == "device is 'cuda', which this machine lacks; needs auto or cpu"


# --- folders to train on and to measure by -------------------------------------------------------


def test_a_folder_without_images() -> None:
    Path("words").mkdir()
    Path("words/a.txt").touch()
    assert refused("train", "image", "words", "-o", "run").startswith("words: has no images")
    assert refused("train", "video", "words", "-o", "run").startswith("words: has no clips")
    assert refused("train", "av", "none", "-o", "run") == "none: no such file or folder"


def test_too_few_images_and_those_that_are_none() -> None:
    for seed in range(5):
        picture(f"few/{seed}.png", seed=seed)
    Path("few/broken.png").write_bytes(b"\x89PNG no more")
    Path("few/notes.txt").touch()
    told = command("train", "image", "few", "-o", "run", "--size", 16)
    assert told.code == 1
    assert told.error == "few: has 5 usable images; needs at least 20"
    assert "skipped few/notes.txt: not of a kind of image" in told.err
    assert not Path("run/weights.safetensors").exists()


def test_clips_that_are_too_short() -> None:
    for seed in range(5):
        clip(f"few/{seed}.mp4", 3, seed=seed)
    told = command("train", "video", "few", "-o", "run", "--size", 16)
    assert told.code == 1
    assert told.error.startswith("few: has 0 usable clips; needs at least 4")


def test_clips_without_sound_and_with_silence() -> None:
    clip("few/silent.mp4", FRAMES)
    quiet = np.zeros(12_800, np.float32)
    write_clip(Path("few/quiet.mp4"), frames(FRAMES), 10, audio=quiet, sample_rate=16_000)
    clip_with_sound("few/loud.mp4")
    told = command("train", "av", "few", "-o", "run", "--size", 16, "--frames", FRAMES)
    assert told.code == 1
    assert told.error.startswith("few: has 1 usable clips with sound; needs at least 4")
    assert "skipped few/" in told.error


def test_figures_need_something_to_compare_with(nets: dict[str, Path]) -> None:
    picture("few/a.png")
    line = refused("evaluate", "image", "few", "-w", nets["image"], "-n", 4)
    assert line == "few: has 1 usable images; needs at least 4"


def test_info_of_what_is_nothing_we_know() -> None:
    Path("a.txt").write_text("words")
    assert refused("info", "a.txt") == "a.txt: not an image that can be read"
    assert refused("info", "b.txt") == "b.txt: no such file or folder"
    Path("folder").mkdir()
    assert refused("info", "folder") == "folder is a folder; needs a file"


# --- disks, interrupts ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "video", "av"])
def test_a_full_disk_leaves_no_half_file(nets: dict[str, Path], kind: str) -> None:
    with largest_file(300):
        line = refused(kind, "-w", nets[kind], "-n", 2)
    assert f"{kind}_00000" in line
    assert os.strerror(errno.EFBIG) in line


def test_a_folder_that_is_a_file(nets: dict[str, Path]) -> None:
    Path("out").touch()
    line = refused("image", "-w", nets["image"], "-o", "out/a.png")
    assert line == "out/a.json: Not a directory"


def test_what_was_made_before_an_interrupt_stays_whole(
    nets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, calls = pictures.write_png, []

    def third(*args: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        inner(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(jobs, "write_png", third)
    told = command("image", "-w", nets["image"], "-n", 4, "-o", "out")
    assert told.code == 130
    assert told.err == "sigform-generate: interrupted\n"
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == [f"image_0000{seed}.{kind}" for seed in (0, 1) for kind in ("json", "png")]
    told = command("image", "-w", nets["image"], "-n", 4, "-o", "out", "--skip-existing")
    assert told.code == 0
    assert len(list(Path("out").iterdir())) == 8
