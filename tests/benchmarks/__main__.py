"""Measure the networks and write the tables: `cd tests && python -m benchmarks --write PATH`."""

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import click
import torch
from benchmarks import eeg, speech, styleswin, superres, vdt
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
HEAD = """
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
SUPERRES = """
Written by `cd tests && python -m benchmarks --only superres --write ../BENCHMARKS.md`.

{machine}

One square picture, 4 times larger: processor time of one thread in milliseconds, float32 unless
said otherwise, medians over 5 turns in which the variants alternate, each table's cell in a fresh
process. `x` is how many times longer than ours. Memory as above, of a picture of {memory_size}
pixels a side, for a megapixel of input.

### Equal weights, equal output

CRAFT's published form is the authors' code as spandrel distributes it. All of CRAFT here continue
the picture by 16 pixels to the right and below, as the authors' inference does; ours otherwise
does only where a side is no multiple of 16. DLGSANet-light's published form is written again in
`tests/benchmarks/superres.py`, with `F.unfold` for the authors' CUDA kernel. Largest distance of
our output from theirs: CRAFT {craft_error:.0e}, DLGSANet-light {dlgsanet_error:.0e}. PSNR between
what our shipped CRAFT makes in bfloat16 and in float32 of that picture: {psnr:.1f} dB.

Training is forward and backward of {patches[0]} patches of {patches[1]} pixels a side.
"""
PEERS = """
### Networks of this size

Ours and the peers as spandrel has them, in the published configurations, random weights. PSNR on
Set5 (Y) at 4 times is what the authors report of their own weights, not measured here and not that
of ours as shipped, which is in `RESULTS.md` (SPAN's could not be read again, its 28.66 dB on Set14
could); bicubic has {bicubic} dB. The last column is the gain over bicubic for each second at {size}
pixels. The smaller a network, the better it does there: who counts decibels by the second is best
served by SPAN, and the others are worth their time for the last tenths of a decibel. SPAN's
parameters include those of branches that are folded into one convolution before inference.

"""
SPEECH = """
Written by `cd tests && python -m benchmarks --only speech --write ../BENCHMARKS.md`.

{machine}

{seconds} s at 8 kHz into two speakers: processor time of one thread in milliseconds, float32 unless
said otherwise, medians over {turns} turns in which the variants alternate, each table in a fresh
process. `x` is how many times longer than ours. Memory is the peak resident set of one separation
above its start, as above; it leaves out the weights.

### Equal weights, equal output

The published forms are written again in `tests/benchmarks/published_mossformer.py`; with reference
weights they give the reference outputs to the last bit. Ours in bfloat16 calculates the blocks in
it, and what runs past them in float32. Relative distance of our output in float32 from theirs:
{errors}. What bfloat16 changes lies below the output by: {agreements}.

A training step is forward and backward.
"""
SPEECH_PEERS = """
### Networks for this task

Random weights; {seconds} s at 8 kHz, seconds of processor time of one thread, medians over 3 turns
in which the networks alternate. RTF is that time for each second of audio. SI-SDRi in dB is what is
published for trained weights, not measured here: the MossFormers on WSJ0-2mix and SepFormer there
with dynamic mixing. What ours as shipped reaches, on data of its own, is in `RESULTS.md`.{absent}

clearvoice 0.1.2, which has MossFormer2, is not beside them: it demands numpy below 2 and soundfile
0.12.1, so it does not install with torch and what else is here at their present versions. The
published form of MossFormer2 above stands for it.

"""
SPEECH_LENGTH = """
### Length

One recording, one channel at 16 kHz, separated block by block (`Separator.separate_stream`),
resampling and the joining of chunks included; each figure in a fresh process. "Compact" is a
network of 128 channels and 6 blocks with random weights.

"""

EEG = """
Written by `cd tests && python -m benchmarks --only eeg --write ../BENCHMARKS.md`.

{machine}

