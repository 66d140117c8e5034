"""Checkpoints of the published code (zhouhaoyi/Informer2020): recognise them, and forecast.

The published training saves `checkpoint.pth`, a bare state dict, in a folder whose name holds the
arguments: `informer_ETTh1_ftM_sl96_ll48_pl24_dm512_nh8_el2_dl1_df2048_atprob_fc5_ebtimeF_dtTrue_
mxTrue_exp_0`. What the tensors show is taken from them; the rest from that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sigform_core.weights import load_torch_checkpoint
from sigform_forecast.calendar import Calendar, infer_calendar, time_features, time_tables
from sigform_forecast.forecaster import checked
from sigform_forecast.informer import CALENDAR_FEATURES, Informer, InformerConfig, InformerStack
from sigform_forecast.panel import Panel, Scaler
from sigform_forecast.repair import repair
from sigform_forecast.report import Report
from sigform_forecast.settings import Settings

# Letters of a folder's name and what they stand for.
ARGUMENTS = {
    "sl": "seq_len", "ll": "label_len", "pl": "out_len", "nh": "n_heads", "at": "attn",
    "fc": "factor", "eb": "embed", "dt": "distil", "mx": "mix",
}  # fmt: skip
VALUES = r"\d+|prob|full|timeF|fixed|learned|True|False"


def read_arguments(name: str) -> dict[str, Any]:
    """The constructor arguments in a folder's name. Raises ValueError for one that is missing."""
    found: dict[str, Any] = {}
    for letters, argument in ARGUMENTS.items():
        match = re.search(rf"(?:^|_){letters}({VALUES})(?=_|$)", name)
        if match is None:
            raise ValueError(
                f"the folder is called {name!r}, without {letters}... for {argument}; needs the "
                "name that the published training gave it"
            )
        value = match[1]
        found[argument] = int(value) if value.isdigit() else value
        if value in ("True", "False"):
            found[argument] = value == "True"
    return found


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments that the tensors themselves show. Raises ValueError."""
    try:
        values = state["enc_embedding.value_embedding.tokenConv.weight"]  # (D, C, 3)
        decoder_values = state["dec_embedding.value_embedding.tokenConv.weight"]
        projection = state["projection.weight"]  # (C, D)
        hidden = state["decoder.layers.0.conv1.weight"].shape[0]
    except KeyError as error:
        raise ValueError(
            f"the checkpoint has no {error.args[0]}; needs one of Informer2020"
        ) from error
    stack = any(name.startswith("encoder.encoders.") for name in state)
    depths: dict[str, int] = {}
    for name in state:
        if match := re.match(r"encoder\.(?:encoders\.(\d+)\.)?attn_layers\.(\d+)\.", name):
            place = match[1] or "0"
            depths[place] = max(depths.get(place, 0), int(match[2]) + 1)
    if not depths:
        raise ValueError("the checkpoint has no encoder layers; needs one of Informer2020")
    layers = {int(m[1]) for name in state if (m := re.match(r"decoder\.layers\.(\d+)\.", name))}
    linear = state.get("enc_embedding.temporal_embedding.embed.weight")  # (D, F)
    if linear is not None:
        letters = [f for f, size in CALENDAR_FEATURES.items() if size == linear.shape[1]]
        if not letters:
            raise ValueError(f"the calendar has {linear.shape[1]} features; needs 1 to 6")
        freq = letters[0]
    else:
        freq = "t" if any("minute_embed" in name for name in state) else "h"
    return {
        "enc_in": values.shape[1],
        "dec_in": decoder_values.shape[1],
        "c_out": projection.shape[0],
        "d_model": values.shape[0],
        "d_ff": hidden,
        "e_layers": tuple(depths[key] for key in sorted(depths, key=int)) if stack else depths["0"],
        "d_layers": len(layers),
        "freq": freq,
    }


def load_published(path: Path, name: str | None = None) -> Informer:
    """The network of a published checkpoint, in evaluation mode.

    `name` is the arguments' name, the folder's if not given. Raises FileNotFoundError, or
    ValueError when the file is no such checkpoint or does not fit its name.
    """
    state = load_torch_checkpoint(path)
    config = read_arguments(path.resolve().parent.name if name is None else name)
    config |= infer_config(state)
    kind = InformerStack if isinstance(config["e_layers"], tuple) else Informer
    return kind.from_reference(config, state)


class PublishedForecaster:
    """A published checkpoint behind the `predict` of a `Forecaster`.

    It forecasts the columns it was trained on, in their order, from their last `seq_len` rows. Like
    the published prediction it z-scores them by the rows it is given: the scaler of its training
    is not in the checkpoint. It has no intervals, since nothing was held out to measure them on.
    """

    def __init__(self, path: str | Path) -> None:
        self.network = load_published(Path(path))
        self.settings = Settings(h=self.network.config.out_len, model="Informer")
        self.model_ = "Informer"
        self.notes_: list[str] = []
        self.report_ = Report(horizon=self.settings.h, model=self.model_)

    def predict(self, df: pd.DataFrame, X_df: pd.DataFrame | None = None) -> pd.DataFrame:
        """Forecast the rows after `df` (unique_id, ds, y): one series per column of the training.

        A network of one column forecasts every series by itself. Returns unique_id, ds and
        Informer. Raises ValueError for another number of series, too few rows or another step.
        """
        if X_df is not None:
            raise ValueError("a published checkpoint knows no covariates; needs none")
        config = self.network.config
        frame = checked(df, ())
        calendar = infer_calendar(frame)
        if not suits(config, calendar):
            raise ValueError(
                f"the data is {calendar.describe()} and the checkpoint was trained on steps of "
                f"{config.freq!r}; needs the same"
            )
        frame, self.notes_ = repair(frame, calendar)
        self.notes_.append(
            "published checkpoint: z-scored by the rows given, no intervals, no backtest"
        )
        panel = Panel.from_frame(frame, calendar)
        count, columns = len(panel.ids), config.enc_in
        if columns > 1 and count != columns:
            raise ValueError(
                f"the data has {count} series and the checkpoint reads {columns} columns; "
                "needs as many"
            )
        if panel.lengths.min() < config.seq_len:
            raise ValueError(
                f"the shortest series has {panel.lengths.min()} rows; needs {config.seq_len}"
            )
        longer = panel.extended(config.out_len, np.zeros((count, config.out_len, 0)))
        rows = longer.bounds[1:, None] + np.arange(-config.seq_len - config.out_len, 0)  # (S, L+T)
        times = longer.times.take(rows.ravel())
        scaler = Scaler.fit(panel)
        windows = scaler.scale(longer).values[rows[:, : config.seq_len]]  # (S, L)
        code = calendar.feature_code
        tell = time_features if config.embed == "timeF" else time_tables
        marks = tell(times, code).reshape(*rows.shape, -1)  # (S, L + T, F)
        if columns == 1:
            found = self._forward(windows[:, :, None], marks)[:, :, 0]  # (S, T)
            chosen = np.arange(count)
        else:
            last = times[config.seq_len - 1 :: rows.shape[1]]
            if (last != last[0]).any():
                raise ValueError(
                    f"the series end at {last.min()} to {last.max()}; needs one end, since the "
                    "checkpoint reads them together"
                )
            found = self._forward(windows.T[None], marks[:1])[0].T  # (c_out, T)
            chosen = np.arange(count)[-config.c_out :]  # features "MS": the target comes last
        found = found * scaler.std[chosen, None] + scaler.mean[chosen, None]
        ids = np.asarray(panel.ids, dtype=object)[chosen].repeat(config.out_len)
        ds = longer.times.take(rows[chosen, config.seq_len :].ravel())
        return pd.DataFrame({"unique_id": ids, "ds": ds, "Informer": found.ravel()})

    def _forward(self, windows: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """windows (B, L, C), marks (B, L + T, F) -> (B, T, c_out)."""
        config = self.network.config
        known, calendar = torch.from_numpy(windows).float(), torch.from_numpy(marks)
        start = config.seq_len - config.label_len
        blank = known.new_zeros(len(known), config.out_len, known.shape[2])
        decoder = torch.cat([known[:, start:], blank], 1)
        with torch.inference_mode():
            forecast = self.network(
                known, calendar[:, : config.seq_len], decoder, calendar[:, start:]
            )
        return forecast.double().numpy()


def suits(config: InformerConfig, calendar: Calendar) -> bool:
    """Whether a network was trained on the calendar features that this calendar has."""
    if config.embed == "timeF":
        return CALENDAR_FEATURES.get(calendar.feature_code) == CALENDAR_FEATURES[config.freq]
    return (calendar.feature_code == "t") == (config.freq == "t")
