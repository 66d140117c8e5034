"""Two processes train as one does, and go on after one of them was killed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from faults.trainings import TRAININGS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("trainings.py")
SCORES = {"val_loss", "val_psnr", "val_si_sdri", "held_loss"}


def train(domain: str, run_dir: Path, devices: int, manner: str = "new") -> int:
    """The exit code of a training."""
    ignored = ("RANK", "WORLD_SIZE", "MASTER_", "NODE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ignored)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), domain, str(run_dir), str(devices), manner],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        # When one of its processes dies, Lightning kills their whole group, as a shell made it.
        start_new_session=True,
        env={**kept, "OMP_NUM_THREADS": "1"},
    )
    if manner != "killed":
        assert done.returncode == 0, done.stderr
    return done.returncode


def curve(run_dir: Path) -> list[tuple[int, float]]:
    """Step and score of each validation."""
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    (name,) = SCORES & rows[0].keys()
    return [(int(row["step"]), float(row[name])) for row in rows if row[name]]


def weights(run_dir: Path) -> torch.Tensor:
    """All that was learnt, after the last step."""
    state = torch.load(run_dir / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten().double() for value in state.values()])


def assert_alike(one: Path, other: Path) -> None:
    """The same curve and the same weights, but for the order of sums."""
    first, second = curve(one), curve(other)
    assert len(first) >= 4
    assert [step for step, _ in first] == [step for step, _ in second]
    assert len({score for _, score in first}) > 2, "nothing was learnt that could differ"
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
    distance = torch.linalg.norm(weights(one) - weights(other)) / torch.linalg.norm(weights(one))
    # Adam moves by its learning rate even where the gradient is nothing but rounding.
    assert distance < 5e-2


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("domain", TRAININGS)
def test_two_processes_train_as_one_and_go_on_after_a_kill(tmp_path, domain):
    alone, together, killed = tmp_path / "alone", tmp_path / "together", tmp_path / "killed"
    train(domain, alone, 1)
    train(domain, together, 2)
    assert_alike(alone, together)
    assert train(domain, killed, 2, "killed") != 0
    steps = torch.load(killed / "last.ckpt", weights_only=True)["global_step"]
    assert steps < curve(alone)[-1][0], "the kill came after the end"
    train(domain, killed, 2, "resume")
    assert_alike(alone, killed)
