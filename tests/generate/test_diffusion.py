"""Diffusion's tables, steps and losses: against the published numbers, and what they promise."""

import math

import pytest
import torch
from generate.references import reference, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sigform_generate.diffusion import TABLES, Diffusion, betas, kept_steps, tables
from sigform_generate.dit import DiT
from sigform_generate.vdt import VDT


def clips_last(x: Tensor) -> Tensor:
    """(B, T, C, H, W) as the published sampler keeps it, (B, C, T, H, W)."""
    return x.transpose(1, 2)


@pytest.mark.parametrize("spacing", ["1000.", "250.", "100.", "ddim50."])
def test_tables_are_the_published_ones(spacing: str) -> None:
    _, _, tensors = reference("vdt_diffusion")
    found = tables(spacing)
    for name in TABLES:
        assert torch.equal(found[name], tensors[spacing + name]), name


def test_cosine_schedule_is_the_published_one() -> None:
    _, _, tensors = reference("vdt_diffusion")
    assert torch.equal(betas("cosine"), tensors["cosine1000.betas"])


def test_steps_of_vdt_are_the_published_ones() -> None:
    config, state, tensors = reference("vdt_a")
    model = VDT.from_reference(config, state)
    short = Diffusion(betas("linear")).respaced("250")
    start, x, index = (tensors[f"input.{name}"] for name in ("x_start", "x_t", "step_index"))
    mask = tensors["input.mask"].unsqueeze(2)
    with torch.no_grad():
        output = model(torch.where(mask > 0, x, start), short.timestep_map[index])
    moments = short.moments(output, x, index)
    assert relative(clips_last(moments.mean), tensors["out.pmv.mean"]) < 1e-5
    assert relative(clips_last(moments.log_variance), tensors["out.pmv.log_variance"]) < 1e-5
    assert relative(clips_last(moments.start), tensors["out.pmv.pred_xstart"]) < 1e-5
    assert (
        relative(clips_last(short.ddim_step(output, x, index)), tensors["out.ddim.sample"]) < 1e-5
    )


def test_losses_of_vdt_are_the_published_ones() -> None:
    config, state, tensors = reference("vdt_a")
    model = VDT.from_reference(config, state)
    diffusion = Diffusion(betas("linear"))
    start, t = tensors["input.x_start"], tensors["input.loss_t"]
    noise, mask = clips_last(tensors["input.loss_noise"]), tensors["input.mask"].unsqueeze(2)
    x = diffusion.noised(start, t, noise)
    with torch.no_grad():
        output = model(torch.where(mask > 0, x, start), t)
    found = diffusion.losses(output, start, x, t, noise, mask)
    for name in ("mse", "vb", "loss"):
        assert relative(getattr(found, name), tensors[f"out.loss.{name}"]) < 1e-5, name


def test_steps_of_dit_are_the_published_ones() -> None:
    config, state, tensors = reference("dit_a")
    model = DiT.from_reference(config, state)
    short = Diffusion(betas("linear")).respaced("250")
    x, index = tensors["input.x"], torch.tensor([120, 120])
    with torch.no_grad():
        output = model(x, short.timestep_map[index], tensors["input.y"])
    moments = short.moments(output, x, index)
    assert relative(moments.mean, tensors["out.pmv.mean"]) < 1e-5
    assert relative(moments.log_variance, tensors["out.pmv.log_variance"]) < 1e-5
    assert relative(short.ddim_step(output, x, index), tensors["out.ddim.sample"]) < 1e-5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 60), st.booleans())
def test_kept_steps_rise_and_are_as_many_as_asked(steps: int, count: int, ddim: bool) -> None:
    try:
        kept = kept_steps(steps, f"{'ddim' if ddim else ''}{count}")
    except ValueError:
        # More than there are; or no stride gives that many.
        assert count > steps or (
            ddim and all(len(range(0, steps, stride)) != count for stride in range(1, steps + 1))
        )
        return
    assert len(kept) == len(set(kept)) == count
    assert kept == sorted(kept)
    assert kept[0] == 0
    if not ddim and count > 1:
        assert kept[-1] == steps - 1


def test_kept_steps_of_sections() -> None:
    assert kept_steps(10, "3,2") == [0, 2, 4, 5, 9]
    assert kept_steps(1000, "ddim50.")[:3] == [0, 20, 40]


@pytest.mark.parametrize("spacing", ["", "x", "ddim", "0", "-3", "ddim600", "1001", "ddim5,5"])
def test_refuses_other_spacings(spacing: str) -> None:
    with pytest.raises(ValueError, match="sampling steps are"):
        kept_steps(1000, spacing)


def test_start_and_noise_give_each_other() -> None:
    torch.manual_seed(0)
    diffusion = Diffusion(betas("linear"))
    start, noise = torch.randn(3, 2, 4, 4).double(), torch.randn(3, 2, 4, 4).double()
    t = torch.tensor([0, 400, 999])
    x = diffusion.noised(start, t, noise)
    torch.testing.assert_close(diffusion.start_from_noise(x, t, noise), start)
    torch.testing.assert_close(diffusion.noise_from_start(x, t, start), noise)


