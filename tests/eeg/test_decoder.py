"""The decoder: whole recordings, streams in chunks of any size, and saved streams."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from eeg.small import CHANNELS, CLASSES, RATE, noise, setup

from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.decoder import Decoder
from sigform_eeg.evaluation import probabilities
from sigform_eeg.networks import build, save_network
from sigform_eeg.preprocessing import prepare_raw
from sigform_eeg.sessions import Posterior, Session
from sigform_kit.errors import InputError

SECONDS = 9.0


def decoder(architecture: str = "dbconformer", align: Align = "online") -> Decoder:
    torch.manual_seed(0)
    return Decoder(build(architecture, setup(align)), setup(align), device="cpu")


def samples(rate: float = RATE, seconds: float = SECONDS) -> np.ndarray:
    chance = np.random.default_rng(3)
    mixed = noise(chance, (len(CHANNELS), len(CHANNELS))) / 5
    return mixed @ noise(chance, (len(CHANNELS), round(seconds * rate)))


def raw(
    rate: float = RATE, seconds: float = SECONDS, names: tuple[str, ...] = CHANNELS
) -> mne.io.RawArray:
    info = mne.create_info(list(names), rate, "eeg")
    return mne.io.RawArray(samples(rate, seconds) * 1e-6, info, verbose="ERROR")


def run(session: Session, signal: np.ndarray, sizes: list[int]) -> list[Posterior]:
    made, at, turn = [], 0, 0
    while at < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        made += session.push(signal[:, at : at + size])
        at, turn = at + size, turn + 1
    return made + session.finish()


def same(some: list[Posterior], others: list[Posterior]) -> None:
    assert [one.time for one in some] == [other.time for other in others]
    np.testing.assert_allclose(
        [one.probabilities for one in some], [one.probabilities for one in others], atol=2e-5
    )


@pytest.mark.parametrize("architecture", ["dbconformer", "lmuformer", "lmuformer-spiking"])
@pytest.mark.parametrize("align", ["online", "none"])
def test_chunks_of_any_size_say_the_same(architecture: str, align: Align) -> None:
    whole = run(decoder(architecture, align).stream(), samples(), [10_000])
    parts = run(decoder(architecture, align).stream(), samples(), [1, 7, 130, 0, 31])
    assert len(whole) > 4
    same(parts, whole)


@pytest.mark.parametrize("architecture", ["dbconformer", "lmuformer"])
@pytest.mark.parametrize("align", ["online", "subject", "none"])
def test_a_recording_is_a_stream_of_it(architecture: str, align: Align) -> None:
    made = decoder(architecture, align)
    windows = made(raw(), hop=0.5)
    matrix = made.alignment_of(raw()) if align == "subject" else None
    streamed = run(made.stream(hop=0.5, matrix=matrix), samples(), [50])
    np.testing.assert_allclose(windows.times, [one.time for one in streamed])
    np.testing.assert_allclose(
        windows.probabilities, [one.probabilities for one in streamed], atol=2e-5
    )
    assert windows.causal == (align != "subject")
    assert len(windows) == len(windows.labels) == len(streamed)
    assert set(windows.labels) <= set(CLASSES)


def test_windows_come_every_hop_once_there_is_one() -> None:
    times = decoder()(raw(), hop=0.25).times
    np.testing.assert_allclose(times, np.arange(2.0, SECONDS + 0.1, 0.25))


def test_tokens_wait_for_the_first_alignment() -> None:
    session = decoder("lmuformer").stream()
    assert session.warm_up == 2.0
    assert session.push(samples()[:, : round(2 * RATE) - 1]) == []
    assert len(session.push(samples()[:, round(2 * RATE) - 1 : round(2 * RATE)])) > 3
    assert decoder("lmuformer", "none").stream().warm_up < 0.2


def test_the_window_is_aligned_by_those_so_far() -> None:
    made = decoder(align="online")
    windows = made(raw(), hop=2.0)
    signals, _ = prepare_raw(raw(), setup().preprocessing)
    cut = np.stack(np.split(signals[:, : 4 * 128], 4, axis=1))
    aligned, _ = align_trials(cut, "online")
    np.testing.assert_allclose(
        windows.probabilities, probabilities(made.network, aligned), atol=2e-5
    )


def test_a_saved_stream_goes_on(tmp_path: Path) -> None:
    for architecture in ("dbconformer", "lmuformer", "lmuformer-spiking"):
        made = decoder(architecture)
        whole = run(made.stream(100.0), samples(100.0), [33])
        first = made.stream(100.0)
        half = []
        for at in range(0, 500, 50):
            half += first.push(samples(100.0)[:, at : at + 50])
        np.savez(tmp_path / "state.npz", **first.state())  # pyright: ignore[reportArgumentType]
        second = made.stream(100.0)
        with np.load(tmp_path / "state.npz") as state:
            second.load_state(state)
        same(half + run(second, samples(100.0)[:, 500:], [50]), whole)
    with pytest.raises(ValueError, match="the state is of another session"):
        decoder(align="none").stream(100.0).load_state(second.state())


def test_memory_does_not_grow() -> None:
    for architecture in ("dbconformer", "lmuformer"):
        session = decoder(architecture).stream()
        sizes = []
        for _ in range(4):
            run_on = samples()[:, : 4 * 128]
            session.push(run_on)
            sizes.append(sum(value.nbytes for value in session.state().values()))
        assert sizes[1] == sizes[-1]


def test_a_restart_forgets_what_was_seen() -> None:
    for architecture in ("dbconformer", "lmuformer"):
        made = decoder(architecture, "none")
        session = made.stream(hop=0.5)
        session.push(samples()[:, : 5 * 64])
        session.restart()
        later = session.push(samples()[:, 5 * 64 :])
        if architecture == "dbconformer":
            assert later[0].time == 5 + 2
        else:
            assert later[0].time == 5.5
        assert len(later) == (5 if architecture == "dbconformer" else 8)


def test_rows_are_matched_by_name() -> None:
    order = [3, 0, 7, 1, 2, 6, 5, 4]
    names = [f"{CHANNELS[row].upper()}." for row in order]
    plain = run(decoder().stream(), samples(), [64])
    session = decoder().stream(channels=["EOG", *names])
    turned = np.concatenate([np.zeros((1, samples().shape[1]), np.float32), samples()[order]])
    same(run(session, turned, [64]), plain)
    with pytest.raises(InputError, match="the stream: lacks channel CP4"):
        decoder().stream(channels=CHANNELS[:-1])
    with pytest.raises(ValueError, match=r"shape \(3, 5\); needs \(8, samples\)"):
        decoder().stream().push(np.zeros((3, 5), np.float32))


def test_another_rate_gives_about_the_same() -> None:
    """A slow signal through twice the rate: the same times, nearly the same posteriors."""
    made = decoder(align="none")
    fast = made(raw(128.0))
    assert fast.times[0] == pytest.approx(2.0)
    assert fast.times[-1] == pytest.approx(SECONDS)


def test_cues_are_windows_of_their_own() -> None:
    made = decoder(align="subject")
    windows = made(raw(), onsets=[0.5, 3.0, 6.0])
    np.testing.assert_allclose(windows.times, [2.5, 5.0, 8.0])
    signals, _ = prepare_raw(raw(), setup().preprocessing)
    cut = np.stack([signals[:, at : at + 128] for at in (32, 192, 384)])
    aligned, _ = align_trials(cut, "subject")
    np.testing.assert_allclose(
        windows.probabilities, probabilities(made.network, aligned), atol=1e-6
    )
    assert not windows.causal
    assert len(made(raw(), onsets=[])) == 0
    with pytest.raises(InputError, match=r"the window of the cue at 8 s lies beyond its 9\.00 s"):
        made(raw(), onsets=[1.0, 8.0])


def test_bad_recordings_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "short_raw.fif"
    raw(seconds=1.5).save(path, verbose="ERROR")
    with pytest.raises(InputError, match=r"short_raw.fif: is 1.50 s long; the model needs 2 s"):
        decoder()(path)
    with pytest.raises(InputError, match="lacks channel C3"):
        decoder()(raw(names=(*CHANNELS[:3], "Oz", *CHANNELS[4:])))
    with pytest.raises(InputError, match=r"sample rate is 30 Hz; needs more than 40 Hz"):
        decoder()(raw(30.0))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="align is 'later'; needs none, subject, online"):
        Decoder(build("dbconformer", setup()), setup(), align="later")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="align is 'subject', which needs the whole recording"):
        decoder(align="subject").stream()
    with pytest.raises(ValueError, match="hop is 0; needs more than 0 s"):
        decoder().stream(hop=0)
    with pytest.raises(ValueError, match="dtype is 'bfloat16'; needs float32"):
        Decoder(build("dbconformer", setup()), setup(), device="cpu", dtype="bfloat16")


def test_it_loads_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_network(path, decoder().network, setup(), {"accuracy": 0.7})
    loaded = Decoder.load(path, device="cpu", align="none")
    assert (loaded.classes, loaded.channels, loaded.align) == (CLASSES, CHANNELS, "none")
    assert loaded.card == {"accuracy": 0.7}
    assert loaded.window_seconds == 2.0
    with pytest.raises(ValueError, match="weights 'nowhere' are neither a file nor one of"):
        Decoder.load("nowhere")
