"""Synthetic series with a known answer, and the small panels that the tests are run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sigform_forecast.calendar import infer_calendar
from sigform_forecast.panel import Floats, Panel


def seasonal(rows: int, *, season: int = 12, noise: float = 0.1, seed: int = 0) -> Floats:
    """A sine of one season around 10, with white noise, (rows,)."""
    rng = np.random.default_rng(seed)
    return 10 + np.sin(2 * np.pi * np.arange(rows) / season) + noise * rng.normal(size=rows)


def walk(rows: int, seed: int = 0) -> Floats:
    """A random walk from 100, (rows,)."""
    return 100 + np.random.default_rng(seed).normal(size=rows).cumsum()


def table(
    values: npt.ArrayLike,
    name: str = "a",
    *,
    freq: str = "h",
    start: Any = "2024-01-01",
    **covariates: Any,
) -> pd.DataFrame:
    """One series in Nixtla's form."""
    y = np.asarray(values)
    ds = pd.date_range(start, periods=len(y), freq=freq)
    return pd.DataFrame({"unique_id": name, "ds": ds, "y": y, **covariates})


def tables(lengths: dict[str, int], **how: Any) -> pd.DataFrame:
    """Seasonal series of these lengths that end together, each on a level of its own."""
    longest = max(lengths.values())
    parts = [
        table(100.0 * n + seasonal(longest, seed=n), name).tail(rows)
        for n, (name, rows) in enumerate(lengths.items())
    ]
    return pd.concat(parts, ignore_index=True).assign(**how)


def panel_of(frame: pd.DataFrame, past: Sequence[str] = (), known: Sequence[str] = ()) -> Panel:
    """The panel of a regular table."""
    return Panel.from_frame(frame, infer_calendar(frame), past=past, known=known)
