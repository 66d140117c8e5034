"""A fitted `Forecaster` as one safetensors file: tensors, and its choices as JSON beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sigform_core.weights import load_weights, save_weights
from sigform_forecast.backtest import Score
from sigform_forecast.baselines import NLinear
from sigform_forecast.calendar import Calendar
from sigform_forecast.fitting import Fitted
from sigform_forecast.forecaster import Forecaster
from sigform_forecast.intervals import Conformal
from sigform_forecast.network import ForecastNetwork, NetworkConfig
from sigform_forecast.panel import Panel, Scaler
from sigform_forecast.report import Report
from sigform_forecast.settings import Settings

MODEL = "sigform-forecaster"

TimeUnit = Literal["s", "ms", "us", "ns"]


def save_forecaster(path: Path, forecaster: Forecaster) -> None:
    """Write a fitted forecaster, whole or not at all. Raises ValueError before a fit."""
    fitted, tail = forecaster.fitted, forecaster.fitted.tail
    arrays: dict[str, np.ndarray] = {
        "scale": fitted.scale,
        "tail.bounds": tail.bounds,
        "tail.times": times_to_array(tail.times),
        "tail.values": tail.values,
        "tail.past": tail.past,
        "tail.known": tail.known,
    }
    arrays |= {f"scaler.{f.name}": getattr(fitted.scaler, f.name) for f in fields(Scaler)}
    arrays |= {f"conformal.{name}": c.half_widths for name, c in fitted.conformal.items()}
    if fitted.nlinear is not None:
        arrays |= {f"nlinear.{name}": value for name, value in fitted.nlinear.state().items()}
    # Copies, since torch warns of arrays that it must not write to, such as those of an index.
    tensors = {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}
    config: dict[str, Any] = {
        "settings": asdict(forecaster.settings),
        "model": fitted.model,
        "calendar": asdict(fitted.calendar),
        "zone": fitted.zone,
        "season_length": fitted.season_length,
        "context": fitted.context,
        "counts": fitted.counts,
        "ids": list(fitted.ids),
        "integer_ids": fitted.integer_ids,
        "time_unit": tail.times.unit if isinstance(tail.times, pd.DatetimeIndex) else None,
        "conformal": {
            name: {"levels": c.levels, "windows": c.windows, "notes": c.notes}
            for name, c in fitted.conformal.items()
        },
        "network": None,
    }
    if fitted.network is not None:
        config["network"] = asdict(fitted.network.config)
        tensors |= {f"network.{name}": t for name, t in fitted.network.state_dict().items()}
    save_weights(path, tensors, model=MODEL, config=config, card={"report": asdict(fitted.report)})


def load_forecaster(path: Path) -> tuple[Settings, Fitted]:
    """Read what `save_forecaster` wrote; it keeps no backtest. Raises ValueError."""
    file = load_weights(path, expect_model=MODEL)
    config, tensors = file.config, file.tensors

    def array(name: str) -> np.ndarray:
        return tensors[name].numpy()

    calendar = Calendar(**tuples(config["calendar"]))
    tail = Panel(
        ids=tuple(config["ids"]),
        bounds=array("tail.bounds"),
        times=times_from_array(array("tail.times"), config["time_unit"], config["zone"]),
        values=array("tail.values"),
        past=array("tail.past"),
        known=array("tail.known"),
        calendar=calendar,
    )
    nlinear = None
    if "nlinear.weight" in tensors:
        nlinear = NLinear.from_state({n: array(f"nlinear.{n}") for n in ("weight", "bias")})
    report = tuples(file.card["report"])
    report["scores"] = tuple(
        Score(**{**score, "coverage": {int(k): v for k, v in score["coverage"].items()}})
        for score in report["scores"]
    )
    fitted = Fitted(
        model=config["model"],
        calendar=calendar,
        zone=config["zone"],
        season_length=config["season_length"],
        context=config["context"],
        network=network_from(config["network"], tensors),
        scaler=Scaler(**{f.name: array(f"scaler.{f.name}") for f in fields(Scaler)}),
        ids=tail.ids,
        integer_ids=config["integer_ids"],
        scale=array("scale"),
        counts=config["counts"],
        nlinear=nlinear,
        conformal={
            name: Conformal(half_widths=array(f"conformal.{name}"), **tuples(said))
            for name, said in config["conformal"].items()
        },
        tail=tail,
        report=Report(**report),
    )
    return Settings(**tuples(config["settings"])), fitted


def network_from(
    config: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]
) -> ForecastNetwork | None:
    """The network of a file, in evaluation mode, if it has one."""
    if config is None:
        return None
    network = ForecastNetwork(NetworkConfig(**config))
    prefix = "network."
    network.load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )
    return network.eval()


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping read from JSON with its lists as the tuples they were."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def times_to_array(times: pd.Index) -> np.ndarray:
    """Timestamps as microseconds since 1970, UTC; integer times as they are. int64."""
    if isinstance(times, pd.DatetimeIndex):
        return times.as_unit("us").asi8
    return times.to_numpy(np.int64)


def times_from_array(values: np.ndarray, unit: TimeUnit | None, zone: str | None) -> pd.Index:
    """The inverse of `times_to_array`, in the resolution and the time zone that the user has."""
    if unit is None:
        return pd.Index(values)
    times = pd.DatetimeIndex(values.astype("M8[us]")).as_unit(unit)
    return times if zone is None else times.tz_localize("UTC").tz_convert(zone)
