"""Published checkpoints, built here in their form: one of Microsoft's is 3 GB."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigform_generate.discriminator import Discriminator, DiscriminatorConfig
from sigform_generate.styleswin import Generator, GeneratorConfig
from sigform_generate.upstream_styleswin import (
    discriminator_config,
    generator_config,
    load_discriminator,
    load_styleswin,
)

CONFIG = GeneratorConfig(size=16, style_dim=12, n_mlp=3, in_channels_by_stage=(32, 16, 8))


def generator(seed: int, config: GeneratorConfig = CONFIG) -> Generator:
    torch.manual_seed(seed)
    return Generator(config).eval()


def published(model: Generator) -> dict[str, Tensor]:
    """A generator's weights as the published code saves them, tables and masks too."""
    state: dict[str, Tensor] = OrderedDict()
    for name, value in model.state_dict().items():
        if ".qkv." in name:
            value = value.unflatten(0, (2, 3, -1)).transpose(0, 1).flatten(0, 2)
        state[name.replace("mlp.up", "mlp.fc1").replace("mlp.down", "mlp.fc2")] = value
    for stage in range(len(model.layers)):
        for block in range(2):
            prefix = f"layers.{stage}.blocks.{block}."
            state[f"{prefix}attn_mask2"] = torch.zeros(4, 64, 64)
            for half in range(2):
                state[f"{prefix}attn.{half}.relative_position_index"] = torch.zeros(64, 64).long()
        state[f"layers.{stage}.upsample.sin_pos_embed._float_tensor"] = torch.zeros(1)
        state[f"to_rgbs.{stage}.upsample.kernel"] = torch.zeros(4, 4)
    return state


def checkpoint(path: Path, **changes: Any) -> Path:
    torch.manual_seed(9)
    judge = Discriminator(DiscriminatorConfig(size=16, channels=(12, 8, 8))).state_dict()
    judge["dwt.ll"] = torch.zeros(2, 2)
    held = {
        "g": published(generator(1)),
        "d": judge,
        "g_ema": published(generator(2)),
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]},
        "args": argparse.Namespace(size=16, iter=800_000),
    }
    torch.save({**held, **changes}, path)
    return path


def test_the_average_is_loaded(tmp_path: Path) -> None:
    loaded = load_styleswin(checkpoint(tmp_path / "a.pt"))
    z = torch.randn(2, 12)
    assert isinstance(loaded.network, Generator)
    assert loaded.network.config == CONFIG
    assert loaded.card["part"] == "g_ema"
    assert not loaded.network.training
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(z), generator(2)(z), atol=1e-6, rtol=1e-5)


def test_the_plain_generator_or_a_state_dict_does(tmp_path: Path) -> None:
    z = torch.randn(1, 12)
    plain = load_styleswin(checkpoint(tmp_path / "a.pt", g_ema=None)).network
    torch.save(published(generator(1)), tmp_path / "b.pt")
    alone = load_styleswin(tmp_path / "b.pt").network
    with torch.no_grad():
        wanted = generator(1)(z)
        assert torch.allclose(plain(z), wanted)
        assert torch.allclose(alone(z), wanted)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"qkv_bias": False, "mlp_ratio": 2.0},
        {"enable_full_resolution": 16},
        {"in_channels_by_stage": (256, 64, 32)},
        {"min_heads": 2, "n_mlp": 1},
    ],
)
def test_shapes_tell_the_configuration(change: dict[str, Any]) -> None:
    config = GeneratorConfig(**{**vars(CONFIG), **change})
    found = generator_config(published(generator(0, config)))
    assert GeneratorConfig(**found) == config


@pytest.mark.parametrize("sn", [True, False])
def test_shapes_tell_the_discriminators(sn: bool) -> None:
    config = DiscriminatorConfig(size=32, sn=sn, channels=(12, 10, 8, 8))
    found = discriminator_config(Discriminator(config).state_dict())
    assert DiscriminatorConfig(**found) == config


def test_the_discriminator_is_loaded(tmp_path: Path) -> None:
    model = load_discriminator(checkpoint(tmp_path / "a.pt"))
    assert model is not None
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 1)
    torch.save(published(generator(1)), tmp_path / "b.pt")
    assert load_discriminator(tmp_path / "b.pt") is None


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    state = published(generator(2))
    state["layers.2.blocks.0.attn_mask2"] = torch.zeros(1 << 26)  # 256 MiB
    path = checkpoint(tmp_path / "a.pt", g_ema=state)
    before = _resident()
    load_styleswin(path)
    assert _resident() - before < 128 << 20


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_misfits_are_named_with_the_file(tmp_path: Path) -> None:
    state = published(generator(2))
    less = {name: value for name, value in state.items() if name != "to_rgbs.1.bias"}
    with pytest.raises(ValueError, match=r"a\.pt: .*to_rgbs\.1\.bias missing"):
        load_styleswin(checkpoint(tmp_path / "a.pt", g_ema=less))
    with pytest.raises(ValueError, match="strange unexpected"):
        load_styleswin(checkpoint(tmp_path / "a.pt", g_ema={**state, "strange": torch.zeros(1)}))
    wide = {**state, "to_rgbs.1.conv.weight": torch.zeros(3, 9, 1, 1)}
    with pytest.raises(ValueError, match=r"has shape \(3, 9, 1, 1\), needs \(3, 8, 1, 1\)"):
        load_styleswin(checkpoint(tmp_path / "a.pt", g_ema=wide))
    gone = {name: value for name, value in state.items() if name != "input.input"}
    with pytest.raises(ValueError, match=r"a\.pt: input\.input is missing"):
        load_styleswin(checkpoint(tmp_path / "a.pt", g_ema=gone))


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"x_embedder.proj.weight": torch.zeros(1)}, tmp_path / "dit.pt")
    with pytest.raises(ValueError, match=r"has x_embedder\.proj\.weight .*needs a StyleSwin"):
        load_styleswin(tmp_path / "dit.pt")
    torch.save(torch.zeros(1), tmp_path / "b.pt")
    with pytest.raises(ValueError, match="holds a Tensor; needs a checkpoint"):
        load_styleswin(tmp_path / "b.pt")


def test_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        load_styleswin(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.pt is no readable PyTorch checkpoint"):
        load_styleswin(tmp_path / "text.pt")
    whole = checkpoint(tmp_path / "a.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half\.pt is no readable"):
        load_styleswin(tmp_path / "half.pt")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/nonexistent/trap",)


def test_code_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds \w+\.mkdir, code that is never run"):
        load_styleswin(checkpoint(tmp_path / "a.pt", extra=Trap()))
