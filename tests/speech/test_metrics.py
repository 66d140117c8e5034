"""The scores against torchmetrics, against every assignment, and where they have no value."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
    signal_distortion_ratio,
)

from sigform_speech import metrics
from sigform_speech.metrics import (
    align,
    best_permutation,
    missing_scores,
    pit_si_sdr,
    score,
    si_sdr,
)


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


def scene(speakers: int = 2, samples: int = 8000) -> tuple[NDArray, NDArray, NDArray]:
    """Estimates in reversed order, references, and their mixture."""
    references = signals(speakers, samples).numpy().astype(np.float32)
    estimates = references[::-1] + 0.2 * signals(speakers, samples, seed=1).numpy()
    return estimates.astype(np.float32), references, references.sum(0)


@pytest.fixture
def nothing_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_has", lambda _: False)


@pytest.mark.usefixtures("nothing_optional")
def test_scores_stand_in_the_order_of_the_references() -> None:
    estimates, references, mixture = scene()
    estimates[1] *= 7
    scores = score(estimates, references, mixture, 8000)
    assert scores.permutation == (1, 0)
    assert list(scores.values) == ["si_sdr", "si_sdri", "sdr", "sdri"]
    ordered, true, mixed = (
        torch.as_tensor(x.copy()) for x in (estimates[::-1], references, mixture)
    )
    ours = scale_invariant_signal_distortion_ratio(ordered, true, zero_mean=True)
    before = scale_invariant_signal_distortion_ratio(mixed.expand(2, -1), true, zero_mean=True)
    assert scores.values["si_sdr"] == pytest.approx(ours.tolist(), abs=1e-3)
    assert scores.values["si_sdri"] == pytest.approx((ours - before).tolist(), abs=1e-3)
    filtered = signal_distortion_ratio(ordered.double(), true.double())
    assert scores.values["sdr"] == pytest.approx(filtered.tolist(), abs=1e-4)
    assert scores.mean["si_sdr"] == pytest.approx(float(ours.mean()), abs=1e-3)
    assert "PESQ and STOI" in missing_scores()


@pytest.mark.usefixtures("nothing_optional")
def test_the_mixture_itself_improves_nothing() -> None:
    _, references, mixture = scene()
    scores = score(np.stack([mixture, mixture]), references, mixture, 8000)
    assert scores.values["si_sdri"] == (0, 0)
    assert scores.values["sdri"] == (0, 0)


@pytest.mark.usefixtures("nothing_optional")
@pytest.mark.parametrize("silent", ["its reference", "its estimate", "the mixture"])
def test_a_silent_signal_leaves_the_speaker_out(silent: str) -> None:
    estimates, references, mixture = scene()
    {"its reference": references, "its estimate": estimates[::-1]}.get(silent, references)[1] = 0
    if silent == "the mixture":
        mixture = np.full_like(mixture, 0.25)
    scores = score(estimates, references, mixture, 8000)
    assert any(silent in note for note in scores.notes)
    for values in scores.values.values():
        assert values[1] is None
        assert (values[0] is None) == (silent == "the mixture")
    assert scores.mean["si_sdr"] == scores.values["si_sdr"][0]


@pytest.mark.usefixtures("nothing_optional")
def test_perfect_and_tonal_signals_have_bounded_scores() -> None:
    tones = np.sin(np.arange(8000) * np.array([[0.3], [0.5]]))
    for references in (tones, scene()[1]):
        scores = score(references, references, references.sum(0), 8000)
        for name in ("si_sdr", "sdr"):
            assert scores.values[name] == pytest.approx((100, 100), abs=0.1)


@pytest.mark.usefixtures("nothing_optional")
def test_more_estimates_than_speakers_leave_the_worst_out() -> None:
    estimates, references, mixture = scene()
    noise = signals(1, 8000, seed=7).numpy()
    scores = score(np.concatenate([noise, estimates]), references, mixture, 8000)
    assert scores.permutation == (2, 1)
    assert scores.notes == ("scored are the best 2 of 3 estimates",)


def fake(name: str, value: Any) -> SimpleNamespace:
    def function(*_: Any) -> float:
        if isinstance(value, Exception):
            raise value
        return value

    return SimpleNamespace(**{name: function})


@pytest.mark.parametrize(
    ("rate", "pesq", "stoi", "expected", "note"),
    [
        (8000, 3.5, 0.9, (3.5, 0.9), None),
        (44100, 3.5, 0.9, (None, 0.9), "no PESQ: it needs 8000 or 16000 Hz, not 44100"),
        (8000, RuntimeError(b"No utterances detected"), 0.9, (None, 0.9), "No utterances"),
        (
            8000,
            3.5,
            RuntimeWarning("Not enough frames. More."),
            (3.5, None),
            "STOI: Not enough frames",
        ),
        (8000 * 4, 3.5, 0.9, (None, None), "no STOI: it needs 0.4 s"),
        (100, 3.5, 0.9, (None, 0.9), "no PESQ"),
    ],
)
def test_perceptual_scores_are_taken_where_they_apply(
    monkeypatch: pytest.MonkeyPatch,
    rate: int,
    pesq: Any,
    stoi: Any,
    expected: Any,
    note: str | None,
) -> None:
    monkeypatch.setattr(metrics, "_has", lambda _: True)
    monkeypatch.setitem(sys.modules, "pesq", fake("pesq", pesq))
    monkeypatch.setitem(sys.modules, "pystoi", fake("stoi", stoi))
    scores = score(*scene(samples=20000 if rate == 44100 else 8000), rate)
    assert (scores.values["pesq"][0], scores.values["stoi"][0]) == expected
    assert missing_scores() == ""
    if note is None:
        assert scores.notes == ()
    else:
        assert note in " ".join(scores.notes)


def test_what_cannot_be_compared_is_refused() -> None:
    estimates, references, mixture = scene()
    with pytest.raises(ValueError, match=r"estimates are \(2, 7999\)"):
        score(estimates[:, 1:], references, mixture, 8000)
    with pytest.raises(ValueError, match="estimates are 1 and references 2"):
        score(estimates[:1], references, mixture, 8000)
    estimates[0, 0] = np.nan
    with pytest.raises(ValueError, match="estimates: there are samples"):
        score(estimates, references, mixture, 8000)
