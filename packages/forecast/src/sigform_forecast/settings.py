"""What a user chooses of a forecaster, checked."""

from __future__ import annotations

from dataclasses import dataclass

from sigform_forecast.repair import Duplicates, Fill

INFORMER = "Informer"
# The simplest first: of equal ones the first is used.
MODELS = ("LastValue", "SeasonalNaive", "SeasonalProfile", "NLinear", "AutoETS", INFORMER)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices of a `Forecaster`, as it stores them; see there."""

    h: int
    model: str = "auto"
    freq: str | None = None
    season_length: int | None = None
    look_back: int | None = None
    levels: tuple[int, ...] = (80, 95)
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    fill: Fill = "interpolate"
    duplicates: Duplicates = "mean"
    budget: float | None = 60.0
    steps: int | None = None
    d_model: int = 32
    attn: str = "prob"
    batch_size: int = 32
    learning_rate: float = 5e-4
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("h", "batch_size", "d_model"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; needs at least 1")
        for name in ("season_length", "look_back", "budget", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; needs more than 0")
        if self.budget is None and self.steps is None:
            raise ValueError("budget and steps are both None; needs one of them")
        if self.model not in ("auto", *MODELS):
            raise ValueError(f"model is {self.model!r}; needs auto or one of {', '.join(MODELS)}")
        if not self.levels or not all(lv == int(lv) and 0 < lv < 100 for lv in self.levels):
            raise ValueError(f"levels is {self.levels}; needs whole per cents from 1 to 99")
        if both := set(self.known) & set(self.past):
            raise ValueError(f"{sorted(both)} is in known and in past; needs to be in one")

    @property
    def wants_informer(self) -> bool:
        """Whether there is a network to train."""
        return self.model in ("auto", INFORMER)
