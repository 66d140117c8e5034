"""The benchmark protocol of the Informer paper (arXiv 2012.07436), every test window counted.

Published splits, z-scores by the training rows, errors in z-scored units averaged over all
windows, steps and channels. The published code drops the last incomplete batch of windows from
validation and test; nothing is dropped here.

Letters: B windows in a batch, L context rows (`seq_len`), h forecast steps (`horizon`),
C channels, F columns of `marks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sigform_forecast.baselines import Baseline, LastValue, SeasonalNaive, SeasonalProfile

Split: TypeAlias = Literal["train", "val", "test"]
Features: TypeAlias = Literal["S", "M", "MS"]
# (contexts (B, L, C) float64, marks (B, L + h, ...)) -> forecasts (B, h, C)
Predict: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

MONTH_HOURS = 30 * 24
ETT_MONTHS = (12, 4, 4)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mean squared and mean absolute error in z-scored units, over `windows` windows."""

    mse: float
    mae: float
    windows: int


@dataclass(frozen=True)
class Windows:
    """Windows of a split, newest last, as read-only views: nothing is copied until it is used."""

    values: np.ndarray  # (n, L + h, C)
    marks: np.ndarray  # (n, L + h, ...)
    seq_len: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def contexts(self) -> np.ndarray:
        """What a model may see: (n, L, C)."""
        return self.values[:, : self.seq_len]

    @property
    def targets(self) -> np.ndarray:
        """What it has to forecast: (n, h, C)."""
        return self.values[:, self.seq_len :]

    def batches(self, batch_size: int) -> Iterator[Windows]:
        """Consecutive parts of at most `batch_size` windows; the last may be smaller."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; needs 1 or more")
        for first in range(0, len(self), batch_size):
            part = slice(first, first + batch_size)
            yield Windows(self.values[part], self.marks[part], self.seq_len)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One data set in z-scored units, with the borders of its published splits."""

    name: str
    features: Features
    columns: tuple[str, ...]  # channels; the target is the last
    times: np.ndarray  # (rows,) datetime64
    values: np.ndarray  # (rows, C) float64, z-scored
    mean: np.ndarray  # (C,) of the training rows, in the unit of the file
    std: np.ndarray  # (C,) of the training rows, ddof 0; 1 for a constant channel
    borders: Mapping[Split, tuple[int, int]]  # rows of each split, end exclusive

    def part(self, split: Split) -> np.ndarray:
        """The rows of a split: (rows, C) float64, z-scored."""
        first, end = self._border(split)
        return self.values[first:end]

    def windows(
        self,
        split: Split,
        seq_len: int,
        horizon: int,
        stride: int = 1,
        marks: np.ndarray | None = None,
    ) -> Windows:
        """Every `stride`-th window whose targets lie in the split.

        Validation and test contexts begin before their border, so that a split of r rows has
        r - horizon + 1 windows; training contexts stay inside, which leaves r - seq_len - horizon
        + 1. `marks` (rows, ...) are sliced along, the timestamps if not given. Raises ValueError
        when the split has no such window.
        """
        for what, got in (("seq_len", seq_len), ("horizon", horizon), ("stride", stride)):
            if got < 1:
                raise ValueError(f"{what} is {got}; needs 1 or more")
        rows = self.times if marks is None else marks
        if len(rows) != len(self.values):
            raise ValueError(f"marks has {len(rows)} rows; needs the data's {len(self.values)}")
        border, end = self._border(split)
        first = border if split == "train" else max(border - seq_len, 0)
        span = seq_len + horizon
        if end - first < span:
            raise ValueError(f"{split} has {end - first} rows with context; a window needs {span}")
        return Windows(
            _sliding(self.values[first:end], span)[::stride],
            _sliding(rows[first:end], span)[::stride],
            seq_len,
        )

    def evaluate(
        self,
        predict: Predict,
        split: Split,
        seq_len: int,
        horizon: int,
        batch_size: int = 256,
        marks: np.ndarray | None = None,
    ) -> Score:
        """Score forecasts over every window of a split.

        `predict` gets contexts (B, L, C) in float64, z-scored, and the marks (B, L + h, ...) of
        context and horizon: the timestamps, or slices of the `marks` (rows, ...) given here. It
        returns (B, h, C), with features "MS" also (B, h, 1); then only the target is scored.
        Raises ValueError for another shape or a forecast that is not finite.
        """
        windows = self.windows(split, seq_len, horizon, marks=marks)
        squared = absolute = 0.0
        count = 0
        for batch in windows.batches(batch_size):
            forecast = np.asarray(predict(batch.contexts, batch.marks), dtype=np.float64)
            target = batch.targets
            shapes = [target.shape]
            if self.features == "MS":
                shapes.append((*target.shape[:2], 1))
            if forecast.shape not in shapes:
                raise ValueError(f"predict returned shape {forecast.shape}; needs {shapes[-1]}")
            if self.features == "MS":
                forecast, target = forecast[..., -1:], target[..., -1:]
            error = forecast - target
            squared += float(np.square(error).sum())
            absolute += float(np.abs(error).sum())
            count += error.size
        if not np.isfinite(squared):
            raise ValueError("predict returned NaN or infinite values; needs finite forecasts")
        return Score(mse=squared / count, mae=absolute / count, windows=len(windows))

    @property
    def rows_per_day(self) -> int:
        """Rows in a day, from the usual distance between timestamps; at least 1."""
        step = np.median(np.diff(self.times) / np.timedelta64(1, "s"))
        return max(round(86_400.0 / float(step)), 1)

    def _border(self, split: Split) -> tuple[int, int]:
        if split not in self.borders:
            raise ValueError(f"split is {split!r}; needs one of {', '.join(self.borders)}")
        return self.borders[split]


