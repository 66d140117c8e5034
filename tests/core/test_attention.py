import pytest
import torch

from sigform_core.attention import attend


def plain(query, key, value, scale=None, bias=None):
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    return torch.softmax(scores if bias is None else scores + bias, -1) @ value


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4))
    return tuple(torch.randn(shape, generator=draw) for shape in shapes)


@pytest.mark.parametrize("scale", [None, 0.3, 1.0])
def test_it_is_the_equation(tensors, scale):
    torch.testing.assert_close(attend(*tensors, scale=scale), plain(*tensors, scale=scale))


def test_bias_is_added_to_the_scores(tensors):
    bias = torch.randn(3, 5, 7)
    torch.testing.assert_close(attend(*tensors, bias=bias), plain(*tensors, bias=bias))


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_few_keys_in_bfloat16(tensors, scale, has_bias, monkeypatch):
    query, key, value = (tensor.bfloat16() for tensor in tensors)
    bias = torch.randn(3, 5, 7).bfloat16() if has_bias else None
    wanted = plain(*(x.float() for x in (query, key, value)), scale, bias)
    found = attend(query, key, value, scale=scale, bias=bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.03, atol=0.03)
    monkeypatch.setattr("sigform_core.attention.FEW_SCORES", 0)
    fused = attend(query, key, value, scale=scale, bias=bias)
    torch.testing.assert_close(found, fused, rtol=0.03, atol=0.03)


def test_mask_says_where_a_query_may_look(tensors):
    mask = torch.rand(5, 7) < 0.5
    mask[:, 0] = True
    hidden = torch.zeros(5, 7).masked_fill(~mask, float("-inf"))
    torch.testing.assert_close(attend(*tensors, mask=mask), plain(*tensors, bias=hidden))
    bias = torch.randn(5, 7)
    both = attend(*tensors, mask=mask, bias=bias)
    torch.testing.assert_close(both, plain(*tensors, bias=bias + hidden))


def test_causal_queries_do_not_see_later_keys(tensors):
    query, key, value = tensors
    early = attend(query, key[:, :, :5], value[:, :, :5], causal=True)
    later = value[:, :, :5].clone()
    later[:, :, 3:] = 99.0
    changed = attend(query, key[:, :, :5], later, causal=True)
    torch.testing.assert_close(early[:, :, :3], changed[:, :, :3])
    assert not torch.allclose(early[:, :, 3:], changed[:, :, 3:])
    with pytest.raises(ValueError, match="causal=True is given with a bias or mask"):
        attend(query, key, value, causal=True, bias=torch.zeros(5, 7))


def test_dropout_drops_weights(tensors):
    torch.manual_seed(0)
    assert not torch.allclose(attend(*tensors, dropout=0.5), attend(*tensors))
