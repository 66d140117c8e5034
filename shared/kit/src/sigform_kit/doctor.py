"""`doctor`: is this machine fit for the work, and if not, what to do."""

from __future__ import annotations

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
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={threads}" if threads else ""
    return Check(name="processors", status="ok", detail=f"{usable} of {cores} cores usable{limit}")


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
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = "make it writable"
        return Check(name="disk", status="fail", detail=f"{existing} is read-only", advice=advice)
    if free < needed * GIB:
        advice = f"{needed:g} GiB is comfortable: make room"
        return Check(name="disk", status="warn", detail=detail, advice=advice)
    return Check(name="disk", status="ok", detail=detail)


def torch() -> Check:
    """Does torch import, and which devices does it see?"""
    import torch

    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    seen = ", ".join(devices) if devices else "no GPU, computes on the CPU"
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads, {seen}"
    return Check(name="torch", status="ok", detail=detail)


def cache_folder() -> Path:
    """The folder of this person's machine in which sigform keeps what it downloads."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sigform"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sigform"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigform"
