"""Many series as a few flat arrays, and the windows that a network or a baseline reads of them.

Letters of shapes: R rows of all series together, S series, W windows, B windows of a batch,
L look-back steps, T horizon steps, C past covariates, G known covariates, F calendar features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sigform_forecast.calendar import Calendar, time_features

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Regular series one behind the other: row `bounds[s]` to `bounds[s + 1]` is series s.

    ids: names of the series; times: one timestamp a row; values (R,) in the user's units;
    past (R, C) and known (R, G): covariates; calendar: the steps that all series follow.
    """

    ids: tuple[str, ...]
    bounds: Ints
    times: pd.Index
    values: Floats
    past: Floats
    known: Floats
    calendar: Calendar

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        calendar: Calendar,
        *,
        past: Sequence[str] = (),
        known: Sequence[str] = (),
    ) -> Panel:
        """Take a repaired long frame (`unique_id`, `ds`, `y` and covariates, sorted by series).

        Raises ValueError for a missing column or a value that is not finite.
        """
        columns = ["unique_id", "ds", "y", *past, *known]
        if missing := [name for name in columns if name not in frame.columns]:
            raise ValueError(f"the data has no column {missing[0]!r}; needs {', '.join(columns)}")
        codes, ids = pd.factorize(frame["unique_id"])
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        if len(starts) != len(ids):
            raise ValueError("the rows of a series are not together; needs them sorted by series")
        for name in ("y", *past, *known):
            bad = np.flatnonzero(~np.isfinite(frame[name].to_numpy(np.float64)))
            if bad.size:
                row = frame.iloc[int(bad[0])]
                raise ValueError(
                    f"{name} of {row['unique_id']!r} at {row['ds']} is {row[name]}; needs a number"
                )
        return cls(
            ids=tuple(str(name) for name in ids),
            bounds=np.append(starts, len(frame)).astype(np.int64),
            times=pd.Index(frame["ds"]),
            values=frame["y"].to_numpy(np.float64),
            past=frame[list(past)].to_numpy(np.float64).reshape(len(frame), len(past)),
            known=frame[list(known)].to_numpy(np.float64).reshape(len(frame), len(known)),
            calendar=calendar,
        )

    @property
    def lengths(self) -> Ints:
        """Rows of each series, (S,)."""
        return np.diff(self.bounds)

    @cached_property
    def marks(self) -> NDArray[np.float32]:
        """Calendar features of every row, (R, F)."""
        return time_features(self.times, self.calendar.feature_code)

    def series(self, s: int) -> Floats:
        """Values of series s, a view."""
        return self.values[self.bounds[s] : self.bounds[s + 1]]

    def rows(self, keep: NDArray[np.bool_]) -> Panel:
        """The panel of the rows kept (R,) bool; a series left without rows goes."""
        counts = np.add.reduceat(keep, self.bounds[:-1]).astype(np.int64)
        left = counts > 0
        return replace(
            self,
            ids=tuple(name for name, there in zip(self.ids, left, strict=True) if there),
            bounds=np.append(0, np.cumsum(counts[left])),
            times=self.times[keep],
            values=self.values[keep],
            past=self.past[keep],
            known=self.known[keep],
        )

    def until(self, ends: Ints) -> Panel:
        """Each series s up to row ends[s] of its own, exclusive."""
        position = np.arange(len(self.values)) - np.repeat(self.bounds[:-1], self.lengths)
        return self.rows(position < np.repeat(ends, self.lengths))

    def tail(self, length: int) -> Panel:
        """The last `length` rows of each series, or what there is."""
        left = np.repeat(self.bounds[1:], self.lengths) - np.arange(len(self.values))
        return self.rows(left <= length)

    def extended(self, horizon: int, known: Floats) -> Panel:
        """Each series with `horizon` empty rows more; known (S, T, G) fills their covariates."""
        series, size = len(self.ids), horizon
        lasts = self.times[self.bounds[1:] - 1]
        futures = {last: self.calendar.future(last, size) for last in lasts.unique()}
        times = self.times.append([futures[last] for last in lasts])
        # A new row comes before the first row of the next series, which holds its place now.
        before = np.repeat(self.bounds[1:], size) - 0.5
        order = np.argsort(np.concatenate([np.arange(len(self.values)), before]), kind="stable")
        blank = np.full(series * size, np.nan)
        return replace(
            self,
            bounds=self.bounds + size * np.arange(series + 1),
            times=times[order],
            values=np.concatenate([self.values, blank])[order],
            past=np.concatenate([self.past, np.zeros((series * size, self.past.shape[1]))])[order],
            known=np.concatenate([self.known, known.reshape(series * size, -1)])[order],
        )

    def contexts(self, origins: Ints, length: int) -> Floats:
        """The `length` values before each origin row, (W, length), NaN before a series begins."""
        first = self.bounds[np.searchsorted(self.bounds, origins - 1, side="right") - 1]
        rows = origins[:, None] + np.arange(-length, 0)  # (W, L)
        inside = rows >= first[:, None]
        return np.where(inside, self.values[np.maximum(rows, 0)], np.nan)


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Mean and standard deviation of the training part: a series each, a covariate each."""

    mean: Floats  # (S,)
    std: Floats  # (S,)
    covariate_mean: Floats  # (C + G,)
    covariate_std: Floats  # (C + G,)

    @classmethod
    def fit(cls, panel: Panel) -> Scaler:
        """Measure a panel; what does not vary gets its own size as its standard deviation, or 1."""
        starts, lengths = panel.bounds[:-1], panel.lengths
        mean = np.add.reduceat(panel.values, starts) / lengths
        spread = np.square(panel.values - np.repeat(mean, lengths))
        covariates = np.concatenate([panel.past, panel.known], 1)
        return cls(
            mean=mean,
            std=positive(np.sqrt(np.add.reduceat(spread, starts) / lengths), np.abs(mean)),
            covariate_mean=covariates.mean(0),
            covariate_std=positive(covariates.std(0), np.abs(covariates.mean(0))),
        )

    def scale(self, panel: Panel) -> Panel:
        """The panel in units of this scaler; its series must be those of the scaler."""
        lengths, past = panel.lengths, panel.past.shape[1]
        mean, std = np.repeat(self.mean, lengths), np.repeat(self.std, lengths)
        return replace(
            panel,
            values=(panel.values - mean) / std,
            past=(panel.past - self.covariate_mean[:past]) / self.covariate_std[:past],
            known=(panel.known - self.covariate_mean[past:]) / self.covariate_std[past:],
        )


def positive(std: Floats, size: Floats) -> Floats:
    """`std`; where it is zero or lost in the rounding of values of this `size`, the size, or 1."""
    return np.where(std > 1e-12 * np.maximum(size, 1e-300), std, np.where(size > 0, size, 1.0))


class Batch(NamedTuple):
    """What a network reads and what it should say, float32 on the CPU."""

    values: Tensor  # (B, L, 1 + C)
    marks: Tensor  # (B, L + T, F)
    known: Tensor  # (B, L + T, G)
    target: Tensor  # (B, T)


class WindowSet(Dataset[Batch]):
    """Windows of a scaled panel: `origins` (W,) are the rows of their first targets.

    A window that reaches back before its series begins repeats the first row. Nothing is copied
    until a batch is asked for.
    """

    def __init__(self, panel: Panel, origins: Ints, look_back: int, horizon: int) -> None:
        self.origins = origins
        self.first = panel.bounds[np.searchsorted(panel.bounds, origins, side="right") - 1]
        self.steps = np.arange(-look_back, horizon)
        self.look_back = look_back
        self.values = torch.from_numpy(panel.values.astype(np.float32))
        self.marks = torch.from_numpy(panel.marks)
        self.past = torch.from_numpy(panel.past.astype(np.float32))
        self.known = torch.from_numpy(panel.known.astype(np.float32))

    def __len__(self) -> int:
        return len(self.origins)

    def __getitems__(self, items: Sequence[int]) -> Batch:
        chosen = np.asarray(items)
        rows = np.maximum(self.origins[chosen, None] + self.steps, self.first[chosen, None])
        index = torch.from_numpy(rows)  # (B, L + T)
        window = index[:, : self.look_back]
        values = torch.cat([self.values[window].unsqueeze(2), self.past[window]], 2)
        target = self.values[index[:, self.look_back :]]
        return Batch(values, self.marks[index], self.known[index], target)

    def __getitem__(self, item: int) -> Batch:
        return Batch(*(part[0] for part in self.__getitems__([item])))


def origins(panel: Panel, first: Ints, last: Ints, stride: int = 1) -> Ints:
    """Rows of first targets: in series s every `stride`-th from its row last[s] back to first[s].

    `first` and `last` (S,) count rows inside the series; the newest window is always taken.
    """
    counts = np.maximum((last - first) // stride + 1, 0)
    counts = np.where(last >= first, counts, 0)
    series = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = last[series] - (counts[series] - 1 - step) * stride
    return panel.bounds[series] + rows
