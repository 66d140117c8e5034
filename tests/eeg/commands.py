"""Runs `sigform-decode` in this process, and makes small recordings and networks for it."""

from __future__ import annotations

from pathlib import Path

import torch
from command_runner import runner
from eeg.files import cued
from eeg.small import setup

from sigform_eeg.alignment import Align
from sigform_eeg.cli import app
from sigform_eeg.networks import build, save_network

command = runner(app)

EVENTS = ("--events", "left=T1", "--events", "right=T2")
WINDOW = ("--stop", "2", "--sample-rate", "64", "--high", "20")
QUICK = ("--architecture", "lmuformer", "--epochs", "1", "--batch-size", "8", "--device", "cpu")
TRAIN = (*EVENTS, *WINDOW, *QUICK)
"""A training of seconds on recordings of `cued`."""


def saved_network(folder: Path, architecture: str = "lmuformer", align: Align = "online") -> Path:
    """A weight file of random weights for eight channels at 64 Hz, windows of 2 s."""
    place = folder / f"{architecture}-{align}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(architecture, setup(align)).eval()
    save_network(place, network, setup(align), {"name": "tiny", "accuracy": 0.5})
    return place


def people(folder: Path, count: int = 2, seconds: float = 60.0) -> Path:
    """A recording of noise each, T1 and T2 by turns."""
    for number in range(1, count + 1):
        cued(folder / f"sub-{number:03d}_raw.fif", seconds=seconds, seed=number)
    return folder
