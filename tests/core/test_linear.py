"""The linear layer is `F.linear`, whichever library multiplies."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core import linear as module
from sigform_core.linear import Linear, is_onednn_faster, linear, product, solve


@pytest.fixture
def other_way(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """All that may goes the other way, through oneDNN where torch has it; the shapes that did."""
    went: list[tuple[int, ...]] = []
    multiply = module._multiply if torch.backends.mkldnn.is_available() else F.linear

    def counted(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        went.append(tuple(tokens.shape))
        return multiply(tokens, weight, bias)

    monkeypatch.setattr(module, "ONEDNN_PRODUCTS", 0)
    monkeypatch.setattr(module, "is_onednn_faster", lambda: True)
    monkeypatch.setattr(module, "_multiply", counted)
    return went


def tensors(*shape: int, outputs: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = (shape, (outputs, shape[-1]), (outputs,))
    x, weight, bias = (torch.randn(s, generator=draw, requires_grad=True) for s in shapes)
    return x, weight, bias


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 4, 5), (1, 1, 300)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_it_is_the_plain_one(
    shape: tuple[int, ...], has_bias: bool, other_way: list[tuple[int, ...]]
) -> None:
    inputs = tensors(*shape)[: 3 if has_bias else 2]
    wanted = F.linear(*inputs)
    found = linear(*inputs)
    assert len(other_way) == 1
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    weighs = torch.randn_like(wanted)
    grads = torch.autograd.grad((wanted * weighs).sum(), inputs)
    for ours, theirs in zip(
        torch.autograd.grad((found * weighs).sum(), inputs), grads, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_tensors_that_do_not_lie_together(other_way: list[tuple[int, ...]]) -> None:
    x, weight, bias = tensors(2, 6, 8, 5)
    planes = x.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    parts = weight.t().contiguous().t(), bias
    for strange in (planes, planes[:, ::2, 1:], planes.flip(1)):
        wanted, found = F.linear(strange, *parts), linear(strange, *parts)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        # A gradient that does not lie together either.
        expanded = torch.ones(()).expand_as(wanted)
        grads = (torch.autograd.grad(out, planes, expanded)[0] for out in (found, wanted))
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)
    assert len(other_way) == 6


@pytest.mark.parametrize(
    "learns", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_the_gradients_that_are_wanted(
    learns: tuple[bool, ...], other_way: list[tuple[int, ...]]
) -> None:
    inputs = [
        t.detach().requires_grad_(wanted) for t, wanted in zip(tensors(6, 5), learns, strict=True)
    ]
    linear(*inputs).sum().backward()
    assert [t.grad is not None for t in inputs] == list(learns)
    assert len(other_way) == 1 + learns[0]


def test_no_gradient_of_the_gradient(other_way: list[tuple[int, ...]]) -> None:
    x, weight, bias = tensors(6, 5)
    (grad,) = torch.autograd.grad(linear(x, weight, bias).square().sum(), x, create_graph=True)
    assert other_way
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_go_the_plain_way(
    dtype: torch.dtype, other_way: list[tuple[int, ...]]
) -> None:
    inputs = [t.detach().to(dtype) for t in tensors(6, 5)]
    assert torch.equal(linear(*inputs), F.linear(*inputs))
    assert not other_way


def test_autocast_goes_the_plain_way(other_way: list[tuple[int, ...]]) -> None:
    inputs = tensors(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*inputs).dtype == torch.bfloat16
    assert not other_way


def test_small_products_go_the_plain_way(
    other_way: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ONEDNN_PRODUCTS", 6 * 5 * 4)
    linear(*tensors(5, 5))
    assert not other_way
    linear(*tensors(6, 5))
    assert other_way == [(6, 5)]


def test_the_layer_is_torchs(other_way: list[tuple[int, ...]]) -> None:
    ours, theirs = Linear(5, 4), nn.Linear(5, 4)
    theirs.load_state_dict(ours.state_dict())
    x = tensors(2, 3, 5)[0]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert other_way == [(6, 5)]
    assert Linear(5, 4, bias=False).bias is None


@pytest.mark.parametrize(
    ("cpu", "faster"),
    [
        ({"cpu_name": "AMD EPYC 9R14", "avx512_f": True}, True),
        ({"cpu_name": "AMD Ryzen 5 3600", "avx512_f": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_which_processors(
    cpu: dict[str, Any], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = is_onednn_faster.__wrapped__
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    assert asks() is faster
    # Without MKL to be slow, or oneDNN to be fast, there is nothing to choose.
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        with monkeypatch.context() as patch:
            patch.setattr(library, "is_available", lambda: False)
            assert asks() is False


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("has_total", [True, False])
def test_batched_products(batch: int, has_total: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        return
    monkeypatch.setattr(module, "ONEDNN_BATCHED", 0)
    monkeypatch.setattr(module, "is_onednn_faster", lambda: True)
    went: list[Tensor] = []
    mix_rows = module._mix_rows
    monkeypatch.setattr(module, "_mix_rows", lambda a, b: went.append(a) or mix_rows(a, b))
    a, b = torch.randn(batch, 7, 5), torch.randn(batch, 9, 5).transpose(1, 2)
    total = torch.randn(batch, 7, 9) if has_total else None
    wanted = torch.bmm(a, b) if total is None else total + torch.bmm(a, b)
    with torch.inference_mode():
        found = product(a, b, None if total is None else total.clone())
    assert len(went) == batch
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_product_that_is_learnt_keeps_its_gradient() -> None:
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, 5, requires_grad=True)
    total = torch.zeros(2, 3, 5)
    torch.testing.assert_close(product(a, b, total), torch.bmm(a, b))
    assert not total.any(), "only where nothing is learnt may it be overwritten"
    product(a, b).sum().backward()
    assert a.grad is not None
    assert b.grad is not None


def test_equations_are_solved_on_several_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        matrices = torch.randn(2, 512, 512, dtype=torch.float64) + 50 * torch.eye(512).double()
        wanted = torch.randn(2, 512, 1, dtype=torch.float64)
        torch.testing.assert_close(solve(matrices, matrices @ wanted), wanted)
    finally:
        torch.set_num_threads(before)
