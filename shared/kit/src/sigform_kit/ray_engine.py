"""Worker processes on a Ray cluster that runs already, one actor each."""

from __future__ import annotations

import importlib
import logging
import sys
from itertools import count
from typing import Any

from sigform_kit.engines import Died, Seat
from sigform_kit.errors import InputError, describe
from sigform_kit.workplace import Workplace

logger = logging.getLogger("sigform_kit")

PATIENCE = 30.0
"""Seconds without any answer after which it is said that the cluster may be busy."""


class RayBackend:
    """The `engines.Backend` of `--engine ray`."""

    def __init__(self, worker: bytes, *, address: str | None, gpus: float) -> None:
        try:
            # Its types are too dynamic to check.
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise InputError(
                "engine ray: Ray is not installed; pip install 'sigform-kit[ray]'"
            ) from error
        self._ray = ray
        self._worker = worker
        self._seats = count()
        self._actors: dict[Seat, Any] = {}
        self._answers: dict[Any, Seat] = {}
        self._heard = False
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(ray, address or "auto")
        self._actor_class = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0
        )(Workplace)

    def start(self) -> Seat:
        seat = next(self._seats)
        actor = self._actor_class.remote(self._worker, sys.path)
        self._actors[seat] = actor
        self._answers[actor.set_up.remote()] = seat
        return seat

    def give(self, seat: Seat, item: bytes) -> None:
        self._answers[self._actors[seat].work.remote(item)] = seat

    def replies(self) -> list[tuple[Seat, bytes | Died]]:
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait(list(self._answers), timeout=PATIENCE)
            if not ready and not self._heard:
                logger.warning("no Ray actor has started yet; 'ray status' shows what is free")
        self._heard = True
        return [(self._answers[answer], self._reply(answer)) for answer in ready]

    def stop(self, seat: Seat) -> None:
        self._ray.kill(self._actors.pop(seat))

    def close(self) -> None:
        for seat in list(self._actors):
            self.stop(seat)
        self._answers.clear()
        if self._joined:
            self._ray.shutdown()

    def _reply(self, answer: Any) -> bytes | Died:
        seat = self._answers.pop(answer)
        failures = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except (failures.RayActorError, failures.OutOfMemoryError, failures.ObjectLostError):
            self.stop(seat)
            return Died("the Ray actor is gone")
        except failures.RayError as error:
            raise InputError(f"engine ray: {describe(error)}") from error


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise InputError(
            f"engine ray: no Ray cluster to join at {address}: does one run ('ray start --head'), "
            "and is its token in RAY_AUTH_TOKEN?"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"engine ray: cannot join {address}: {describe(error)}") from error
    # Ray tells of dead actors on stdout, among our results, and has no public switch for it.
    internals: Any = importlib.import_module("ray._private.worker")
    internals._worker_logs_enabled = False