DBConformer in the released configuration and braindecode's EEGConformer: 32 windows of 22 channels
and 1000 samples, processor time of one thread, float32, medians over 7 turns in which the networks
alternate. The published form is written again in plain layers in
`tests/benchmarks/published_dbconformer.py`; relative distance of our output from its: {error:.0e}.
Parameters: {counts}.
"""
GENERATE = """
Written by `cd tests && python -m benchmarks --only generate --write ../BENCHMARKS.md`.

{machine}

One image of StyleSwin-256 (48.9 M parameters) and one denoising step of VDT-S/2 (41.8 M) on 16
latents of 32 x 32: processor time of one thread, float32 but where bfloat16 is named, medians over
{turns} turns in which the forms alternate. The published forms are written again in plain layers in
`tests/benchmarks/published_styleswin.py` and `published_vdt.py`. Largest difference of the largest
value, StyleSwin: ours {style:.0e}, in bfloat16 {style_low:.0e}; VDT: {video:.0e} and
{video_low:.0e}.

"""
EEG_STREAM = """
### Streams

LMUFormers for EEG of 22 channels at 160 Hz, one stream: the time of a token (median of 200, after
800 others), and of a window of 4 s at once, which is what a sliding window would calculate anew.

"""


class Part(NamedTuple):
    """A part of the file: the line that it starts with, and what writes the rest."""

    title: str
    write: Callable[[], str]


def machine(*packages: str) -> str:
    """The processor, and the versions of what is measured."""
    capabilities = torch.cpu.get_capabilities()
    cores = capabilities["num_physical_cores"]
    lines = [
        f"{capabilities['cpu_name']}, {cores} cores, 1 thread used",
        f"{platform.system()} {platform.machine()}",
    ]
    for name in packages:
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


def superres_tables() -> str:
    craft, dlgsanet = {}, {}
    for size in superres.SIZES:
        click.echo(f"super-resolution, {size} pixels", err=True)
        craft[f"{size} pixels"] = milliseconds(apart(superres.craft_seconds, size))
        dlgsanet[f"{size} pixels"] = milliseconds(apart(superres.dlgsanet_seconds, size))
    click.echo("super-resolution, training and memory", err=True)
    training = {
        "CRAFT": milliseconds(apart(superres.craft_training_seconds)),
        "DLGSANet-light": milliseconds(apart(superres.dlgsanet_training_seconds)),
    }
    training["DLGSANet-light"]["published"] = training["DLGSANet-light"].pop("unfold")
    craft_peak = superres.memory(superres.craft_inference, superres.CRAFT_FORMS)
    dlgsanet_peak = superres.memory(superres.dlgsanet_inference, superres.DLGSANET_FORMS)
    craft_forms, dlgsanet_forms = list(superres.CRAFT_FORMS), list(superres.DLGSANET_FORMS)
    return "\n".join(
        [
            table("CRAFT, ms", craft_forms, craft, 0),
            table("DLGSANet-light, ms", dlgsanet_forms, dlgsanet, 0),
            table("training, ms", ["ours", "published"], training, 0),
            table("CRAFT, peak", craft_forms, {"MiB a megapixel": craft_peak}, 0),
            table("DLGSANet-light, peak", dlgsanet_forms, {"MiB a megapixel": dlgsanet_peak}, 0),
        ]
    )


def peer_table() -> str:
    """Peers beside our CRAFT: seconds, and what the authors report in that time."""
    seconds = {}
    for size in superres.SIZES:
        click.echo(f"peers, {size} pixels", err=True)
        seconds[size] = apart(superres.peer_seconds, size)
    times = "".join(f" {size} pixels, ms |" for size in superres.SIZES)
    columns = 4 + len(superres.SIZES)
    lines = [
        f"| network | parameters |{times} published Set5 PSNR x4, dB | gain for a second, dB |",
        "|---" * columns + "|",
    ]
    for name, peer in superres.PEERS.items():
        cells = [name, f"{sum(p.numel() for p in peer.build().parameters()):,}"]
        for each in seconds.values():
            ratio = each[name] / each["CRAFT, ours"]
            cells.append(f"{1000 * each[name]:.0f} ({ratio:.2f}x)")
        gain = (peer.psnr - superres.BICUBIC) / seconds[superres.SIZES[0]][name]
        lines.append("| " + " | ".join([*cells, f"{peer.psnr:.2f}", f"{gain:.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def superres_section() -> str:
    text = SUPERRES.format(
        machine=machine("torch", "spandrel"),
        memory_size=superres.MEMORY_SIZE,
        craft_error=max(superres.craft_error(size) for size in superres.SIZES),
        dlgsanet_error=max(superres.dlgsanet_error(size) for size in superres.SIZES),
        psnr=superres.bfloat16_psnr(superres.SIZES[-1]),
        patches=superres.PATCHES,
    )
    peers = PEERS.format(bicubic=superres.BICUBIC, size=superres.SIZES[0])
    return text + "\n" + superres_tables() + peers + peer_table()


def informer_section() -> str:
    errors = [attention_error(n, 1, causal) for n, _ in ATTENTION_CELLS for causal in (False, True)]
    text = HEAD.format(machine=machine("torch", "neuralforecast", "transformers"))
    text += ATTENTION.format(error=max(errors)) + "\n" + attention_tables()
    text += MODEL.format(error=max(model_error(n, 2) for n in (96, 720))) + "\n" + model_tables()
    return text + DEFECTS


def speech_tables() -> str:
    inference, peaks, training = {}, {}, {}
    for name in speech.MODELS:
        click.echo(f"speech, {name}", err=True)
        inference[name] = milliseconds(apart(speech.model_seconds, name))
        peaks[name] = speech.model_memory(name)
    for name in speech.TRAINING:
        click.echo(f"speech, training, {name}", err=True)
        training[name] = milliseconds(apart(speech.training_seconds, name))
    forms = list(speech.FORMS)
    return "\n".join(
        [
            table("separation, ms", forms, inference, 0),
            table("separation, peak MiB", forms, peaks, 0),
            table("training step, ms", ["ours", "published"], training, 0),
        ]
    )


def speech_peer_table() -> str:
    """The networks beside each other: parameters, time, and what is published for them."""
    click.echo("speech, peers", err=True)
    seconds = apart(speech.peer_seconds)
    lines = [
        f"| network | parameters | seconds for {speech.SECONDS} s | RTF "
        "| published SI-SDRi, WSJ0-2mix | Libri2Mix |",
        "|---" * 6 + "|",
    ]
    for name, peer in speech.peers().items():
        parameters = sum(p.numel() for p in peer.build().parameters())
        taken = seconds[name]
        figures = f"{parameters:,} | {taken:.2f} | {taken / speech.SECONDS:.2f}"
        lines.append(f"| {name} | {figures} | {peer.wsj0} | {peer.libri2mix} |")
    return "\n".join(lines) + "\n"


def length_table() -> str:
    lines = ["| network | minutes | seconds for a minute | peak MiB |", "|---" * 4 + "|"]
    for network in speech.length_networks():
        for minutes in speech.MINUTES:
            click.echo(f"speech, {network}, {minutes} minutes", err=True)
            cost = apart(speech.passage, network, minutes)
            lines.append(f"| {network} | {minutes} | {cost.seconds:.2f} | {cost.peak:.0f} |")
    return "\n".join(lines) + "\n"


def speech_section() -> str:
    errors = [f"{name} {apart(speech.model_error, name):.0e}" for name in speech.MODELS]
    agreements = [
        f"{apart(measure):.1f} dB for {weights}" for weights, measure in speech.agreements().items()
    ]
    text = SPEECH.format(
        machine=machine("torch", "torchaudio", "speechbrain"),
        seconds=speech.SECONDS,
        turns=speech.TURNS,
        errors=", ".join(errors),
        agreements=", ".join(agreements),
    )
    absent = sorted(speech.PEERS.keys() - speech.peers().keys())
    note = f" Not installed, so not measured: {', '.join(absent)}." if absent else ""
    peers = SPEECH_PEERS.format(seconds=speech.SECONDS, absent=note) + speech_peer_table()
    return text + "\n" + speech_tables() + peers + SPEECH_LENGTH + length_table()


def eeg_section() -> str:
    rows = {}
    for label, mode in (("forward and backward", "train"), ("forward", "infer")):
        click.echo(f"eeg, {label}", err=True)
        rows[label] = milliseconds(apart(eeg.seconds, mode))
    peaks = {"forward and backward": eeg.memory()}
    streams = ["| network | parameters | a token, ms | a window of 4 s at once, ms |"]
    streams.append("|---" * 4 + "|")
    for name, spiking in (("LMUFormer", False), ("LMUFormer, spiking", True)):
        click.echo(f"eeg, {name}", err=True)
        token, whole = apart(eeg.stream_seconds, spiking, 1000)
        count = sum(p.numel() for p in eeg.lmuformer(spiking).parameters())
        streams.append(f"| {name} | {count:,} | {1000 * token:.2f} | {1000 * whole:.2f} |")
    text = EEG.format(
        machine=machine("torch", "braindecode"),
        error=apart(eeg.error),
        counts=", ".join(f"{name} {count:,}" for name, count in eeg.parameters().items()),
    )
    forms = list(eeg.FORMS)
    tables = table("ms", forms, rows, 1) + "\n" + table("peak MiB", forms, peaks, 0)
    return text + "\n" + tables + EEG_STREAM + "\n".join(streams) + "\n"


def generate_section() -> str:
    rows, peaks = {}, {}
    for name, module in (("StyleSwin-256, an image", styleswin), ("VDT-S, a step", vdt)):
        click.echo(f"generate, {name}", err=True)
        rows[name] = apart(module.seconds)
        peaks[name] = module.memory()
    text = GENERATE.format(
        machine=machine("torch"),
        turns=styleswin.TURNS,
        style=apart(styleswin.error, "ours"),
        style_low=apart(styleswin.error, "ours in bfloat16"),
        video=apart(vdt.error, "ours"),
        video_low=apart(vdt.error, "ours in bfloat16"),
    )
    forms = list(styleswin.FORMS)
    return text + table("seconds", forms, rows, 2) + "\n" + table("peak MiB", forms, peaks, 0)


PARTS = {
    "informer": Part("# Benchmarks\n", informer_section),
    "superres": Part("\n## Super-resolution\n", superres_section),
    "speech": Part("\n## Speech\n", speech_section),
    "eeg": Part("\n## EEG\n", eeg_section),
    "generate": Part("\n## Generation\n", generate_section),
}
"""In the order of the file, each independent of the others."""


def split(text: str) -> dict[str, str]:
    """The parts that a written file has, by name, each from its title on."""
    starts = [(text.find(part.title), name) for name, part in PARTS.items() if part.title in text]
    ends = [*(start for start, _ in starts), len(text)][1:]
    return {name: text[start:end] for (start, name), end in zip(starts, ends, strict=True)}


@click.command()
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; else stdout.",
)
@click.option(
    "--only",
    type=click.Choice(list(PARTS)),
    help="Measure one part; the others stay as they are in the file.",
)
def main(write: Path | None, only: str | None) -> None:
    """Measure, which takes an hour, and write the tables as Markdown."""
    torch.set_num_threads(1)
    before = write.read_text() if write is not None and write.exists() else ""
    parts = split(before)
    for name, part in PARTS.items():
        if only in (None, name):
            parts[name] = part.title + part.write()
    text = "".join(parts[name] for name in PARTS if name in parts)
    if write is None:
        click.echo(text, nl=False)
    else:
        write.write_text(text)


if __name__ == "__main__":
    main()
