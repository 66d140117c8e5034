"""Works a list of inputs off in processes that may crash without ending the run.

`run_items` hands each item to a worker process and yields an `Outcome` as it comes in. The two
engines differ only in where processes live (local_engine.py, ray_engine.py); who gets which item,
what is tried again and what is given up is decided here, once for both.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Literal, Protocol, TypeVar

from sigform_kit.errors import InputError, describe

Item = TypeVar("Item")
Value = TypeVar("Value")
Seat = int
"""The number under which a backend knows one worker process; never used twice."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: `value` if `ok`, else `error`, the reason in one line.

    `index` counts the items from 0, `seconds` is the time of the last attempt and `attempts` is 2
    where the first ended in a crash.
    """

    index: int
    item: Item
    value: Value | None
    error: str | None
    seconds: float
    attempts: int

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True)
class Died:
    """In place of a reply: the worker process is gone, and why."""

    reason: str


class Backend(Protocol):
    """Worker processes, wherever they live."""

    def start(self) -> Seat:
        """Starts a process; its first reply comes when its worker is set up."""
        ...

    def give(self, seat: Seat, item: bytes) -> None:
        """Hands over a pickled item; the process replies once, or dies."""
        ...

    def replies(self) -> list[tuple[Seat, bytes | Died]]:
        """Waits until at least one process replies or dies. The dead are already stopped."""
        ...

    def stop(self, seat: Seat) -> None:
        """Ends a process that has replied."""
        ...

    def close(self) -> None:
        """Ends all processes, whatever they do."""
        ...


def run_items(
    items: Iterable[Item],
    worker: Callable[[], Callable[[Item], Value]],
    *,
    engine: Literal["local", "ray"] = "local",
    jobs: int = 1,
    address: str | None = None,
    gpus: float = 0.0,
) -> Iterator[Outcome[Item, Value]]:
    """Works on every item and yields outcomes as they come, each with its item's index.

    `worker` is pickled and called once in each of `jobs` processes (it loads the model), and
    what it returns is called with each item; both, and the values, must be picklable. An
    exception is that item's failure. A process that dies (killed, segmentation fault) is
    replaced, and its item is tried once more. Items are taken from the iterable only as
    processes ask for them. Even `jobs=1` uses a process, so that a crash never ends the run
    and the calling process need not load the model.

    `engine="ray"` runs Ray actors on the cluster at `address` (default: the running one), each
    with one CPU and `gpus` GPUs. Closing the iterator, or an exception such as Ctrl-C in the
    loop over it, ends all processes. Workers are daemons: they cannot start multiprocessing
    children of their own. A script that calls this needs the `if __name__ == "__main__"` guard.

    Raises InputError where no item can be worked on: the worker fails or dies while it is set
    up, Ray is not installed, no cluster is found. Raises ValueError for a `worker` that cannot
    be pickled and for bad arguments.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; needs 1 or more")
    if engine not in ("local", "ray"):
        raise ValueError(f"engine is {engine!r}; needs 'local' or 'ray'")
    try:
        pickled = pickle.dumps(worker)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"worker is {worker!r}; needs to be picklable: {error}") from error
    return _run(items, pickled, engine, jobs, address, gpus)


def _run(
    items: Iterable[Item],
    worker: bytes,
    engine: str,
    jobs: int,
    address: str | None,
    gpus: float,
) -> Iterator[Outcome[Item, Any]]:
    if engine == "ray":
        from sigform_kit.ray_engine import RayBackend

        backend: Backend = RayBackend(worker, address=address, gpus=gpus)
    else:
        from sigform_kit.local_engine import LocalBackend

        backend = LocalBackend(worker)
    try:
        yield from _supervise(items, backend, jobs)
    finally:
        backend.close()


@dataclass(kw_only=True)
class _Task(Generic[Item]):
    """An item on its way through the processes."""

    index: int
    item: Item
    pickled: bytes
    attempts: int = 0
    begun: float = 0.0


def _tasks(items: Iterable[Item]) -> Iterator[_Task[Item]]:
    for index, item in enumerate(items):
        try:
            pickled = pickle.dumps(item)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"item {index} is {item!r}; needs to be picklable: {error}") from error
        yield _Task(index=index, item=item, pickled=pickled)


def _supervise(items: Iterable[Item], backend: Backend, jobs: int) -> Iterator[Outcome[Item, Any]]:
    source = _tasks(items)
    backlog = deque(islice(source, jobs))
    for _ in backlog:
        backend.start()
    working: dict[Seat, _Task[Item]] = {}
    deaths_at_start = 0
    while backlog or working:
        for seat, reply in backend.replies():
            task = working.pop(seat, None)
            outcome = None
            if task is None:
                deaths_at_start = _check_start(reply, deaths_at_start)
            elif isinstance(reply, Died) and task.attempts == 1:
                backlog.appendleft(task)
            else:
                outcome = _outcome(task, reply)
            if not backlog:
                backlog.extend(islice(source, 1))
            if isinstance(reply, Died):
                if backlog:
                    backend.start()
            elif not backlog:
                backend.stop(seat)
            else:
                # Before yielding, so that the process works while the caller does.
                following = backlog.popleft()
                following.attempts += 1
                following.begun = time.monotonic()
                working[seat] = following
                backend.give(seat, following.pickled)
            if outcome is not None:
                yield outcome


def _check_start(reply: bytes | Died, deaths: int) -> int:
    """How many processes in a row died while their worker was set up: one is given a chance."""
    if isinstance(reply, Died):
        if deaths:
            raise InputError(f"the worker dies while it is set up ({reply.reason})")
        return deaths + 1
    error, _, _ = pickle.loads(reply)
    if error is not None:
        raise InputError(f"the worker cannot be set up: {error}")
    return 0


def _outcome(task: _Task[Item], reply: bytes | Died) -> Outcome[Item, Any]:
    if isinstance(reply, Died):
        seconds = time.monotonic() - task.begun
        error, value = f"the worker died twice on this input ({reply.reason})", None
    else:
        try:
            error, value, seconds = pickle.loads(reply)
        except Exception as failure:  # noqa: BLE001 - a value may fail in any way to come back
            seconds = time.monotonic() - task.begun
            error, value = f"the result cannot be read: {describe(failure)}", None
    return Outcome(
        index=task.index,
        item=task.item,
        value=value,
        error=error,
        seconds=seconds,
        attempts=task.attempts,
    )
