"""Measuring forecasts on a file's own tail: the parts of a series, the windows, the scores.

Letters of shapes: S series, W windows, T horizon steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sigform_forecast.intervals import Conformal, Coverage, leave_one_out_coverage, seasonal_scale
from sigform_forecast.panel import Floats, Ints, Panel, origins

TEST_SHARE, VAL_SHARE = 0.2, 0.15
MOST_TEST_SHARE = 0.35
WINDOWS_FOR_95 = 20  # windows that a 95 % interval needs without pooling steps
MOST_WINDOWS = 100  # of one series
MOST_ALL_WINDOWS = 4000  # of all series
LONGER_SEASON = 0.95  # of the error of a shorter season, at most, to be taken instead


@dataclass(frozen=True, kw_only=True)
class Parts:
    """First rows of what training must not see: validation from `train`, test from `val`, (S,)."""

    train: Ints
    val: Ints


def plan_parts(lengths: Ints, horizon: int) -> Parts:
    """Split each series in time: about 65 % training, 15 % validation, 20 % test at its end.

    Long series give their tail no more rows than 100 windows need, short ones as many as 20
    windows need, if that is at most 35 %. A series too short for a window keeps all its rows for
    training. Raises ValueError when the horizon leaves no series a test window.
    """
    if lengths.max() < horizon + 2:
        raise ValueError(
            f"the horizon is {horizon} rows and the longest series has {lengths.max()}; "
            f"needs a horizon of at most {max(int(lengths.max()) - 2, 0)} or more rows"
        )
    wanted = np.clip(TEST_SHARE * lengths, horizon + WINDOWS_FOR_95 - 1, horizon + MOST_WINDOWS - 1)
    test = np.maximum(np.minimum(wanted, MOST_TEST_SHARE * lengths), horizon).astype(np.int64)
    test = np.where(lengths >= horizon + 2, np.minimum(test, lengths - 2), 0)
    left = lengths - test
    val = np.clip(VAL_SHARE * lengths, horizon, horizon + MOST_WINDOWS - 1).astype(np.int64)
    val = np.where(left >= 3 * horizon, np.minimum(val, left - 2 * horizon), 0)
    return Parts(train=left - val, val=left)


def tail_origins(panel: Panel, parts: Parts, horizon: int, most: int = MOST_ALL_WINDOWS) -> Ints:
    """Rows of first targets of the windows in the tails, evenly thinned to about `most`."""
    last = np.where(parts.val < panel.lengths, panel.lengths - horizon, -1)
    total = int(np.maximum(last - parts.val + 1, 0).sum())
    return origins(panel, parts.val, last, stride=max(1, -(-total // most)))


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors of one method over all windows, in the user's units; mase relative to the season.

    `mase` is the mean absolute error over the mean absolute seasonal difference of the training
    part of each series; `coverage` the measured share of truths inside the interval of a level.
    """

    name: str
    mae: float
    rmse: float
    mase: float
    coverage: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Forecasts of several methods on the same windows; (W, T) in the user's units."""

    ids: tuple[str, ...]
    series: Ints  # (W,)
    starts: Ints  # (W,) row of the first target inside its series
    cutoffs: pd.Index  # (W,) time of the last known row
    times: pd.Index  # (W * T,) of the targets, window by window
    truth: Floats
    scale: Floats  # (W,) seasonal scale of the window's series
    forecasts: dict[str, Floats]

    @property
    def horizon(self) -> int:
        """Steps of a window."""
        return self.truth.shape[1]

    def errors(self, name: str) -> Floats:
        """Truth less forecast, (W, T)."""
        return self.truth - self.forecasts[name]

    def conformal(self, name: str, levels: Sequence[int]) -> Conformal:
        """Interval widths of a method from all its windows."""
        return Conformal.fit(self.errors(name), levels, self.scale)

    def coverage(self, name: str, levels: Sequence[int]) -> Coverage | None:
        """Coverage that each window finds in widths from the others; None for a single window."""
        if len(np.unique(self.starts)) < 2:
            return None
        return leave_one_out_coverage(self.errors(name), levels, self.scale, self.starts)

    def scores(self, levels: Sequence[int]) -> list[Score]:
        """One score a method, the least `mase` first."""
        found = []
        for name in self.forecasts:
            error = self.errors(name)
            coverage = self.coverage(name, levels)
            found.append(
                Score(
                    name=name,
                    mae=float(np.abs(error).mean()),
                    rmse=float(np.sqrt(np.square(error).mean())),
                    mase=float((np.abs(error) / self.scale[:, None]).mean()),
                    coverage={} if coverage is None else coverage.overall,
                )
            )
        return sorted(found, key=lambda score: score.mase)

    def frame(self) -> pd.DataFrame:
        """The windows as a long table: unique_id, ds, cutoff, y."""
        steps = self.horizon
        ids = np.repeat(np.asarray(self.ids, dtype=object)[self.series], steps)
        cutoffs = self.cutoffs.repeat(steps)
        return pd.DataFrame(
            {"unique_id": ids, "ds": self.times, "cutoff": cutoffs, "y": self.truth.ravel()}
        )


def interval_columns(
    name: str, forecast: Floats, bounds: dict[int, tuple[Floats, Floats]]
) -> dict[str, Floats]:
    """Columns of a forecast and its intervals under Nixtla's names, flattened."""
    columns = {name: forecast.ravel()}
    for level, (low, _) in sorted(bounds.items(), reverse=True):
        columns[f"{name}-lo-{level}"] = low.ravel()
    for level, (_, high) in sorted(bounds.items()):
        columns[f"{name}-hi-{level}"] = high.ravel()
    return columns


def seasonal_scales(panel: Panel, ends: Ints, season_length: int) -> Floats:
    """The seasonal scale of each series before row ends[s], (S,), in the user's units."""
    return np.array(
        [
            seasonal_scale(panel.series(s)[: max(int(end), 2)], season_length)
            for s, end in enumerate(ends)
        ]
    )


def best_season(panel: Panel, parts: Parts) -> int:
    """The season of the calendar that repeats best in the validation and last training rows.

    A later one must be clearly better: weeks repeat whatever days do. Judged by the mean absolute
    difference to the season before, each series in units of its own seasonal scale; the calendar's
    first season where rows are too few to tell.
    """
    seasons = panel.calendar.seasons or (panel.calendar.season_length,)
    errors = {}
    for season in seasons:
        found = []
        for s, end in enumerate(parts.val):
            values = panel.series(s)[:end]
            recent = values[max(season, len(values) - 4 * max(seasons)) :]
            if len(values) >= 2 * season and len(recent):
                before = values[len(values) - len(recent) - season : len(values) - season]
                scale = seasonal_scale(values, panel.calendar.season_length)
                found.append(float(np.abs(recent - before).mean()) / scale)
        if found:
            errors[season] = float(np.mean(found))
    best = next(iter(errors), panel.calendar.season_length)
    for season, error in errors.items():
        if error < LONGER_SEASON * errors[best]:
            best = season
    return best
