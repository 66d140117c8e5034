"""Speed of StyleSwin, as ratios within one run: `pytest -m benchmark`."""

from functools import cache

import pytest
from benchmarks.measure import apart
from benchmarks.styleswin import SIZE, error, memory, seconds

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@cache
def times() -> dict[str, float]:
    return apart(seconds)


@pytest.mark.parametrize(("size", "batch"), [(32, 3), (SIZE, 1)])
def test_an_image_equals_the_published_form(size: int, batch: int) -> None:
    assert apart(error, "ours", size, batch) < 1e-4


def test_bfloat16_differs_by_a_tenth() -> None:
    assert apart(error, "ours in bfloat16", SIZE) < 0.1


@pytest.mark.parametrize(("form", "ratio"), [("ours", 1.7), ("ours in bfloat16", 2.5)])
def test_an_image_is_made_faster_than_by_the_published_form(form: str, ratio: float) -> None:
    assert times()["published"] >= ratio * times()[form]


def test_an_image_needs_half_of_the_memory() -> None:
    peaks = memory()
    assert 2 * peaks["ours"] < peaks["published"]
