"""Prediction intervals with measured coverage: split conformal prediction per horizon step.

The half width at a step is a quantile of the absolute errors that held-out windows made at that
step (Vovk et al.; Stankeviciute et al. 2021, CF-RNN): the ceil((n + 1) level)-th smallest of n,
which covers a new exchangeable error with at least that probability. Errors of many series are
divided by a scale per series, pooled, and the widths multiplied back.

Letters: n held-out windows, h horizon steps, N forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

MAX_MEASURED_STARTS = 200


def seasonal_scale(values: np.ndarray, season_length: int) -> float:
    """Mean absolute difference to the season before in a training series (rows,); positive.

    Falls back to steps of one row where no seasonal difference is known or all are zero, then to
    the mean absolute value, then to 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or season_length < 1:
        raise ValueError(
            f"values has shape {values.shape} and season_length is {season_length}; "
            "needs (rows,) and 1 or more"
        )
    for candidates in (values[season_length:] - values[:-season_length], np.diff(values), values):
        known = np.abs(candidates[np.isfinite(candidates)])
        if known.size and (scale := float(known.mean())) > 0.0:
            return scale
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Half widths of symmetric intervals, one for each level and horizon step.

    Every width is one of the errors it was fitted on, and a higher level is never narrower.
    `notes` says in plain English where there were too few windows for the plain rule.
    """

    levels: tuple[int, ...]  # per cent, ascending
    half_widths: np.ndarray  # (levels, h), float64, in units of the scale
    windows: int  # held-out windows behind them
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        errors: np.ndarray,
        levels: Sequence[int] = (80, 95),
        scale: np.ndarray | None = None,
    ) -> Self:
        """Take the quantiles of held-out errors (n, h), NaN where the truth is unknown.

        `scale` (n,) is the positive scale of each window's series; errors are divided by it.
        Where a step has too few errors for a level (fewer than 4 for 80 %, 19 for 95 %) those of
        the nearest steps on both sides are pooled, as few as suffice; where the whole horizon
        does not suffice, the width is its largest error and promises nothing.
        """
        residuals = _residuals(errors, scale)
        chosen = _checked_levels(levels)
        widths, notes = _half_widths(residuals, chosen)
        return cls(levels=chosen, half_widths=widths, windows=len(residuals), notes=notes)

    def interval(
        self, forecast: np.ndarray, scale: np.ndarray | None = None
    ) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Lower and upper bound for each level around forecast (N, h), in its unit.

        `scale` (N,) is the scale of each forecast's series, 1 if not given. A horizon shorter
        than the fitted one is allowed; a longer one raises ValueError.
        """
        forecast = np.asarray(forecast, dtype=np.float64)
        if forecast.ndim != 2 or forecast.shape[1] > self.half_widths.shape[1]:
            raise ValueError(
                f"forecast has shape {forecast.shape}; "
                f"needs (forecasts, at most {self.half_widths.shape[1]} steps)"
            )
        factor = _checked_scale(scale, len(forecast))
        bounds = {}
        for level, widths in zip(self.levels, self.half_widths, strict=True):
            margin = factor * widths[: forecast.shape[1]]  # (N, h)
            bounds[level] = (forecast - margin, forecast + margin)
        return bounds


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Measured share, 0 to 1, of held-out truths inside the interval, by level in per cent."""

    overall: dict[int, float]
    per_step: dict[int, np.ndarray]  # (h,), NaN where no truth is known
    windows: int  # windows measured
    notes: tuple[str, ...] = ()


def leave_one_out_coverage(
    errors: np.ndarray,
    levels: Sequence[int] = (80, 95),
    scale: np.ndarray | None = None,
    starts: np.ndarray | None = None,
    gap: int | None = None,
) -> Coverage:
    """Measure coverage on held-out errors (n, h) without letting a window judge itself.

    Each window is compared with widths from the windows that start at least `gap` rows away from
    it (default h: their targets share no row). `starts` (n,) is the row of each window's first
    target step, the same for windows of different series at the same time; default 0, 1, 2, ...
    Where that leaves some window fewer than half of the others, time is cut into up to five
    blocks instead and each is judged by the rest; a note then says that neighbours overlap. At
    most 200 starts, evenly spaced, are measured. Raises ValueError with fewer than two starts.
    """
    residuals = _residuals(errors, scale)
    chosen = _checked_levels(levels)
    position = np.arange(len(residuals)) if starts is None else np.asarray(starts)
    if position.shape != (len(residuals),):
        raise ValueError(f"starts has shape {position.shape}; needs ({len(residuals)},)")
    apart = residuals.shape[1] if gap is None else gap
    if apart < 1:
        raise ValueError(f"gap is {apart}; needs 1 or more rows")
    known = np.isfinite(residuals).any(axis=1)
    residuals, position = residuals[known], position[known]
    distinct = np.unique(position)
    if len(distinct) < 2:
        raise ValueError(f"the windows have {len(distinct)} start; needs 2 or more to compare")

    notes: list[str] = []
    judged_and_judges = _apart(position, distinct, apart)
    fewest = min(int(judges.sum()) for _, judges in judged_and_judges)
    if fewest < (len(residuals) - 1) / 2:
        judged_and_judges = _blocks(position, distinct)
        notes.append(
            f"too few windows lie {apart} rows apart; coverage measured in "
            f"{len(judged_and_judges)} blocks, whose neighbouring windows may overlap"
        )

    inside = np.full((len(chosen), *residuals.shape), np.nan)  # (levels, n, h)
    for judged, judges in judged_and_judges:
        widths, fit_notes = _half_widths(residuals[judges], chosen)
        notes.extend(note for note in fit_notes if note not in notes)
        covered = residuals[judged] <= widths[:, None]  # (levels, judged, h)
        inside[:, judged] = np.where(np.isnan(residuals[judged]), np.nan, covered)
    measured = np.isfinite(inside[0])  # (n, h)
    totals, counts = np.nansum(inside, axis=1), measured.sum(axis=0)  # (levels, h), (h,)
    shares = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return Coverage(
        overall={
            level: float(total.sum() / counts.sum())
            for level, total in zip(chosen, totals, strict=True)
        },
        per_step=dict(zip(chosen, shares, strict=True)),
        windows=int(measured.any(axis=1).sum()),
        notes=tuple(notes),
    )


def _apart(
    position: np.ndarray, distinct: np.ndarray, gap: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each measured start: masks (n,) of its windows and of those `gap` rows away or more."""
    picked = np.linspace(0, len(distinct) - 1, min(len(distinct), MAX_MEASURED_STARTS))
    starts = distinct[np.round(picked).astype(np.int64)]
    return [(position == start, np.abs(position - start) >= gap) for start in starts]


