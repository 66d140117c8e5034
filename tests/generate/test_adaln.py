"""The parts of diffusion transformers, against what they stand for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sigform_generate.adaln import (
    AdaBlock,
    LabelEmbedder,
    Modulations,
    PatchEmbed,
    SelfAttention,
    grid_positions,
    line_positions,
    modulate,
    patchify,
    tanh_gelu,
    timestep_features,
    unpatchify,
)


def test_timesteps_are_cosines_first() -> None:
    features = timestep_features(torch.tensor([0, 7]))
    assert features.shape == (2, 256)
    assert torch.equal(features[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    wanted = [math.cos(7.0), math.cos(7 * 10000 ** (-1 / 128)), math.sin(7.0)]
    torch.testing.assert_close(features[1, [0, 1, 128]], torch.tensor(wanted), rtol=0, atol=1e-6)


def test_patches_are_those_of_the_published_convolution() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(3, (2, 4), 8)
    x = torch.randn(2, 5, 3, 6, 8)
    wanted = F.conv2d(x.flatten(0, 1), embed.published_weight(), embed.bias, stride=(2, 4))
    found = embed(x)
    assert found.shape == (2, 5, 6, 8)
    torch.testing.assert_close(found.flatten(0, 1), wanted.flatten(2).transpose(1, 2))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)
)
def test_unpatchify_undoes_patchify(c: int, h: int, w: int, p: int, q: int) -> None:
    x = torch.arange(2.0 * c * h * p * w * q).view(2, c, h * p, w * q)
    tokens = patchify(x, (p, q))  # channels first within a patch
    turned = tokens.view(2, h * w, c, p * q).transpose(2, 3).flatten(2)  # and then innermost
    assert torch.equal(unpatchify(turned, (h, w), (p, q), c), x)


def test_patches_must_fill_the_image() -> None:
    with pytest.raises(ValueError, match="image is 6 x 9; needs multiples of 2 x 2"):
        patchify(torch.zeros(1, 3, 6, 9), (2, 2))


def test_grid_positions_tell_the_column_first() -> None:
    table = grid_positions((2, 3), 8)
    line = line_positions(3, 4)
    assert torch.equal(table[:, :4], line.repeat(2, 1))  # columns 0 1 2 0 1 2
    assert torch.equal(table[:, 4:], line[:2].repeat_interleave(3, dim=0))
    assert line[1, 0] == pytest.approx(math.sin(1.0))
    assert line[1, 2] == pytest.approx(math.cos(1.0))


def test_modulation_of_one_sample_is_that_of_a_batch() -> None:
    torch.manual_seed(0)
    x, shift, scale = torch.randn(2, 3, 5, 8), torch.randn(2, 8), torch.randn(2, 8)
    both = modulate(x, shift, scale)
    alone = torch.cat([modulate(x[i : i + 1], shift[i : i + 1], scale[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(both, alone)
    normed = F.layer_norm(x, (8,), eps=1e-6)
    wanted = normed * (1 + scale[:, None, None]) + shift[:, None, None]
    torch.testing.assert_close(both, wanted)


def test_modulations_are_each_blocks_own_product() -> None:
    torch.manual_seed(0)
    modulations = Modulations(4, depth=3)
    assert all(not row.any() for row in modulations.parameters())  # zero at the start
    torch.nn.init.normal_(modulations.weight)
    torch.nn.init.normal_(modulations.bias)
    condition = torch.randn(2, 4)
    blocks, head = modulations(condition)
    views = modulations.published_views()
    for number, found in enumerate(blocks):
        name = f"blocks.{number}.adaLN_modulation.1"
        wanted = F.linear(F.silu(condition), views[f"{name}.weight"], views[f"{name}.bias"])
        torch.testing.assert_close(found.flatten(1), wanted)
    assert head.shape == (2, 2, 4)


def test_attention_across_frames_is_attention_along_them() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, 2)
    x = torch.randn(2, 5, 3, 8)
    after = nn.Linear(8, 8)
    wanted = after(attention(x.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(attention.across(x, after), wanted)


def test_additions_stand_beside_the_layers() -> None:
    torch.manual_seed(0)
    block = AdaBlock(8, 2, 2.0)
    x, modulation = torch.randn(2, 4, 8), torch.randn(2, 6, 8)
    plain = block(x, modulation)
    nothing = {name: lambda value: 0 * value.sum() for name in ("qkv", "proj", "up", "down")}
    assert torch.equal(block(x, modulation, nothing), plain)
    for name in nothing:
        assert not torch.equal(block(x, modulation, {name: lambda value: value.mean()}), plain), (
            name
        )


def test_gelu_is_the_same_with_and_without_gradients() -> None:
    x = torch.linspace(-30, 30, 6001, requires_grad=True)
    wanted = F.gelu(x, approximate="tanh").detach()
    assert torch.equal(tanh_gelu(x).detach(), wanted)
    with torch.no_grad():
        torch.testing.assert_close(tanh_gelu(x), wanted, rtol=1e-5, atol=1e-6)


def test_labels_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    embedder = LabelEmbedder(3, 4, 0.5)
    labels = torch.zeros(64, dtype=torch.long)
    found = embedder(labels)
    dropped = (found == embedder.table[3]).all(dim=1).sum()
    assert 16 < dropped < 48
    assert torch.equal(embedder.eval()(labels), embedder.table[:1].expand(64, -1))
    assert LabelEmbedder(3, 4, 0.0).table.shape == (3, 4)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width is 8; needs a multiple of the 3 heads"):
        SelfAttention(8, 3)