def load_benchmark(
    data_dir: str | Path, dataset: str, features: Features = "S", target: str = "OT"
) -> Benchmark:
    """Read `data_dir`/`dataset`.csv, with a column `date`, and z-score it by its training rows.

    ETTh* and ETTm* are split into 12, 4 and 4 months of 30 days, any other file into 70, 10 and
    20 per cent. Features "S" keeps the target only, "M" and "MS" all channels, the target moved
    last. Raises FileNotFoundError, or ValueError for a file that does not fit.
    """
    import pandas as pd

    if features not in get_args(Features):
        raise ValueError(f"features is {features!r}; needs S, M or MS")
    path = Path(data_dir) / f"{dataset}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; needs the CSV of {dataset}")
    table = pd.read_csv(path)
    for column in ("date", target):
        if column not in table.columns:
            raise ValueError(f"{path.name} has no column {column!r}; needs date and the target")
    times = pd.to_datetime(table["date"]).to_numpy()
    others = [str(column) for column in table.columns if column not in ("date", target)]
    columns = (target,) if features == "S" else (*others, target)
    values = table[list(columns)].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{path.name} has missing or infinite values; needs every cell filled")
    borders = _borders(dataset, len(values))
    train = values[slice(*borders["train"])]
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0.0, std, 1.0)
    return Benchmark(
        name=dataset,
        features=features,
        columns=columns,
        times=times,
        values=(values - mean) / std,
        mean=mean,
        std=std,
        borders=borders,
    )


def _borders(dataset: str, rows: int) -> dict[Split, tuple[int, int]]:
    if dataset.startswith(("ETTh", "ETTm")):
        month = MONTH_HOURS * (4 if dataset.startswith("ETTm") else 1)
        train, val, test = (months * month for months in ETT_MONTHS)
        if rows < train + val + test:
            raise ValueError(f"{dataset} has {rows} rows; needs {train + val + test}")
    else:
        train, test = int(rows * 0.7), int(rows * 0.2)
        val = rows - train - test
        if min(train, val, test) < 1:
            raise ValueError(f"{dataset} has {rows} rows; needs enough for three parts")
    return {
        "train": (0, train),
        "val": (train, train + val),
        "test": (train + val, train + val + test),
    }


def _sliding(rows: np.ndarray, span: int) -> np.ndarray:
    """Read-only windows over the first axis: (rows, ...) -> (rows - span + 1, span, ...)."""
    return np.moveaxis(sliding_window_view(rows, span, axis=0), -1, 1)


