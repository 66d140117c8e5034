"""How `fit` runs Lightning: one endless epoch, with one callback that owns the run's state."""
# ruff: noqa: ARG002 - the signatures of the hooks are Lightning's.

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from sigform_core.device import pick_device, pick_dtype, precision_for
from sigform_core.training import (
    MetricsFile,
    OnProgress,
    StepSampler,
    StoppedBy,
    TrainingInterrupted,
    TrainResult,
    TrainSettings,
    steps_in_epochs,
)

_STATE_KEY = "sigform"


@dataclass
class _State:
    """What a checkpoint tells about the run, beside what Lightning puts there."""

    n_items: int
    batch_size: int
    data_seed: int
    seed: int
    accumulate: int
    batches: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    validations_since_best: int = 0

    @property
    def steps(self) -> int:
        return self.batches // self.accumulate


class _Interrupted(Exception):  # noqa: N818
    """Leaves Lightning's loop after Ctrl-C, by a door that Lightning does not guard itself."""


class _Run(Callback):
    """Counts, seeds, scores, saves and stops; every step's order of events is in here."""

    def __init__(
        self,
        settings: TrainSettings,
        state: _State,
        sampler: StepSampler,
        validates: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self.settings = settings
        self.state = state
        self.sampler = sampler
        self.validates = validates
        self.on_progress = on_progress
        self.total_steps = settings.max_steps
        if settings.max_epochs is not None:
            self.total_steps = steps_in_epochs(settings.max_epochs, sampler, settings.accumulate)
        self.metrics = MetricsFile(settings.run_dir / "metrics.csv", state.steps)
        self.latest: dict[str, float] = {}
        self.validation_names: set[str] = set()
        self.names_before_validation: set[str] = set()
        self.seconds_before = state.seconds
        self.started = time.monotonic()
        self.interrupts = 0

    @property
    def state_key(self) -> str:
        return _STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.state)

    def result(self, stopped_by: StoppedBy) -> TrainResult:
        best = self.settings.run_dir / "best.ckpt"
        return TrainResult(
            best_path=best if self.state.best_score is not None and best.exists() else None,
            last_path=self.settings.run_dir / "last.ckpt",
            best_score=self.state.best_score,
            steps=self.state.steps,
            stopped_by=stopped_by,
            seconds=self.state.seconds,
            history=self.metrics.rows,
        )

    def limit_reached(self) -> StoppedBy | None:
        """The limit that ends the run here, if one does."""
        settings, state = self.settings, self.state
        if self.total_steps is not None and state.steps >= self.total_steps:
            return "max_steps" if settings.max_epochs is None else "max_epochs"
        if settings.max_seconds is not None and state.seconds >= settings.max_seconds:
            return "max_seconds"
        if settings.patience is not None and state.validations_since_best >= settings.patience:
            return "patience"
        return None

    # In the order in which Lightning calls them.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.sampler.take_share(trainer.global_rank, trainer.world_size)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            if config.interval != "step":
                name = type(config.scheduler).__name__
                raise ValueError(f"{name} goes by {config.interval}; needs interval 'step'")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        key = [self.state.seed, self.state.batches, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.state.batches += 1
        if self.state.batches % self.state.accumulate:
            return
        step = self.state.steps
        self._count_seconds(trainer)
        if step % self.settings.log_every == 0:
            names = set(trainer.callback_metrics) - self.validation_names
            self._log(trainer, names)
        if self.on_progress and trainer.is_global_zero:
            self.on_progress(step, self.total_steps, self.latest)
        trainer.should_stop = self.limit_reached() is not None
        saves = trainer.should_stop or step % self.settings.validate_every == 0
        if saves and self.validates:
            return  # on_validation_end goes on
        if saves:
            self._save(trainer, "last.ckpt")
        self._heed_interrupt(trainer, saved=saves)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.names_before_validation = set(trainer.callback_metrics) - self.validation_names

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation_names = set(trainer.callback_metrics) - self.names_before_validation
        self._log(trainer, self.validation_names)
        if self.settings.monitor is not None and self._is_best(trainer, self.settings.monitor):
            self._save(trainer, "best.ckpt", weights_only=True)
        self._count_seconds(trainer)
        trainer.should_stop = self.limit_reached() is not None
        self._save(trainer, "last.ckpt")
        if self.on_progress and trainer.is_global_zero:
            self.on_progress(self.state.steps, self.total_steps, self.latest)
        self._heed_interrupt(trainer, saved=True)

    def _count_seconds(self, trainer: Trainer) -> None:
        seconds = self.seconds_before + time.monotonic() - self.started
        if trainer.world_size > 1 and self.settings.max_seconds is not None:
            # All processes must come to the same decision about the time.
            seconds = float(trainer.strategy.broadcast(seconds))
        self.state.seconds = seconds

    def _log(self, trainer: Trainer, names: set[str]) -> None:
        values = {name: float(trainer.callback_metrics[name]) for name in sorted(names)}
        self.latest = {**self.latest, **values}
        if trainer.is_global_zero and values:
            self.metrics.append({"step": self.state.steps, **values})

    def _is_best(self, trainer: Trainer, monitor: str) -> bool:
        if monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics)) or "no metrics"
            raise ValueError(f"monitor is {monitor!r}; validation logged {names}")
        score = float(trainer.strategy.broadcast(float(trainer.callback_metrics[monitor])))
        if math.isnan(score):
            raise ValueError(
                f"{monitor} is NaN at step {self.state.steps}; needs a lower learning rate or a "
                "gradient_clip"
            )
        best, sign = self.state.best_score, 1 if self.settings.mode == "min" else -1
        if best is not None and sign * score >= sign * best:
            self.state.validations_since_best += 1
            return False
        self.state.best_score = score
        self.state.validations_since_best = 0
        return True

    def _save(self, trainer: Trainer, name: str, weights_only: bool = False) -> None:
        part = self.settings.run_dir / f"{name}.part"
        trainer.save_checkpoint(part, weights_only=weights_only)
        if trainer.is_global_zero:
            part.replace(self.settings.run_dir / name)

    def _heed_interrupt(self, trainer: Trainer, saved: bool) -> None:
        interrupted = self.interrupts > 0
        if trainer.world_size > 1:
            interrupted = trainer.strategy.reduce_boolean_decision(interrupted, all=False)
        if not interrupted:
            return
        if not saved:
            self._save(trainer, "last.ckpt")
        raise _Interrupted

    @contextmanager
    def holding_interrupts(self) -> Iterator[None]:
        """Let the first Ctrl-C wait for the end of a step; the second is a KeyboardInterrupt."""

        def on_signal(*_: object) -> None:
            self.interrupts += 1
            if self.interrupts > 1:
                raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield  # Python gives signals to the main thread only
            return
        before = signal.signal(signal.SIGINT, on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def fit(
    module: LightningModule,
    data: DataLoader[Any] | tuple[DataLoader[Any], DataLoader[Any] | None] | LightningDataModule,
    settings: TrainSettings,
    on_progress: OnProgress | None,
) -> TrainResult:
    """`sigform_core.training.fit`, which documents it."""
    train, validate = _loaders(data)
    sampler = train.batch_sampler
    if not isinstance(sampler, StepSampler) or sampler.max_steps is not None:
        raise ValueError("the training loader needs a StepSampler without max_steps")
    if validate is None and settings.monitor is not None:
        raise ValueError(f"monitor is {settings.monitor!r}; needs a validation loader")
    if validate is not None and not (is_overridden("validation_step", module) and len(validate)):
        raise ValueError("a validation loader is given; needs batches and a validation_step")
    settings.run_dir.mkdir(parents=True, exist_ok=True)

    state = _State(
        n_items=sampler.n_items,
        batch_size=sampler.batch_size,
        data_seed=sampler.seed,
        seed=settings.seed,
        accumulate=settings.accumulate,
    )
    checkpoint = _checkpoint_to_resume(settings)
    saved: dict[str, Any] = {}
    if checkpoint is not None:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = _saved_state(checkpoint, saved, state)
    sampler.start_step = state.batches
    run = _Run(settings, state, sampler, validate is not None, on_progress)
    if checkpoint is not None and (done := run.limit_reached()):
        module.load_state_dict(saved["state_dict"])
        return run.result(done)
    del saved

    with _quiet(), run.holding_interrupts():
        trainer = _trainer(module, settings, run)
        try:
            trainer.fit(module, train, validate, ckpt_path=checkpoint, weights_only=True)
        except _Interrupted:
            raise TrainingInterrupted(run.result("interrupted")) from None
        except SystemExit:
            # Lightning turns KeyboardInterrupt into this.
            if run.interrupts:
                raise KeyboardInterrupt from None
            raise
    stopped_by = run.limit_reached()
    if stopped_by is None:
        raise RuntimeError("the module stopped the training itself; needs to leave that to fit")
    return run.result(stopped_by)


def _loaders(
    data: DataLoader[Any] | tuple[DataLoader[Any], DataLoader[Any] | None] | LightningDataModule,
) -> tuple[DataLoader[Any], DataLoader[Any] | None]:
    if isinstance(data, LightningDataModule):
        data.prepare_data()
        data.setup("fit")
        return data.train_dataloader(), data.val_dataloader()
    return data if isinstance(data, tuple) else (data, None)


def _checkpoint_to_resume(settings: TrainSettings) -> Path | None:
    last = settings.run_dir / "last.ckpt"
    if settings.resume is True:
        return last if last.exists() else None
    if settings.resume is False:
        if last.exists():
            raise ValueError(f"run_dir {settings.run_dir} holds a run; needs resume")
        return None
    if not settings.resume.exists():
        raise FileNotFoundError(f"checkpoint {settings.resume} does not exist")
    if last.exists() and not settings.resume.samefile(last):
        raise ValueError(f"run_dir {settings.run_dir} holds another run; needs a folder of its own")
    return settings.resume


def _saved_state(checkpoint: Path, saved: dict[str, Any], expected: _State) -> _State:
    try:
        state = _State(**saved["callbacks"][_STATE_KEY])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{checkpoint} was not written by fit; needs a last.ckpt") from error
    for name in ("n_items", "batch_size", "data_seed", "seed", "accumulate"):
        was, now = getattr(state, name), getattr(expected, name)
        if was != now:
            raise ValueError(f"{name} is {now}; resuming {checkpoint} needs {was} as before")
    return state


def _trainer(module: LightningModule, settings: TrainSettings, run: _Run) -> Trainer:
    device = pick_device(settings.device)
    devices: int | list[int] = settings.devices
    if device.index is not None:
        if settings.devices > 1:
            raise ValueError(f"device is {device} with {settings.devices} devices; needs cuda")
        devices = [device.index]
    # Modules that step several optimizers count their steps otherwise than this layer does.
    max_steps = run.total_steps if module.automatic_optimization else None
    # Each of their losses reaches a part of the weights, and the processes must know which.
    parallel = "ddp" if module.automatic_optimization else "ddp_find_unused_parameters_true"
    return Trainer(
        accelerator=device.type,
        devices=devices,
        strategy=parallel if settings.devices > 1 else "auto",
        precision=precision_for(pick_dtype(settings.dtype, device), device),  # pyright: ignore[reportArgumentType]
        max_steps=-1 if max_steps is None else max_steps,
        max_epochs=-1,
        gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        val_check_interval=settings.validate_every * settings.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[run],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=settings.run_dir,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from advertising and from advice that does not hold here."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for advice in (
                ".*does not have many workers",
                ".*have no `val_dataloader`",
                ".*module\\(s\\) in eval mode",
            ):
                warnings.filterwarnings("ignore", advice)
            # Lightning's own use of torch's pytree, deprecated in torch 2.9.
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
