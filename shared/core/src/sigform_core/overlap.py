"""Long things in overlapping parts: where the parts lie, and how their results are faded together.

A network sees less around the ends of a part than it would in the whole; parts overlap so that
those ends can be left out, and what remains is faded from one part into the next.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Span = tuple[int, int]
"""Start and stop of a part."""


def overlapping_spans(length: int, size: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cover [0, length) by spans of at most `size`, neighbours sharing `overlap` or more.

    Starts are multiples of `multiple`, and the spans are as even as that allows. Raises
    ValueError when `size` leaves no room for an overlap on both sides and a step.
    """
    if length < 1:
        raise ValueError(f"length is {length}; needs 1 or more")
    if overlap < 0 or multiple < 1:
        raise ValueError(f"overlap is {overlap} and multiple {multiple}; needs 0 and 1 or more")
    if length <= size:
        return [(0, length)]
    step = (size - overlap) // multiple * multiple
    if step < max(1, overlap):
        raise ValueError(
            f"size is {size}; needs twice the overlap of {overlap} and a step of {multiple} more"
        )
    count = -(-(length - overlap) // step)
    # Shorter steps than an overlap would put places into three spans.
    even = max(overlap, -(-(length - overlap) // count))
    step = -(-even // multiple) * multiple
    return [
        (start, min(start + step + overlap, length)) for start in range(0, length - overlap, step)
    ]


def fades(spans: Sequence[Span], margin: int = 0) -> list[Tensor]:
    """A weight for every place of every span, float32, that sum to 1 over the spans.

    In the overlap of two neighbours the first `margin` places of the later and the last `margin`
    of the earlier count nothing; between, one fades linearly into the other. Raises ValueError
    for spans out of order, or an overlap too short for two margins.
    """
    weights = [torch.ones(stop - start) for start, stop in spans]
    for number in range(1, len(spans)):
        (_, stop), (start, _) = spans[number - 1], spans[number]
        overlap = stop - start
        if overlap < 0 or overlap < 2 * margin:
            raise ValueError(
                f"spans {spans[number - 1]} and {spans[number]} share {overlap} places; "
                f"needs {2 * margin}"
            )
        inner = overlap - 2 * margin
        rise = torch.ones(overlap)
        rise[:margin] = 0.0
        rise[margin : margin + inner] = (torch.arange(inner) + 0.5) / max(1, inner)
        weights[number][:overlap] = rise
        weights[number - 1][len(weights[number - 1]) - overlap :] = 1 - rise
    return weights


def cuts(spans: Sequence[Span]) -> list[Span]:
    """The same number of spans without overlap: each overlap is cut in its middle."""
    middles = [(a[1] + b[0]) // 2 for a, b in pairwise(spans)]
    starts = [spans[0][0], *middles]
    return list(zip(starts, [*middles, spans[-1][1]], strict=True))
