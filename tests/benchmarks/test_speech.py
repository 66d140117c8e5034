"""Speed of the speech networks, as ratios within one run: `pytest -m benchmark`.

That the published forms compute what ours do is asserted at small sizes in the quick suite too.
"""

from collections.abc import Callable
from functools import cache

import pytest
from benchmarks.__main__ import PARTS, split
from benchmarks.measure import apart
from benchmarks.speech import (
    MINUTES,
    MODELS,
    TINY,
    TRAINING,
    Passage,
    distance,
    fresh_agreement,
    mixture,
    model_error,
    model_memory,
    model_seconds,
    mossformer,
    mossformer2,
    passage,
    separation,
    training_seconds,
)
from torch import nn

from sigform_speech.mossformer2 import MossFormer2Config

TINY2 = MossFormer2Config(
    encoder_embedding_dim=16,
    mossformer_sequence_dim=16,
    num_mossformer_layer=2,
    inner_channels=24,
    group_size=32,
    query_key_dim=40,
    num_spks=3,
)
SMALL: dict[str, Callable[[str], nn.Module]] = {
    "MossFormer": lambda form: mossformer(form, TINY),
    "MossFormer2": lambda form: mossformer2(form, TINY2),
}


@cache
def seconds(name: str) -> dict[str, float]:
    return apart(model_seconds, name)


@cache
def memory(name: str) -> dict[str, float]:
    return model_memory(name)


@cache
def passages() -> dict[int, Passage]:
    return {minutes: apart(passage, "compact", minutes) for minutes in MINUTES}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_equal_the_published_form(name: str) -> None:
    ours, published = (separation(SMALL[name](form), 0.5)() for form in ("ours", "published"))
    assert distance(ours, published) < 1e-5


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_have_the_gradients_of_the_published_form(name: str) -> None:
    x = mixture(2, 0.25)
    gradients = []
    for form in ("ours", "published"):
        network = SMALL[name](form).eval()
        network(x).square().mean().backward()
        first = next(p for n, p in network.named_parameters() if n.endswith("gamma"))
        assert first.grad is not None
        gradients.append(first.grad)
    assert distance(*gradients) < 1e-4


def test_a_written_file_comes_apart_into_its_parts() -> None:
    parts = {name: part.title + f"{name}\n" for name, part in PARTS.items()}
    assert split("".join(parts.values())) == parts
    del parts["superres"]
    assert split("".join(parts.values())) == parts
    assert split("") == {}


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_the_published_form(name: str) -> None:
    assert apart(model_error, name) < 1e-5


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "form", "times"),
    [
        ("MossFormer (L)", "ours", 1.7),
        ("MossFormer (L)", "ours in bfloat16", 3.0),
        ("MossFormer2", "ours", 1.7),
    ],
)
def test_ours_are_faster_than_the_published_form(name: str, form: str, times: float) -> None:
    figures = seconds(name)
    assert figures["published"] >= times * figures[form]


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_bfloat16_agrees_to_40_decibels() -> None:
    assert apart(fresh_agreement) > 40


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("form", ["ours", "ours in bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_ours_need_less_memory_than_the_published_form(name: str, form: str) -> None:
    peaks = memory(name)
    assert peaks[form] < peaks["published"]


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", TRAINING)
def test_training_steps_are_faster_than_the_published_form(name: str) -> None:
    figures = apart(training_seconds, name)
    assert figures["ours"] < figures["published"]


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_time_grows_with_the_length() -> None:
    of_a_minute = [cost.seconds for cost in passages().values()]
    assert max(of_a_minute) < 1.25 * min(of_a_minute)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_length() -> None:
    shortest, *_, longest = (cost.peak for cost in passages().values())
    assert longest < 1.2 * shortest
