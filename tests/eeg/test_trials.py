"""Trials: parts that do not fit are refused, channels picked by name."""

from __future__ import annotations

import numpy as np
import pytest
from eeg.files import NAMES, trials

from sigform_eeg.trials import check_trainable, common_channels, concatenate
from sigform_kit import InputError


def test_channels_are_picked_by_name_and_in_order() -> None:
    whole = trials()
    picked = whole.pick(("C4", "C3"))
    assert picked.channels == ("C4", "C3")
    assert np.array_equal(picked.signals, whole.signals[:, [5, 3]])


def test_missing_channels_are_named() -> None:
    with pytest.raises(InputError, match=r"S1 lacks channels Oz, Iz; has FC3, .*CP4$"):
        trials().pick(("C3", "Oz", "Iz"))


def test_selection_keeps_trials_with_their_labels() -> None:
    whole = trials()
    right = whole.select(whole.labels == 1)
    assert right.count() == {"left": 0, "right": 6}
    assert np.array_equal(right.signals, whole.signals[1::2])
    assert whole.select([3, 2]).runs.tolist() == whole.runs[[3, 2]].tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": NAMES[:2]}, "signals of S1 have shape"),
        ({"labels": np.zeros(3, np.int64)}, "labels and runs of S1"),
        ({"labels": np.full(12, 2)}, "labels of S1 are 2 to 2; needs 0 to 1"),
        ({"sample_rate": 0.0}, "sample_rate is 0.0; needs more than 0 Hz"),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong: dict[str, object], message: str) -> None:
    whole = trials()
    parts = {name: getattr(whole, name) for name in whole.__dataclass_fields__} | wrong
    with pytest.raises(ValueError, match=message):
        type(whole)(**parts)


def test_concatenation_keeps_order_and_refuses_other_channels() -> None:
    one, other = trials(4), trials(6, subject="S2", seed=1)
    both = concatenate([one, other], "all")
    assert both.subject == "all"
    assert len(both) == 10
    assert np.array_equal(both.signals[4:], other.signals)
    with pytest.raises(ValueError, match="channels of S2 is"):
        concatenate([one, other.pick(NAMES[:3])])
    with pytest.raises(ValueError, match="trials of S2 have 800 samples; needs 960 as S1"):
        concatenate([one, trials(4, subject="S2", seconds=5.0)])


def test_common_channels_follow_the_first_subject() -> None:
    one, other = trials(), trials(subject="S2").pick(("CP4", "Cz", "C3"))
    assert common_channels([one, other]) == ("C3", "Cz", "CP4")
    with pytest.raises(InputError, match="S1, S2 have no channel in common"):
        common_channels([one.pick(("C4",)), other])


def test_one_class_and_few_trials_are_refused() -> None:
    whole = trials(12)
    check_trainable(whole, "x.edf")
    with pytest.raises(InputError, match=r"x\.edf: trials are of one class only \(left 6, right 0"):
        check_trainable(whole.select(whole.labels == 0), "x.edf")
    with pytest.raises(InputError, match=r"x\.edf: too few trials \(left 2, right 1\)"):
        check_trainable(whole.select([0, 1, 2]), "x.edf")
