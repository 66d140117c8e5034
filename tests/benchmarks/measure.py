"""How the speed of the Informer is measured: steps, interleaved timing, peak memory.

Times are seconds of processor time of one thread, so that other load on the machine counts as
little as it can; the variants take turns, and each figure is the median over the turns. Every
table cell is measured in a fresh process: what an earlier cell left in the allocator would spare
a later one its page faults.
"""

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch
from benchmarks import published
from benchmarks.models import CONTESTANTS, draw_window, installed, published_setting
from torch import Tensor
from torch.nn import functional as F

from sigform_forecast.informer import Informer, prob_sparse_attention, sample_size

FACTOR = 5
HEADS = 8
HEAD_DIM = 64
ATTENTIONS = ("ours", "published", "fused full")
Step = Callable[[], object]
Result = TypeVar("Result")


def median_seconds(steps: Mapping[str, Step], turns: int) -> dict[str, float]:
    """Median processor time of each step, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            gc.collect()
            start = time.process_time()
            step()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def apart(function: Callable[..., Result], *args: object) -> Result:
    """Call a function of this module in a process of its own, with one thread."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *args).result()


def peak_mebibytes(build: Callable[..., Step], small: tuple, large: tuple) -> float:
    """Peak resident memory of one step above its start, in MiB.

    `build(*small)` runs first, so that what torch allocates once does not count; then
    `build(*large)` is built, the kernel's high-water mark is reset, and one run is measured.
    Linux only; call it `apart`.
    """
    build(*small)()
    step = build(*large)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    start = _kibibytes("VmRSS")
    step()
    return (_kibibytes("VmHWM") - start) / 1024


def _kibibytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


@dataclass(frozen=True)
class AttentionCase:
    """Random inputs of one attention: query, key, value and output gradient (B, L, H, E)."""

    query: Tensor
    key: Tensor
    value: Tensor
    grad: Tensor
    samples: Tensor
    causal: bool

    @classmethod
    def draw(cls, length: int, batch: int, causal: bool) -> Self:
        generator = torch.Generator().manual_seed(length)
        shape = (batch, length, HEADS, HEAD_DIM)
        query, key, value, grad = (torch.randn(shape, generator=generator) for _ in range(4))
        size = sample_size(FACTOR, length)
        samples = torch.randint(length, (length, size), generator=generator)
        for x in (query, key, value):
            x.requires_grad_()
        return cls(query, key, value, grad, samples, causal)

    def run(self, variant: str) -> tuple[Tensor, ...]:
        """The output and the gradients of the three inputs."""
        inputs = (self.query, self.key, self.value)
        if variant == "fused full":
            q, k, v = (x.transpose(1, 2) for x in inputs)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2)
        else:
            attend = prob_sparse_attention if variant == "ours" else published.attention
            y = attend(*inputs, self.samples, factor=FACTOR, causal=self.causal)
        return (y, *torch.autograd.grad(y, inputs, self.grad))


def attention_step(variant: str, length: int, batch: int, causal: bool) -> Step:
    """Forward and backward of one attention."""
    case = AttentionCase.draw(length, batch, causal)
    return lambda: case.run(variant)


def attention_seconds(length: int, batch: int, causal: bool) -> dict[str, float]:
    """Median seconds of forward and backward of each attention."""
    steps = {name: attention_step(name, length, batch, causal) for name in ATTENTIONS}
    return median_seconds(steps, turns=7)


def attention_memory(length: int, batch: int, causal: bool) -> dict[str, float]:
    """Peak MiB of forward and backward of each attention."""
    return {
        name: apart(
            peak_mebibytes, attention_step, (name, 16, 1, causal), (name, length, batch, causal)
        )
        for name in ATTENTIONS
    }


def attention_error(length: int, batch: int, causal: bool) -> float:
    """Largest relative distance of our output and gradients from the published form's."""
    case = AttentionCase.draw(length, batch, causal)
    pairs = zip(case.run("ours"), case.run("published"), strict=True)
    return max(_distance(a, b) for a, b in pairs)


def _distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def model_step(name: str, length: int, batch: int, mode: str) -> Step:
    """One step of a whole network: a forecast ("infer") or a step of Adam ("train")."""
    torch.manual_seed(0)
    network, loss, forecast = CONTESTANTS[name](published_setting(length), batch)
    if mode == "infer":
        network.eval()
        return torch.no_grad()(forecast)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return train


def model_seconds(length: int, batch: int, mode: str) -> dict[str, float]:
    """Median seconds of a step of each network that is installed."""
    steps = {name: model_step(name, length, batch, mode) for name in installed()}
    return median_seconds(steps, turns=3)


def model_memory(length: int, batch: int) -> dict[str, float]:
    """Peak MiB of the first training step of each network, its Adam state included."""
    return {
        name: apart(
            peak_mebibytes, model_step, (name, 48, 1, "train"), (name, length, batch, "train")
        )
        for name in installed()
    }


def model_error(length: int, batch: int) -> float:
    """Relative distance of our forecast from the published form's, equal parameters and samples."""
    torch.manual_seed(0)
    config = published_setting(length)
    ours, theirs = Informer(config).eval(), published.PublishedInformer(config).eval()
    theirs.load_ours(ours.state_dict())
    inputs = draw_window(config, batch)
    distilled, decoded = -(-length // 2), config.label_len + config.out_len
    samples = [
        torch.randint(n, (n, sample_size(config.factor, n))) for n in (length, distilled, decoded)
    ]
    with torch.no_grad():
        return _distance(ours(*inputs, samples), theirs(*inputs, samples))
