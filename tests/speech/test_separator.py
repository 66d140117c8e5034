"""The task object: what goes in, at which rate, and what comes out."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sigform_kit.errors import InputError
from sigform_speech.mossformer import MossFormer, MossFormerConfig
from sigform_speech.networks import save_network
from sigform_speech.separator import Separator, speaker_path


def network(speakers: int = 2) -> MossFormer:
    torch.manual_seed(0)
    return MossFormer(
        MossFormerConfig(
            in_channels=32,
            out_channels=32,
            d_model=32,
            num_blocks=1,
            group_size=32,
            query_key_dim=32,
            num_spks=speakers,
        )
    )


@pytest.fixture(scope="module")
def separator() -> Separator:
    return Separator(network(), device="cpu", chunk_seconds=1.0, overlap_seconds=0.25)


def sound(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Noise below 3 kHz, so that no rate loses any."""
    count = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=(channels, count)))
    spectrum[:, np.fft.rfftfreq(count, 1 / rate) > 3000] = 0
    wave = np.fft.irfft(spectrum, count)
    return (0.1 * wave / wave.std()).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192_000, 4000])
@pytest.mark.parametrize("count", [1, 5, 3001])
def test_length_and_rate_stay(separator: Separator, rate: int, count: int) -> None:
    made = separator(sound(count / rate, rate, 2), rate)
    assert made.speakers.shape == (2, 2, count)
    assert made.speakers.dtype == np.float32
    assert made.sample_rate == rate
    assert made.bandwidth == min(rate, 8000) / 2


def test_another_rate_changes_nothing_else(separator: Separator) -> None:
    wave = sound(3, 24_000)[0]
    made = separator(wave, 24_000).speakers
    own = separator(wave[::3], 8000).speakers
    for one, other in zip(made[:, ::3], own, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.95


def test_kinds_of_arrays(separator: Separator) -> None:
    wave = sound(2, 8000)[0]
    expected = separator(wave).speakers
    assert expected.shape == (2, 16_000)
    for same in (wave.astype(np.float64), torch.from_numpy(wave), wave[None]):
        np.testing.assert_array_equal(separator(same).speakers.reshape(2, -1), expected)
    for kind, most in ((np.int16, 2**15), (np.int32, 2**31)):
        whole = np.round(wave * np.float64(most)).astype(kind)
        np.testing.assert_allclose(separator(whole).speakers, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (np.zeros(0, np.float32), "a sample or more"),
        (np.zeros((2, 0), np.float32), "a sample or more"),
        (np.zeros((1, 2, 3), np.float32), r"\(channels, samples\)"),
        (np.zeros((8000, 2), np.float32), r"\(channels, samples\)"),
        (np.zeros((), np.float32), r"\(channels, samples\)"),
        (np.array([0.0, np.nan], np.float32), "finite"),
        (np.array([0.0, np.inf], np.float32), "finite"),
        (np.zeros(5, np.uint8), "int16 or int32"),
        (np.zeros(5, np.complex64), "int16 or int32"),
    ],
)
def test_recordings_that_cannot_be(separator: Separator, recording: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        separator(recording)


def test_a_stream_is_the_whole(separator: Separator) -> None:
    wave = sound(4, 16_000, 2)
    whole = separator(wave, 16_000).speakers
    blocks = np.split(wave, [1, 1, 700, 30_000, 63_999], axis=1)
    parts = list(separator.separate_stream(blocks, 16_000, 2))
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole, atol=1e-6)
    assert list(separator.separate_stream([], 16_000, 2)) == []


@pytest.mark.parametrize(("suffix", "subtype"), [(".wav", "PCM_24"), (".flac", "PCM_16")])
def test_files_keep_their_format(
    separator: Separator, tmp_path: Path, suffix: str, subtype: str
) -> None:
    source = tmp_path / f"mix{suffix}"
    wave = sound(3, 22_050, 2)
    soundfile.write(source, wave.T, 22_050, subtype=subtype)
    seen: list[tuple[float, float | None]] = []
    targets = [tmp_path / f"{n}{suffix}" for n in (1, 2)]
    done = separator.separate_file(source, targets, on_progress=lambda *now: seen.append(now))
    expected = separator(source).speakers
    for target, speaker in zip(targets, expected, strict=True):
        info = soundfile.info(target)
        assert (info.samplerate, info.channels, info.subtype) == (22_050, 2, subtype)
        np.testing.assert_allclose(soundfile.read(target)[0].T, speaker, atol=1e-4)
    assert seen[-1] == (3.0, 3.0)
    assert [now for now, _ in seen] == sorted(now for now, _ in seen)
    assert (done.seconds, done.gain, done.bandwidth) == (3.0, 1.0, 4000.0)


