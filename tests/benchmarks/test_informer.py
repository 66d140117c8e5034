"""Speed and memory of the Informer, as ratios within one run: `pytest -m benchmark`.

The peers are measured where they are installed (`uv sync --group peers`).
"""

import resource
import statistics
import subprocess
import sys
from functools import cache

import pytest
from benchmarks.measure import (
    apart,
    attention_error,
    attention_memory,
    attention_seconds,
    model_error,
    model_memory,
    model_seconds,
)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]

ATTENTION_BATCH = {96: 4, 168: 4, 336: 4, 720: 4, 1440: 4, 2880: 2}
MODEL_BATCH = {96: 32, 168: 32, 336: 8, 720: 8}


@cache
def attention(length: int, causal: bool = False) -> dict[str, float]:
    return apart(attention_seconds, length, ATTENTION_BATCH[length], causal)


@cache
def model(length: int, mode: str) -> dict[str, float]:
    return apart(model_seconds, length, MODEL_BATCH[length], mode)


@cache
def training_memory() -> dict[str, float]:
    return model_memory(720, MODEL_BATCH[720])


def of_rival(figures: dict[str, float], rival: str) -> float:
    if rival not in figures:
        pytest.skip(f"{rival} is not installed; `uv sync --group peers` brings it")
    return figures[rival]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [96, 168, 336, 720, 1440, 2880])
def test_attention_equals_the_published_form(length: int, causal: bool) -> None:
    assert attention_error(length, 1, causal) < 2e-6


@pytest.mark.parametrize(
    ("length", "times"), [(96, 1), (168, 1), (336, 4), (720, 5), (1440, 5), (2880, 5)]
)
def test_attention_is_faster_than_the_published_form(length: int, times: float) -> None:
    seconds = attention(length)
    assert seconds["published"] >= times * seconds["ours"]


@pytest.mark.parametrize("length", [96, 168, 336, 720, 1440, 2880])
def test_masked_attention_is_faster_than_the_published_form(length: int) -> None:
    seconds = attention(length, causal=True)
    assert seconds["published"] > seconds["ours"]


@pytest.mark.parametrize("length", [336, 720, 1440, 2880])
def test_attention_is_faster_than_fused_full_attention(length: int) -> None:
    seconds = attention(length)
    assert seconds["fused full"] > seconds["ours"]


def test_attention_needs_a_fifth_of_the_published_memory() -> None:
    peaks = attention_memory(720, ATTENTION_BATCH[720], causal=False)
    assert 5 * peaks["ours"] < peaks["published"]


@pytest.mark.parametrize("length", [96, 720])
def test_forecast_equals_the_published_form(length: int) -> None:
    assert model_error(length, 2) < 2e-6


@pytest.mark.parametrize("rival", ["published", "neuralforecast", "transformers"])
@pytest.mark.parametrize("length", MODEL_BATCH)
def test_forecast_is_faster_than(rival: str, length: int) -> None:
    seconds = model(length, "infer")
    assert of_rival(seconds, rival) >= 1.5 * seconds["ours"]


@pytest.mark.parametrize("rival", ["published", "neuralforecast"])
@pytest.mark.parametrize("length", MODEL_BATCH)
def test_training_step_is_faster_than(rival: str, length: int) -> None:
    seconds = model(length, "train")
    assert of_rival(seconds, rival) >= 1.15 * seconds["ours"]


@pytest.mark.parametrize("rival", ["published", "neuralforecast"])
def test_training_step_needs_less_memory_than(rival: str) -> None:
    peaks = training_memory()
    assert of_rival(peaks, rival) > peaks["ours"]


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "sigform_forecast", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(seconds) < 0.3
