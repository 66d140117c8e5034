from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kit.engine_workers import Square
from kit.processes import environment

from sigform_kit import InputError, Outcome, run_items

ITEMS = [1, "crash-once", 2, "crash", "raise", 3]

# Joins a cluster and tells the outcomes; a process of its own, as Ray stays in one for good.
DRIVER = """
import json, sys
from pathlib import Path
from kit.engine_workers import Square, no_model
from sigform_kit import InputError, run_items

address, folder, items = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
told = {}
for o in run_items(items, Square(folder), engine="ray", jobs=2, address=address):
    told[o.index] = [o.item, o.value, o.error, o.attempts]
print(json.dumps([told[n] for n in sorted(told)]))
try:
    list(run_items([1], no_model, engine="ray", address=address))
except InputError as error:
    print(error)
"""


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
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


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
                env=environment(RAY_ENVIRONMENT),
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


def told(outcome: Outcome) -> list[object]:
    return [outcome.item, outcome.value, outcome.error, outcome.attempts]


def test_ray_and_local_tell_the_same(cluster, tmp_path):
    for name in ("ray", "local"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, cluster, str(tmp_path / "ray"), json.dumps(ITEMS)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(RAY_ENVIRONMENT),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, without_model = done.stdout.splitlines()
    outcomes = sorted(run_items(ITEMS, Square(tmp_path / "local"), jobs=2), key=lambda o: o.index)
    expected = [told(outcome) for outcome in outcomes]
    assert expected[3][2] == "the worker died twice on this input (killed by SIGKILL)"
    expected[3][2] = "the worker died twice on this input (the Ray actor is gone)"
    assert json.loads(first) == expected
    assert without_model == (
        "the worker cannot be set up: model.safetensors: No such file or directory"
    )


def test_without_a_cluster_one_line_says_so(monkeypatch, tmp_path):
    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    # Whether another cluster runs on this machine must not matter.
    ray = types.SimpleNamespace(init=init, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(InputError) as caught:
        list(run_items([1], Square(tmp_path), engine="ray"))
    assert caught.value.message == (
        "engine ray: no Ray cluster to join at auto: does one run ('ray start --head'), "
        "and is its token in RAY_AUTH_TOKEN?"
    )


def test_without_ray_one_line_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install 'sigform-kit\[ray\]'"):
        list(run_items([1], Square(tmp_path), engine="ray"))
