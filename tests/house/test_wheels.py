"""The distributions as a person gets them: wheels, and one domain installed from them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sea_surface_temperature.csv"

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
        "sigform", "sigform_core", "sigform_kit", "sigform_forecast", "sigform_superres",
    } <= names  # fmt: skip
    for path in wheels.glob("*.whl"):
        inside = zipfile.ZipFile(path).namelist()
        assert any(name.endswith("licenses/LICENSE") for name in inside), path.name
        assert any(name.endswith("py.typed") for name in inside), path.name


def test_one_domain_installs_alone_and_works(wheels: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    uv("venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, "--find-links", wheels, "sigform-forecast")
    listed = uv("pip", "list", "--python", python)
    assert "sigform-forecast" in listed
    assert "sigform " not in listed, "the umbrella must not come along"
    table = shutil.copy(EXAMPLE, tmp_path)
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [environment / "bin" / "sigform-forecast", table, "-n", "12", "--steps", "5",
         "--d-model", "8", "--json"],
        cwd=tmp_path, env=plain, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "sea_surface_temperature_forecast.csv").read_text("utf-8")
    assert len(written.splitlines()) == 13
    assert "2011-01-01" in written
