"""MossFormer, MossFormer2 and their peers: seconds, peak memory, training steps, length.

The published forms are in `published_mossformer`. Recordings are noise that swells and fades as
speech does: the time does not depend on what is said.
"""

import math
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from benchmarks.measure import Step, apart, median_seconds, peak_mebibytes
from benchmarks.published_mossformer import published_form
from numpy.typing import NDArray
from torch import Tensor, nn

from sigform_speech.catalogue import SHIPPED
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.mossformer2 import MossFormer2, MossFormer2Config
from sigform_speech.networks import Network, load_network
from sigform_speech.separator import Separator

SAMPLE_RATE = 8000  # Hz, of the networks
SECONDS = 4
MODELS = ("MossFormer (L)", "MossFormer2")
FORMS: tuple[str, ...] = ("ours", "ours in bfloat16", "published")
TURNS = 5

COMPACT = MossFormerConfig(
    in_channels=128,
    out_channels=128,
    d_model=128,
    kernel_size=64,
    stride=32,
    num_blocks=6,
    group_size=64,
    query_key_dim=64,
    attn_dropout=0.0,
)
"""Of the order of what is shipped."""

TINY = MossFormerConfig(
    in_channels=32,
    out_channels=32,
    d_model=32,
    kernel_size=64,
    stride=32,
    num_blocks=1,
    group_size=32,
    query_key_dim=32,
)
"""For tests of equality."""

TRAINING = {
    "MossFormer, 128 wide, 6 blocks, 4 of 3 s": (COMPACT, 4, 3.0),
    "MossFormer (L), 1 of 1 s": (MossFormerConfig(), 1, 1.0),
}
"""Configurations of training steps, how many signals, and their length in seconds."""

MINUTES = (1, 10, 60)
FILE_RATE = 16_000  # Hz, of the recordings that are made in these lengths


def mossformer(form: str, config: MossFormerConfig) -> nn.Module:
    """A MossFormer in one of FORMS, the same weights in each."""
    torch.manual_seed(0)
    return _in_form(MossFormer(config), form)


def mossformer2(form: str, config: MossFormer2Config) -> nn.Module:
    """A MossFormer2 in one of FORMS, the same weights in each."""
    torch.manual_seed(0)
    return _in_form(MossFormer2(config), form)


def model(name: str, form: str) -> nn.Module:
    """One of MODELS in one of FORMS."""
    if name == "MossFormer2":
        return mossformer2(form, MossFormer2Config())
    return mossformer(form, MossFormerConfig())


def _in_form(ours: Network, form: str) -> nn.Module:
    perturb(ours)
    if form == "published":
        published = published_form(ours)
        published.load_state_dict(ours.published_state())
        return published
    return ours.body_to(torch.bfloat16) if form == "ours in bfloat16" else ours


def perturb(network: nn.Module) -> None:
    """Move weights away from where they start, where attention is nothing, so that each counts."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.normal_()
            elif parameter.dim() < 2:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def mixture(count: int, seconds: float) -> Tensor:
    """Noise (B, T) with about the level and the pace of speech; always the same."""
    generator = torch.Generator().manual_seed(0)
    samples = round(seconds * SAMPLE_RATE)
    loudness = (torch.arange(samples) * (4 * math.pi / SAMPLE_RATE)).sin().square()
    return 0.1 * loudness * torch.randn(count, samples, generator=generator)


def separation(network: nn.Module, seconds: float) -> Callable[[], Tensor]:
    """The separation of one mixture."""
    network.eval()
    x = mixture(1, seconds)
    return torch.no_grad()(lambda: network(x))


def model_separation(name: str, form: str, seconds: float) -> Step:
    return separation(model(name, form), seconds)


def model_seconds(name: str, turns: int = TURNS) -> dict[str, float]:
    """Median seconds of the separation of SECONDS by each form."""
    return median_seconds({form: model_separation(name, form, SECONDS) for form in FORMS}, turns)


def model_memory(name: str) -> dict[str, float]:
    """Peak MiB of the separation of SECONDS by each form."""
    return {
        form: apart(peak_mebibytes, model_separation, (name, form, 0.5), (name, form, SECONDS))
        for form in FORMS
    }


def model_error(name: str) -> float:
    """The relative distance of our output from the published form's."""
    ours, published = (separation(model(name, form), SECONDS)() for form in ("ours", "published"))
    return distance(ours, published)


def distance(output: Tensor, expected: Tensor) -> float:
    return ((output - expected).norm() / expected.norm()).item()


def agreement(network: Network) -> float:
    """How many dB the output is above what calculating the blocks in bfloat16 adds to it."""
    exact = separation(network, SECONDS)()
    rounded = separation(network.body_to(torch.bfloat16), SECONDS)()
    return -20 * math.log10(distance(rounded, exact))


def fresh_agreement() -> float:
    """`agreement` of a MossFormer (L) as training begins with it."""
    torch.manual_seed(0)
    return agreement(MossFormer())


def perturbed_agreement() -> float:
    """`agreement` of a MossFormer (L) in which each weight counts."""
    torch.manual_seed(0)
    network = MossFormer()
    perturb(network)
    return agreement(network)


def shipped() -> Network:
    """The network that `sigform-separate` takes if not told otherwise."""
    network, _ = load_network(SHIPPED["default"])
    return network


def shipped_agreement() -> float:
    """`agreement` of the shipped network."""
    return agreement(shipped())


