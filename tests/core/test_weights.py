"""Weight files: what goes in comes out, and every bad file is named in one line."""

import hashlib
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sigform_core import weights
from sigform_core.weights import (
    FORMAT_VERSION,
    Published,
    cache_folder,
    is_weight_file,
    load_torch_checkpoint,
    load_weights,
    resolve,
    save_weights,
)


def write(path: Path, **changes: Any) -> Path:
    """A small weight file; `changes` replaces arguments of save_weights."""
    arguments: dict[str, Any] = {
        "tensors": {"a": torch.arange(6.0).view(2, 3)},
        "model": "informer",
        "config": {"d_model": 8},
    }
    arguments |= changes
    save_weights(path, arguments.pop("tensors"), **arguments)
    return path


def write_raw(path: Path, metadata: dict[str, str]) -> Path:
    save_file({"a": torch.zeros(3)}, path, metadata)
    return path


# Saving and loading.


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "half": torch.randn(2).bfloat16(),
        "index": torch.arange(5),
        "mask": torch.tensor([True, False]),
        "bias": torch.tensor([0.0, -torch.inf]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
    }
    config = {"d_model": 8, "names": ["a", "b"], "dropout": 0.1, "kernel": None}
    card = {"licence": "Apache-2.0", "scores": {"mse": 0.25}}
    path = write(tmp_path / "w.safetensors", tensors=tensors, config=config, card=card)
    loaded = load_weights(path, expect_model="informer")
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)
    assert (loaded.model, loaded.config, loaded.card) == ("informer", config, card)
    assert loaded.format_version == FORMAT_VERSION


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has modes")
def test_whoever_may_read_new_files_may_read_weights(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            path = write(tmp_path / f"{mask}.safetensors")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode


def test_shared_views_and_parameters_are_saved(tmp_path: Path) -> None:
    table = torch.randn(6, 4)
    tensors = {
        "embedding": torch.nn.Parameter(table),
        "head": table,
        "transposed": table.T,
        "rows": table[1:3],
        "expanded": table[:1].expand(5, 4),
        "strided": table[:, ::2],
    }
    loaded = load_weights(write(tmp_path / "w.safetensors", tensors=tensors)).tensors
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "w.safetensors")
    before = path.read_bytes()

    def cut_short(_: dict[str, Tensor], part: Path, __: dict[str, str]) -> None:
        part.write_bytes(before[:50])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "save_file", cut_short)
        with pytest.raises(OSError, match="disk full"):
            write(path, config={"d_model": 9})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write(path, config={"d_model": 9})
    assert load_weights(path).config == {"d_model": 9}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tensors": {"ok": torch.zeros(2), "a.b": torch.tensor([0, torch.nan])}}, r"NaN in a\.b;"),
        ({"config": {"rate": float("nan")}}, "config does not fit JSON"),
        ({"card": {"made": Path("x")}}, "card does not fit JSON"),
    ],
)
def test_refuses_to_save(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write(tmp_path / "w.safetensors", **changes)
    assert list(tmp_path.iterdir()) == []


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "w.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = "not a safetensors file" if length < 8 else "is cut short"
        with pytest.raises(ValueError, match=expected):
            load_weights(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>" * 9, b"\x00" * 64, b"version https://git-lfs..."]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a safetensors file") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "has no sigform_format, model, config in its metadata"),
        ({"sigform_format": "1", "config": "{}"}, "has no model in its metadata"),
        ({"sigform_format": "2", "model": "m", "config": "{}"}, "format version 2; this sigform"),
        ({"sigform_format": "x", "model": "m", "config": "{}"}, "format version x; this sigform"),
        ({"sigform_format": "1", "model": "m", "config": "{"}, "broken JSON in its metadata"),
        ({"sigform_format": "1", "model": "m", "config": "[]"}, "config is a list; needs an obj"),
    ],
)
def test_metadata_is_checked(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_weights(write_raw(tmp_path / "w.safetensors", metadata))


def test_metadata_without_any(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="has no sigform_format"):
        load_weights(tmp_path / "w.safetensors")


def test_wrong_model_missing_file_and_nan(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="is for the model 'informer'; needs 'craft'"):
        load_weights(path, expect_model="craft")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors does not exist"):
        load_weights(tmp_path / "none.safetensors")
    metadata = {"sigform_format": "1", "model": "m", "config": json.dumps({})}
    save_file({"a": torch.tensor([torch.nan])}, path, metadata)
    with pytest.raises(ValueError, match="NaN in a; needs numbers"):
        load_weights(path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(9, 3), "half": torch.randn(5).bfloat16(), "flag": torch.ones(3) > 0}
    whole = write(tmp_path / "w.safetensors", tensors=tensors, card={"name": "x"}).read_bytes()
    path = tmp_path / "damaged.safetensors"
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            loaded = load_weights(path)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
            continue
        # The header has blanks that mean nothing, and the name of the digest itself.
        assert all(torch.equal(loaded.tensors[name], tensors[name]) for name in tensors), place
        told = (loaded.model, loaded.config, loaded.card)
        assert told == ("informer", {"d_model": 8}, {"name": "x"})


def test_a_single_number_of_any_stride_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    one = torch.tensor([2.5], dtype=torch.float64).as_strided((1,), (0,))
    save_weights(path, {"one": one, "none": torch.zeros(0)}, model="m", config={})
    assert load_weights(path).tensors["one"].tolist() == [2.5]


def test_a_file_without_a_digest_is_read(tmp_path: Path) -> None:
    path = write_raw(
        tmp_path / "old.safetensors", {"sigform_format": "1", "model": "m", "config": "{}"}
    )
    assert load_weights(path).model == "m"


# Names.


def test_names_resolve_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGFORM_CACHE", str(tmp_path / "cache"))
    asked: list[tuple[str, Path, str, int | None]] = []

    def fake(url: str, target: Path, *, sha256: str, size: int | None, progress: object) -> Path:
        assert progress is None
        asked.append((url, target, sha256, size))
        return target

    monkeypatch.setattr(weights, "download", fake)
    shipped = {"default": tmp_path / "shipped.safetensors"}
    remote = Published(url="https://example.org/x/best.pt?v=1", sha256="ab" * 32, size=7)
    published = {"default": remote, "large": remote, "local": remote}
    Path("default").touch()
    Path("local").touch()

    assert resolve("default", shipped=shipped, published=published) == shipped["default"]
    assert resolve("local", shipped=shipped, published=published) == Path("local")
    assert asked == []
    target = tmp_path / "cache" / "best-abababababab.pt"
    assert resolve("large", shipped=shipped, published=published) == target
    assert asked == [(remote.url, target, remote.sha256, 7)]


def test_unknown_names_list_the_known_and_suggest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'lage', .*did you mean 'large'\?.* one of default, lar"):
        resolve(
            "lage",
            shipped={"default": tmp_path},
            published={"large": Published(url="https://example.org/a", sha256="")},
        )
    with pytest.raises(ValueError, match="which is no file; needs a file or one of no names"):
        resolve(str(tmp_path), shipped={}, published={})


def test_downloaded_once_and_checked_every_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SIGFORM_CACHE", str(tmp_path))
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    # Nothing listens there: the file must be found in the cache.
    published = {"large": Published(url="http://127.0.0.1:1/best.pt", sha256=digest)}
    target = tmp_path / f"best-{digest[:12]}.pt"
    target.write_bytes(content)
    assert resolve("large", shipped={}, published=published) == target
    target.write_bytes(b"Weights")
    with pytest.raises(ValueError, match="delete it first"):
        resolve("large", shipped={}, published=published)


def test_cache_folder_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGFORM_CACHE", raising=False)
    assert cache_folder().name == "sigform"
    monkeypatch.setenv("SIGFORM_CACHE", "elsewhere")
    assert cache_folder() == Path("elsewhere")


# PyTorch checkpoints.


STATE = {"conv.weight": torch.randn(2, 3), "conv.bias": torch.randn(2)}


def wrapped(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"params": wrapped("raw."), "params_ema": STATE},
        {"params": wrapped("raw."), "params-ema": STATE},
        {"params": STATE},
        {"net": wrapped("netG.")},
        {"model": {"state_dict": wrapped("module.")}},
        wrapped("module._orig_mod."),
    ],
)
def test_containers_are_unwrapped(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    loaded = load_torch_checkpoint(path)
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())