@pytest.mark.parametrize("steps", ["ddim20", "40"])
def test_a_perfect_network_leads_back_to_the_start(steps: str) -> None:
    torch.manual_seed(0)
    start = torch.rand(2, 3, 4, 4) * 2 - 1
    diffusion = Diffusion(betas("cosine"), prediction="start", variance="fixed_small")
    short = diffusion.respaced(steps)
    x = torch.randn(2, 3, 4, 4)
    for index in reversed(range(len(short))):
        t = torch.full((2,), index)
        step = short.ddim_step if steps.startswith("ddim") else short.ddpm_step
        x = step(start, x, t, torch.randn_like(x))
    torch.testing.assert_close(x, start)


def test_ddim_with_full_eta_has_the_spread_of_ddpm() -> None:
    torch.manual_seed(0)
    diffusion = Diffusion(betas("linear"), prediction="start", variance="fixed_small")
    start, x, t = torch.zeros(1, 1, 200, 200), torch.ones(1, 1, 200, 200), torch.tensor([500])
    noise = torch.randn_like(x)
    found = diffusion.ddim_step(start, x, t, noise, eta=1.0)
    torch.testing.assert_close(found, diffusion.ddpm_step(start, x, t, noise), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"eta is 0\.5 without noise"):
        diffusion.ddim_step(start, x, t, eta=0.5)


def test_clipping_keeps_the_guess_in_range() -> None:
    diffusion = Diffusion(betas("linear"), prediction="start", variance="fixed_large")
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor([10])
    guess = torch.full_like(x, 3.0)
    assert (diffusion.moments(guess, x, t, clip=True).start == 1).all()
    assert (diffusion.moments(guess, x, t).start == 3).all()


def test_learned_variance_lies_between_its_bounds() -> None:
    diffusion = Diffusion(betas("linear"))
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor([10])
    for value, table in (
        (1.0, diffusion.betas.log()),
        (-1.0, diffusion.posterior_log_variance_clipped),
    ):
        output = torch.cat([x, torch.full_like(x, value)], dim=1)
        found = diffusion.moments(output, x, t).log_variance
        torch.testing.assert_close(found, torch.full_like(x, float(table[10])))


def test_the_bound_trains_the_variance_alone() -> None:
    torch.manual_seed(0)
    diffusion = Diffusion(betas("linear"))
    start, noise = torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    t = torch.tensor([0, 500])
    x = diffusion.noised(start, t, noise)
    output = torch.zeros(2, 2, 4, 4, requires_grad=True)
    diffusion.losses(output, start, x, t, noise).vb.sum().backward()
    assert output.grad is not None
    assert not output.grad[:, :1].any()
    assert output.grad[:, 1:].all()


def test_first_step_counts_bits_of_eight_bit_values() -> None:
    # With next to no spread around the right value, nothing is left to say.
    diffusion = Diffusion(torch.full((2,), 1e-9), prediction="start", variance="fixed_small")
    start = torch.tensor([-1.0, 1.0, 0.0, 51 / 255]).view(1, 1, 2, 2)
    bits = diffusion.bound(start, start, start, torch.tensor([0]))
    assert float(bits) == pytest.approx(0, abs=1e-6)
    wide = Diffusion(torch.tensor([0.5, 0.5]), prediction="start", variance="fixed_large")
    zero = torch.zeros(1, 1, 1, 1)
    found = float(wide.bound(zero, zero, zero, torch.tensor([0])))
    sigma = math.sqrt(float(wide.posterior_variance[1]))
    assert found == pytest.approx(-math.log2(math.erf(1 / 255 / sigma / math.sqrt(2))), rel=1e-3)


def test_masked_error_counts_what_is_generated() -> None:
    diffusion = Diffusion(betas("linear"), prediction="start", variance="fixed_large")
    start = torch.zeros(1, 2, 1, 2, 2)
    output = torch.ones(1, 2, 1, 2, 2)
    mask = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1)
    found = diffusion.losses(output, start, start, torch.tensor([5]), start, mask)
    assert float(found.mse) == 0.5  # the mean is over all values, as published
    assert float(found.vb) == 0


def test_respacing_a_respacing_keeps_the_trained_timesteps() -> None:
    twice = Diffusion(betas("linear")).respaced("ddim50").respaced("10")
    assert twice.timestep_map.tolist()[:2] == [0, 100]
    assert len(twice) == 10


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="schedule is 'square'; needs linear or cosine"):
        betas("square")
    with pytest.raises(ValueError, match="steps is 0"):
        betas("linear", 0)
    with pytest.raises(ValueError, match="betas lie outside"):
        Diffusion(torch.tensor([0.1, 1.5]))
    with pytest.raises(ValueError, match="prediction is 'velocity'"):
        Diffusion(betas("linear"), prediction="velocity")  # pyright: ignore
    with pytest.raises(ValueError, match="variance is 'large'"):
        Diffusion(betas("linear"), variance="large")  # pyright: ignore
    x, t = torch.zeros(1, 2, 2, 2), torch.tensor([5])
    with pytest.raises(ValueError, match="output has 2 channels; learned_range variance of 2 chan"):
        Diffusion(betas("linear")).moments(x, x, t)
