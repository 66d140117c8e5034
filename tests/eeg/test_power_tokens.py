"""Power tokens: what they measure, and that samples may come in any pieces."""

import math

import pytest
import torch
from torch import Tensor

from sigform_eeg.power_tokens import PowerTokens
from sigform_eeg.stream_state import StreamState


def front(**changes: int) -> PowerTokens:
    torch.manual_seed(0)
    sizes = {"n_chans": 3, "features": 4, "kernel": 9, "stride": 5, "window": 20, **changes}
    layer = PowerTokens(**sizes).train()
    for _ in range(10):
        layer(10 * torch.randn(8, sizes["n_chans"], 200))
    return layer.eval()


def by_definition(layer: PowerTokens, x: Tensor) -> Tensor:
    """Tokens (B, F, N) as the docstring says, one by one."""
    mixed = torch.einsum("fc,bct->bft", layer.spatial, x)
    padded = torch.nn.functional.pad(mixed, (layer.kernel - 1, 0))
    rhythms = (padded.unfold(-1, layer.kernel, 1) * layer.temporal[:, None]).sum(-1)
    tokens = []
    for end in range(layer.stride, x.shape[-1] + 1, layer.stride):
        power = rhythms[..., max(0, end - layer.window) : end].square().mean(-1)
        tokens.append((power + 1e-6).log())
    return layer.norm(torch.stack(tokens, -1))


@pytest.mark.parametrize(
    "changes", [{}, {"window": 5}, {"kernel": 1}, {"stride": 1, "window": 3}, {"n_chans": 1}]
)
@pytest.mark.parametrize("samples", [5, 23, 111])
def test_tokens_are_log_powers(changes: dict[str, int], samples: int) -> None:
    layer = front(**changes).double()
    x = 10 * torch.randn(2, layer.n_chans, samples, dtype=torch.float64)
    with torch.no_grad():
        found = layer(x)
        assert found.shape == (2, 4, samples // layer.stride)
        assert torch.allclose(found, by_definition(layer, x), atol=1e-9)


def test_a_twice_as_large_signal_is_log_4_more() -> None:
    layer, x = front(), 10 * torch.randn(1, 3, 100)
    scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
    with torch.no_grad():
        more = layer(2 * x) - layer(x)
    assert torch.allclose(more, (math.log(4) * scale)[:, None].expand_as(more), atol=1e-4)


@pytest.mark.parametrize("pieces", [[1] * 60, [7] * 9, [60], [3, 0, 0, 57, 1, 2, 4, 5, 5, 23]])
def test_pieces_of_any_size(pieces: list[int]) -> None:
    layer, x = front(), 10 * torch.randn(2, 3, sum(pieces))
    state, found = layer.initial_state(2), []
    for piece in x.split(pieces, dim=-1):
        tokens, state = layer.step(piece, state)
        found.append(tokens)
    with torch.no_grad():
        assert torch.allclose(torch.cat(found, -1), layer(x), atol=1e-5)


def test_the_state_stays_small_and_whole() -> None:
    layer, x = front(), 10 * torch.randn(1, 3, 3000)
    state, sizes = layer.initial_state(), set()
    for piece in x.split(5, dim=-1):
        saved = StreamState.from_dict(state.to_dict())
        _, state = layer.step(piece, state)
        sizes.add(sum(t.untyped_storage().nbytes() for t in state.tensors.values()))
        _, again = layer.step(piece, saved)
        assert all(torch.equal(again.tensors[name], t) for name, t in state.tensors.items())
    assert len(sizes) == 1


def test_no_token_looks_ahead() -> None:
    layer, x = front(), 10 * torch.randn(1, 3, 100)
    with torch.no_grad():
        whole = layer(x)
        for samples in (5, 37, 60):
            part = layer(x[..., :samples])
            assert torch.allclose(part, whole[..., : samples // 5], atol=1e-5)


def test_silence_is_finite() -> None:
    layer = front()
    x = torch.zeros(1, 3, 50, requires_grad=True)
    tokens = layer(x)
    tokens.sum().backward()
    assert tokens.isfinite().all()
    assert layer.temporal.grad is not None
    assert layer.temporal.grad.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_chans": 0}, "n_chans is 0; needs 1 or more"),
        ({"stride": 0}, "stride is 0; needs 1 or more"),
        ({"kernel": 8}, "kernel is 8 samples; needs an odd number"),
        ({"window": 12}, "window is 12 samples; needs a multiple of stride, 5"),
        ({"window": 0}, "window is 0 samples; needs a multiple"),
    ],
)
def test_bad_sizes(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        front(**changes)


def test_signals_that_do_not_fit() -> None:
    layer = front()
    for shape in ((2, 4, 50), (3, 50), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"x has shape .*; needs \(B, 3, T\) with 5 samples"):
            layer(torch.zeros(shape))
    with pytest.raises(ValueError, match="x has 2 streams; needs 1"):
        layer.step(torch.zeros(2, 3, 1), layer.initial_state())
    with pytest.raises(ValueError, match="training mode"):
        layer.train().step(torch.zeros(1, 3, 1), layer.initial_state())
