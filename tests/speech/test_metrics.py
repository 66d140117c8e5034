"""The scores against torchmetrics, against every assignment, and where they have no value."""

import pytest
import torch
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
)

from sigform_speech.metrics import align, best_permutation, pit_si_sdr, si_sdr


def signals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_si_sdr_is_that_of_torchmetrics() -> None:
    reference = signals(3, 2, 4000) + 0.3
    estimate = 5 * reference + torch.tensor([0.1, 1.0, 20.0])[:, None, None] * signals(
        3, 2, 4000, seed=1
    )
    expected = scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=True)
    torch.testing.assert_close(si_sdr(estimate, reference), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e3])
def test_si_sdr_does_not_depend_on_gain_and_offset(gain: float) -> None:
    reference = signals(4000)
    estimate = reference + 0.1 * signals(4000, seed=1)
    torch.testing.assert_close(
        si_sdr(gain * estimate + 0.2 * gain, reference),
        si_sdr(estimate, reference),
        atol=1e-3,
        rtol=0,
    )


def test_silence_is_the_lowest_value_and_has_gradients() -> None:
    silence, sound = torch.zeros(500, requires_grad=True), signals(500)
    for estimate, reference in [(silence, sound), (sound, silence), (silence, silence)]:
        value = si_sdr(estimate, reference)
        assert value.item() == pytest.approx(-100, abs=0.01)
        value.backward()
    assert silence.grad is not None
    assert torch.isfinite(silence.grad).all()
    assert si_sdr(sound, sound).item() == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_the_best_assignment_is_that_of_torchmetrics(speakers: int) -> None:
    references = signals(5, speakers, 2000)
    shuffled = references[:, torch.randperm(speakers, generator=torch.Generator().manual_seed(3))]
    estimates = shuffled + 0.7 * signals(5, speakers, 2000, seed=1)
    expected, permutation = permutation_invariant_training(
        estimates, references, scale_invariant_signal_distortion_ratio, zero_mean=True
    )
    values, ours = pit_si_sdr(estimates, references)
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=0)
    assert torch.equal(ours, permutation)
    aligned = align(estimates, ours)
    torch.testing.assert_close(si_sdr(aligned, references).mean(-1), expected, atol=1e-4, rtol=0)


def test_pit_has_the_gradient_of_the_best_assignment() -> None:
    references = signals(2, 2, 300).double()
    estimates = (references.flip(1) + 0.5 * signals(2, 2, 300, seed=1)).requires_grad_()
    values, permutation = pit_si_sdr(estimates, references)
    (ours,) = torch.autograd.grad(values.sum(), estimates)
    fixed = si_sdr(estimates.flip(1), references).mean(-1)
    (expected,) = torch.autograd.grad(fixed.sum(), estimates)
    assert permutation.tolist() == [[1, 0], [1, 0]]
    torch.testing.assert_close(ours, expected)


def test_the_permutation_of_three_is_no_inverse() -> None:
    """A cycle differs from its inverse: here reference 0 is estimate 2."""
    scores = torch.zeros(1, 3, 3)
    for reference, estimate in enumerate([2, 0, 1]):
        scores[0, estimate, reference] = 1
    assert best_permutation(scores).tolist() == [[2, 0, 1]]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 10\) and references \(1, 3, 10\)"):
        pit_si_sdr(torch.zeros(1, 2, 10), torch.zeros(1, 3, 10))
