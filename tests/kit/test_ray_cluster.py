"""A real cluster of two nodes: the same outcomes as here, whoever is killed on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.engine_workers import Square
from kit.ray_cluster import Cluster, ray_environment, two_nodes

from sigform_kit import run_items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Joins a cluster and tells the outcomes; a process of its own, as Ray stays in one for good.
DRIVER = """
import json, sys
from pathlib import Path
from kit.engine_workers import Square
from sigform_kit import run_items

address, folder, items = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
for o in run_items(items, Square(folder), engine="ray", jobs=2, address=address):
    print(json.dumps([o.index, o.item, o.value, o.error, o.attempts]), flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each."""
    with two_nodes() as nodes:
        yield nodes


def driver(cluster: Cluster, folder: Path, items: list[object]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address, str(folder), json.dumps(items)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ray_environment(),
    )


def outcomes(process: subprocess.Popen[str]) -> list[list[object]]:
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return sorted(json.loads(line) for line in out.splitlines())


def test_two_nodes_tell_the_same_as_this_machine(cluster, tmp_path):
    for name in ("ray", "local"):
        (tmp_path / name).mkdir()
    items = [*range(40), "raise", "exit", "print", "crash-once", "crash", 7]
    told = outcomes(driver(cluster, tmp_path / "ray", items))
    here = sorted(run_items(items, Square(tmp_path / "local"), jobs=2), key=lambda o: o.index)
    expected = [[o.index, o.item, o.value, o.error, o.attempts] for o in here]
    assert expected[-2][3] == "the worker died twice on this input (killed by SIGKILL)"
    expected[-2][3] = "the worker died twice on this input (the Ray actor is gone)"
    assert told == expected


def test_a_worker_that_cannot_be_set_up_ends_the_run(cluster):
    code = DRIVER.replace("Square(folder)", "no_model").replace("Square", "no_model")
    done = subprocess.run(
        [sys.executable, "-c", code, cluster.address, ".", "[1]"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=ray_environment(),
    )
    assert "the worker cannot be set up: model.safetensors: No such file" in done.stderr


def test_a_killed_worker_loses_nothing(cluster, tmp_path):
    process = driver(cluster, tmp_path, ["sleep 3", "sleep 3", *range(10)])
    deadline = time.monotonic() + 120
    while not (marks := list(tmp_path.glob("asleep-*"))):
        assert time.monotonic() < deadline, "no item was begun"
        time.sleep(0.05)
    victim = int(marks[0].name.removeprefix("asleep-"))
    assert victim in [worker.pid for worker in cluster.workers()]
    for worker in cluster.workers():
        if worker.pid == victim:
            worker.kill()
    told = outcomes(process)
    assert [line[2] for line in told] == ["sleep 3 done"] * 2 + [n * n for n in range(10)]
    assert sorted(int(str(line[4])) for line in told) == [*[1] * 11, 2]


def test_a_node_that_is_lost_loses_nothing(tmp_path):
    with two_nodes() as cluster:
        process = driver(cluster, tmp_path, ["sleep 3", "sleep 3", *range(10)])
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("asleep-*"))) < 2:
            assert time.monotonic() < deadline, "no item was begun on both nodes"
            time.sleep(0.05)
        assert len(cluster.workers(cluster.second)) == 1
        cluster.kill_second()
        told = outcomes(process)
    assert [line[2] for line in told] == ["sleep 3 done"] * 2 + [n * n for n in range(10)]