def channelwise(method: Baseline, horizon: int) -> Predict:
    """A baseline as a `predict` for `Benchmark.evaluate`: each channel is forecast by itself."""

    def predict(contexts: np.ndarray, _marks: np.ndarray) -> np.ndarray:
        batch, length, channels = contexts.shape
        rows = np.moveaxis(contexts, 1, 2).reshape(batch * channels, length)  # (B C, L)
        forecast = method.predict(rows, horizon)  # (B C, h)
        return np.moveaxis(forecast.reshape(batch, channels, horizon), 1, 2)  # (B, h, C)

    return predict


def naive_table(benchmark: Benchmark, horizons: Sequence[int]) -> dict[str, dict[int, Score]]:
    """Test scores of four methods that learn nothing, by name and horizon.

    Their season is a day and their context the seven days before the horizon. Raises ValueError
    for data with fewer than two rows a day.
    """
    day = benchmark.rows_per_day
    if day < 2:
        raise ValueError(f"{benchmark.name} has {day} row a day; the naive table needs 2 or more")
    methods: dict[str, Baseline] = {
        f"SN{day}": SeasonalNaive(day),
        "last value": LastValue(),
        "7-day profile": SeasonalProfile(day, periods=7),
        "yesterday's mean + 7-day profile": SeasonalProfile(day, periods=7, level="last"),
    }
    return {
        name: {
            h: benchmark.evaluate(channelwise(method, h), "test", seq_len=7 * day, horizon=h)
            for h in horizons
        }
        for name, method in methods.items()
    }


def _row(horizons: str, cells: str) -> dict[int, tuple[float, float]]:
    """`"24 48", ".1/.2 .3/.4"` -> {24: (0.1, 0.2), 48: (0.3, 0.4)}."""
    scores = [tuple(map(float, cell.split("/"))) for cell in cells.split()]
    return {int(h): (mse, mae) for h, (mse, mae) in zip(horizons.split(), scores, strict=True)}


_HOURS = "24 48 168 336 720"
_QUARTERS = "24 48 96 288 672"
_ECL_HOURS = "48 168 336 720 960"

# (MSE, MAE) by model, (data set, features) and horizon, as published in the README of
# zhouhaoyi/Informer2020 (2021-03-25), last incomplete test batch dropped; to print beside ours.
PUBLISHED: Mapping[str, Mapping[tuple[str, Features], Mapping[int, tuple[float, float]]]] = {
    "Informer": {
        ("ETTh1", "S"): _row(_HOURS, ".098/.247 .158/.319 .183/.346 .222/.387 .269/.435"),
        ("ETTh2", "S"): _row(_HOURS, ".093/.240 .155/.314 .232/.389 .263/.417 .277/.431"),
        ("ETTm1", "S"): _row(_QUARTERS, ".030/.137 .069/.203 .194/.372 .401/.554 .512/.644"),
        ("WTH", "S"): _row(_HOURS, ".117/.251 .178/.318 .266/.398 .297/.416 .359/.466"),
        ("ECL", "S"): _row(_ECL_HOURS, ".239/.359 .447/.503 .489/.528 .540/.571 .582/.608"),
        ("ETTh1", "M"): _row(_HOURS, ".577/.549 .685/.625 .931/.752 1.128/.873 1.215/.896"),
        ("ETTh2", "M"): _row(_HOURS, ".720/.665 1.457/1.001 3.489/1.515 2.723/1.340 3.467/1.473"),
        ("ETTm1", "M"): _row(_QUARTERS, ".323/.369 .494/.503 .678/.614 1.056/.786 1.192/.926"),
        ("WTH", "M"): _row(_HOURS, ".335/.381 .395/.459 .608/.567 .702/.620 .831/.731"),
        ("ECL", "M"): _row(_ECL_HOURS, ".344/.393 .368/.424 .381/.431 .406/.443 .460/.548"),
    },
    "Informer† (full attention)": {
        ("ETTh1", "S"): _row(_HOURS, ".092/.246 .161/.322 .187/.355 .215/.369 .257/.421"),
    },
}
