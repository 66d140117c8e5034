"""Training: the order of data, limits, savings, and that stopping and going on changes nothing."""
# ruff: noqa: ARG002 - the signatures of the hooks are Lightning's.

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sigform_core.training import (
    OnProgress,
    StepSampler,
    TrainingInterrupted,
    TrainResult,
    TrainSettings,
    fit,
)
from sigform_core.weights import load_torch_checkpoint

ITEMS, BATCH = 50, 8


class Regressor(LightningModule):
    """A few weights with dropout, a schedule and momentum: everything that resuming must keep."""

    def __init__(self, schedule_by: str = "step", nan_from: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
        self.schedule_by = schedule_by
        self.nan_from = nan_from

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        if self.nan_from is not None and self.global_step >= self.nan_from:
            loss = loss * math.nan
        self.log("val_loss", loss)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": self.schedule_by},
        }


def dataset() -> TensorDataset:
    x = torch.randn(ITEMS, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True))


def loaders(batch_size: int = BATCH) -> tuple[DataLoader[Any], DataLoader[Any]]:
    data = dataset()
    train = DataLoader(data, batch_sampler=StepSampler(ITEMS, batch_size, seed=3))
    return train, DataLoader(data, batch_size=25)


def on_cpu(run_dir: Path, **changes: Any) -> TrainSettings:
    defaults: dict[str, Any] = {
        "max_steps": 20,
        "validate_every": 6,
        "log_every": 4,
        "monitor": "val_loss",
        "device": "cpu",
    }
    return TrainSettings(run_dir=run_dir, **(defaults | changes))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in module.parameters()])


def saved_weights(path: Path) -> Tensor:
    return torch.cat([value.flatten() for value in load_torch_checkpoint(path).values()])


# The order of data.


@settings(max_examples=60, deadline=None)
@given(
    n_items=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 5),
    start=st.integers(0, 30),
)
def test_batches_are_a_function_of_seed_and_step(
    n_items: int, batch_size: int, seed: int, start: int
) -> None:
    from_start = list(StepSampler(n_items, batch_size, seed, max_steps=40))
    assert list(StepSampler(n_items, batch_size, seed, start, 40)) == from_start[start:]
    assert all(len(batch) == batch_size for batch in from_start)
    stream = [item for batch in from_start for item in batch]
    whole = len(stream) // n_items
    for epoch in range(whole):
        assert sorted(stream[epoch * n_items : (epoch + 1) * n_items]) == list(range(n_items))


def test_epochs_and_seeds_differ() -> None:
    sampler = StepSampler(100, 100, seed=0)
    assert sampler.batch(0) != sampler.batch(1)
    assert sampler.batch(0) != StepSampler(100, 100, seed=1).batch(0)


def test_devices_share_each_batch() -> None:
    shares = []
    for rank in range(4):
        sampler = StepSampler(40, 8, seed=0, max_steps=5)
        sampler.take_share(rank, 4)
        shares.append(list(sampler))
    whole = list(StepSampler(40, 8, seed=0, max_steps=5))
    for step, batch in enumerate(whole):
        assert Counter(item for share in shares for item in share[step]) == Counter(batch)
        assert all(len(share[step]) == 2 for share in shares)
    with pytest.raises(ValueError, match="batch_size is 8; needs a multiple of the 3 devices"):
        StepSampler(40, 8, seed=0).take_share(0, 3)


def test_sampler_has_a_length_only_with_max_steps() -> None:
    assert len(StepSampler(10, 4, 0, start_step=3, max_steps=7)) == 4
    with pytest.raises(TypeError, match="without max_steps"):
        len(StepSampler(10, 4, 0))
    with pytest.raises(ValueError, match="n_items is 0"):
        StepSampler(0, 4, 0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        StepSampler(4, 0, 0)


# Settings.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_steps": None}, "no limit is set"),
        ({"max_epochs": 2}, "both set"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"validate_every": 0}, "validate_every is 0"),
        ({"mode": "up"}, "mode is 'up'"),
        ({"patience": 2, "monitor": None}, "patience is set without monitor"),
    ],
)
def test_settings_say_what_they_need(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        on_cpu(tmp_path, **changes)


# One run.


def test_fit_learns_and_says_what_came_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    module = Regressor()
    seen: list[tuple[int, int | None, dict[str, float]]] = []
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(
            module,
            loaders(),
            on_cpu(tmp_path, max_steps=60),
            on_progress=lambda *now: seen.append(now),
        )
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("lightning")]
    assert caught == []

    assert (result.steps, result.stopped_by) == (60, "max_steps")
    assert [now[0] for now in seen if now[2].keys() == {"train_loss", "val_loss"}][-1] == 60
    assert all(total == 60 for _, total, _ in seen)
    scores = {row["step"]: row["val_loss"] for row in result.history if "val_loss" in row}
    assert list(scores) == list(range(6, 61, 6))
    assert scores[60] < scores[6]
    assert result.best_score == min(scores.values())
    assert [row["step"] for row in result.history if "train_loss" in row] == list(range(4, 61, 4))
    assert all(row.keys() < {"step", "train_loss", "val_loss"} for row in result.history)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "step,train_loss,val_loss"
    assert len(rows) == len(result.history)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "metrics.csv",
    ]
    assert torch.equal(saved_weights(result.last_path), weights(module))


