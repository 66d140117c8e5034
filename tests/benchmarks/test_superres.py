"""Speed of the super-resolution networks, as ratios within one run: `pytest -m benchmark`."""

from functools import cache

import pytest
from benchmarks.measure import apart
from benchmarks.superres import (
    CRAFT_FORMS,
    DLGSANET_FORMS,
    SIZES,
    craft_error,
    craft_inference,
    craft_seconds,
    dlgsanet_error,
    dlgsanet_inference,
    dlgsanet_seconds,
    memory,
)

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1200),
    # spandrel's CRAFT.
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),
]


@cache
def craft(size: int) -> dict[str, float]:
    return apart(craft_seconds, size)


@cache
def dlgsanet(size: int) -> dict[str, float]:
    return apart(dlgsanet_seconds, size)


@pytest.mark.parametrize("size", [37, *SIZES])
def test_craft_equals_the_published_form(size: int) -> None:
    assert craft_error(size) < 1e-5


@pytest.mark.parametrize("size", [37, *SIZES])
def test_dlgsanet_equals_the_published_form(size: int) -> None:
    assert dlgsanet_error(size) < 1e-5


@pytest.mark.parametrize(("form", "times"), [("ours", 1.7), ("ours in bfloat16", 2.6)])
@pytest.mark.parametrize("size", SIZES)
def test_craft_is_faster_than_the_published_form(size: int, form: str, times: float) -> None:
    seconds = craft(size)
    assert seconds["published"] >= times * seconds[form]


@pytest.mark.parametrize("size", SIZES)
def test_dlgsanet_is_faster_than_the_published_form(size: int) -> None:
    seconds = dlgsanet(size)
    assert seconds["unfold"] >= 2.4 * seconds["ours"]


def test_craft_needs_less_memory_than_the_published_form() -> None:
    peaks = memory(craft_inference, CRAFT_FORMS)
    assert peaks["ours in bfloat16"] < peaks["ours"] < peaks["published"]


def test_dlgsanet_needs_a_fourth_of_the_published_memory() -> None:
    peaks = memory(dlgsanet_inference, DLGSANET_FORMS)
    assert 4 * peaks["ours"] < peaks["unfold"]