def test_mono_and_streams(separator: Separator, tmp_path: Path) -> None:
    wave = sound(2, 8000, 2)
    held = io.BytesIO()
    soundfile.write(held, wave.T, 8000, format="WAV", subtype="FLOAT")
    held.seek(0)
    targets = [tmp_path / "1.wav", tmp_path / "2.wav"]
    separator.separate_file(held, targets, mono=True)
    expected = separator(wave.mean(axis=0)).speakers
    np.testing.assert_allclose(soundfile.read(targets[0])[0], expected[0], atol=1e-6)
    held.seek(0)
    np.testing.assert_array_equal(separator(held).speakers, separator(wave).speakers)


def test_files_that_cannot_be(separator: Separator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.wav"):
        separator(tmp_path / "nothing.wav")
    with pytest.raises(ValueError, match="needs 2"):
        separator.separate_file("any.wav", [tmp_path / "1.wav"])
    source = tmp_path / "mix.wav"
    soundfile.write(source, sound(1, 8000)[0], 8000)
    with pytest.raises(ValueError, match="sample_rate is 16000"):
        separator(source, 16_000)


def test_writing_what_came_out(separator: Separator, tmp_path: Path) -> None:
    wave = (sound(1, 8000)[0] * 2**15).astype(np.int16)
    made = separator(wave)
    assert len(made) == 2
    assert [speaker.shape for speaker in made] == [(8000,), (8000,)]
    paths = made.write(tmp_path / "new" / "talk.wav")
    assert [path.name for path in paths] == ["talk_speaker1.wav", "talk_speaker2.wav"]
    assert soundfile.info(paths[0]).subtype == "PCM_16"
    np.testing.assert_allclose(soundfile.read(paths[1])[0], made.speakers[1], atol=2e-5)
    with pytest.raises(InputError, match="exists"):
        made.write(tmp_path / "new" / "talk.wav")


def test_nothing_clips(separator: Separator, tmp_path: Path) -> None:
    wave = sound(1, 8000)[0]
    loud = separator(3000 * wave)
    assert loud.gain < 1
    assert np.abs(loud.gain * loud.speakers).max() <= 1
    loud.write(tmp_path / "loud.flac")
    kept = [soundfile.read(tmp_path / f"loud_speaker{n}.flac")[0] for n in (1, 2)]
    np.testing.assert_allclose(kept, loud.gain * loud.speakers, atol=1e-4)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("talk.wav", "talk_speaker2.wav"),
        ("out", "out/speaker2.wav"),
        ("out/voice {}.flac", "out/voice 2.flac"),
        ("a.b/talk.mp3", "a.b/talk_speaker2.mp3"),
    ],
)
def test_where_a_speaker_goes(target: str, expected: str) -> None:
    assert speaker_path(target, 2) == Path(expected)


def test_loading(tmp_path: Path) -> None:
    path = tmp_path / "three.safetensors"
    save_network(path, network(3), card={})
    loaded = Separator.load(path, speakers=3, device="cpu")
    assert loaded.speakers == 3
    assert loaded(sound(1, 8000)[0]).speakers.shape == (3, 8000)
    with pytest.raises(ValueError, match=r"speakers is 2; .* 3"):
        Separator.load(path, speakers=2, device="cpu")


def test_half_precision_is_near(separator: Separator) -> None:
    wave = sound(2, 8000)[0]
    half = Separator(
        network(), device="cpu", dtype="bfloat16", chunk_seconds=1, overlap_seconds=0.25
    )
    made, expected = half(wave).speakers, separator(wave).speakers
    assert made.dtype == np.float32
    assert np.square(made - expected).mean() < 1e-3 * np.square(expected).mean()
    with pytest.raises(ValueError, match="float64"):
        Separator(network(), dtype="float64")
