"""What a training came to: the same for images, clips, and clips with sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The weight file of a training, and the metrics of its validation by name."""

    weights: Path
    steps: int  # taken in all, resumed runs included
    seconds: float  # of training in all
    metrics: dict[str, float] = field(default_factory=dict)
    train_items: int = 0
    validation_items: int = 0
