"""Sound to log-mel pictures and back: AudioLDM's numbers, exact lengths, same pitch and time."""

import math

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from sigform_generate.bouncing import bouncing_clip
from sigform_generate.sound import MelSettings, from_image, log_mel, to_image, unmix


def tone(hertz: float, samples: int = 16_000, rate: int = 16_000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate)[None]


def test_the_filters_and_magnitudes_are_those_of_the_published_front_end() -> None:
    settings_ = MelSettings()
    filters = torchaudio.functional.melscale_fbanks(
        n_freqs=513,
        f_min=0.0,
        f_max=8000.0,
        n_mels=64,
        sample_rate=16_000,
        norm="slaney",
        mel_scale="slaney",
    )
    sound = tone(440.0) + 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(sound[:, None], (432, 432), mode="reflect")[:, 0]
    spectrum = torch.stft(
        padded, 1024, 160, window=torch.hann_window(1024), center=False, return_complex=True
    ).abs()
    wanted = (filters.T @ spectrum).clamp(min=1e-5).log().transpose(1, 2)
    found = log_mel(sound, settings_)
    assert found.shape == (1, 100, 64)
    assert float((found - wanted).abs().max()) < 1e-4


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 5000))
def test_as_many_samples_come_back_as_went_in(samples: int) -> None:
    chance = torch.Generator().manual_seed(samples)
    sound = 0.1 * torch.randn(1, samples, generator=chance)
    image = to_image(sound)
    assert image.shape == (1, 1, math.ceil(samples / 160), 64)
    assert from_image(image, samples).shape == (1, samples)


def test_silence_is_minus_one_and_comes_back_silent() -> None:
    image = to_image(torch.zeros(1, 3200))
    assert torch.all(image == -1)
    assert float(from_image(image, 3200).abs().max()) < 1e-4


# High bands hold many frequencies: a pure tone there comes back as a narrow noise, and softer.
@pytest.mark.parametrize(("hertz", "kept"), [(200.0, 0.5), (700.0, 0.5), (3000.0, 0.1)])
def test_a_tone_comes_back_at_its_pitch_and_loudness(hertz: float, kept: float) -> None:
    sound = tone(hertz)
    again = from_image(to_image(sound), 16_000)
    spectrum = np.abs(np.fft.rfft(again[0].numpy() * np.hanning(16_000)))
    assert abs(int(spectrum.argmax()) - hertz) < 0.03 * hertz + 12
    assert kept < float(again.square().mean() / sound.square().mean()) < 2


def test_an_impact_comes_back_when_it_was() -> None:
    for seed in range(3):
        clip = bouncing_clip(seed)
        sound = torch.from_numpy(clip.audio)[None]
        again = from_image(to_image(sound), sound.shape[1])[0].numpy()
        first = round(clip.impacts[0].time * 16_000)
        loud = np.abs(again[first : first + 800]).max()
        start = int(np.argmax(np.abs(again) > 0.3 * loud))
        assert abs(start - first) < 0.02 * 16_000
        # Of what a spectrogram keeps, the way back loses little.
        error = (to_image(torch.from_numpy(again)[None]) - to_image(sound)).abs().mean()
        assert float(error) < 0.05


def test_the_sound_of_one_does_not_depend_on_the_others() -> None:
    images = to_image(torch.cat([tone(300.0, 4800), tone(900.0, 4800)]))
    together = from_image(images, 4800, seed=3)
    alone = from_image(images[1:], 4800, seed=3)
    assert torch.allclose(together[1], alone[0], atol=1e-4)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    from_image(images[:1], 4800)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_unmixed_magnitudes_mix_to_their_bands_and_are_never_negative() -> None:
    settings_ = MelSettings()
    bands = torch.rand(1, 5, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    found = unmix(bands, settings_)
    assert float(found.min()) >= 0
    filters = torchaudio.functional.melscale_fbanks(
        513, 0.0, 8000.0, 64, 16_000, "slaney", "slaney"
    )
    error = (filters.T @ found - bands.transpose(1, 2)).norm() / bands.norm()
    assert float(error) < 0.15


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"audio has shape \(5,\)"):
        log_mel(torch.zeros(5))
    with pytest.raises(ValueError, match="30 samples"):
        from_image(torch.zeros(1, 1, 7, 64), 30)
    with pytest.raises(ValueError, match="hop is 161"):
        MelSettings(hop=161)
    with pytest.raises(ValueError, match="half the sample rate"):
        MelSettings(sample_rate=8000)
    with pytest.raises(ValueError, match="bands is 0"):
        MelSettings(bands=0)
    with pytest.raises(ValueError, match="floor is 0"):
        MelSettings(floor=0)
