"""Who is found in a folder, and what mixtures are made of them."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from sigform_kit import InputError
from sigform_speech.data import (
    LEVEL,
    DynamicMixtures,
    LibriMixCrops,
    Mixing,
    Recording,
    Voice,
    find_voices,
    hold_out,
    read_span,
)

RATE = 8000
PLAIN = Mixing(seconds=1, gain_db=0, speed=0, turns=0)


def tone(pitch: float, seconds: float = 1.5, rate: int = RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def voice(path: Path, samples: NDArray[np.float32], rate: int = RATE) -> Voice:
    write(path, samples, rate)
    recording = Recording(path=path, sample_rate=rate, frames=len(samples))
    return Voice(name=path.stem, recordings=(recording,))


def mixtures(voices: list[Voice], mixing: Mixing = PLAIN, **settings: Any) -> DynamicMixtures:
    settings = {"speakers": 2, "sample_rate": RATE, "seed": 0, "items": 50, **settings}
    return DynamicMixtures(voices, mixing=mixing, **settings)


def pitches(sources: torch.Tensor) -> list[float]:
    """The strongest frequency of each source in Hz."""
    spectra = torch.fft.rfft(sources * torch.hann_window(sources.shape[-1])).abs()
    return sorted((spectra.argmax(-1) * RATE / sources.shape[-1]).tolist())


def loudness(signals: torch.Tensor) -> torch.Tensor:
    return signals.square().mean(-1).sqrt()


@pytest.fixture
def two(tmp_path: Path) -> list[Voice]:
    return [voice(tmp_path / f"{pitch}.wav", tone(pitch)) for pitch in (440, 1500)]


# Folders


def test_a_folder_for_each_speaker(tmp_path: Path) -> None:
    write(tmp_path / "ben" / "1.wav", tone(100))
    write(tmp_path / "anna" / "session 1" / "deep" / "2.FLAC", tone(200, 2.0, 16_000), 16_000)
    write(tmp_path / "anna" / "1.wav", tone(200))
    write(tmp_path / "short" / "1.wav", tone(300, 0.49))
    write(tmp_path / "1.wav", tone(400))
    (tmp_path / "anna" / "notes.txt").write_text("no recording")
    (tmp_path / "nobody").mkdir()
    voices = find_voices(tmp_path)
    assert [voice.name for voice in voices] == ["anna", "ben"]
    assert [file.path.name for file in voices[0].recordings] == ["1.wav", "2.FLAC"]
    assert voices[0].recordings[1].sample_rate == 16_000
    assert voices[0].recordings[1].frames == 32_000
    assert voices[0].seconds == pytest.approx(3.5)
    names = [voice.name for voice in find_voices(tmp_path, least_seconds=0.4)]
    assert names == ["anna", "ben", "short"]


def test_one_speaker_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "anna" / "1.wav", tone(200))
    with pytest.raises(InputError, match="recordings of 1 speakers; needs two"):
        find_voices(tmp_path)
    with pytest.raises(InputError, match=r"1\.wav is not a folder"):
        find_voices(tmp_path / "anna" / "1.wav")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "anna" / "1.wav", tone(200))
    write(tmp_path / "ben" / "1.wav", tone(100))
    (tmp_path / "ben" / "2.wav").write_bytes(b"RIFF no audio")
    with pytest.raises(InputError, match=r"ben/2\.wav cannot be read as audio"):
        find_voices(tmp_path)


def test_speakers_are_held_out() -> None:
    voices = [Voice(name=str(number), recordings=()) for number in range(40)]
    train, held = hold_out(voices, seed=0)
    assert len(held) == 4
    assert sorted(voice.name for voice in [*train, *held]) == sorted(v.name for v in voices)
    assert hold_out(voices, seed=0) == (train, held)
    assert hold_out(voices, seed=1)[1] != held


def test_enough_are_held_out_to_be_mixed() -> None:
    voices = [Voice(name=str(number), recordings=()) for number in range(6)]
    assert [len(part) for part in hold_out(voices[:4], 0)] == [2, 2]
    assert [len(part) for part in hold_out(voices, 0)] == [4, 2]
    assert [len(part) for part in hold_out(voices, 0, least=3)] == [3, 3]
    with pytest.raises(ValueError, match="3 speakers are given; needs 4"):
        hold_out(voices[:3], 0)
    with pytest.raises(ValueError, match="5 speakers are given; needs 6 to hold 3"):
        hold_out(voices[:5], 0, least=3)


# Mixtures


@pytest.mark.parametrize("speakers", [2, 3])
def test_a_mixture_is_the_sum_of_different_speakers(speakers: int, tmp_path: Path) -> None:
    wanted = [300.0, 700.0, 1100.0, 1900.0]
    voices = [voice(tmp_path / f"{pitch}.wav", tone(pitch)) for pitch in wanted]
    made = mixtures(voices, Mixing(seconds=1, speed=0), speakers=speakers)
    chosen = set()
    for index in range(20):
        mixture, sources = made[index]
        assert mixture.dtype == sources.dtype == torch.float32
        assert (mixture.shape, sources.shape) == ((RATE,), (speakers, RATE))
        torch.testing.assert_close(mixture, sources.sum(0), rtol=0, atol=1e-7)
        found = pitches(sources)
        assert len(set(found)) == speakers
        assert set(found) <= set(wanted)
        chosen.add(tuple(found))
    assert len(chosen) > 2


def test_an_item_is_a_function_of_seed_and_number(two: list[Voice]) -> None:
    mixing = Mixing(seconds=1)
    made = mixtures(two, mixing)
    later = [made[index] for index in (7, 3, 8)]
    again = mixtures(two, mixing)
    for (mixture, sources), index in zip(later, (7, 3, 8), strict=True):
        assert torch.equal(again[index][0], mixture)
        assert torch.equal(again[index][1], sources)
    assert not torch.equal(later[0][0], later[2][0])
    assert not torch.equal(mixtures(two, mixing, seed=1)[7][0], later[0][0])


def test_the_items_end(two: list[Voice]) -> None:
    made = mixtures(two, items=3)
    assert len(made) == 3
    assert len([mixture for mixture, _ in made]) == 3  # pyright: ignore[reportGeneralTypeIssues]
    for index in (3, -1):
        with pytest.raises(IndexError, match="needs one of 3"):
            made[index]


def test_levels(two: list[Voice]) -> None:
    made = mixtures(two, Mixing(seconds=1, gain_db=4, speed=0, turns=0))
    between = []
    for index in range(50):
        levels = loudness(made[index][1])
        assert levels.max() == pytest.approx(LEVEL, rel=1e-4)
        between.append(20 * float(torch.log10(levels[0] / levels[1])))
    assert max(between) <= 8
    assert min(between) >= -8
    assert max(between) > 4
    assert min(between) < -4
    assert loudness(mixtures(two)[0][1]).tolist() == pytest.approx([LEVEL, LEVEL], rel=1e-4)


def test_another_speed_is_another_pitch(two: list[Voice]) -> None:
    made = mixtures(two, Mixing(seconds=1, gain_db=0, speed=0.1, turns=0))
    low, high = np.array([pitches(made[index][1]) for index in range(30)]).T
    for found, pitch in ((low, 440), (high, 1500)):
        assert 0.89 * pitch < found.min() < 0.94 * pitch
        assert 1.06 * pitch < found.max() < 1.11 * pitch
    assert np.std(low / high) > 0.02  # each speaker has a speed of their own


@pytest.mark.parametrize("rate", [16_000, 11_025, 48_000])
def test_other_rates_keep_their_pitch(rate: int, tmp_path: Path) -> None:
    voices = [voice(tmp_path / f"{p}.wav", tone(p, 1.5, rate), rate) for p in (440, 1500)]
    mixture, sources = mixtures(voices)[0]
    assert mixture.shape == (RATE,)
    assert pitches(sources) == pytest.approx([440, 1500], abs=1)
    assert (sources[:, -200:].abs().amax(-1) > LEVEL).all()  # to the end


def test_a_short_recording_begins_somewhere(tmp_path: Path) -> None:
    voices = [voice(tmp_path / f"{pitch}.wav", tone(pitch, 0.6)) for pitch in (440, 1500)]
    made = mixtures(voices, Mixing(seconds=2, gain_db=0, speed=0, turns=0))
    starts = set()
    for index in range(10):
        for source in made[index][1]:
            heard = source.nonzero().flatten()
            length = int(heard[-1] - heard[0]) + 1
            assert 0.59 * RATE < length <= 0.6 * RATE
            starts.add(int(heard[0]))
    assert len(starts) > 10


def test_turns_are_taken(two: list[Voice]) -> None:
    made = mixtures(two, Mixing(seconds=1, gain_db=0, speed=0, turns=1))
    silences, places = [], set()
    for index in range(30):
        first, second = made[index][1].unfold(1, 80, 80).abs().amax(-1)  # every 10 ms
        assert second[1:-1].min() > LEVEL
        pause = (first == 0).nonzero().flatten()
        silences.append(len(pause) / 100)
        places.add(int(pause[0]))
        assert pause[-1] - pause[0] == len(pause) - 1  # one pause
    assert 0.08 < min(silences) < 0.25  # half of it may lie outside
    assert 0.35 < max(silences) <= 0.5
    assert len(places) > 10
    untouched = mixtures(two)[0][1].unfold(1, 80, 80).abs().amax(-1)
    assert untouched.min() > LEVEL


def test_a_turn_has_soft_edges(two: list[Voice]) -> None:
    made = mixtures(two, Mixing(seconds=1, turns=1))
    gate = made._turn(np.random.default_rng(3))
    assert gate.shape == (RATE,)
    assert gate.min() == pytest.approx(0, abs=1e-6)
    assert gate.max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(gate)).max() < 0.01


def test_pauses_are_passed_over(tmp_path: Path) -> None:
    voices = []
    for pitch in (440, 1500):
        rests = np.concatenate([np.zeros(2 * RATE, np.float32), tone(pitch, 2)])
        voices.append(voice(tmp_path / f"{pitch}.wav", rests))
    made = mixtures(voices, Mixing(seconds=0.25, gain_db=0, speed=0, turns=0))
    silent = sum(int((loudness(made[index][1]) == 0).sum()) for index in range(50))
    assert silent <= 3  # in one of 350 are eight crops in a row quiet


def test_a_silent_voice_does_no_harm(tmp_path: Path) -> None:
    silence = voice(tmp_path / "silent.wav", np.zeros(RATE, np.float32))
    voices = [silence, voice(tmp_path / "heard.wav", tone(440))]
    mixture, sources = mixtures(voices, Mixing(seconds=0.5))[0]
    assert mixture.isfinite().all()
    assert sorted(loudness(sources).tolist()) == pytest.approx([0, LEVEL], rel=1e-4)
    mixture, _ = mixtures([silence, silence], Mixing(seconds=0.5))[0]
    assert not mixture.any()


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    samples = tone(440)
    samples[5000] = np.nan
    voices = [voice(tmp_path / "nan.wav", samples), voice(tmp_path / "good.wav", tone(700))]
    with pytest.raises(InputError, match=r"nan\.wav has samples that are not numbers"):
        mixtures(voices, Mixing(seconds=1.4, speed=0))[0]


def test_a_recording_that_went_away(two: list[Voice]) -> None:
    two[0].recordings[0].path.unlink()
    with pytest.raises(InputError, match=r"440\.wav cannot be read at sample"):
        mixtures(two)[0]


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([tone(440), tone(1500)], axis=1)
    path = write(tmp_path / "stereo.wav", both)
    file = Recording(path=path, sample_rate=RATE, frames=len(both))
    np.testing.assert_allclose(read_span(file, 100, 50), both[100:150].mean(1), atol=1e-7)


def test_fewer_voices_than_speakers(two: list[Voice]) -> None:
    with pytest.raises(ValueError, match="2 voices are given; needs 3"):
        mixtures(two, speakers=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", 0), ("gain_db", -1), ("speed", 0.5), ("speed", -0.1), ("turns", 1.1)],
)
def test_bad_mixing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} (is )?{value}.*needs"):
        Mixing(**{name: value})


# LibriMix


def write_librimix(
    root: Path, subset: str = "train-100", speakers: int = 2, lengths: tuple[int, ...] = (4000, 900)
) -> None:
    folder = root / f"Libri{speakers}Mix" / "wav8k" / "min" / subset
    for number, length in enumerate(lengths):
        sources = [tone(200 * (s + number + 1), length / RATE) / 3 for s in range(speakers)]
        write(folder / "mix_clean" / f"{number}.wav", np.sum(sources, axis=0))
        for s, source in enumerate(sources):
            write(folder / f"s{s + 1}" / f"{number}.wav", source)


def librimix(root: Path, subset: str = "train-100", **settings: Any) -> LibriMixCrops:
    settings = {"speakers": 2, "sample_rate": RATE, "seed": 0, "seconds": 0.25, **settings}
    return LibriMixCrops(root, subset, **settings)


@pytest.mark.parametrize("speakers", [2, 3])
def test_librimix_crops(speakers: int, tmp_path: Path) -> None:
    write_librimix(tmp_path, speakers=speakers)
    crops = librimix(tmp_path, speakers=speakers)
    assert len(crops) == 2
    for index in (0, 1):
        mixture, sources = crops[index]
        assert mixture.dtype == torch.float32
        assert (mixture.shape, sources.shape) == ((2000,), (speakers, 2000))
        torch.testing.assert_close(mixture, sources.sum(0), rtol=0, atol=1e-6)
    mixture, sources = crops[1]  # shorter than a crop
    np.testing.assert_array_equal(sources[1, :900], tone(600, 900 / RATE) / 3)
    assert not sources[:, 900:].any()
    assert torch.equal(librimix(tmp_path, speakers=speakers)[0][0], crops[0][0])
    others = [librimix(tmp_path, speakers=speakers, seed=seed)[0][0] for seed in range(1, 4)]
    assert any(not torch.equal(other, crops[0][0]) for other in others)
    inside = librimix(tmp_path / f"Libri{speakers}Mix", speakers=speakers)
    assert torch.equal(inside[0][0], crops[0][0])


def test_librimix_whole(tmp_path: Path) -> None:
    write_librimix(tmp_path, "dev", lengths=(100, 200, 300, 400, 500, 600))
    assert [len(mixture) for mixture, _ in librimix(tmp_path, "dev", seconds=None)] == [  # pyright: ignore[reportGeneralTypeIssues]
        100, 200, 300, 400, 500, 600,
    ]  # fmt: skip
    some = librimix(tmp_path, "dev", seconds=None, items=3)
    assert [some[index][1].shape[1] for index in range(len(some))] == [100, 300, 500]
    assert len(librimix(tmp_path, "dev", items=99)) == 6


def test_librimix_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder Libri2Mix") as told:
        librimix(tmp_path)
    assert "\n" not in told.value.message
    write_librimix(tmp_path)
    with pytest.raises(InputError, match=r"dev.*has no mixtures"):
        librimix(tmp_path, "dev")
    with pytest.raises(ValueError, match="sample rate"):
        librimix(tmp_path, sample_rate=11_025)


def lengthen(path: Path) -> None:
    write(path, tone(400, 0.6))


def speed_up(path: Path) -> None:
    write(path, tone(400, 0.25, 16_000), 16_000)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lengthen, "has 4800 samples at 8000 Hz; needs 4000"),
        (speed_up, "has 4000 samples at 16000 Hz; needs 4000 at 8000 Hz"),
        (Path.unlink, "cannot be read as audio"),
    ],
)
def test_librimix_with_a_file_that_does_not_fit(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    write_librimix(tmp_path)
    spoil(tmp_path / "Libri2Mix" / "wav8k" / "min" / "train-100" / "s2" / "0.wav")
    with pytest.raises(InputError, match=rf"s2/0\.wav {words}"):
        librimix(tmp_path)[0]


def test_librimix_without_torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_librimix(tmp_path)
    load = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("torchaudio"):
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"sigform-speech\[librimix\]"):
        librimix(tmp_path)
