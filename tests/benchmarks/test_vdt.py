"""Speed of VDT, as ratios within one run: `pytest -m benchmark`."""

from functools import cache

import pytest
from benchmarks.measure import apart
from benchmarks.vdt import error, memory, seconds

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]


@cache
def times() -> dict[str, float]:
    return apart(seconds)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_step_equals_the_published_form(batch: int) -> None:
    assert apart(error, "ours", 2, batch) < 1e-4


def test_bfloat16_differs_by_a_hundredth() -> None:
    assert apart(error, "ours in bfloat16", 2) < 2e-2


@pytest.mark.parametrize(("form", "ratio"), [("ours", 1.2), ("ours in bfloat16", 1.7)])
def test_a_step_is_faster_than_the_published_form(form: str, ratio: float) -> None:
    assert times()["published"] >= ratio * times()[form]


def test_a_step_needs_no_more_memory() -> None:
    peaks = memory()
    assert peaks["ours"] <= peaks["published"]
