"""The distributions as a person gets them: wheels, and one domain installed from them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def uv(*words: object) -> str:
    """Run uv; its output."""
    found = [shutil.which("uv") or "sh", *([] if shutil.which("uv") else [ROOT / "scripts/uv"])]
    done = subprocess.run(
        [str(word) for word in (*found, *words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    uv("build", "--all-packages", "--wheel", "--out-dir", folder, "--quiet")
    return folder


def test_each_member_has_a_wheel_with_its_licence(wheels: Path) -> None:
    names = {path.name.split("-")[0] for path in wheels.glob("*.whl")}
    assert {
        "sigform", "sigform_core", "sigform_kit", "sigform_forecast", "sigform_speech",
        "sigform_superres", "sigform_eeg", "sigform_generate",
    } <= names  # fmt: skip
    for path in wheels.glob("*.whl"):
        inside = zipfile.ZipFile(path).namelist()
        assert any(name.endswith("licenses/LICENSE") for name in inside), path.name
        assert any(name.endswith("py.typed") for name in inside), path.name


def installed(distribution: str, wheels: Path, folder: Path) -> Path:
    """The commands of a new environment that holds this distribution and what it needs."""
    environment = folder / "venv"
    uv("venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "--find-links", wheels, distribution)
    listed = uv("pip", "list", "--python", python)
    assert distribution in listed
    assert "sigform " not in listed, "the umbrella must not come along"
    return environment / "bin"


def run(command: Path, *words: object, folder: Path) -> None:
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in (command, *words)],
        cwd=folder, env=plain, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_forecast_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    commands = installed("sigform-forecast", wheels, tmp_path)
    table = shutil.copy(EXAMPLES / "sea_surface_temperature.csv", tmp_path)
    small = ("-n", "12", "--steps", "5", "--d-model", "8", "--json")
    run(commands / "sigform-forecast", table, *small, folder=tmp_path)
    written = (tmp_path / "sea_surface_temperature_forecast.csv").read_text("utf-8")
    assert len(written.splitlines()) == 13
    assert "2011-01-01" in written


def test_superres_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    commands = installed("sigform-superres", wheels, tmp_path)
    picture = shutil.copy(EXAMPLES / "still_life.png", tmp_path)
    run(commands / "sigform-upscale", picture, folder=tmp_path)
    header = (tmp_path / "still_life_x4.png").read_bytes()[16:24]
    assert (header[:4], header[4:]) == ((800).to_bytes(4, "big"), (600).to_bytes(4, "big"))


def test_speech_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    commands = installed("sigform-speech", wheels, tmp_path)
    mixture = shutil.copy(EXAMPLES / "two_voices.flac", tmp_path)
    run(commands / "sigform-separate", mixture, folder=tmp_path)
    for number in (1, 2):
        assert (tmp_path / f"two_voices_speaker{number}.flac").read_bytes()[:4] == b"fLaC"


def test_eeg_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    commands = installed("sigform-eeg", wheels, tmp_path)
    small = ("--architecture", "lmuformer", "--epochs", "1", "--protocol", "co")
    run(
        commands / "sigform-decode", "train", "simulated", "--example", *small, "-o", "run",
        folder=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    recording = next((tmp_path / "simulated").rglob("*.fif"))
    run(commands / "sigform-decode", "run", "default", recording, "-o", "out.csv", folder=tmp_path)
    assert (tmp_path / "out.csv").read_text("utf-8").startswith("time,left,right,class")


def test_generate_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    commands = installed("sigform-generate", wheels, tmp_path)
    command = commands / "sigform-generate"
    run(command, "image", "-n", "2", "-o", "out", "--grid", folder=tmp_path)
    run(command, "video", "--steps", "ddim4", "-o", "out", folder=tmp_path)
    clip = tmp_path / "out" / "video_00000.mp4"
    words = ("--mode", "predict", "--given", clip, "--steps", "ddim4", "-o", "more.mp4")
    run(command, "video", *words, folder=tmp_path)
    run(command, "av", "--steps", "ddim4", "-o", "out", folder=tmp_path)
    assert (tmp_path / "out" / "image_00001.png").read_bytes()[:4] == b"\x89PNG"
    for film in (clip, tmp_path / "more.mp4", tmp_path / "out" / "av_00000.mp4"):
        assert film.read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "out" / "av_00000.wav").read_bytes()[:4] == b"RIFF"