def test_best_checkpoint_has_the_best_weights(tmp_path: Path) -> None:
    result = fit(Regressor(), loaders(), on_cpu(tmp_path, max_steps=60, validate_every=1))
    assert result.best_path is not None
    best = Regressor()
    best.load_state_dict(load_torch_checkpoint(result.best_path))
    best.eval()
    x, y = dataset().tensors
    assert (best.net(x) - y).square().mean().item() == pytest.approx(result.best_score)


def test_highest_is_best_when_asked(tmp_path: Path) -> None:
    result = fit(Regressor(), loaders(), on_cpu(tmp_path, mode="max"))
    assert result.best_score == max(row.get("val_loss", 0.0) for row in result.history)


def test_without_validation_only_the_last_is_kept(tmp_path: Path) -> None:
    result = fit(Regressor(), loaders()[0], on_cpu(tmp_path, monitor=None))
    assert (result.best_path, result.best_score, result.steps) == (None, None, 20)
    assert result.last_path.exists()


def test_data_module_gives_the_same_training(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        def setup(self, stage: str) -> None:
            self.train, self.validate = loaders()

        def train_dataloader(self) -> DataLoader[Any]:
            return self.train

        def val_dataloader(self) -> DataLoader[Any]:
            return self.validate

    one, other = Regressor(), Regressor()
    fit(one, loaders(), on_cpu(tmp_path / "one"))
    fit(other, Data(), on_cpu(tmp_path / "other"))
    assert torch.equal(weights(one), weights(other))


def test_seed_decides_the_dropout(tmp_path: Path) -> None:
    modules = [Regressor() for _ in range(3)]
    for number, (module, seed) in enumerate(zip(modules, (0, 0, 1), strict=True)):
        fit(module, loaders(), on_cpu(tmp_path / str(number), seed=seed))
    assert torch.equal(weights(modules[0]), weights(modules[1]))
    assert not torch.equal(weights(modules[0]), weights(modules[2]))


def test_accumulating_equals_a_larger_batch(tmp_path: Path) -> None:
    one, other = Regressor(), Regressor()
    for module in (one, other):
        module.net[1] = nn.Identity()
    fit(one, loaders(16), on_cpu(tmp_path / "one"))
    result = fit(other, loaders(8), on_cpu(tmp_path / "other", accumulate=2))
    assert result.steps == 20
    assert [row["step"] for row in result.history if "val_loss" in row] == [6, 12, 18, 20]
    torch.testing.assert_close(weights(one), weights(other))


def test_gradients_are_clipped(tmp_path: Path) -> None:
    norms: list[float] = []

    class Watched(Regressor):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            norms.append(float(torch.stack([grad.norm() for grad in grads]).norm()))

    fit(Watched(), loaders(), on_cpu(tmp_path, gradient_clip=0.01))
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_trains_mixed(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()

    class Watched(Regressor):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            seen.add(self.net(batch[0]).dtype)
            return super().training_step(batch, batch_idx)

    module = Watched()
    fit(module, loaders(), on_cpu(tmp_path, dtype="bfloat16", max_steps=2))
    assert seen == {torch.bfloat16}
    assert weights(module).dtype == torch.float32


# Limits.


def test_epochs_are_counted_in_items(tmp_path: Path) -> None:
    result = fit(Regressor(), loaders(), on_cpu(tmp_path, max_steps=None, max_epochs=2))
    assert (result.steps, result.stopped_by) == (math.ceil(2 * ITEMS / BATCH), "max_epochs")


def test_time_limit_validates_and_saves_at_its_end(tmp_path: Path) -> None:
    limits = {"max_steps": None, "max_seconds": 0.3, "validate_every": 10_000}
    totals: set[int | None] = set()
    result = fit(
        Regressor(),
        loaders(),
        on_cpu(tmp_path, **limits),
        on_progress=lambda step, total, metrics: totals.add(total),  # noqa: ARG005
    )
    assert result.stopped_by == "max_seconds"
    assert result.steps > 1
    assert 0.3 <= result.seconds < 5
    assert result.best_path is not None
    assert result.history[-1].keys() == {"step", "val_loss"}
    assert totals == {None}


def test_patience_stops_and_stays_stopped(tmp_path: Path) -> None:
    scores = [5.0, 4.0, 6.0, 3.0, 7.0, 3.0, 2.0]

    class Scripted(Regressor):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", scores[self.global_step // 3 - 1])

    patient = {"max_steps": 500, "patience": 2, "validate_every": 3}
    result = fit(Scripted(), loaders(), on_cpu(tmp_path, **patient))
    # The third score counts for nothing once the fourth was better; the last is never asked for.
    assert [row["val_loss"] for row in result.history if "val_loss" in row] == scores[:6]
    assert (result.stopped_by, result.steps, result.best_score) == ("patience", 18, 3.0)
    module = Scripted()
    again = fit(module, loaders(), on_cpu(tmp_path, resume=True, **patient))
    assert again == result
    assert torch.equal(saved_weights(result.last_path), weights(module))


# What is refused.


def test_scheduler_by_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CosineAnnealingLR goes by epoch; needs interval 'step'"):
        fit(Regressor(schedule_by="epoch"), loaders(), on_cpu(tmp_path))


def test_nan_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="val_loss is NaN at step 12"):
        fit(Regressor(nan_from=7), loaders(), on_cpu(tmp_path))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6


def test_unknown_monitor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="monitor is 'loss'; validation logged train_loss, val_l"):
        fit(Regressor(), loaders(), on_cpu(tmp_path, monitor="loss"))


