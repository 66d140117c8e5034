"""The proxies are the same everywhere, take any size, and are honest about their name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from sigform_generate.features import (
    FEATURES,
    ClipProxy,
    ImageProxy,
    SoundProxy,
    extract,
    find_inception,
)
from sigform_kit.errors import InputError


def wave(*shape: int) -> torch.Tensor:
    """Values in [-1, 1] that are a formula of their place."""
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.37).float().view(shape)


@pytest.mark.parametrize(
    ("net", "items", "wanted"),
    [
        (ImageProxy(), wave(2, 3, 64, 64), [0.32661, -0.42415, 0.01044, -0.80131]),
        (ClipProxy(), wave(2, 4, 3, 64, 64), [-1.49769, -2.88945, -3.41075, 0.65196]),
        (SoundProxy(), wave(2, 8000), [0.53137, 0.20415, 0.18388, -0.54662]),
    ],
    ids=["image", "clip", "sound"],
)
def test_the_features_of_version_1_stay_the_same(
    net: torch.nn.Module, items: torch.Tensor, wanted: list[float]
) -> None:
    found = extract(net, items)
    assert found.shape == (2, FEATURES)
    torch.testing.assert_close(
        torch.from_numpy(found[1, :4]), torch.tensor(wanted).double(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (200, 128)])
def test_images_of_any_size_have_features(size: tuple[int, int]) -> None:
    assert ImageProxy()(torch.zeros(1, 3, *size)).isfinite().all()


@pytest.mark.parametrize("samples", [1, 1000, 25600])
def test_sounds_of_any_length_have_features(samples: int) -> None:
    assert SoundProxy()(torch.zeros(1, samples)).isfinite().all()


def test_a_batch_is_its_items_one_by_one() -> None:
    for net, items in ((ImageProxy(), wave(3, 3, 32, 32)), (ClipProxy(), wave(3, 3, 3, 32, 32))):
        together, alone = extract(net, items), extract(net, items, batch=1)
        assert abs(together - alone).max() < 1e-5


def test_clips_are_seen_to_move() -> None:
    net, still = ClipProxy(), wave(1, 1, 3, 64, 64).expand(-1, 6, -1, -1, -1)
    moving = torch.stack([still[:, 0].roll(3 * step, -1) for step in range(6)], dim=1)
    there = extract(net, still), extract(net, moving)
    back = extract(net, moving[:, [0, 3, 1, 4, 2, 5]])
    assert abs(there[0] - there[1]).max() > 0.1
    assert abs(there[1] - back).max() > 0.1
    with pytest.raises(ValueError, match="1 frames; needs 2"):
        net(still[:, :1])


def test_nothing_is_trained_or_changed() -> None:
    for net in (ImageProxy(), ClipProxy(), SoundProxy()):
        assert not any(parameter.requires_grad for parameter in net.parameters())
        assert "FID" not in net.name
        assert "v1" in net.name


def test_without_its_weights_there_is_no_inception(tmp_path: Path) -> None:
    net, why = find_inception(tmp_path / "missing.pth")
    assert net is None
    assert "torch-fidelity" in why or "missing.pth is not there" in why


def test_a_file_of_anything_else_is_no_inception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    path = tmp_path / "inception.pth"
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(InputError, match=r"inception\.pth: not the weights of Inception-v3"):
        find_inception(path)
