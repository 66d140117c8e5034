"""The simple methods that every forecast is shown beside.

`LastValue`, `SeasonalNaive` and `SeasonalProfile` learn nothing, `NLinear` (Zeng et al. 2022,
arXiv 2205.13504) learns one linear map, `AutoETS` fits an exponential smoothing to every window
through statsforecast (extra `baselines`).

All share one shape: `fit(series, h)`, then `predict(context, h)` with contexts (N, L) in float64,
one window a row, and forecasts (N, h) in the same unit. A window shorter than L is padded with
NaN at its left; a gap anywhere else raises ValueError.

Letters: N windows, L context rows, h forecast steps, m rows in a season.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from importlib.util import find_spec
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def known_lengths(context: np.ndarray) -> np.ndarray:
    """Number of values after the NaN padding at the left of each row: (N, L) -> (N,) int64.

    Raises ValueError when a row has no value or a gap after its first value.
    """
    known = np.isfinite(context)
    lengths = known.sum(axis=1)
    gappy = np.flatnonzero(~known[:, -1] | (lengths + known.argmax(axis=1) != context.shape[1]))
    if gappy.size:
        raise ValueError(f"context row {gappy[0]} has a gap; needs values up to its last column")
    return lengths


class Baseline(ABC):
    """A method with a `name` that maps contexts (N, L) to forecasts (N, h), both float64."""

    name: ClassVar[str]

    def fit(self, series: Sequence[np.ndarray], h: int) -> Self:
        """Check the training series, (rows,) each; most baselines learn nothing from them."""
        for values in series:
            if np.ndim(values) != 1:
                raise ValueError(f"a training series is {np.ndim(values)}-dimensional; needs 1")
        if h < 1:
            raise ValueError(f"h is {h}; needs 1 or more")
        return self

    def predict(self, context: np.ndarray, h: int) -> np.ndarray:
        """Forecast the h steps after each context: (N, L) -> (N, h), float64, same unit.

        Raises ValueError when a context is empty or has a gap after its first value.
        """
        context = np.asarray(context, dtype=np.float64)
        if context.ndim != 2 or context.shape[1] < 1:
            raise ValueError(f"context has shape {context.shape}; needs (windows, rows)")
        if h < 1:
            raise ValueError(f"h is {h}; needs 1 or more")
        known_lengths(context)  # raises on a gap
        return self._forecast(context, h)

    @abstractmethod
    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        """`predict` for a checked context."""


def _profile(context: np.ndarray, season: int, periods: int) -> np.ndarray:
    """Mean of up to `periods` whole seasons at the end of each row: (N, L) -> (N, m).

    A row without one whole season gets its last value in every phase.
    """
    rows, width = context.shape
    in_reach = min(periods, width // season)
    if in_reach == 0:
        return np.repeat(context[:, -1:], season, axis=1)
    seasons = context[:, width - in_reach * season :].reshape(rows, in_reach, season)  # (N, P, m)
    whole = np.minimum(known_lengths(context) // season, in_reach)[:, None]  # (N, 1)
    counted = np.arange(in_reach) >= in_reach - whole  # (N, P)
    total = np.where(counted[..., None], seasons, 0.0).sum(axis=1)  # (N, m)
    return np.where(whole > 0, total / np.maximum(whole, 1), context[:, -1:])


def _check_season(season_length: int) -> None:
    if season_length < 1:
        raise ValueError(f"season_length is {season_length}; needs 1 or more rows")


@dataclass
class LastValue(Baseline):
    """Repeat the last value."""

    name: ClassVar[str] = "LastValue"

    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        return np.repeat(context[:, -1:], h, axis=1)


@dataclass
class SeasonalNaive(Baseline):
    """Repeat the last season; the last value where the context is shorter than a season."""

    season_length: int
    name: ClassVar[str] = "SeasonalNaive"

    def __post_init__(self) -> None:
        _check_season(self.season_length)

    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        last_season = _profile(context, self.season_length, periods=1)
        return last_season[:, np.arange(h) % self.season_length]


@dataclass
class SeasonalProfile(Baseline):
    """Repeat the mean season of the last `periods` seasons.

    level="profile" keeps that mean as it is; level="last" shifts it so that its mean is the mean
    of the last season ("yesterday's mean + 7-day profile"). Fewer whole seasons in the context
    mean fewer in the profile; without one, the last value is repeated.
    """

    season_length: int
    periods: int = 7
    level: Literal["profile", "last"] = "profile"
    name: ClassVar[str] = "SeasonalProfile"

    def __post_init__(self) -> None:
        _check_season(self.season_length)
        if self.periods < 1:
            raise ValueError(f"periods is {self.periods}; needs 1 or more")
        if self.level not in ("profile", "last"):
            raise ValueError(f"level is {self.level!r}; needs 'profile' or 'last'")

    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        profile = _profile(context, self.season_length, self.periods)  # (N, m)
        if self.level == "last":
            last_season = _profile(context, self.season_length, periods=1)
            profile += (last_season - profile).mean(axis=1, keepdims=True)
        return profile[:, np.arange(h) % self.season_length]


@dataclass
class _Moments:
    """Sums over windows that least squares needs, with a constant 1 as the last input column."""

    inputs: np.ndarray  # (lookback + 1, lookback + 1)
    cross: np.ndarray  # (lookback + 1, h)
    energy: float  # sum of squared targets

    @classmethod
    def over(cls, windows: np.ndarray, starts: np.ndarray, lookback: int) -> _Moments:
        """Sum over windows[starts], in blocks; `windows` is (positions, lookback + h)."""
        h = windows.shape[1] - lookback
        sums = cls(np.zeros((lookback + 1, lookback + 1)), np.zeros((lookback + 1, h)), 0.0)
        for first in range(0, len(starts), 2048):
            block = windows[starts[first : first + 2048]]
            block = block[np.isfinite(block).all(axis=1)]
            block = block - block[:, lookback - 1 : lookback]
            inputs = np.column_stack([block[:, :lookback], np.ones(len(block))])
            targets = block[:, lookback:]
            sums.inputs += inputs.T @ inputs
            sums.cross += inputs.T @ targets
            sums.energy += float(np.square(targets).sum())
        return sums

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.inputs + other.inputs, self.cross + other.cross, self.energy + other.energy
        )

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.inputs - other.inputs, self.cross - other.cross, self.energy - other.energy
        )

    @property
    def count(self) -> int:
        """Number of windows."""
        return round(self.inputs[-1, -1])

    def ridge(self, strengths: Sequence[float]) -> list[np.ndarray]:
        """One solution (lookback + 1, h) for each strength; the constant is not penalised.

        A strength is in units of the mean variance of an input column.
        """
        mean_inputs = self.inputs[-1, :-1] / self.count
        mean_targets = self.cross[-1] / self.count
        gram = self.inputs[:-1, :-1] - self.count * np.outer(mean_inputs, mean_inputs)
        cross = self.cross[:-1] - self.count * np.outer(mean_inputs, mean_targets)
        eigenvalues, vectors = np.linalg.eigh(gram)
        rotated = vectors.T @ cross
        # A straight series varies by rounding only, to which the weights must not be fitted.
        energy = float(np.trace(self.inputs[:-1, :-1])) / len(gram)
        unit = max(float(np.trace(gram)) / len(gram), 1e-6 * energy) or 1.0
        solutions = []
        for strength in strengths:
            penalised = np.maximum(eigenvalues, 0.0) + strength * unit
            weight = vectors @ (rotated / penalised[:, None])
            bias = mean_targets - mean_inputs @ weight
            solutions.append(np.vstack([weight, bias]))
        return solutions

    def squared_error(self, solution: np.ndarray) -> float:
        """Sum of squared errors of a solution on these windows."""
        fitted = np.sum(solution * (self.inputs @ solution))
        return float(fitted - 2.0 * np.sum(solution * self.cross) + self.energy)


@dataclass
class NLinear(Baseline):
    """One linear map from the look-back to the horizon, after subtracting the last value.

    Shared by all series, bias included, so they must come in one unit (each z-scored, say); a
    single series may have any. Solved in closed form: ridge regression in float64 on all windows
    of the training series, or on every k-th when there are more than `max_windows`. The strength
    is chosen on five stretches of time in turn, each forecast by a map solved on the windows
    that share no target with it; without such windows it is 1. A look-back longer than half of
    what the longest series leaves beside the horizon is cut to that half. Contexts shorter than
    the look-back are read as if preceded by their last value.
    """

    lookback: int = 336
    max_windows: int = 200_000
    strength: float = field(default=1.0, init=False)
    weight: np.ndarray | None = field(default=None, init=False, repr=False)  # (lookback, h)
    bias: np.ndarray | None = field(default=None, init=False, repr=False)  # (h,)
    name: ClassVar[str] = "NLinear"
    STRENGTHS: ClassVar[tuple[float, ...]] = (
        1e-6,
        1e-4,
        1e-3,
        0.01,
        0.03,
        0.1,
        0.3,
        1.0,
        10.0,
        100.0,
    )
    FOLDS: ClassVar[int] = 5

    def __post_init__(self) -> None:
        if self.lookback < 1:
            raise ValueError(f"lookback is {self.lookback}; needs 1 or more rows")
        if self.max_windows < 1:
            raise ValueError(f"max_windows is {self.max_windows}; needs 1 or more")

    def fit(self, series: Sequence[np.ndarray], h: int) -> Self:
        """Solve the map on the training series, (rows,) each; windows with a gap are left out.

        Raises ValueError when no series has h + 2 rows or no window is free of gaps.
        """
        super().fit(series, h)
        lengths = [len(values) for values in series]
        longest = max(lengths, default=0)
        if longest < h + 2:
            raise ValueError(f"the longest series has {longest} rows; NLinear needs {h + 2}")
        lookback = min(self.lookback, (longest - h) // 2)
        flat = np.concatenate([np.asarray(values, dtype=np.float64) for values in series])
        windows = sliding_window_view(flat, lookback + h)
        folds = self._folds(lengths, lookback, h)
        held_out = [_Moments.over(windows, starts, lookback) for starts, _ in folds]
        everything = reduce(operator.add, held_out)
        if everything.count == 0:
            raise ValueError(f"no window of {lookback + h} rows is free of gaps; NLinear needs one")
        errors = np.zeros(len(self.STRENGTHS))
        for held, (_, touching) in zip(held_out, folds, strict=True):
            rest = everything - held - _Moments.over(windows, touching, lookback)
            if rest.count > 0:
                errors += [held.squared_error(tried) for tried in rest.ridge(self.STRENGTHS)]
        self.strength = self.STRENGTHS[int(np.argmin(errors))] if errors.any() else 1.0
        (solution,) = everything.ridge([self.strength])
        self.weight, self.bias = solution[:-1], solution[-1]
        return self

    def _folds(
        self, lengths: Sequence[int], lookback: int, h: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each fold: its window starts in the joined series, and those sharing its targets."""
        counts = [max(length - lookback - h + 1, 0) for length in lengths]
        step = -(-sum(counts) // self.max_windows)
        series_starts = [np.arange(count - 1, -1, -step)[::-1] for count in counts]  # newest kept
        offsets = np.cumsum([0, *lengths[:-1]])
        folds = []
        for fold in range(self.FOLDS):
            inside, touching = [], []
            for starts, count, offset in zip(series_starts, counts, offsets, strict=True):
                first, end = count * fold // self.FOLDS, count * (fold + 1) // self.FOLDS
                before, low, high, after = np.searchsorted(
                    starts, [first - h + 1, first, end, end + h - 1]
                )
                inside.append(starts[low:high] + offset)
                touching += [starts[before:low] + offset, starts[high:after] + offset]
            folds.append((np.concatenate(inside), np.concatenate(touching)))
        return folds

    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        if self.weight is None or self.bias is None:
            raise ValueError("NLinear is not fitted; needs fit(series, h) first")
        if h > len(self.bias):
            raise ValueError(f"h is {h}; needs at most the {len(self.bias)} steps fitted")
        last = context[:, -1:]
        lags = np.nan_to_num(context[:, -len(self.weight) :] - last, nan=0.0)
        return last + lags @ self.weight[-lags.shape[1] :, :h] + self.bias[:h]

    def state(self) -> dict[str, np.ndarray]:
        """What `from_state` needs: weight (lookback, h) and bias (h,), float64."""
        if self.weight is None or self.bias is None:
            raise ValueError("NLinear is not fitted; needs fit(series, h) first")
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """A fitted NLinear from what `state` returned; raises ValueError when it does not fit."""
        missing = {"weight", "bias"} - set(state)
        if missing:
            raise ValueError(f"the NLinear state lacks {sorted(missing)}; needs weight and bias")
        weight = np.asarray(state["weight"], dtype=np.float64)
        bias = np.asarray(state["bias"], dtype=np.float64)
        if weight.ndim != 2 or weight.shape[1:] != bias.shape:
            raise ValueError(
                f"NLinear weight {weight.shape} and bias {bias.shape}; needs (lookback, h) and (h,)"
            )
        model = cls(lookback=len(weight))
        model.weight, model.bias = weight, bias
        return model


@dataclass
class AutoETS(Baseline):
    """Exponential smoothing chosen by AICc and fitted to every window, through statsforecast.

    Slow, so `predict` refuses what `affordable` says no to. Contexts with fewer than 7 values,
    too few for statsforecast, get their last value.
    """

    season_length: int
    max_seconds: float = 60.0
    name: ClassVar[str] = "AutoETS"
    MIN_VALUES: ClassVar[int] = 7

    def __post_init__(self) -> None:
        _check_season(self.season_length)

    def seconds(self, n_windows: int, length: int) -> float:
        """Rough cost of n_windows contexts of `length` rows, seconds on one core."""
        # Measured with statsforecast 2.0.1: the same within a factor of two from 60 to 1440 rows.
        per_row = 1e-3 if self.season_length > 1 else 5e-5
        return n_windows * length * per_row

    def affordable(self, n_windows: int, length: int) -> bool:
        """Whether n_windows contexts of `length` rows are expected to take at most max_seconds."""
        return self.seconds(n_windows, length) <= self.max_seconds

    def _forecast(self, context: np.ndarray, h: int) -> np.ndarray:
        if not self.affordable(*context.shape):
            raise ValueError(
                f"AutoETS on {context.shape[0]} windows of {context.shape[1]} rows takes about "
                f"{self.seconds(*context.shape):.0f} s; needs at most {self.max_seconds:.0f} s"
            )
        try:
            from statsforecast.models import AutoETS as Model
        except ImportError as error:
            raise ImportError(
                "AutoETS needs statsforecast: pip install 'sigform-forecast[baselines]'"
            ) from error
        forecasts = np.repeat(context[:, -1:], h, axis=1)
        lengths = known_lengths(context)
        for row in np.flatnonzero(lengths >= self.MIN_VALUES):
            values = context[row, -lengths[row] :]
            # A model with as many parameters as values has no AICc; statsforecast divides by zero.
            with np.errstate(divide="ignore"):
                fitted = Model(season_length=self.season_length).forecast(values, h=h)
            forecasts[row] = fitted["mean"]
        return forecasts


def available(season_length: int, lookback: int = 336) -> dict[str, Baseline]:
    """The baselines this machine can run, unfitted, by the name used in columns.

    `lookback` is NLinear's, in rows. AutoETS is in it only where statsforecast is installed.
    """
    methods: list[Baseline] = [
        LastValue(),
        SeasonalNaive(season_length),
        SeasonalProfile(season_length, level="last"),
        NLinear(lookback),
    ]
    if find_spec("statsforecast") is not None:
        methods.append(AutoETS(season_length))
    return {method.name: method for method in methods}
