"""How a `ForecastNetwork` is trained: choices made on validation, then Adam on the squared error.

Letters of shapes: S series, W windows.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from sigform_core.device import generator
from sigform_core.training import OnProgress, StepSampler, TrainSettings, fit
from sigform_core.weights import load_torch_checkpoint
from sigform_forecast.backtest import Parts
from sigform_forecast.inference import EVALUATION_BATCH, loader, same
from sigform_forecast.network import (
    ForecastNetwork,
    NetworkConfig,
    SeasonalProfile,
    normalise,
)
from sigform_forecast.panel import Batch, Panel, WindowSet, origins

LONGEST_LOOK_BACK = 512  # a longer window costs more than it gives on a laptop
SOLVE_STEPS = 2_000_000  # window steps that the profile is solved on at most
TRIAL_STEPS = 300_000  # of them while a season and a look-back are being chosen
JUDGE_STEPS = 200_000  # window steps that a choice is judged on at most
WORTH_KEEPING = 0.98  # a profile that gains less over the last value may have been lucky
LUCK = 1e-3  # a smaller part of the error than this decides nothing
CLOSE = 5e-3  # of the last value's error: closer than this, the simpler season stays
FEW_WINDOWS = 400  # validation windows where time is short: enough to tell better from worse
MANY_WINDOWS = 1200  # where steps are counted instead of seconds


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train; `seconds` is measured time, `steps` makes it exact."""

    seconds: float | None = 30.0
    steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    most_epochs: float = 20.0
    validations: int = 12
    patience: int = 5
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    devices: int = 1


