"""Where and in which precision a model runs: device, dtype, threads, random generators."""

import torch

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def pick_device(name: str = "auto") -> torch.device:
    """The device that `name` asks for: auto, cpu, cuda, cuda:N or mps.

    `auto` takes CUDA before MPS before the CPU. Raises ValueError when the device is not on this
    machine or the name is none of these.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if name in ("cpu", "mps") or (kind == "cuda" and (index.isdecimal() or not colon)):
        device = torch.device(name)
    else:
        raise ValueError(f"device is {name!r}; needs auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(f"device is {name!r}, which this machine lacks; needs auto or cpu")
        if (device.index or 0) >= count:
            raise ValueError(f"device is {name!r}; this machine has cuda:0 to cuda:{count - 1}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', which this machine lacks; needs auto or cpu")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`: float32, bfloat16, float16 or float64, if `device` computes in it.

    Raises ValueError for another name, for float16 on the CPU (slower than float32 and without
    many operators), for float64 on MPS and for bfloat16 on a GPU that only emulates it.
    """
    if name not in _DTYPES:
        raise ValueError(f"dtype is {name!r}; needs {', '.join(_DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise ValueError("dtype is 'float16' on the CPU; needs float32, bfloat16 or float64 there")
    if name == "float64" and device.type == "mps":
        raise ValueError("dtype is 'float64' on MPS; needs float32, bfloat16 or float16 there")
    if (
        name == "bfloat16"
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ValueError("dtype is 'bfloat16' on a GPU without it; needs float32 or float16 there")
    return _DTYPES[name]


def precision_for(dtype: torch.dtype, device: torch.device) -> str:
    """Lightning's name for training in `dtype`: 16-bit types are mixed with float32 weights."""
    names = {
        torch.float32: "32-true",
        torch.float64: "64-true",
        torch.bfloat16: "bf16-mixed",
        torch.float16: "16-mixed",
    }
    if dtype not in names:
        raise ValueError(f"training dtype is {dtype}; needs {', '.join(map(str, names))}")
    if dtype == torch.float16 and device.type != "cuda":
        raise ValueError(f"training dtype is float16 on {device.type}; needs CUDA")
    return names[dtype]


def set_threads(n: int | None) -> None:
    """Let torch use `n` CPU threads inside one operator; None leaves its own choice."""
    if n is None:
        return
    if n < 1:
        raise ValueError(f"threads is {n}; needs 1 or more")
    torch.set_num_threads(n)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator of its own, seeded with `seed`; torch's global one stays untouched."""
    return torch.Generator(device=device).manual_seed(seed)
