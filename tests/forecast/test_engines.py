"""Many files, several processes: the same tables whoever works on them."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from forecast.commands import HASTY, PLAIN, QUICK, command, finish, saved, start, weekly

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
# The cluster of these tests, which only who has their token may join.
CLUSTER = """
import ray, sys
context = ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=100 * 2**20,
    _temp_dir=sys.argv[1],
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""

LINEAR = ("--model", "NLinear", "-n", "5", *HASTY, *PLAIN, "--threads", "1")
INFORMER = ("--model", "Informer", "-n", "5", *QUICK, *PLAIN, "--threads", "1", "--seed", "3")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    """Works in a folder with three tables."""
    monkeypatch.chdir(tmp_path)
    for name, begin in (("a", "2024-01-01"), ("b", "2023-02-03"), ("sub/c", "2022-03-04")):
        saved(weekly(start=begin), f"in/{name}.csv")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two CPUs that lives as long as these tests."""
    # The sockets in this folder need a shorter path than pytest's folders have.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        errors = Path(folder, "errors.txt")
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", CLUSTER, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={**psutil.Process().environ(), **RAY_ENVIRONMENT},
            )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        family = psutil.Process(process.pid).children(recursive=True)
        try:
            assert address, errors.read_text()
            yield address
        finally:
            process.communicate("", timeout=30)
            for left in psutil.wait_procs(family, timeout=10)[1]:
                left.kill()


def tables(folder: str) -> dict[str, bytes]:
    """Every table below a folder, by its place there."""
    found = sorted(Path(folder).rglob("*_forecast.csv"))
    assert len(found) == 3
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def one_by_one(*words: str) -> dict[str, bytes]:
    """The tables that this process makes of each file alone."""
    for path in sorted(Path("in").rglob("*.csv")):
        place = Path("alone") / path.relative_to("in").with_name(f"{path.stem}_forecast.csv")
        assert command(path, *words, "-o", place).code == 0
    return tables("alone")


def over_ray(address: str, *words: str) -> dict[str, bytes]:
    """The tables of a Ray cluster, asked by a process that ends, as Ray stays in one for good."""
    process = start(
        *("in", *words, "-o", "ray", "--engine", "ray", "--address", address),
        told=Path("told.txt"),
        env=RAY_ENVIRONMENT,
    )
    code, said = finish(process), Path("told.txt").read_text()
    assert code == 0, said
    assert "wrote ray/sub/c_forecast.csv" in said
    return tables("ray")


def test_two_jobs_make_the_tables_that_one_makes():
    told = command("in", *LINEAR, "-o", "two", "--jobs", "2")
    assert told.code == 0, told.err
    assert told.out.count("wrote two/") == 3
    assert "in/sub/c.csv: steps: daily" in told.err
    assert tables("two") == one_by_one(*LINEAR)


def test_ray_makes_the_same_tables(cluster):
    assert over_ray(cluster, *LINEAR) == one_by_one(*LINEAR)


@pytest.mark.slow
def test_training_is_the_same_in_every_engine(cluster):
    alone = one_by_one(*INFORMER)
    for jobs in (1, 2):
        assert command("in", *INFORMER, "-o", f"jobs{jobs}", "--jobs", jobs).code == 0
        assert tables(f"jobs{jobs}") == alone
    assert over_ray(cluster, *INFORMER, "--jobs", "2") == alone


def test_predict_loads_its_model_in_every_process():
    assert command("train", "in/a.csv", *LINEAR[:6], "-o", "model.sf", "-q").code == 0
    words = ("--model", "model.sf", *PLAIN, "-q")
    told = command("predict", "in", *words, "-o", "out")
    assert told.code == 0, told.err
    assert len(tables("out")) == 3
    assert command("predict", "in/b.csv", *words, "-o", "b.csv").code == 0
    assert Path("b.csv").read_bytes() == tables("out")["b_forecast.csv"]
