"""How much memory a device has left."""

from pathlib import Path

import psutil
import torch

# Where Linux says how much memory a container may use and does, in both versions.
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def free_memory(device: torch.device, groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that `device` can still give, for the CPU also within a container's limit.

    Other devices than CUDA share the machine's memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    for limit, used in _LIMITS:
        try:
            left = int((groups / limit).read_text()) - int((groups / used).read_text())
        except (OSError, ValueError):
            continue  # no such file, or "max": no limit
        free = min(free, max(0, left))
    return free