def _blocks(position: np.ndarray, distinct: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of up to five stretches of time: masks (n,) of its windows and of the others."""
    stretches = np.array_split(distinct, min(5, len(distinct)))
    masks = [(position >= stretch[0]) & (position <= stretch[-1]) for stretch in stretches]
    return [(mask, ~mask) for mask in masks]


def _half_widths(
    residuals: np.ndarray, levels: tuple[int, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Quantiles (levels, h) of absolute errors (n, h) by the rule of `Conformal.fit`, and notes."""
    ordered = np.sort(residuals.T)  # (h, n), NaN last
    counts = np.isfinite(ordered).sum(axis=1)  # (h,)
    widths = np.empty((len(levels), len(ordered)))
    notes: list[str] = []
    for row, level in enumerate(levels):
        ranks = _rank(counts, level)
        direct = ranks <= counts
        widths[row, direct] = ordered[direct, ranks[direct] - 1]
        promises = [True]
        for step in np.flatnonzero(~direct):
            widths[row, step], promised = _pooled(ordered, int(step), level)
            promises.append(promised)
        if not all(promises):
            notes.append(
                f"{level} %: too few errors in the whole horizon; "
                "the width is the largest of them and promises nothing"
            )
        elif len(promises) > 1:
            notes.append(
                f"{level} %: fewer than {-(-level // (100 - level))} windows at some step; "
                "errors of neighbouring steps pooled, so the coverage is approximate"
            )
    # Two levels may have pooled different steps; the wider one must still contain the other.
    return np.maximum.accumulate(widths, axis=0), tuple(notes)


def _pooled(ordered: np.ndarray, step: int, level: int) -> tuple[float, bool]:
    """Width at a step from the nearest steps on both sides, and whether they sufficed."""
    steps = len(ordered)
    pool = ordered[step]
    for reach in range(1, steps):
        pool = ordered[max(step - reach, 0) : step + reach + 1]
        pool = pool[np.isfinite(pool)]
        rank = int(_rank(np.array(pool.size), level))
        if rank <= pool.size:
            return float(np.sort(pool)[rank - 1]), True
    return float(np.nanmax(pool)), False


def _rank(counts: np.ndarray, level: int) -> np.ndarray:
    """Which of `counts` ascending errors is the width: ceil((n + 1) level), in whole numbers."""
    return -(-(counts + 1) * level // 100)


def _residuals(errors: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    errors = np.asarray(errors, dtype=np.float64)
    if errors.ndim != 2:
        raise ValueError(f"errors has shape {errors.shape}; needs (windows, steps)")
    if not np.isfinite(errors).any():
        raise ValueError("errors has no known value; needs 1 or more")
    if np.isinf(errors).any():
        raise ValueError("errors has an infinite value; needs finite ones, or NaN where unknown")
    return np.abs(errors) / _checked_scale(scale, len(errors))


def _checked_scale(scale: np.ndarray | None, rows: int) -> np.ndarray:
    """The scale as a column (rows, 1), ones if none is given."""
    if scale is None:
        return np.ones((rows, 1))
    scale = np.asarray(scale, dtype=np.float64)
    if scale.shape != (rows,) or not (np.isfinite(scale) & (scale > 0.0)).all():
        raise ValueError(f"scale has shape {scale.shape}; needs ({rows},) positive numbers")
    return scale[:, None]


def _checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(sorted({int(level) for level in levels}))
    if (
        not chosen
        or any(level != int(level) for level in levels)
        or not 0 < chosen[0] <= chosen[-1] < 100
    ):
        raise ValueError(f"levels is {tuple(levels)}; needs whole per cents from 1 to 99")
    return chosen
