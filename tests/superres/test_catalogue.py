"""Weights by name: the shipped ones, a path, or one line that helps."""

from pathlib import Path

import pytest

from sigform_superres import catalogue
from sigform_superres.catalogue import PUBLISHED, SCALES, SHIPPED, default_name, find_weights
from sigform_superres.networks import load_network


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Three weight files in the package, by name."""
    names = ("craft-x2", "craft-x4", "dlgsanet-tiny-x4")
    files = {name: tmp_path / "package" / f"{name}.safetensors" for name in names}
    monkeypatch.setattr(catalogue, "SHIPPED", files)
    monkeypatch.chdir(tmp_path)
    return files


@pytest.mark.parametrize(
    ("asked", "scale", "name"),
    [
        ("default", None, "craft-x4"),
        ("default", 2, "craft-x2"),
        ("craft", None, "craft-x4"),
        ("craft", 2, "craft-x2"),
        ("craft-x2", None, "craft-x2"),
        ("dlgsanet-tiny", None, "dlgsanet-tiny-x4"),
        ("dlgsanet-tiny", 4, "dlgsanet-tiny-x4"),
        ("craft-x2", 4, "craft-x2"),  # whether it does that scale is found on loading
    ],
)
def test_names(asked: str, scale: int | None, name: str, shipped: dict[str, Path]) -> None:
    assert find_weights(asked, scale) == shipped[name]


@pytest.mark.usefixtures("shipped")
def test_paths(tmp_path: Path) -> None:
    path = tmp_path / "my weights.pth"
    path.touch()
    assert find_weights(str(path), None) == path
    assert find_weights("my weights.pth", 3) == Path("my weights.pth")


def test_a_shipped_name_comes_before_a_file(shipped: dict[str, Path]) -> None:
    Path("craft-x2").touch()
    assert find_weights("craft-x2", None) == shipped["craft-x2"]


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("asked", "scale", "says"),
    [
        ("craft-x5", None, r"'craft-x5' are neither a file .*; did you mean craft-x[24]\?"),
        ("carft-x2", None, r"did you mean craft-x2\?"),
        ("dlgsanet-tiny", 2, r"^no weights of dlgsanet-tiny for 2 times are shipped; have "),
        ("default", 3, r"^no weights of craft for 3 times are shipped; have craft-x2, craft-x4, "),
        ("net.pth", None, r"'net\.pth' are neither a file nor .*, dlgsanet-tiny-x4$"),
    ],
)
def test_neither_gets_one_line(asked: str, scale: int | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        find_weights(asked, scale)
    assert "\n" not in str(caught.value)


def test_what_is_shipped() -> None:
    for scale in SCALES:
        assert find_weights("default", scale) == SHIPPED[default_name(scale)]
    for name, path in SHIPPED.items():
        network, file = load_network(path)
        assert name == f"{name.rpartition('-x')[0]}-x{network.scale}"
        assert name.startswith(file.model)
        assert file.card["licence"]
        assert path.with_suffix(".md").read_text().strip()


def test_published_checkpoints_say_where_they_are() -> None:
    assert {entry.name for entry in PUBLISHED} == {
        "CRAFT", "DLGSANet-tiny", "DLGSANet-light", "DLGSANet"
    }  # fmt: skip
    for entry in PUBLISHED:
        assert set(entry.scales) <= set(SCALES)
        assert entry.set5.count("/") == entry.parameters.count(",") == len(entry.scales) - 1
        assert entry.licence
        assert entry.where.startswith("github.com/")
