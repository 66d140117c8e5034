"""ProbSparse attention and the products under it, against naive float64 arithmetic."""

import math

import pytest
import torch
from torch import Tensor

from sigform_forecast import informer
from sigform_forecast.informer import (
    has_sampled_product,
    prob_sparse_attention,
    query_sparsity,
    sample_size,
)

BATCH, HEADS, DIM, FACTOR = 2, 3, 8, 3
LENGTHS = (37, 96, 200, 336)


def naive(query: Tensor, key: Tensor, value: Tensor, samples: Tensor, causal: bool) -> Tensor:
    """The published definition, one sequence of one head after the other, in float64."""
    steps, outputs = query.shape[1], []
    heads = (x.double().transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    for q, k, v in zip(*heads, strict=True):
        sampled = (q.unsqueeze(1) * k[samples]).sum(-1)  # (Q, S)
        sparsity = sampled.max(-1).values - sampled.sum(-1) / steps
        weights = q @ k.T / math.sqrt(DIM)
        if causal:
            weights = weights.masked_fill(torch.ones_like(weights).triu(1) > 0, -math.inf)
            context = torch.stack([v[: n + 1].sum(0) for n in range(steps)])
        else:
            context = v.mean(0).expand(steps, -1)
        is_active = torch.zeros(steps, 1, dtype=torch.bool)
        is_active[sparsity.topk(sample_size(FACTOR, steps)).indices] = True
        outputs.append(torch.where(is_active, weights.softmax(-1) @ v, context))
    return torch.stack(outputs).unflatten(0, (BATCH, HEADS)).transpose(1, 2)


def draw(
    steps: int, dtype: torch.dtype = torch.float32
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Query, key and value (B, L, H, E) that want gradients, and the sampled keys (L, S)."""
    torch.manual_seed(steps)
    query, key, value = torch.randn(3, BATCH, steps, HEADS, DIM).to(dtype).unbind()
    inputs = (query.requires_grad_(), key.requires_grad_(), value.requires_grad_())
    return inputs, torch.randint(steps, (steps, sample_size(FACTOR, steps)))


def distance(ours: Tensor, expected: Tensor) -> float:
    return ((ours.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("path", ["sampled", "dense"])
@pytest.mark.parametrize("steps", LENGTHS)
def test_output_and_gradients_equal_the_definition(
    steps: int, path: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "DENSE_KEYS", 0 if path == "sampled" else steps)
    monkeypatch.setattr(informer, "DENSE_SCORES", 4 * steps * steps)  # two blocks, one uneven
    inputs, samples = draw(steps)
    ours = prob_sparse_attention(*inputs, samples, factor=FACTOR, causal=causal)
    expected = naive(*inputs, samples, causal)
    assert distance(ours, expected) <= 1e-6
    upstream = torch.randn(ours.shape)
    gradients = torch.autograd.grad(ours, inputs, upstream)
    for ours_x, expected_x in zip(
        gradients, torch.autograd.grad(expected, inputs, upstream.double()), strict=True
    ):
        assert distance(ours_x, expected_x) <= 1e-5


@pytest.mark.parametrize("steps", LENGTHS)
def test_without_the_sampled_product_the_sparsity_is_the_same(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (query, key, _), samples = draw(steps)
    query, key = query.transpose(1, 2), key.transpose(1, 2)
    monkeypatch.setattr(informer, "DENSE_KEYS", 0)
    sampled = query_sparsity(query, key, samples)
    monkeypatch.setattr(informer, "has_sampled_product", lambda: False)
    dense = query_sparsity(query, key, samples)
    assert torch.allclose(sampled, dense, atol=1e-5)
    assert torch.equal(sampled.topk(5).indices, dense.topk(5).indices)


def test_this_torch_has_the_sampled_product() -> None:
    assert has_sampled_product() == torch.backends.mkl.is_available()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("path", ["sampled", "dense"])
def test_bfloat16_input_gives_bfloat16_near_the_definition(
    path: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "DENSE_KEYS", 0 if path == "sampled" else 200)
    inputs, samples = draw(200, torch.bfloat16)
    ours = prob_sparse_attention(*inputs, samples, factor=FACTOR, causal=causal)
    assert ours.dtype == torch.bfloat16
    assert distance(ours, naive(*inputs, samples, causal)) <= 1e-2
    ours.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in inputs)


def test_no_gradient_flows_through_the_choice_of_queries() -> None:
    (query, key, _), samples = draw(96)
    assert not query_sparsity(query.transpose(1, 2), key.transpose(1, 2), samples).requires_grad
