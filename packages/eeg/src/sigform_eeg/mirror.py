"""Heads mirrored left to right: the left hand's trials become the right hand's.

A network of a left and a right class that is asked about a head and its mirror has no bias to one
side. B trials, C channels, T samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIDES = ("left", "right")
"""Words in the names of two classes that a mirrored head exchanges."""


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """The channels and classes of a mirrored head in their new places."""

    channels: tuple[int, ...]
    classes: tuple[int, ...]


def find_mirror(channels: Sequence[str], classes: Sequence[str]) -> Mirror | None:
    """The mirror of a montage in the 10-5 system whose two classes are a left and a right one.

    None where a channel has no counterpart or the classes are others.
    """
    swapped = [_other_side(name) for name in classes]
    if len(classes) != 2 or swapped != [classes[1], classes[0]]:
        return None
    opposite = [_opposite(name) for name in channels]
    if not set(opposite) <= set(channels):
        return None
    return Mirror(channels=tuple(list(channels).index(name) for name in opposite), classes=(1, 0))


def with_mirrored(signals: Tensor, mirror: Mirror | None) -> Tensor:
    """Trials (B, C, T), and after them their mirror images where there is a mirror: (2 B, C, T)."""
    if mirror is None:
        return signals
    return torch.cat([signals, signals[:, list(mirror.channels)]])


def agreed(logits: Tensor, mirror: Mirror | None) -> Tensor:
    """Logits of trials `with_mirrored` (2 B, ..., K) -> mean probabilities (B, ..., K), float64."""
    told = logits.double().softmax(-1)
    if mirror is None:
        return told
    straight, turned = told.chunk(2)
    return (straight + turned[..., list(mirror.classes)]) / 2


def _other_side(name: str) -> str:
    left, right = SIDES
    if left in name:
        return name.replace(left, right)
    return name.replace(right, left)


def _opposite(channel: str) -> str:
    """Odd numbers are on the left, the even ones that follow them on the right."""
    letters = channel.rstrip("0123456789")
    digits = channel[len(letters) :]
    if not digits:
        return channel
    number = int(digits)
    return f"{letters}{number + 1 if number % 2 else number - 1}"
