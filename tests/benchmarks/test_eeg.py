"""Speed of the EEG networks, as ratios within one run: `pytest -m benchmark`."""

from functools import cache

import pytest
from benchmarks import eeg
from benchmarks.measure import apart


@cache
def seconds(mode: str) -> dict[str, float]:
    return apart(eeg.seconds, mode)


def test_dbconformer_equals_the_published_form() -> None:
    assert eeg.error() < 1e-5


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_dbconformer_trains_four_times_as_fast_as_eegconformer() -> None:
    figures = seconds("train")
    assert figures["EEGConformer, braindecode"] >= 4 * figures["ours"], figures


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["train", "infer"])
def test_dbconformer_is_no_slower_than_the_published_form(mode: str) -> None:
    figures = seconds(mode)
    assert figures["published"] >= figures["ours"], figures


@pytest.mark.benchmark
def test_eegconformer_has_eight_times_the_parameters() -> None:
    counts = eeg.parameters()
    assert counts["EEGConformer, braindecode"] >= 8 * counts["ours"]
    assert counts["published"] == counts["ours"]


@pytest.mark.benchmark
@pytest.mark.timeout(600)
@pytest.mark.parametrize("spiking", [False, True])
def test_a_token_takes_as_long_late_as_early(spiking: bool) -> None:
    early, _ = apart(eeg.stream_seconds, spiking, 300)
    late, _ = apart(eeg.stream_seconds, spiking, 3000)
    assert late < 1.5 * early
