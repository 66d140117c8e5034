"""`doctor`: is this machine fit for the work, and if not, what to do."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from sigform_kit.console import Console, paint
from sigform_kit.errors import describe

GIB = 2**30
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding. `advice` says what to do about a warn or fail."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def run_checks(checks: Iterable[Callable[[], Check]], console: Console) -> int:
    """Prints a line for each check and returns the exit code: 1 if one fails, else 0.

    A check that raises counts as failed and leaves the others running.
    """
    failed = False
    for check in checks:
        try:
            found = check()
        except Exception as error:  # noqa: BLE001 - the doctor reports whatever is broken
            name = getattr(getattr(check, "func", check), "__name__", "check")
            found = Check(name=name.replace("_", " "), status="fail", detail=describe(error))
        failed = failed or found.status == "fail"
        mark = paint(f"{found.status:<4}", _COLOURS[found.status], sys.stdout)
        advice = f"; {found.advice}" if found.advice else ""
        console.result(asdict(found), f"{mark}  {found.name}: {found.detail}{advice}")
    return int(failed)


def standard_checks(*distributions: str, cache: Path) -> Iterator[Callable[[], Check]]:
    """What every domain checks: Python, its distributions, the machine, and torch if installed."""
    yield python
    for name in distributions:
        yield partial(distribution, name)
    yield processors
    yield memory
    yield partial(disk, cache)
    if importlib.util.find_spec("torch") is not None:
        yield torch


def python() -> Check:
    detail = f"{platform.python_version()} at {sys.executable}"
    return Check(name="Python", status="ok", detail=detail)


def distribution(name: str) -> Check:
    """Is the distribution `name` installed, and which version?"""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        advice = f"pip install {name}"
        return Check(name=name, status="fail", detail="not installed", advice=advice)
    return Check(name=name, status="ok", detail=version)


def processors() -> Check:
    """How many cores may we use, and do the threads that are asked for fit them?"""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    detail = f"{usable} of {cores} cores usable"
    quota = processor_quota()
    if quota is not None and quota < usable:
        detail += f", processor time of {quota:g}"
        usable = max(1, round(quota))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads:
        detail += f", OMP_NUM_THREADS={threads}"
    if threads.isdecimal() and int(threads) > usable:
        advice = f"threads in each other's way are slow: set OMP_NUM_THREADS to {usable} or less"
        return Check(name="processors", status="warn", detail=detail, advice=advice)
    if quota is not None and not threads and usable < cores:
        advice = f"a container's limit that torch does not see: use --threads {usable}"
        return Check(name="processors", status="warn", detail=detail, advice=advice)
    return Check(name="processors", status="ok", detail=detail)


def processor_quota(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """The cores' worth of time that a container may use; None without a limit."""
    try:
        time, period = limits.read_text().split()
        return int(time) / int(period)
    except (OSError, ValueError):
        return None


def memory(needed: float = 2.0) -> Check:
    """Is there `needed` GiB of memory free?"""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (os.sysconf(name) * page for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError):
        return Check(name="memory", status="warn", detail="this system does not tell how much")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        # What Linux could free counts too: its file cache makes the plain number look small.
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < needed * GIB:
        advice = f"{needed:g} GiB is comfortable: close programs or use a smaller --batch-size"
        return Check(name="memory", status="warn", detail=detail, advice=advice)
    return Check(name="memory", status="ok", detail=detail)


def disk(folder: Path, needed: float = 1.0) -> Check:
    """Is there `needed` GiB of disk free, and may we write, where `folder` is or will be?"""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    detail = f"{free / GIB:.1f} GiB free for {folder}"
    if held := _held(folder):
        detail += f", which holds {held / 2**20:.0f} MiB"
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = "make it writable, or set SIGFORM_CACHE to a folder that is"
        return Check(name="disk", status="fail", detail=f"{existing} is read-only", advice=advice)
    if free < needed * GIB:
        advice = f"{needed:g} GiB is comfortable: make room, or set SIGFORM_CACHE to another disk"
        return Check(name="disk", status="warn", detail=detail, advice=advice)
    return Check(name="disk", status="ok", detail=detail)


def _held(folder: Path) -> int:
    """Bytes of the files in a folder; those of a download that vanish meanwhile count as none."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def torch() -> Check:
    """Does torch import, and which devices does it see?"""
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        advice = "pip install --force-reinstall torch"
        return Check(name="torch", status="fail", detail=describe(error), advice=advice)
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    seen = ", ".join(devices) if devices else "no GPU, computes on the CPU"
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads, {seen}"
    if not devices and gpu_present():
        built = "is built for the CPU only: install the CUDA build, see pytorch.org/get-started"
        advice = (
            "torch cannot use the GPU of this machine: install or update its driver"
            if torch.version.cuda
            else f"this machine has a GPU, but torch {built}"
        )
        return Check(name="torch", status="warn", detail=detail, advice=advice)
    return Check(name="torch", status="ok", detail=detail)


def gpu_present(devices: Path = Path("/dev")) -> bool:
    """Has this machine an NVIDIA card, whether or not torch can use it?"""
    return any(devices.glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


def cache_folder() -> Path:
    """Where sigform keeps what it downloads: $SIGFORM_CACHE, else in the platform's cache."""
    if os.environ.get("SIGFORM_CACHE"):
        return Path(os.environ["SIGFORM_CACHE"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sigform"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home()), "sigform", "sigform", "Cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigform"
