"""DiT against the published implementation, and as a model of its own."""

from dataclasses import replace

import pytest
import torch
from generate.references import perturb, reference, relative

from sigform_core.reference import load_reference
from sigform_generate.dit import DiT, DiTConfig

SMALL = DiTConfig(
    input_size=4, patch_size=2, in_channels=4, hidden_size=16, depth=2, num_heads=2, num_classes=3
)


def small(config: DiTConfig = SMALL) -> DiT:
    torch.manual_seed(0)
    model = DiT(config).eval()
    perturb(model)
    return model


def test_is_the_published_network() -> None:
    config, state, tensors = reference("dit_a")
    model = DiT.from_reference(config, state)
    with torch.no_grad():
        found = model(tensors["input.x"], tensors["input.t"], tensors["input.y"])
    assert relative(found, tensors["output"]) < 1e-5
    assert torch.equal(model.pos_embed, tensors["state.pos_embed"][0])


def test_parts_are_the_published_parts() -> None:
    config, state, tensors = reference("dit_a")
    model = DiT.from_reference(config, state)
    with torch.no_grad():
        tokens = model.embed(tensors["input.x"])
        blocks, _ = model.modulations(model.condition(tensors["input.t"], tensors["input.y"]))
        assert relative(tokens, tensors["tap.tokens"]) < 1e-5
        for number, (block, modulation) in enumerate(zip(model.blocks, blocks, strict=True)):
            tokens = block(tokens, modulation)
            assert relative(tokens, tensors[f"tap.blocks.{number}"]) < 1e-5


def test_guidance_is_the_published_one() -> None:
    config, state, tensors = reference("dit_a")
    model = DiT.from_reference(config, state)
    x, t, y = (tensors[f"input.{name}"][:1] for name in ("x", "cfg_t", "cfg_y"))
    with torch.no_grad():
        found = model.guided(x, t, y, 4.0)
    # Published guidance returns the guided half twice, and the variances of both.
    assert relative(found, tensors["output.cfg4"][:1]) < 1e-5


def test_guidance_of_one_is_the_label_alone() -> None:
    model = small()
    x, t, y = torch.randn(2, 4, 4, 4), torch.tensor([3, 900]), torch.tensor([0, 2])
    with torch.no_grad():
        torch.testing.assert_close(model.guided(x, t, y, 1.0), model(x, t, y))
    bare = small(replace(SMALL, class_dropout_prob=0.0))
    with pytest.raises(ValueError, match="class_dropout_prob is 0; guidance needs a model trained"):
        bare.guided(x, t, y, 2.0)


def test_starts_by_saying_nothing() -> None:
    torch.manual_seed(0)
    out = DiT(SMALL)(torch.randn(2, 4, 4, 4), torch.tensor([1, 2]), torch.tensor([0, 1]))
    assert out.shape == (2, 8, 4, 4)
    assert not out.any()


def test_a_batch_of_two_equals_two_singles() -> None:
    model = small()
    x, t, y = torch.randn(2, 4, 4, 4), torch.tensor([3, 900]), torch.tensor([0, 2])
    with torch.no_grad():
        singles = [model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(2)]
        torch.testing.assert_close(model(x, t, y), torch.cat(singles))


def test_a_gradient_reaches_every_parameter() -> None:
    model = small()
    model(
        torch.randn(3, 4, 4, 4), torch.arange(3), torch.tensor([0, 1, 2])
    ).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_published_state_round_trips() -> None:
    model = small()
    again = DiT.from_reference(model.config_dict(), model.published_state())
    x, t, y = torch.randn(1, 4, 4, 4), torch.tensor([5]), torch.tensor([1])
    with torch.no_grad():
        assert torch.equal(again(x, t, y), model(x, t, y))
    third = load_reference(DiT(SMALL), model.state_dict())
    with torch.no_grad():
        assert torch.equal(third(x, t, y), model(x, t, y))


def test_names_what_does_not_fit() -> None:
    model = small()
    state = model.published_state()
    missing = {k: v for k, v in state.items() if k != "blocks.1.attn.qkv.bias"}
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.qkv\.bias missing"):
        DiT.from_reference(model.config_dict(), missing)
    with pytest.raises(ValueError, match="extra unexpected"):
        DiT.from_reference(model.config_dict(), {**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="did you mean 'hidden_size'"):
        DiT.from_reference({**model.config_dict(), "hiden_size": 3}, state)
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 4, 6\)"):
        model(torch.zeros(1, 4, 4, 6), torch.tensor([1]), torch.tensor([1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"input_size": 5}, "input_size is 5; needs a multiple of patch_size 2"),
        ({"hidden_size": 18}, "hidden_size is 18"),
        ({"class_dropout_prob": 1.0}, "class_dropout_prob is 1.0"),
    ],
)
def test_refuses_impossible_configs(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_published_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = DiT(DiTConfig())
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 675  # 2212.09748, table 1