class ForecastModule(lightning.LightningModule):
    """Squared error of the scaled forecast, Adam with decay, one cycle of the learning rate."""

    def __init__(self, network: ForecastNetwork, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.steps = steps

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        del batch_index
        values, marks, known, target = batch
        loss = F.mse_loss(self.network(values, marks, known), target)
        self.log("train_loss", loss)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        del batch_index
        self.sums += Gain.sums_of(self.network, batch)

    def on_validation_epoch_end(self) -> None:
        gathered = self.all_gather(self.sums)
        whole = gathered.reshape(-1, 4).sum(0) if isinstance(gathered, Tensor) else self.sums
        self.log("val_loss", Gain.of(whole).error)

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        schedule = OneCycleLR(
            optimizer,
            self.recipe.learning_rate,
            total_steps=self.steps + 1,
            # A rise that ends with the very first step is a division by zero in torch.
            pct_start=max(0.1, 2 / (self.steps + 1)),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What Informer's addition is worth on validation, and how much of it to keep.

    `gate`, in [0, 1], is the share with the least squared error, `error` that error in scaled
    units, `start` the error without Informer. A share below 1 is the rule on short series: the
    addition is right in sign and too large.
    """

    gate: float
    error: float
    start: float

    @classmethod
    def of(cls, sums: Tensor) -> Self:
        """From the sums of `sums_of` over all windows."""
        missing, shared, added, count = sums.tolist()
        gate = min(1.0, max(0.0, shared / added)) if added > 0 else 0.0
        return cls(
            gate=gate,
            error=(missing - 2 * gate * shared + gate**2 * added) / count,
            start=missing / count,
        )

    @staticmethod
    def sums_of(network: ForecastNetwork, batch: Batch) -> Tensor:
        """Squares of what is missing, its product with what is added, squares of that, count."""
        values, marks, known, target = batch
        start, change = network.parts(values, marks, known)
        missing, added = (target - start).double(), change.double()
        sums = [missing.square().sum(), (missing * added).sum(), added.square().sum()]
        return torch.stack([*sums, missing.new_tensor(float(missing.numel()))])


def squared_error(network: ForecastNetwork, batches: Iterable[Batch]) -> float:
    """Mean squared error in scaled units."""
    total = count = 0.0
    with torch.inference_mode():
        for values, marks, known, target in batches:
            error = network(values, marks, known) - target
            total += float(error.square().sum())
            count += error.numel()
    return total / count


def gain(network: ForecastNetwork, batches: Iterable[Batch]) -> Gain:
    """The gain of a network over these windows."""
    with torch.inference_mode():
        return Gain.of(sum((Gain.sums_of(network, batch) for batch in batches), torch.zeros(4)))


def thinned(windows: WindowSet, steps: int) -> Iterator[Batch]:
    """Evenly spaced windows, in batches, together at most about `steps` horizon steps."""
    horizon = len(windows.steps) - windows.look_back
    count = int(min(len(windows), max(8, steps // horizon)))
    chosen = np.linspace(0, len(windows) - 1, count).round().astype(np.int64)
    for start in range(0, count, EVALUATION_BATCH):
        yield windows.__getitems__(chosen[start : start + EVALUATION_BATCH].tolist())


def training_windows(panel: Panel, parts: Parts, look_back: int, horizon: int) -> WindowSet:
    """Every window of the training rows."""
    first = np.full(len(parts.train), look_back)
    return WindowSet(panel, origins(panel, first, parts.train - horizon), look_back, horizon)


def validation_windows(
    panel: Panel, parts: Parts, look_back: int, horizon: int, most: int | None = None
) -> WindowSet:
    """Windows whose targets are validation rows, evenly thinned to about `most`."""
    first, last = parts.train, parts.val - horizon
    total = int(np.maximum(last - first + 1, 0).sum())
    most = max(1, JUDGE_STEPS // horizon) if most is None else most
    stride = max(1, -(-total // most))
    return WindowSet(panel, origins(panel, first, last, stride), look_back, horizon)


def possible_look_backs(panel: Panel, parts: Parts, horizon: int, asked: int | None) -> list[int]:
    """Look-backs worth trying, or the one asked for, shortened to what the rows allow.

    Each leaves training windows in the longest series. Raises ValueError when not even two rows of
    look-back do.
    """
    most = int(parts.train.max()) - horizon - 3
    if most < 2 or not (parts.val - parts.train >= horizon).any():
        raise ValueError(
            f"{int(panel.lengths.max())} rows leave no training and validation window of "
            f"{horizon} rows; needs about {4 * horizon + 20} rows"
        )
    if asked is not None:
        return [min(asked, most)]
    # A look-back takes at most half of the training rows, so that windows differ.
    most = max(2, min(LONGEST_LOOK_BACK, most, int(parts.train.max()) // 2))
    seasons = [s for s in panel.calendar.seasons if s > 1] or [max(4, horizon // 2)]
    tried = {min(most, season * count) for season in seasons for count in (2, 4, 7, 14)}
    return sorted(tried)


def profile_errors(profile: SeasonalProfile, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean squared error of the profile, and of the last value, in scaled units."""
    total = naive = count = 0.0
    for values, _, known, target in batches:
        window, level, scale = normalise(values)
        error = profile(window, known, scale) * scale + level - target
        total += float(error.square().sum())
        naive += float((level - target).square().sum())
        count += error.numel()
    return total / count, naive / count


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What validation chose, and its squared error there before any training."""

    config: NetworkConfig
    profile_error: float
    last_value_error: float


def choose(panel: Panel, parts: Parts, config: NetworkConfig, look_backs: list[int]) -> Choice:
    """Choose season, look-back and whether to keep the profile, by the profile's own error.

    Every pair of a season of the calendar and a look-back is solved on the training rows and
    judged on the validation rows. An untrained network returns the profile's forecast, and
    without a profile the last value, so this compares the two starting points of the training.
    """
    best: Choice | None = None
    for look_back in look_backs:
        train = training_windows(panel, parts, look_back, config.horizon)
        judged = validation_windows(panel, parts, look_back, config.horizon)
        if not len(train) or not len(judged):
            continue
        for season in dict.fromkeys([*panel.calendar.seasons, 1]):
            if season > look_back:
                continue
            tried = replace(config, look_back=look_back, season_length=season, profile=True)
            profile = SeasonalProfile(tried)
            profile.solve(thinned(train, TRIAL_STEPS))
            error, naive = profile_errors(profile, thinned(judged, JUDGE_STEPS))
            if best is None or error < best.profile_error - CLOSE * naive:
                best = Choice(config=tried, profile_error=error, last_value_error=naive)
    if best is None:
        raise ValueError(
            f"no look-back of {look_backs} leaves a training and a validation window; "
            "needs more rows or a shorter horizon"
        )
    if best.profile_error >= WORTH_KEEPING * best.last_value_error:
        return replace(best, config=replace(best.config, profile=False))
    return best


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network in evaluation mode, and what its training came to.

    `steps` are those behind its weights: 0 when no step was better on validation than the start,
    which is the profile alone (or the last value without a profile). `gate` is the share of
    Informer's addition that was kept. Errors are squared, scaled.
    """

    network: ForecastNetwork
    steps: int
    steps_taken: int
    gate: float
    seconds: float
    start_error: float | None
    best_error: float | None


def start_network(windows: WindowSet, config: NetworkConfig) -> ForecastNetwork:
    """A new network with its profile solved on these windows; a function of `config.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = ForecastNetwork(config)
    if network.profile is not None:
        network.profile.solve(thinned(windows, SOLVE_STEPS))
    return network.eval()


def train_network(
    panel: Panel,
    parts: Parts | None,
    config: NetworkConfig,
    recipe: Recipe,
    run_dir: Path,
    *,
    gate: float = 1.0,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Train a network on a scaled panel; without `parts` on all of it, for `recipe.steps` steps.

    With `parts` the weights with the least validation error are kept, those of the start included,
    and as much of Informer's addition as validation likes; without, the share is `gate`.
    Checkpoints and metrics.csv go to `run_dir`; `resume` goes on from there. Raises ValueError
    when no training window is left, TrainingInterrupted on Ctrl-C.
    """
    ends = panel.lengths if parts is None else parts.train
    rows = Parts(train=ends, val=panel.lengths) if parts is None else parts
    windows = training_windows(panel, rows, config.look_back, config.horizon)
    if not len(windows):
        raise ValueError(
            f"the longest training part has {int(ends.max())} rows; needs "
            f"{config.look_back} of look-back and {config.horizon} of horizon"
        )
    network = start_network(windows, config)
    judged = None
    start_error = None
    if parts is not None:
        most = MANY_WINDOWS if recipe.seconds is None else FEW_WINDOWS
        judged = validation_windows(panel, parts, config.look_back, config.horizon, most)
        start_error = squared_error(network, loader(judged))
    start = copy.deepcopy(network.state_dict())
    run_dir.mkdir(parents=True, exist_ok=True)
    plan = run_dir / "plan.json"
    if resume and plan.is_file():
        steps = int(json.loads(plan.read_text("utf-8"))["steps"])
    elif recipe.steps is not None:
        steps = recipe.steps
    else:
        steps = affordable_steps(network, windows, judged, recipe)
    # A resumed run goes on to the steps of its first plan, however fast the machine is today.
    plan.write_text(json.dumps({"steps": steps}), "utf-8")
    if steps == 0:
        return Trained(
            network=network, steps=0, steps_taken=0, gate=0.0, seconds=0.0,
            start_error=start_error, best_error=start_error,
        )  # fmt: skip
    settings = TrainSettings(
        run_dir=run_dir,
        max_steps=steps,
        max_seconds=None if recipe.seconds is None else 1.1 * recipe.seconds,
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        devices=recipe.devices,
        gradient_clip=recipe.gradient_clip,
        validate_every=math.ceil(steps / recipe.validations),
        monitor=None if judged is None else "val_loss",
        patience=None if judged is None else recipe.patience,
        resume=resume,
        log_every=max(1, steps // 100),
    )
    sampler = StepSampler(len(windows), recipe.batch_size, recipe.seed)
    data = (
        DataLoader(windows, batch_sampler=sampler, collate_fn=same),
        None if judged is None else loader(judged),
    )
    network.train()
    result = fit(ForecastModule(network, recipe, steps), data, settings, on_progress=on_progress)
    network.eval()
    behind, share, best_error = result.steps, gate, start_error
    if judged is not None and result.best_path is not None:
        state = load_torch_checkpoint(result.best_path)
        network.load_state_dict(
            {name.removeprefix("network."): tensor for name, tensor in state.items()}
        )
        found = gain(network, loader(judged))
        if found.error < (1 - LUCK) * found.start:
            share, best_error = found.gate, found.error
        else:
            share = 0.0
        scores = [row for row in result.history if row.get("val_loss") is not None]
        behind = int(min(scores, key=lambda row: row["val_loss"])["step"])
    if share > 0:
        network.damp(share)
    else:
        network.load_state_dict(start)
        behind = 0
    return Trained(
        network=network,
        steps=behind,
        steps_taken=result.steps,
        gate=share,
        seconds=result.seconds,
        start_error=start_error,
        best_error=best_error,
    )


def affordable_steps(
    network: ForecastNetwork, windows: WindowSet, judged: WindowSet | None, recipe: Recipe
) -> int:
    """Steps that fit into `recipe.seconds`, measured on a copy, and into `recipe.most_epochs`."""
    most = math.ceil(recipe.most_epochs * len(windows) / recipe.batch_size)
    if recipe.seconds is None:
        return most
    trial = copy.deepcopy(network).train()
    chosen = torch.randint(len(windows), (recipe.batch_size,), generator=generator(0)).tolist()
    values, marks, known, target = windows.__getitems__(chosen)
    with torch.random.fork_rng(devices=[]):
        step = least_seconds(
            lambda: F.mse_loss(trial(values, marks, known), target).backward(), times=3
        )
    validation = 0.0
    if judged is not None:
        part = [judged.__getitems__(range(min(len(judged), EVALUATION_BATCH)))]
        whole = len(judged) / min(len(judged), EVALUATION_BATCH)
        validation = whole * least_seconds(lambda: squared_error(network, part), times=1)
    left = recipe.seconds - recipe.validations * validation
    # The optimizer and the loop around it take about a quarter of a step on a small network.
    return max(0, min(most, int(left / (1.25 * step))))


def least_seconds(work: Callable[[], object], times: int) -> float:
    """The shortest of several runs: the first warms up."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
