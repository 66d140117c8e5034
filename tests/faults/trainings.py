"""A tiny training of each domain, on one or two processes: `python trainings.py DOMAIN ...`.

Nothing in it is drawn by each process for itself (dropout, distortions), so that two processes with
half of each batch do what one does with all of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from sigform_core.device import generator

OnProgress = Callable[[int, int | None, dict[str, float]], None]
Network = TypeVar("Network", bound=nn.Module)
Training = Callable[[Path, int, bool, OnProgress], object]


def forecast(run_dir: Path, devices: int, resume: bool, on_progress: OnProgress) -> object:
    from forecast.series import table, walk
    from forecast.test_training import BARE, RECIPE, prepared

    from sigform_forecast.training import train_network

    panel, parts = prepared(table(walk(300, 0)))
    config = replace(BARE, dropout=0.0, attn="full", marks=panel.marks.shape[1])
    recipe = replace(RECIPE, devices=devices, patience=100)
    return train_network(
        panel, parts, config, recipe, run_dir, resume=resume, on_progress=on_progress
    )


def superres(run_dir: Path, devices: int, resume: bool, on_progress: OnProgress) -> object:
    from superres.test_training import scene, tiny

    from sigform_superres.data import Pair
    from sigform_superres.resizing import imresize
    from sigform_superres.training import Recipe, train_network

    pairs = [Pair(str(n), scene(n), imresize(scene(n), 0.5)) for n in range(4)]
    recipe = Recipe(
        steps=12, batch_size=4, patch=16, warm_up=2, validate_every=3, device="cpu",
        devices=devices,
    )  # fmt: skip
    return train_network(
        without_draws(tiny()), pairs[:3], pairs[3:], recipe, run_dir, resume=resume,
        on_progress=on_progress,
    )  # fmt: skip


def speech(run_dir: Path, devices: int, resume: bool, on_progress: OnProgress) -> object:
    from speech.test_training import QUICK, Fixed, tiny

    from sigform_speech.training import train_network

    recipe = replace(QUICK, steps=12, batch_size=4, devices=devices)
    return train_network(
        without_draws(tiny()), Fixed(8), Fixed(2, seed=1), recipe, run_dir, resume=resume,
        on_progress=on_progress,
    )  # fmt: skip


def eeg(run_dir: Path, devices: int, resume: bool, on_progress: OnProgress) -> object:
    from eeg.small import WINDOW
    from eeg.test_training import PLAIN, examples, network

    from sigform_eeg.training import train_network

    recipe = replace(PLAIN, epochs=4, batch_size=8, validate_every=3, devices=devices)
    return train_network(
        without_draws(network()), examples(), recipe, run_dir, window=WINDOW.samples,
        rate=WINDOW.sample_rate, held=examples(), resume=resume, on_progress=on_progress,
    )  # fmt: skip


def generate(run_dir: Path, devices: int, resume: bool, on_progress: OnProgress) -> object:
    from generate.test_vdt import SMALL

    from sigform_generate import diffusion_training as training
    from sigform_generate.vdt import VDT

    class Told(training.DiffusionModule):
        """Timestep and noise are told by the clip: no process draws its own."""

        def training_step(self, batch: training.Tensor, batch_index: int) -> torch.Tensor:
            del batch_index
            (clips,) = training.modalities(batch)
            seeds = [int(1e6 * clip.abs().sum().item()) for clip in clips]
            t = torch.tensor([seed % len(self.diffusion) for seed in seeds])
            noises = [torch.randn(clips.shape[1:], generator=generator(seed)) for seed in seeds]
            errors, bounds = self.losses(self.network, (clips,), t, (torch.stack(noises),))
            return (errors * self.weight(t)).mean() + bounds.mean()

    training.DiffusionModule = Told
    torch.manual_seed(0)
    clips = [torch.rand(5, 3, 4, 4) * 2 - 1 for _ in range(10)]
    network = VDT(replace(SMALL, class_dropout_prob=0.0, learn_sigma=False))
    recipe = training.DiffusionRecipe(
        steps=12, batch_size=4, warm_up=2, validate_every=3, learning_rate=1e-2, averaging=0.5,
        device="cpu", devices=devices,
    )  # fmt: skip
    return training.train_diffusion(
        network, cast(Any, clips[:8]), cast(Any, clips[8:]), recipe, run_dir, resume=resume,
        on_progress=on_progress,
    )  # fmt: skip


def without_draws(network: Network) -> Network:
    """The network without dropout, its batch norms with fixed means and variances."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = _stay  # type: ignore[method-assign]
    return network


def _stay(mode: bool = True) -> None:
    """In place of `train`: the module stays as it is."""


TRAININGS: dict[str, Training] = {
    "forecast": forecast, "superres": superres, "speech": speech, "eeg": eeg, "generate": generate,
}  # fmt: skip


def main() -> None:
    """DOMAIN RUN_DIR DEVICES new|resume|killed; killed: the second process, once it has saved."""
    domain, folder, devices, manner = sys.argv[1:]
    run_dir = Path(folder)
    if manner == "killed" and os.environ.get("LOCAL_RANK") == "1":
        threading.Thread(target=_die_with, args=(run_dir / "last.ckpt",), daemon=True).start()

    def on_progress(*_: object) -> None:
        if manner == "killed":
            time.sleep(0.2)

    TRAININGS[domain](run_dir, int(devices), manner == "resume", on_progress)


def _die_with(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
