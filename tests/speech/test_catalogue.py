"""Weights by name: the shipped ones, a path, published ones, or one line that helps."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sigform_speech import catalogue, upstream
from sigform_speech.catalogue import PUBLISHED, SHIPPED, find_weights, published, speakers_of
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.networks import load_network, save_network


def network(**changes: Any) -> MossFormer:
    widths = {"in_channels": 8, "out_channels": 8, "d_model": 8, "query_key_dim": 8}
    return MossFormer(MossFormerConfig(**{**widths, "num_blocks": 1, **changes}))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two weight files in the package, by name."""
    files = {}
    for name, speakers in (("another-3spk", 3), ("default", 2), ("later", 2)):
        files[name] = tmp_path / f"{name}.safetensors"
        save_network(files[name], network(num_spks=speakers), {})
    monkeypatch.setattr(catalogue, "SHIPPED", files)
    monkeypatch.chdir(tmp_path)
    return files


@pytest.mark.parametrize(
    ("asked", "speakers", "name"),
    [
        ("default", None, "default"),
        ("default", 2, "default"),
        ("default", 3, "another-3spk"),
        ("later", 2, "later"),
        ("another-3spk", None, "another-3spk"),
    ],
)
def test_names(asked: str, speakers: int | None, name: str, shipped: dict[str, Path]) -> None:
    assert find_weights(asked, speakers) == shipped[name]


@pytest.mark.usefixtures("shipped")
def test_paths(tmp_path: Path) -> None:
    (tmp_path / "my weights.pt").touch()
    assert find_weights("my weights.pt", 3) == Path("my weights.pt")
    assert find_weights(str(tmp_path)) == tmp_path  # a folder of three files, say


def test_a_shipped_name_comes_before_a_file(shipped: dict[str, Path]) -> None:
    Path("default").touch()
    assert find_weights("default") == shipped["default"]


def test_published_names_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(
        upstream, "fetch", lambda name, progress: fetched.append((name, progress)) or Path(name)
    )
    assert find_weights("mossformer2-16k", 2) == Path("mossformer2-16k")
    progress = print
    find_weights("mossformer2-wsj0mix-3spk", progress=progress)
    assert fetched == [("mossformer2-16k", None), ("mossformer2-wsj0mix-3spk", progress)]


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("asked", "speakers", "says"),
    [
        ("defualt", None, r"'defualt' are neither a file nor one of another-3spk, default, later, "
         r"mossformer-wsj0-2mix, .*; did you mean default\?$"),
        ("mossformer2-16", None, r"; did you mean mossformer2-16k\?$"),
        ("net.pth", None, r"'net\.pth' are neither a file nor .*, mossformer2-whamr-2spk$"),
        ("default", 4, r"^no weights for 4 speakers are shipped$"),
        ("later", 3, r"^speakers is 3; the weights later need 2$"),
        ("mossformer2-16k", 3, r"^speakers is 3; the weights mossformer2-16k need 2$"),
    ],
)  # fmt: skip
def test_what_there_is_not_gets_one_line(asked: str, speakers: int | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        find_weights(asked, speakers)
    assert "\n" not in str(caught.value)


def test_who_publishes_what_is_not_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SHIPPED", {})
    says = "^no weights for 3 speakers are shipped; published are mossformer2-wsj0mix-3spk$"
    with pytest.raises(ValueError, match=says):
        find_weights("default", 3)


def test_speakers_of(shipped: dict[str, Path], tmp_path: Path) -> None:
    assert speakers_of(shipped["another-3spk"]) == 3
    (tmp_path / "page.safetensors").write_text("<html>")
    for path in (tmp_path / "page.safetensors", tmp_path / "nothing"):
        with pytest.raises((ValueError, OSError)):
            speakers_of(path)


def test_what_is_shipped() -> None:
    for path in SHIPPED.values():
        found, file = load_network(path)
        assert speakers_of(path) == found.num_spks
        assert file.card["licence"]
        assert path.with_suffix(".md").read_text().strip()
        assert path.stat().st_size <= 25_000_000
    assert not SHIPPED or find_weights("default", 2) == SHIPPED["default"]


def test_published_checkpoints_say_what_they_are() -> None:
    assert len({entry.name for entry in PUBLISHED}) == len(PUBLISHED)
    for entry in PUBLISHED:
        assert published(entry.name) is entry
        assert entry.speakers in (2, 3)
        assert entry.sample_rate in (8000, 16_000)
        assert entry.licence
        assert entry.trained_on
        assert entry.address.startswith(
            ("https://huggingface.co/alibabasglab/", "https://www.modelscope.cn/models/iic/")
        )
        assert entry.address.endswith(("/resolve/main", "/resolve/master"))
        assert entry.files
        assert entry.sha256.keys() <= set(entry.files)
        assert all(10 < number < 25 for number in entry.si_sdri.values())
    with pytest.raises(ValueError, match="name is 'nothing'; needs one of mossformer-wsj0-2mix, "):
        published("nothing")


def test_the_catalogue_does_not_import_torch() -> None:
    script = "import sys, sigform_speech.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
