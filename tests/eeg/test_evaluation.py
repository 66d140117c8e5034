"""Scores at the end of a window and on the way there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from eeg.small import CHANNELS, CLASSES, RATE, WINDOW, setup, trials

from sigform_eeg.evaluation import (
    PrefixCurve,
    evaluate,
    prefix_curve,
    prefix_probabilities,
    probabilities,
    token_seconds,
    windows_of,
)
from sigform_eeg.networks import Network, build
from sigform_kit.errors import InputError


def network(architecture: str) -> Network:
    torch.manual_seed(0)
    return build(architecture, setup()).eval()


def test_the_share_that_is_needed() -> None:
    curve = PrefixCurve(
        seconds=np.arange(1.5, 5.5), accuracy=np.array([0.5, 0.8, 0.7, 0.8]), start=0.5
    )
    assert curve.final == 0.8
    assert curve.share_needed() == 1.0
    assert curve.share_needed(0.8) == 0.5
    assert curve.share_needed(0.6) == 0.25


def test_every_subject_is_scored() -> None:
    made = evaluate(network("dbconformer"), setup(), [trials("a"), trials("b", 6)])
    assert [(one.subject, len(one.labels)) for one in made] == [("a", 24), ("b", 6)]
    for one in made:
        assert one.probabilities.shape == (len(one.labels), 2)
        np.testing.assert_allclose(one.probabilities.sum(axis=1), 1)


def test_alignment_may_be_another_than_trained() -> None:
    given = [trials("a")]
    online, subject, none = (
        evaluate(network("dbconformer"), setup(), given, align=how)[0].probabilities
        for how in ("online", "subject", "none")
    )
    assert not np.allclose(online, subject)
    assert not np.allclose(subject, none)
    asked = evaluate(network("dbconformer"), setup("subject"), given)[0].probabilities
    np.testing.assert_array_equal(asked, subject)


def test_prefixes_end_in_the_answer_and_know_no_future() -> None:
    decoder = network("lmuformer")
    signals = windows_of(trials(count=4), setup(), "none").signals
    prefixes = prefix_probabilities(decoder, signals)
    np.testing.assert_allclose(prefixes[:, -1], probabilities(decoder, signals), atol=1e-6)
    seconds = token_seconds(decoder, prefixes.shape[1], setup())
    early = seconds <= 1.0
    other = signals.copy()
    other[..., round(RATE) :] *= -3
    changed = prefix_probabilities(decoder, other)
    np.testing.assert_allclose(changed[:, early], prefixes[:, early], atol=1e-6)
    assert not np.allclose(changed[:, ~early], prefixes[:, ~early], atol=1e-3)
    assert seconds[-1] == pytest.approx(WINDOW.stop)


def test_the_curve_takes_no_alignment_from_later() -> None:
    decoder = network("lmuformer")
    given = trials(count=6)
    curve = prefix_curve(decoder, setup(), [given])
    assert curve.accuracy.shape == curve.seconds.shape
    strict = windows_of(given, setup(), "online", strictly=True).signals
    published = windows_of(given, setup(), "online").signals
    assert not np.allclose(strict[1:], published[1:])
    told = prefix_probabilities(decoder, strict).argmax(axis=2)
    np.testing.assert_allclose(curve.accuracy, (told == given.labels[:, None]).mean(axis=0))


def test_whole_windows_have_no_prefixes() -> None:
    with pytest.raises(ValueError, match="network is DBConformer; needs an LMUFormer"):
        prefix_curve(network("dbconformer"), setup(), [trials()])


def test_other_classes_are_refused() -> None:
    other = replace(trials("kim"), classes=("hands", "feet"))
    with pytest.raises(InputError, match="kim: classes are hands, feet; the model needs left"):
        evaluate(network("dbconformer"), setup(), [other])
    lacking = trials("kim").pick(CHANNELS[:4])
    with pytest.raises(InputError, match="kim lacks channels Cz, C4, CP3, CP4"):
        evaluate(network("dbconformer"), setup(), [lacking])
    assert CLASSES == ("left", "right")
