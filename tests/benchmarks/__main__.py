"""Measure the Informer and write the tables: `cd tests && python -m benchmarks --write PATH`."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import torch
from benchmarks.measure import (
    ATTENTIONS,
    apart,
    attention_error,
    attention_memory,
    attention_seconds,
    model_error,
    model_memory,
    model_seconds,
)
from benchmarks.models import installed

ATTENTION_CELLS = ((96, 4), (168, 4), (336, 4), (720, 4), (1440, 4), (2880, 2))
MODEL_CELLS = ((96, 32), (168, 32), (336, 8), (720, 8))
HEAD = """\
# Benchmarks

Written by `cd tests && python -m benchmarks --write ../BENCHMARKS.md`; the bounds are asserted by
`pytest -m benchmark tests/benchmarks`. The peers come with `uv sync --group peers`.

{machine}

Times are processor time of one thread in milliseconds, float32, medians over turns in which the
variants alternate (7 for the attention, 3 for the networks), each cell in a fresh process. `x` is
how many times longer than ours. Memory is the peak resident set of one step above its start, each
figure in a fresh process after a small step (Linux, `/proc/self/status` VmHWM).

"Published" is the published form written again in `tests/benchmarks/published.py`: equal
parameters give equal output. Checked by hand against the published code (zhouhaoyi/Informer2020
at 29f2a73): attention at L 96, 336, 720 takes 0.96 to 1.02 times as long as there, whole
forecasts 1.02 to 1.03, training steps 0.98 to 1.01.
"""
ATTENTION = """
## ProbSparse attention alone

8 heads of 64, factor 5, input (B, L, H, E), forward and backward, equal samples. Largest relative
distance of our output and gradients from the published form's: {error:.0e}. "Fused full" is
torch's fused full attention on the same input.
"""
MODEL = """
## The whole network

d_model 512, 8 heads, 2 encoder layers with distilling, 1 decoder layer with mix, d_ff 2048, factor
5, dropout 0.05, univariate with 4 calendar features, 24 steps ahead, half the window as the
decoder's start. A training step is forward, loss, backward and Adam. Relative distance of our
forecast from the published form's, equal parameters and samples: {error:.0e}.

"Ours by MKL" is ours where oneDNN is not the faster library, as on processors other than AMD's:
MKL, which torch multiplies with, leaves the AVX-512 of an AMD processor unused.
"""
DEFECTS = """
## What the peers compute

The peers are timed as they are; they do not compute the same thing.

- neuralforecast 3.3: the attention's output is not transposed back, so heads and steps are mixed
  in every attention layer (with all queries active it differs from multi-head attention by 0.365
  at 4 heads); with one head, sample 0 changes when sample 1 does (by 0.079). The distilling
  convolution pads by 2. Univariate only; no calendar unless passed as future covariates.
- transformers 5: all queries share one sample of keys, whose size is practically always all keys,
  so the "sampled" product is the full one. The decoder forecasts step by step: one sample path
  here, 100 by default. Its training step is short because its decoder sees the 24 new steps only.
- By inspection, neither loads the published checkpoints (not tested).
"""


def machine() -> str:
    """The processor, and the versions of what is measured."""
    capabilities = torch.cpu.get_capabilities()
    cores = capabilities["num_physical_cores"]
    lines = [
        f"{capabilities['cpu_name']}, {cores} cores, 1 thread used",
        f"{platform.system()} {platform.machine()}",
    ]
    for name in ("torch", "neuralforecast", "transformers"):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} is not installed")
    return "; ".join([*lines, f"Python {platform.python_version()}"]) + "."


def table(first: str, names: list[str], rows: dict[str, dict[str, float]], digits: int) -> str:
    """A Markdown table of figures, each with its ratio to ours."""
    lines = [f"| {first} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, figures in rows.items():
        cells = [
            f"{figures[name]:.{digits}f}"
            + ("" if name == "ours" else f" ({figures[name] / figures['ours']:.2f}x)")
            for name in names
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}


def attention_tables() -> str:
    parts = []
    for causal in (False, True):
        masked = "masked" if causal else "unmasked"
        rows = {}
        for length, batch in ATTENTION_CELLS:
            click.echo(f"attention, {masked}, L {length}", err=True)
            seconds = apart(attention_seconds, length, batch, causal)
            rows[f"{length}, {batch}"] = milliseconds(seconds)
        parts.append(table(f"{masked}, ms: L, B", list(ATTENTIONS), rows, 1))
    peaks = {
        f"720, 4, {'masked' if causal else 'unmasked'}": attention_memory(720, 4, causal)
        for causal in (False, True)
    }
    parts.append(table("peak MiB: L, B", list(ATTENTIONS), peaks, 0))
    return "\n".join(parts)


def model_tables() -> str:
    parts = []
    for mode, title in (("infer", "forecast"), ("train", "training step")):
        rows = {}
        for length, batch in MODEL_CELLS:
            click.echo(f"network, {title}, L {length}", err=True)
            rows[f"{length}, {batch}"] = milliseconds(apart(model_seconds, length, batch, mode))
        parts.append(table(f"{title}, ms: L, B", installed(), rows, 0))
    peaks = {"720, 8": model_memory(720, 8)}
    parts.append(table("training step, peak MiB: L, B", installed(), peaks, 0))
    return "\n".join(parts)


@click.command()
@click.option("--write", type=click.Path(path_type=Path), help="The file to write; else stdout.")
def main(write: Path | None) -> None:
    """Measure, which takes half an hour, and write the tables as Markdown."""
    torch.set_num_threads(1)
    errors = [attention_error(n, 1, causal) for n, _ in ATTENTION_CELLS for causal in (False, True)]
    text = HEAD.format(machine=machine())
    text += ATTENTION.format(error=max(errors)) + "\n" + attention_tables()
    text += MODEL.format(error=max(model_error(n, 2) for n in (96, 720))) + "\n" + model_tables()
    text += DEFECTS
    if write is None:
        click.echo(text, nl=False)
    else:
        write.write_text(text)


if __name__ == "__main__":
    main()
