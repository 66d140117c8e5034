"""Training: what to ask for, the order of the data, and what comes back.

`fit` trains a LightningModule for a number of steps. A step is one optimizer step; everything
random in it (which items, dropout) is a function of (seed, step) alone, so a run that was killed
and resumed ends, on the CPU, with the same weights as one that never stopped. Lightning itself is
imported when `fit` is called; it comes with `sigform-core[train]`.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import DataLoader, Sampler

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

OnProgress = Callable[[int, int | None, dict[str, float]], None]
StoppedBy = Literal["max_steps", "max_epochs", "max_seconds", "patience", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How long, where and how carefully to train; at least one of the three limits is needed."""

    run_dir: Path  # where last.ckpt, best.ckpt and metrics.csv go
    max_steps: int | None = None
    max_epochs: float | None = None  # times that every item was seen
    max_seconds: float | None = None  # of training in all, resumed runs included
    seed: int = 0
    dtype: str = "float32"  # 16-bit types train mixed with float32 weights
    device: str = "auto"
    devices: int = 1  # processes, each with its share of every batch
    gradient_clip: float | None = None  # largest norm of all gradients together
    accumulate: int = 1  # batches per step
    validate_every: int = 500  # steps between validations, and between savings of last.ckpt
    monitor: str | None = None  # the validation metric that best.ckpt and patience go by
    mode: Literal["min", "max"] = "min"
    patience: int | None = None  # validations without a better `monitor` before stopping
    resume: bool | Path = False  # True: go on from run_dir/last.ckpt if there is one
    log_every: int = 50  # steps between rows of metrics.csv

    def __post_init__(self) -> None:
        limits = (self.max_steps, self.max_epochs, self.max_seconds)
        if all(limit is None for limit in limits):
            raise ValueError("no limit is set; needs max_steps, max_epochs or max_seconds")
        if self.max_steps is not None and self.max_epochs is not None:
            raise ValueError("max_steps and max_epochs are both set; needs one of them")
        positive = ("devices", "accumulate", "validate_every", "log_every")
        optional = ("max_steps", "max_epochs", "max_seconds", "gradient_clip", "patience")
        for name in (*positive, *optional):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; needs more than 0")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode is {self.mode!r}; needs min or max")
        if self.patience is not None and self.monitor is None:
            raise ValueError("patience is set without monitor; needs the name of a metric")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training came to; `best_path` is None when nothing was monitored."""

    best_path: Path | None
    last_path: Path
    best_score: float | None
    steps: int  # taken in all, resumed runs included
    stopped_by: StoppedBy
    seconds: float  # of training in all, resumed runs included
    history: list[dict[str, float]] = field(repr=False)  # the rows of metrics.csv


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`, after the step under way was saved in `result.last_path`."""

    def __init__(self, result: TrainResult) -> None:
        super().__init__(f"training was interrupted after {result.steps} steps")
        self.result = result


class StepSampler(Sampler[list[int]]):
    """Batches of item numbers for a DataLoader's `batch_sampler`, a function of (seed, step).

    Every item comes once per epoch, in a new order each epoch, and epochs follow each other
    without a seam: every batch is full, one of them may hold the end of an epoch and the start of
    the next. `start_step` and `max_steps` count batches from the very first; without `max_steps`
    the batches never end, which is what `fit` needs.

    On several devices `batch_size` is that of the whole batch: each takes its share of it.
    """

    def __init__(
        self,
        n_items: int,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        max_steps: int | None = None,
    ) -> None:
        if n_items < 1:
            raise ValueError(f"n_items is {n_items}; needs 1 or more")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; needs 1 or more")
        self.n_items = n_items
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.max_steps = max_steps
        self._share = slice(None)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def take_share(self, rank: int, world_size: int) -> None:
        """From now on yield only the part of each batch that process `rank` works on."""
        if self.batch_size % world_size:
            raise ValueError(
                f"batch_size is {self.batch_size}; needs a multiple of the {world_size} devices"
            )
        self._share = slice(rank, None, world_size)

    def batch(self, step: int) -> list[int]:
        """The item numbers of the whole batch at `step`, counted from 0."""
        items: list[int] = []
        position = step * self.batch_size
        while len(items) < self.batch_size:
            epoch, offset = divmod(position, self.n_items)
            taken = self._permutation(epoch)[offset : offset + self.batch_size - len(items)]
            items += taken.tolist()
            position += len(taken)
        return items

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start_step
        while self.max_steps is None or step < self.max_steps:
            yield self.batch(step)[self._share]
            step += 1

    def __len__(self) -> int:
        if self.max_steps is None:
            raise TypeError("a StepSampler without max_steps has no length")
        return max(0, self.max_steps - self.start_step)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.n_items)
            self._epoch = epoch
        return self._order


class MetricsFile:
    """The metrics of a run as rows of a CSV file, one per logged step or validation.

    A column appears when a metric first does; a metric that a row lacks is left empty.
    """

    def __init__(self, path: Path, up_to_step: int) -> None:
        """Go on after the rows of `path` up to `up_to_step`; later ones will be trained again."""
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        if up_to_step and path.exists():
            written = path.read_text(encoding="utf-8")
            # A kill can leave half a row, which never ends in a newline.
            whole = io.StringIO(written[: written.rfind("\n") + 1])
            kinds = {"step": int}
            rows = [
                {name: kinds.get(name, float)(value) for name, value in row.items() if value}
                for row in csv.DictReader(whole)
            ]
            self.rows = [row for row in rows if row["step"] <= up_to_step]

    def append(self, row: dict[str, float]) -> None:
        """Add a row, on disk at once; nothing is written before the first."""
        self.rows.append(row)
        if not set(row) <= set(self._columns):
            self._rewrite()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self.path)


def fit(
    module: "LightningModule",
    data: "DataLoader[Any] | tuple[DataLoader[Any], DataLoader[Any] | None] | LightningDataModule",
    settings: TrainSettings,
    *,
    on_progress: OnProgress | None = None,
) -> TrainResult:
    """Train `module` and leave it with the weights of the last step.

    `data` is the training loader, whose `batch_sampler` is a StepSampler, alone or with a
    validation loader; or a LightningDataModule, whose loaders are then taken once. Learning-rate
    schedulers go by step (`"interval": "step"`). `on_progress(step, total, metrics)` is called
    after every step with the newest metrics; `total` is None when only time limits the run.

    `run_dir` gets `last.ckpt` (all that resuming needs), `best.ckpt` (the weights with the best
    `monitor`) and `metrics.csv`. Nothing is printed. torch's global generator is reseeded.

    Raises TrainingInterrupted, a KeyboardInterrupt, on Ctrl-C, once the step (and the validation)
    under way is done and saved; a second Ctrl-C stops at once. Raises ImportError without
    Lightning, and ValueError when `run_dir` holds a run that is not resumed, when a run is resumed
    with other data, batch size or seed, and when `monitor` is missing or NaN.
    """
    try:
        import lightning.pytorch  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError("training needs Lightning; install sigform-core[train]") from error
    from sigform_core import _lightning

    return _lightning.fit(module, data, settings, on_progress)


def steps_in_epochs(epochs: float, sampler: StepSampler, accumulate: int) -> int:
    """The number of steps in which `sampler` has given every item `epochs` times."""
    return math.ceil(epochs * sampler.n_items / (sampler.batch_size * accumulate))