def agreements() -> dict[str, Callable[[], float]]:
    """How many dB bfloat16 agrees to, for each of some weights of a network."""
    return {
        "a fresh MossFormer (L)": fresh_agreement,
        "a MossFormer (L) in which each weight counts": perturbed_agreement,
    } | ({"ours as shipped": shipped_agreement} if "default" in SHIPPED else {})


def conv_tasnet() -> nn.Module:
    from torchaudio.models import conv_tasnet_base

    class Signals(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = conv_tasnet_base(num_sources=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.unsqueeze(1))

    return Signals()


def sepformer() -> nn.Module:
    """speechbrain's SepFormer in the configuration of its recipe for WSJ0-2mix."""
    from speechbrain.lobes.models.dual_path import (  # pyright: ignore[reportMissingImports]
        Decoder,
        Dual_Path_Model,
        Encoder,
        SBTransformerBlock,
    )

    def transformer() -> nn.Module:
        return SBTransformerBlock(
            num_layers=8,
            d_model=256,
            nhead=8,
            d_ffn=1024,
            dropout=0.0,
            use_positional_encoding=True,
            norm_before=True,
        )

    class SepFormer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder(kernel_size=16, out_channels=256)
            self.masknet = Dual_Path_Model(
                in_channels=256,
                out_channels=256,
                intra_model=transformer(),
                inter_model=transformer(),
                num_layers=2,
                norm="ln",
                K=250,
                num_spks=2,
                skip_around_intra=True,
                linear_layer_after_inter_intra=False,
            )
            self.decoder = Decoder(
                in_channels=256, out_channels=1, kernel_size=16, stride=8, bias=False
            )

        def forward(self, x: Tensor) -> Tensor:
            frames = self.encoder(x)
            signals = [self.decoder(mask * frames) for mask in self.masknet(frames)]
            return torch.stack(signals, dim=1)

    return SepFormer()


class Peer(NamedTuple):
    """A network, and the SI-SDRi in dB published for its trained weights."""

    build: Callable[[], nn.Module]
    wsj0: str = "-"
    libri2mix: str = "-"
    needs: str | None = None  # a package of the group `peers`


PEERS = {
    "MossFormer (L), ours": Peer(lambda: model("MossFormer (L)", "ours"), "22.8", "19.7"),
    "MossFormer (L), published form": Peer(
        lambda: model("MossFormer (L)", "published"), "22.8", "19.7"
    ),
    "MossFormer2, ours": Peer(lambda: model("MossFormer2", "ours"), "24.1", "21.7"),
    "MossFormer2, published form": Peer(lambda: model("MossFormer2", "published"), "24.1", "21.7"),
    "SepFormer, speechbrain": Peer(sepformer, "22.3", "20.4", "speechbrain"),
    "Conv-TasNet, torchaudio": Peer(conv_tasnet, "15.3", "12.2", "torchaudio"),
}
"""Dynamic mixing included in the figures of the MossFormers and SepFormer (WSJ0-2mix)."""


def peers() -> dict[str, Peer]:
    """Those of PEERS that are installed, and the shipped network where it is there."""
    there = {name: peer for name, peer in PEERS.items() if not peer.needs or find_spec(peer.needs)}
    return there | ({"ours as shipped": Peer(shipped)} if "default" in SHIPPED else {})


def peer_seconds() -> dict[str, float]:
    """Median seconds of the separation of SECONDS by each of `peers`."""
    steps = {name: separation(peer.build(), SECONDS) for name, peer in peers().items()}
    return median_seconds(steps, turns=3)


def training_step(form: str, config: MossFormerConfig, count: int, seconds: float) -> Step:
    """Forward and backward of a batch."""
    network = mossformer(form, config).train()
    x = mixture(count, seconds)

    def step() -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return step


def training_seconds(name: str, turns: int = TURNS) -> dict[str, float]:
    """Median seconds of one of TRAINING."""
    steps = {form: training_step(form, *TRAINING[name]) for form in ("ours", "published")}
    return median_seconds(steps, turns)


class Passage(NamedTuple):
    """What a recording cost: seconds for each of its minutes, peak MiB above the start."""

    seconds: float
    peak: float


def length_networks() -> list[str]:
    """The networks that `passage` knows."""
    return ["compact", "shipped"] if "default" in SHIPPED else ["compact"]


def passage(network: str, minutes: float) -> Passage:
    """Separate a recording of that length block by block; call it `apart`.

    `network` is one of `length_networks`.
    """
    taken = []

    def build(minutes: float) -> Step:
        separator = Separator(
            shipped() if network == "shipped" else MossFormer(COMPACT),
            device="cpu",
            dtype="float32",
        )
        samples = round(60 * minutes) * FILE_RATE

        def step() -> None:
            start = time.process_time()
            parts = separator.separate_stream(blocks(samples), FILE_RATE)
            made = sum(part.shape[2] for part in parts)
            taken.append((time.process_time() - start) / minutes)
            if made != samples:
                raise ValueError(f"{samples} samples came out as {made}; needs as many")

        return step

    peak = peak_mebibytes(build, (1 / 20,), (minutes,))
    return Passage(taken[-1], peak)


def blocks(samples: int) -> Iterator[NDArray[np.float32]]:
    """Noise (1, n) of that many samples, a second at a time: voices in turn, pauses between."""
    rng = np.random.default_rng(0)
    for second in range(samples // FILE_RATE):
        loudness = (0.1, 0.03, 0.1, 0.0)[second % 4]
        yield loudness * rng.standard_normal((1, FILE_RATE), dtype=np.float32)