def test_safetensors_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(wrapped("module."), path)
    loaded = load_torch_checkpoint(path)
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="is cut short"):
        load_torch_checkpoint(path)
    path.write_bytes(b"version https://git-lfs...")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_torch_checkpoint(path)
    save_file({}, path)
    with pytest.raises(ValueError, match="needs a state dict"):
        load_torch_checkpoint(path)


def test_weight_files_are_told_from_others(tmp_path: Path) -> None:
    assert is_weight_file(write(tmp_path / "ours.safetensors"))
    save_file(STATE, tmp_path / "theirs.safetensors", {"format": "pt"})
    save_file(STATE, tmp_path / "bare.safetensors")
    torch.save(STATE, tmp_path / "theirs.pth")
    (tmp_path / "empty").touch()
    for name in ("theirs.safetensors", "bare.safetensors", "theirs.pth", "empty", "none", "."):
        assert not is_weight_file(tmp_path / name), name


def test_a_model_called_module_keeps_its_names(tmp_path: Path) -> None:
    content = {"module.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    torch.save(content, tmp_path / "a.pth")
    assert load_torch_checkpoint(tmp_path / "a.pth").keys() == content.keys()


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, zipped: bool) -> None:
    proof, path = tmp_path / "ran", tmp_path / "a.pth"
    torch.save({"state_dict": Trap(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"holds (posix|nt)\.mkdir, code that is never run"
    ) as error:
        load_torch_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not proof.exists()
    # The trap does work where code is allowed.
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints_are_refused_or_read(tmp_path: Path, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE}, buffer, _use_new_zipfile_serialization=zipped)
    whole, draw, path = buffer.getvalue(), random.Random(0), tmp_path / "a.pth"
    refused = 0
    for number in range(150):
        damaged = bytearray(whole)
        if number % 2:
            damaged = damaged[: draw.randrange(len(whole))]
        else:
            for _ in range(3):
                damaged[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            load_torch_checkpoint(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert refused >= 75


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.zeros(3), "holds a Tensor; needs a state dict"),
        ({}, "holds a dict; needs a state dict"),
        ({"epoch": 3, "a": torch.zeros(1)}, "holds epoch, not tensors; needs a state dict"),
    ],
)
def test_no_state_dict(tmp_path: Path, content: object, says: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=says):
        load_torch_checkpoint(tmp_path / "a.pth")


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_torch_checkpoint(tmp_path / "none.pth")
