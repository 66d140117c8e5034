"""DBConformer beside its published form and EEGConformer; LMUFormer at once and as a stream."""

import statistics
import time
import warnings
from collections.abc import Callable

import torch
from benchmarks.measure import Step, apart, median_seconds, peak_mebibytes
from benchmarks.published_dbconformer import PublishedDBConformer
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_eeg.dbconformer import DBConformer
from sigform_eeg.eeg_lmuformer import EEGLMUFormer

CHANNELS, SAMPLES, BATCH, CLASSES = 22, 1000, 32, 2
RATE = 160.0  # Hz, of the streaming networks
TURNS = 7
FORMS = ("ours", "published", "EEGConformer, braindecode")


def dbconformer() -> DBConformer:
    torch.manual_seed(0)
    return DBConformer(CHANNELS, CLASSES, SAMPLES)


def published_form(ours: DBConformer) -> PublishedDBConformer:
    """The published form with the same weights."""
    published = PublishedDBConformer(ours.config)
    published.load_state_dict(ours.published_state())
    return published.train(ours.training)


def eeg_conformer() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of braindecode's imports
        from braindecode.models import EEGConformer

        torch.manual_seed(0)
        return EEGConformer(n_chans=CHANNELS, n_outputs=CLASSES, n_times=SAMPLES)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ours": dbconformer,
    "published": lambda: published_form(dbconformer()),
    "EEGConformer, braindecode": eeg_conformer,
}


def windows(batch: int = BATCH, samples: int = SAMPLES) -> Tensor:
    return torch.randn(batch, CHANNELS, samples, generator=torch.Generator().manual_seed(0))


def step_of(name: str, mode: str, batch: int = BATCH) -> Step:
    """Forward and backward in training ("train"), or a forward in evaluation ("infer")."""
    network = NETWORKS[name]()
    x, y = windows(batch), torch.arange(batch) % CLASSES
    if mode == "infer":
        network.eval()
        return torch.no_grad()(lambda: network(x))
    network.train()

    def step() -> None:
        network.zero_grad()
        F.cross_entropy(network(x), y).backward()

    return step


def seconds(mode: str, batch: int = BATCH) -> dict[str, float]:
    """Median seconds of each of FORMS."""
    return median_seconds({name: step_of(name, mode, batch) for name in FORMS}, TURNS)


def memory() -> dict[str, float]:
    """Peak MiB of forward and backward of each of FORMS."""
    return {
        name: apart(peak_mebibytes, step_of, (name, "train", 1), (name, "train", BATCH))
        for name in FORMS
    }


def error() -> float:
    """The relative distance of our logits from the published form's, in evaluation."""
    ours = dbconformer()
    x = windows(8)
    ours(x)  # moves the norms' statistics away from where they start
    ours.eval()
    with torch.no_grad():
        expected = published_form(ours)(x)
        return ((ours(x) - expected).norm() / expected.norm()).item()


def parameters() -> dict[str, int]:
    return {name: sum(p.numel() for p in build().parameters()) for name, build in NETWORKS.items()}


def lmuformer(spiking: bool) -> EEGLMUFormer:
    torch.manual_seed(0)
    return EEGLMUFormer(CHANNELS, CLASSES, round(4 * RATE), RATE, spiking=spiking).eval()


def stream_seconds(spiking: bool, tokens: int) -> tuple[float, float]:
    """Seconds a token of a stream takes (median of the last 200) after `tokens` of them, and those
    of a whole window of 4 s at once."""
    network = lmuformer(spiking)
    n = network.samples_per_token
    state = network.initial_state(1)
    taken: list[float] = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(tokens):
        part = torch.randn(1, CHANNELS, n, generator=generator)
        start = time.process_time()
        _, state = network.step(part, state)
        taken.append(time.process_time() - start)
    x = windows(1, round(4 * RATE))
    with torch.no_grad():
        whole = median_seconds({"whole": lambda: network(x)}, 15)["whole"]
    return statistics.median(taken[-200:]), whole