def test_other_loaders_are_refused(tmp_path: Path) -> None:
    train, validate = loaders()
    with pytest.raises(ValueError, match="needs a StepSampler without max_steps"):
        fit(Regressor(), DataLoader(dataset(), batch_size=8), on_cpu(tmp_path, monitor=None))
    with pytest.raises(ValueError, match="needs a validation loader"):
        fit(Regressor(), train, on_cpu(tmp_path))
    with pytest.raises(ValueError, match="needs batches and a validation_step"):
        fit(LightningModule(), (train, validate), on_cpu(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_missing_lightning_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match=r"install sigform-core\[train\]"):
        fit(Regressor(), loaders(), on_cpu(tmp_path))


# Stopping and going on.


def whole_run(tmp_path: Path, **changes: Any) -> tuple[TrainResult, Tensor]:
    module = Regressor()
    result = fit(module, loaders(), on_cpu(tmp_path / "whole", **changes))
    return result, weights(module)


def press_ctrl_c_at(steps: list[int]) -> OnProgress:
    """A progress callback that presses Ctrl-C once at each of `steps`."""
    presses = list(steps)

    def press(step: int, _: int | None, __: dict[str, float]) -> None:
        while presses and step == presses[0]:
            presses.pop(0)
            signal.raise_signal(signal.SIGINT)

    return press


@pytest.mark.parametrize("accumulate", [1, 2])
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, accumulate: int) -> None:
    whole, expected = whole_run(tmp_path, accumulate=accumulate)
    for stop in range(1, 20):
        run_dir = tmp_path / str(stop)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(TrainingInterrupted) as interrupted:
            fit(
                Regressor(),
                loaders(),
                on_cpu(run_dir, accumulate=accumulate),
                on_progress=press_ctrl_c_at([stop]),
            )
        assert signal.getsignal(signal.SIGINT) == before
        assert interrupted.value.result.stopped_by == "interrupted"
        assert interrupted.value.result.steps == stop

        module = Regressor()
        result = fit(module, loaders(), on_cpu(run_dir, accumulate=accumulate, resume=True))
        assert torch.equal(weights(module), expected), stop
        assert result.history == whole.history, stop
        assert (result.steps, result.best_score) == (whole.steps, whole.best_score)
        metrics = (run_dir / "metrics.csv").read_text()
        assert metrics == (tmp_path / "whole" / "metrics.csv").read_text()


def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        fit(Regressor(), loaders(), on_cpu(tmp_path), on_progress=press_ctrl_c_at([8, 8]))
    assert not isinstance(interrupted.value, TrainingInterrupted)
    assert signal.getsignal(signal.SIGINT) == before
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 6


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import Regressor, fit, loaders, on_cpu

def kill(step, total, metrics):
    if step == 17:
        os.kill(os.getpid(), signal.SIGKILL)

