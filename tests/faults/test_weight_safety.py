"""No weight file runs code or writes a file, whichever command it is given to."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sigform_core.weights import Published, load_torch_checkpoint, resolve
from sigform_kit import InputError

COMMANDS = {
    "forecast": ("predict", "data.csv", "--model"),
    "superres": ("info",),
    "speech": ("info",),
    "eeg": ("info",),
    "generate": ("info",),
}


class Trap:
    """Unpickling this makes a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize("domain", COMMANDS)
def test_a_malicious_checkpoint_costs_one_line(tmp_path, monkeypatch, domain, suffix):
    commands = pytest.importorskip(f"{domain}.commands")
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("date,y\n2024-01-01,1\n2024-01-02,2\n")
    proof = tmp_path / "ran"
    evil = Path(f"evil{suffix}")
    torch.save({"state_dict": Trap(proof)}, evil)
    told = commands.command(*COMMANDS[domain], evil)
    assert told.code == 1
    assert told.error
    assert not proof.exists()
    # The trap works where code is allowed.
    torch.load(evil.rename("evil.pth"), weights_only=False)
    assert proof.exists()


def test_a_checkpoint_with_paths_that_lead_out_writes_nothing(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / "a.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside", "x")
        archive.writestr("/tmp/sigform-outside", "x")
    with pytest.raises(ValueError, match=r"a\.pth is no readable PyTorch checkpoint"):
        load_torch_checkpoint(path)
    with zipfile.ZipFile(inside / "b.pth", "w") as archive:
        archive.writestr("../data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match=r"b\.pth is no readable PyTorch checkpoint"):
        load_torch_checkpoint(inside / "b.pth")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.pth", "b.pth", "inside"]
    assert not Path("/tmp/sigform-outside").exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:9/a/../../../../etc/model.pth",
        "https://127.0.0.1:9/..%2F..%2Fmodel.pth",
        "https://127.0.0.1:9/model.pth?file=../../x",
        "https://127.0.0.1:9/..",
    ],
)
def test_a_download_stays_in_the_cache(tmp_path, monkeypatch, url):
    from sigform_core import weights

    cache = tmp_path / "cache"
    monkeypatch.setenv("SIGFORM_CACHE", str(cache))
    asked: list[Path] = []

    def download(_: str, target: Path, **options: object) -> Path:
        assert options["sha256"] == "a" * 64
        asked.append(target)
        return target

    monkeypatch.setattr(weights, "download", download)
    resolve("x", shipped={}, published={"x": Published(url=url, sha256="a" * 64)})
    assert asked[0].resolve().parent == cache.resolve()


@pytest.mark.parametrize(
    "url", ["http://example.org/model.pth", "ftp://example.org/m", "file:///etc/passwd", "m.pth"]
)
def test_only_https_is_fetched(tmp_path, monkeypatch, url):
    monkeypatch.setenv("SIGFORM_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="needs https"):
        resolve("x", shipped={}, published={"x": Published(url=url, sha256="a" * 64)})
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_hold_objects_are_not_unpickled(tmp_path):
    from sigform_eeg.reading import read_epochs

    proof = tmp_path / "ran"
    hidden = np.empty(1, dtype=object)
    hidden[0] = Trap(proof)
    np.savez(tmp_path / "a.npz", X=hidden, y=hidden)
    with pytest.raises(InputError, match=r"a\.npz: cannot be read as epochs"):
        read_epochs(tmp_path / "a.npz")
    assert not proof.exists()
