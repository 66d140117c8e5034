"""On a cluster of two nodes every domain makes, byte for byte, what it makes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.domains import DOMAINS, Domain
from faults.trials import outputs
from kit.ray_cluster import Cluster, ray_environment, two_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
BATCHES = [domain for domain in DOMAINS if domain.engine]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each."""
    with two_nodes() as nodes:
        yield nodes


def batch(domain: Domain, folder: Path, *words: str) -> subprocess.Popen[str]:
    """The batch of a domain, as a shell runs it, with two workers and a report."""
    module = domain.app.partition(".")[0]
    words = (*domain.many, "--jobs", "2", "--report", "report.jsonl", *words)
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ray_environment(),
    )


def report(folder: Path) -> list[tuple[str, str, str]]:
    """Input, status and outputs of each line."""
    lines = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    return sorted((line["input"], line["status"], str(line["outputs"])) for line in lines)


def by_ray(cluster: Cluster) -> tuple[str, ...]:
    return "--engine", "ray", "--address", cluster.address


@pytest.mark.parametrize("domain", BATCHES, ids=lambda domain: domain.name)
def test_ray_and_local_write_the_same_though_a_worker_is_killed(cluster, tmp_path, domain):
    folders = [tmp_path / name for name in ("local", "ray")]
    for folder in folders:
        folder.mkdir()
        domain.prepare(folder)
    here, there = folders
    # Both from the same weights.
    (there / domain.weights).write_bytes((here / domain.weights).read_bytes())
    local = batch(domain, here)
    _, errors = local.communicate(timeout=900)
    assert local.returncode == 0, errors
    ray = batch(domain, there, *by_ray(cluster))
    deadline = time.monotonic() + 600
    while ray.poll() is None and not (workers := cluster.workers()):
        assert time.monotonic() < deadline, "no worker started"
        time.sleep(0.02)
    assert workers, "the batch ended before it was seen"
    workers[0].kill()
    _, errors = ray.communicate(timeout=900)
    assert ray.returncode == 0, errors
    assert outputs(here)
    assert outputs(there) == outputs(here)
    assert report(there) == report(here)
