"""Forecasts of a trained network, batch by batch; needs torch and nothing of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from sigform_core.device import pick_device
from sigform_forecast.network import ForecastNetwork
from sigform_forecast.panel import Batch, Floats, Ints, Panel, WindowSet

EVALUATION_BATCH = 256


def same(batch: Any) -> Any:
    """The window set hands over whole batches; there is nothing left to collate."""
    return batch


def loader(windows: WindowSet, batch_size: int = EVALUATION_BATCH) -> DataLoader[Batch]:
    """All windows once, in order."""
    return DataLoader(windows, batch_size=batch_size, collate_fn=same)


def forecasts(network: ForecastNetwork, scaled: Panel, starts: Ints, device: str) -> Floats:
    """Scaled forecasts (W, T), float64, from the rows before `starts`, batch by batch."""
    config = network.config
    windows = WindowSet(scaled, starts, config.look_back, config.horizon)
    place = pick_device(device)
    network = network.to(place).eval()
    found = np.empty((len(starts), config.horizon))
    done = 0
    with torch.inference_mode():
        for values, marks, known, _ in loader(windows):
            part = network(values.to(place), marks.to(place), known.to(place))
            found[done : done + len(part)] = part.double().cpu().numpy()
            done += len(part)
    return found
