"""The recipe: distortions, the average, and runs that are stopped."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from eeg.small import CHANNELS, CLASSES, WINDOW, setup, trials

from sigform_core.training import TrainingInterrupted
from sigform_eeg.evaluation import probabilities, windows_of
from sigform_eeg.networks import ARCHITECTURES, Network, build
from sigform_eeg.training import (
    DecodingModule,
    Examples,
    Mirror,
    Recipe,
    examples_of,
    find_mirror,
    train_network,
)

PLAIN = Recipe(
    shift=0.0,
    recombine=0.0,
    amplitude=0.0,
    channel_dropout=0.0,
    mirror=False,
    label_smoothing=0.0,
    device="cpu",
)
MIRROR = find_mirror(CHANNELS, CLASSES)


def network(architecture: str = "dbconformer") -> Network:
    torch.manual_seed(0)
    return build(architecture, setup())


def examples(count: int = 24) -> Examples:
    seen = windows_of(trials(count=count), setup(), "subject")
    return examples_of([seen.signals], [seen.labels])


def module(recipe: Recipe, *, begin: int = 0, mirror: Mirror | None = None) -> DecodingModule:
    return DecodingModule(
        network(), recipe, window=WINDOW.samples, begin=begin, rate=WINDOW.sample_rate,
        mirror=mirror, steps=10,
    )  # fmt: skip


def test_the_mirror_exchanges_sides() -> None:
    mirror = find_mirror(("Fz", "FC3", "FC4", "C1", "C2"), ("left hand", "right hand"))
    assert mirror == Mirror(channels=(0, 2, 1, 4, 3), classes=(1, 0))
    assert find_mirror(("Fz", "FC3"), ("left", "right")) is None
    assert find_mirror(("C3", "C4"), ("hands", "feet")) is None
    assert find_mirror(("C3", "C4"), ("left", "rest")) is None
    assert find_mirror(("C3", "C4"), ("left", "right", "rest")) is None
    assert find_mirror(("TP9", "TP10"), ("right", "left")) == Mirror(
        channels=(1, 0), classes=(1, 0)
    )


def test_windows_are_shifted_within_what_there_is() -> None:
    T = WINDOW.samples
    ramp = torch.arange(T + 40.0).expand(64, len(CHANNELS), -1)
    torch.manual_seed(1)
    recipe = replace(PLAIN, shift=20 / WINDOW.sample_rate)
    shifted, _ = module(recipe, begin=30).distort(ramp, torch.zeros(64, dtype=torch.int64))
    starts = shifted[:, 0, 0]
    assert shifted.shape == (64, len(CHANNELS), T)
    assert (starts.min(), starts.max()) == (10, 40)
    assert (shifted - starts[:, None, None] == torch.arange(T)).all()
    still, _ = module(PLAIN, begin=30).distort(ramp, torch.zeros(64, dtype=torch.int64))
    assert (still[:, 0, 0] == 30).all()


def test_mirrored_trials_have_the_other_label() -> None:
    signals = torch.zeros(64, len(CHANNELS), WINDOW.samples)
    signals[:, CHANNELS.index("C3")] = 1
    labels = torch.zeros(64, dtype=torch.int64)
    torch.manual_seed(1)
    made, told = module(PLAIN, mirror=MIRROR).distort(signals, labels)
    turned = made[:, CHANNELS.index("C4"), 0] == 1
    assert 16 < turned.sum() < 48
    assert (told == turned.long()).all()
    assert (made[:, CHANNELS.index("C3"), 0] == (~turned).float()).all()


def test_trials_are_put_together_from_their_class() -> None:
    T, B = WINDOW.samples, 64
    time = torch.arange(T).expand(B, len(CHANNELS), T)
    signals = 1000.0 * torch.arange(B)[:, None, None] + time  # each sample tells where it is from
    labels = torch.arange(B) % 2
    torch.manual_seed(1)
    made, told = module(replace(PLAIN, recombine=0.5)).distort(signals, labels)
    assert torch.equal(told, labels)
    sources = (made // 1000).long()
    assert torch.equal(made - 1000 * sources, time)
    assert (sources % 2 == labels[:, None, None]).all()
    mixed = (sources != sources[..., :1]).any(dim=2)[:, 0]
    assert 16 < mixed.sum() < 48
    for piece in range(8):  # every trial is used once at each place, or is whole
        used = sources[mixed][:, 0, piece * T // 8]
        assert len(used.unique()) > 0.5 * len(used)


def test_channels_are_dropped_and_gains_drawn() -> None:
    signals = torch.ones(200, len(CHANNELS), WINDOW.samples)
    torch.manual_seed(1)
    recipe = replace(PLAIN, channel_dropout=0.25, amplitude=0.2)
    made, _ = module(recipe).distort(signals, torch.zeros(200, dtype=torch.int64))
    dropped = (made == 0).all(dim=2)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.04)
    gains = made.amax(dim=(1, 2)).log()
    assert gains.std().item() == pytest.approx(0.2, abs=0.04)


def test_early_tokens_do_not_count() -> None:
    recipe = replace(PLAIN, first_token=1.0)
    torch.manual_seed(0)
    trained = DecodingModule(
        network("lmuformer").eval(), recipe, window=WINDOW.samples, begin=0,
        rate=WINDOW.sample_rate, mirror=None, steps=10,
    )  # fmt: skip
    signals = torch.randn(4, len(CHANNELS), WINDOW.samples)
    labels = torch.tensor([0, 1, 0, 1])
    loss, last = trained._loss(trained.network, signals, labels)
    prefixes = trained.network.prefix_logits(signals)  # pyright: ignore[reportAttributeAccessIssue]
    half = prefixes[:, prefixes.shape[1] // 2 :]
    by_hand = torch.nn.functional.cross_entropy(
        half.flatten(0, 1), labels.repeat_interleave(half.shape[1])
    )
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(last, prefixes[:, -1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns_what_there_is(architecture: str, tmp_path: Path) -> None:
    given = examples(16)
    recipe = replace(PLAIN, epochs=60, batch_size=16, averaging=0.9, learning_rate=5e-3)
    trained, result = train_network(
        network(architecture), given, recipe, tmp_path, window=WINDOW.samples,
        rate=WINDOW.sample_rate,
    )  # fmt: skip
    assert result.steps == 60
    assert not trained.training
    told = probabilities(trained, given.signals.numpy()).argmax(axis=1)
    assert (told == given.labels.numpy()).mean() >= 0.9


def test_a_stopped_run_ends_like_another(tmp_path: Path) -> None:
    recipe = Recipe(epochs=4, batch_size=8, device="cpu", validate_every=5)
    held = examples(8)

    def run(name: str, *, stop_at: int | None = None, resume: bool = False) -> Network:
        def watch(step: int, *_: object) -> None:
            if step == stop_at:
                signal.raise_signal(signal.SIGINT)

        trained, _ = train_network(
            network(), examples(), recipe, tmp_path / name, window=WINDOW.samples,
            rate=WINDOW.sample_rate, mirror=MIRROR, held=held, resume=resume, on_progress=watch,
        )  # fmt: skip
        return trained

    whole = run("whole")
    with pytest.raises(TrainingInterrupted):
        run("parts", stop_at=7)
    parts = run("parts", resume=True)
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    curve = (tmp_path / "whole" / "metrics.csv").read_text("utf-8")
    assert "held_accuracy" in curve
    assert curve == (tmp_path / "parts" / "metrics.csv").read_text("utf-8")


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mirror is True; needs a left and a right class"):
        train_network(
            network(), examples(), replace(PLAIN, mirror=True), tmp_path, window=WINDOW.samples,
            rate=WINDOW.sample_rate,
        )  # fmt: skip
    with pytest.raises(ValueError, match="epochs is 0; needs more than 0"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match=r"label_smoothing is 2; needs 0 to 1"):
        Recipe(label_smoothing=2)
    with pytest.raises(ValueError, match=r"shift is -1; needs 0 or more"):
        Recipe(shift=-1)


def test_batches_are_read_whole() -> None:
    given = examples(6)
    signals, labels = given.__getitems__([4, 1])
    assert torch.equal(signals[1], given[1][0])
    assert np.array_equal(labels.numpy(), given.labels.numpy()[[4, 1]])