fit(Regressor(), loaders(), on_cpu(Path(sys.argv[2])), on_progress=kill)
"""


def test_killed_it_ends_the_same(tmp_path: Path) -> None:
    whole, expected = whole_run(tmp_path)
    run_dir = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(run_dir)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # It had saved itself at step 12 and logged step 16; the kill may have cut another row.
    assert "\n16," in (run_dir / "metrics.csv").read_text()
    with (run_dir / "metrics.csv").open("a") as file:
        file.write("1")
    module = Regressor()
    result = fit(module, loaders(), on_cpu(run_dir, resume=True))
    assert torch.equal(weights(module), expected)
    assert result.history == whole.history


def test_longer_goes_on_from_a_finished_run(tmp_path: Path) -> None:
    whole, expected = whole_run(tmp_path, max_steps=24)
    fit(Regressor(), loaders(), on_cpu(tmp_path / "part", max_steps=12))
    module = Regressor()
    result = fit(module, loaders(), on_cpu(tmp_path / "part", max_steps=24, resume=True))
    assert torch.equal(weights(module), expected)
    assert result.history == whole.history


def test_resumes_from_another_folder(tmp_path: Path) -> None:
    _, expected = whole_run(tmp_path)
    first = fit(Regressor(), loaders(), on_cpu(tmp_path / "first", max_steps=12))
    module = Regressor()
    settings = on_cpu(tmp_path / "second", resume=first.last_path)
    assert fit(module, loaders(), settings).steps == 20
    assert torch.equal(weights(module), expected)
    with pytest.raises(ValueError, match="holds another run"):
        fit(Regressor(), loaders(), settings)
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt does not exist"):
        fit(Regressor(), loaders(), on_cpu(tmp_path / "third", resume=tmp_path / "none.ckpt"))


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    assert fit(Regressor(), loaders(), on_cpu(tmp_path, resume=True)).steps == 20


def test_a_run_is_neither_overwritten_nor_mixed_up(tmp_path: Path) -> None:
    fit(Regressor(), loaders(), on_cpu(tmp_path, max_steps=6))
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        fit(Regressor(), loaders(), on_cpu(tmp_path))
    with pytest.raises(ValueError, match=r"batch_size is 10; resuming .* needs 8 as before"):
        fit(Regressor(), loaders(10), on_cpu(tmp_path, resume=True))
    with pytest.raises(ValueError, match=r"seed is 1; resuming .* needs 0 as before"):
        fit(Regressor(), loaders(), on_cpu(tmp_path, resume=True, seed=1))
    torch.save({"callbacks": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="was not written by fit"):
        fit(Regressor(), loaders(), on_cpu(tmp_path, resume=True))


def test_trains_in_a_thread_without_signals(tmp_path: Path) -> None:
    results: list[TrainResult] = []
    thread = threading.Thread(
        target=lambda: results.append(fit(Regressor(), loaders(), on_cpu(tmp_path)))
    )
    thread.start()
    thread.join()
    assert results[0].steps == 20


class Adversaries(Regressor):
    """Two halves that learn in turn, each by an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = torch.zeros(())
        first, second = self.net[0], self.net[3]
        pairs = zip(self.optimizers(), (second, first), strict=True)  # pyright: ignore[reportArgumentType]
        for optimizer, still in pairs:
            still.requires_grad_(False)
            loss = (self.net(batch[0]) - batch[1]).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            still.requires_grad_(True)
        return loss.detach()

    def configure_optimizers(self) -> Any:
        halves = (self.net[0], self.net[3])
        return [torch.optim.SGD(half.parameters(), 0.01) for half in halves]


def test_several_optimizers_are_counted_once(tmp_path: Path) -> None:
    one, other = Adversaries(), Adversaries()
    assert fit(one, loaders(), on_cpu(tmp_path / "one")).steps == 20
    fit(Adversaries(), loaders(), on_cpu(tmp_path / "other", max_steps=8))
    fit(other, loaders(), on_cpu(tmp_path / "other", resume=True))
    assert torch.equal(weights(one), weights(other))


PARALLEL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from torch import nn
from test_training import Adversaries, Regressor, fit, loaders, on_cpu, weights

module = {"Adversaries": Adversaries, "Regressor": Regressor}[sys.argv[3]]()
module.net[1] = nn.Identity()
result = fit(module, loaders(), on_cpu(Path(sys.argv[2]), devices=2))
assert result.steps == 20, result
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Regressor, Adversaries])
def test_two_processes_train_as_one(tmp_path: Path, kind: type[Regressor]) -> None:
    alone = kind()
    alone.net[1] = nn.Identity()
    whole = fit(alone, loaders(), on_cpu(tmp_path / "alone"))
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    run_dir = tmp_path / "parallel"
    command = [sys.executable, str(script), str(Path(__file__).parent), str(run_dir), kind.__name__]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(saved_weights(run_dir / "last.ckpt"), weights(alone))
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == len(whole.history) + 1
