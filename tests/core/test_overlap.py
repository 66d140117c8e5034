"""Overlapping parts: all is covered, and what they say sums up to one."""

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sigform_core.overlap import cuts, fades, overlapping_spans


@settings(deadline=None)
@given(
    length=st.integers(1, 400),
    overlap=st.integers(0, 20),
    spare=st.integers(0, 60),
    multiple=st.sampled_from([1, 2, 5, 16]),
)
def test_spans_cover_and_overlap(length: int, overlap: int, spare: int, multiple: int) -> None:
    size = overlap + -(-max(overlap, 1) // multiple) * multiple + spare
    spans = overlapping_spans(length, size, overlap, multiple)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(0 < stop - start <= size and start % multiple == 0 for start, stop in spans)
    for (before, end), (start, stop) in pairwise(spans):
        assert before < start
        assert end < stop
        assert end - start >= overlap
    # A place is never in three: the second next begins where this one has ended.
    assert all(a[1] <= c[0] for a, c in zip(spans, spans[2:], strict=False))


@settings(deadline=None)
@given(length=st.integers(1, 400), overlap=st.integers(0, 20), spare=st.integers(1, 60))
def test_spans_are_few_and_even(length: int, overlap: int, spare: int) -> None:
    size = 2 * overlap + spare
    spans = overlapping_spans(length, size, overlap)
    fewest = 1 if length <= size else -(-(length - overlap) // (size - overlap))
    assert len(spans) == fewest
    assert len({stop - start for start, stop in spans[:-1]}) <= 1
    assert spans[-1][1] - spans[-1][0] <= spans[0][1] - spans[0][0]


def test_spans_of_an_image() -> None:
    assert overlapping_spans(64, 64, 16) == [(0, 64)]
    assert overlapping_spans(100, 64, 16) == [(0, 58), (42, 100)]
    assert overlapping_spans(100, 64, 16, 16) == [(0, 64), (48, 100)]
    assert overlapping_spans(5, 3, 1) == [(0, 3), (2, 5)]
    assert overlapping_spans(4, 2, 0) == [(0, 2), (2, 4)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0, 8, 2), "length is 0; needs 1 or more"),
        ((20, 8, -1), "overlap is -1 and multiple 1"),
        ((20, 8, 2, 0), "overlap is 2 and multiple 0"),
        ((20, 8, 5), "size is 8; needs twice the overlap of 5"),
        ((20, 8, 4, 8), "a step of 8 more"),
        ((40, 20, 10, 8), "size is 20; needs twice the overlap of 10 and a step of 8 more"),
        ((20, 0, 0), "size is 0"),
    ],
)
def test_spans_that_cannot_be(arguments: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        overlapping_spans(*arguments)


def faded_sum(spans: list[tuple[int, int]], weights: list[torch.Tensor]) -> torch.Tensor:
    total = torch.zeros(spans[-1][1])
    for (start, stop), weight in zip(spans, weights, strict=True):
        assert weight.shape == (stop - start,)
        assert weight.dtype == torch.float32
        assert weight.min() >= 0
        total[start:stop] += weight
    return total


@settings(deadline=None)
@given(
    length=st.integers(1, 300),
    overlap=st.integers(0, 20),
    spare=st.integers(1, 60),
    multiple=st.sampled_from([1, 4]),
    margin=st.integers(0, 10),
)
@example(length=31, overlap=10, spare=0, multiple=1, margin=0)
def test_weights_sum_to_one(
    length: int, overlap: int, spare: int, multiple: int, margin: int
) -> None:
    assume(2 * margin <= overlap)
    size = overlap + -(-max(overlap, 1) // multiple) * multiple + spare
    spans = overlapping_spans(length, size, overlap, multiple)
    weights = fades(spans, margin)
    assert (faded_sum(spans, weights) - 1).abs().max() < 1e-6
    for weight in weights[1:]:
        assert not weight[:margin].any()
    for weight in weights[:-1]:
        assert not weight[len(weight) - margin :].any()


def test_a_fade_is_a_straight_line_between_its_margins() -> None:
    first, second = fades([(0, 8), (2, 10)], margin=1)
    assert second.tolist() == [0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1]
    assert first.tolist() == second.flip(0).tolist()
    cut, rest = fades([(0, 4), (2, 6)], margin=1)  # nothing between the margins
    assert cut.tolist() == [1, 1, 1, 0]
    assert rest.tolist() == [0, 1, 1, 1]
    assert [part.tolist() for part in fades([(0, 2), (2, 3)])] == [[1, 1], [1]]
    assert fades([(0, 3)], margin=9)[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("spans", "margin", "says"),
    [
        ([(0, 4), (5, 8)], 0, "share -1 places; needs 0"),
        ([(0, 4), (3, 8)], 1, r"spans \(0, 4\) and \(3, 8\) share 1 places; needs 2"),
    ],
)
def test_fades_that_cannot_be(spans: list[tuple[int, int]], margin: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fades(spans, margin)


@settings(deadline=None)
@given(length=st.integers(1, 300), overlap=st.integers(0, 20), spare=st.integers(1, 60))
def test_cuts_share_nothing_and_stay_within(length: int, overlap: int, spare: int) -> None:
    spans = overlapping_spans(length, 2 * overlap + spare, overlap)
    parts = cuts(spans)
    assert len(parts) == len(spans)
    assert [start for start, _ in parts] == [0, *[stop for _, stop in parts[:-1]]]
    assert parts[-1][1] == length
    for (start, stop), (outer_start, outer_stop) in zip(parts, spans, strict=True):
        assert outer_start <= start < stop <= outer_stop
        if outer_start > 0:
            assert start - outer_start >= overlap // 2


def test_cuts_are_in_the_middle() -> None:
    assert cuts([(0, 58), (42, 100)]) == [(0, 50), (50, 100)]
    assert cuts([(0, 3)]) == [(0, 3)]
