"""A place for tensors that are not needed now: memory while there is room, then a file each."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Shelf:
    """Keeps tensors until they are asked for, `budget` bytes of them in memory.

    Those beyond go to files of a temporary folder in 16 bits, float32 as float16 (relative error
    5e-4 at most). `close` removes the folder; the shelf is a context manager that does.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._names = itertools.count()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def keep(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Put a tensor away; the answer brings it back, once. Raises OSError on a full disk."""
        size = tensor.nbytes
        if self.used + size > self.budget:
            return self._in_file(tensor)
        self.used += size
        held = [tensor]

        def back() -> Tensor:
            self.used -= size
            return held.pop()  # the caller's is then the only reference

        del tensor
        return back

    def close(self) -> None:
        """Remove what is still there."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_file(self, tensor: Tensor) -> Callable[[], Tensor]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sigform-")
        path = Path(self._folder.name) / f"{next(self._names)}.npy"
        device, dtype, shape = tensor.device, tensor.dtype, tensor.shape
        short = tensor.half() if dtype == torch.float32 else tensor
        # numpy has no bfloat16, but bits are bits.
        np.save(path, short.cpu().contiguous().view(torch.uint8).numpy())
        stored = short.dtype

        def back() -> Tensor:
            bits = torch.from_numpy(np.load(path))
            path.unlink()
            return bits.view(stored).view(shape).to(device, dtype)

        return back
