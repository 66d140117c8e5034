"""A Ray cluster of two nodes on this machine, for as long as a test module runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from kit.processes import environment

# Only who has the token may join.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


@dataclass(frozen=True)
class Cluster:
    """Where to join, and the process of `ray start` that is the second node."""

    address: str
    second: psutil.Process

    def workers(self, node: psutil.Process | None = None) -> list[psutil.Process]:
        """The actors of ours that run now, on all nodes or below one."""
        found = (node or psutil.Process()).children(recursive=True)
        return [process for process in found if _title(process).startswith("ray::Workplace")]

    def kill_second(self) -> None:
        """All of the second node at once, as by a power cut."""
        for process in [*self.second.children(recursive=True), self.second]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@contextlib.contextmanager
def two_nodes(cpus: int = 1) -> Iterator[Cluster]:
    """A head and a second node, each with `cpus`."""
    # The sockets in this folder need a shorter path than pytest's folders have.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, contextlib.ExitStack() as nodes:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        port = address.partition(":")[2]
        head = ("--head", "--port", port, "--temp-dir", folder, "--include-dashboard", "false")
        nodes.enter_context(_node(folder, cpus, *head))
        second = nodes.enter_context(_node(folder, cpus, "--address", address))
        yield Cluster(address, second)


@contextlib.contextmanager
def _node(folder: str, cpus: int, *words: str) -> Iterator[psutil.Process]:
    """`ray start`, until the block ends."""
    told = Path(folder, f"told-{words[0]}.txt")
    command = [str(Path(sys.executable).with_name("ray")), "start", *words, "--block"]
    command += ["--num-cpus", str(cpus), "--node-ip-address", "127.0.0.1"]
    command += ["--object-store-memory", str(100 * 2**20), "--disable-usage-stats"]
    with told.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=stream,
            env=environment({**RAY_ENVIRONMENT, "PYTHONUNBUFFERED": "1"}),
        )
    try:
        deadline = time.monotonic() + 280
        while "Ray runtime started" not in told.read_text():
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        family = _family(process.pid)
        process.terminate()
        process.wait()
        for left in psutil.wait_procs(family, timeout=10)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def ray_environment() -> dict[str, str]:
    """The environment of a process that may join."""
    return environment({**RAY_ENVIRONMENT, "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]})
