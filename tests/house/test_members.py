"""The workspace keeps its promises: one version, exact pins, licences, no machine in the files."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BINARY = {".png", ".webp", ".flac", ".safetensors", ".lock"}
MEMBERS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))


def project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(table: dict) -> list[str]:
    optional = table.get("optional-dependencies", {})
    return [*table.get("dependencies", []), *(r for extra in optional.values() for r in extra)]


def test_members_are_those_of_the_house() -> None:
    names = {str(folder.relative_to(ROOT)) for folder in MEMBERS}
    assert {
        "packages/eeg", "packages/forecast", "packages/generate", "packages/speech",
        "packages/superres",
        "shared/core", "shared/kit", "apps/studio", "apps/suite",
    } <= names  # fmt: skip


def test_one_version() -> None:
    versions = {project(folder)["version"] for folder in [ROOT, *MEMBERS]}
    assert len(versions) == 1


def test_siblings_are_pinned_to_it() -> None:
    version = project(ROOT)["version"]
    names = {project(folder)["name"] for folder in MEMBERS}
    found = 0
    for folder in MEMBERS:
        for requirement in requirements(project(folder)):
            name = re.match(r"[\w.-]+", requirement)
            if name and name[0] in names:
                found += 1
                assert requirement.endswith(f"=={version}"), f"{folder.name}: {requirement}"
    assert found >= 4


def test_core_and_kit_keep_to_themselves() -> None:
    needs = {project(f)["name"]: " ".join(requirements(project(f))) for f in MEMBERS}
    assert "sigform" not in needs["sigform-core"]
    assert "sigform" not in needs["sigform-kit"]
    assert "torch" not in needs["sigform-kit"]


def test_torch_stays_below_what_torchaudio_refuses() -> None:
    core = (ROOT / "shared/core/pyproject.toml").read_text("utf-8")
    assert '"torch>=2.11,<2.15"' in core
    assert re.search(r"#.*torchaudio", core)


def test_every_member_carries_the_licence() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in text
    for folder in MEMBERS:
        assert (folder / "LICENSE").read_bytes() == text, folder
        assert project(folder)["license"] == "Apache-2.0"
        assert list((folder / "src").glob("*/py.typed")), folder


def test_no_member_is_an_empty_shell() -> None:
    for folder in MEMBERS:
        lines = sum(
            len(file.read_text("utf-8").splitlines()) for file in (folder / "src").rglob("*.py")
        )
        assert lines > 100, folder


def test_tracked_files_name_no_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    absolute = re.compile(r"(?<![\w.])/(?:work|farm|root|home/\w+)/")
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in BINARY or not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not absolute.search(line) or path == Path(__file__), f"{name}:{number}"


def test_file_sizes() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            assert (ROOT / name).stat().st_size <= 25 * 2**20, name
