"""The codecs: pixels, spectrograms, and latents of tiny autoencoders made on the spot."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from generate.codecs import tiny_sound_vae, tiny_vae, tiny_vocoder

from sigform_generate.latents import (
    AUDIOLDM,
    SD_VAE,
    AudioLDMCodec,
    MelCodec,
    PixelCodec,
    SDVAECodec,
    picture_codec,
    sound_codec,
)
from sigform_kit.errors import InputError


def test_pixels_stay_as_they_are() -> None:
    codec = picture_codec("pixel")
    assert isinstance(codec, PixelCodec)
    frames = torch.rand(1, 2, 3, 8, 8) * 2 - 1
    assert codec.encode(frames) is frames
    assert torch.equal(codec.decode(codec.encode(frames)), frames)
    assert float(codec.decode(3 * frames).abs().max()) <= 1


def test_a_spectrogram_and_back_keeps_the_length() -> None:
    codec = sound_codec("mel")
    assert isinstance(codec, MelCodec)
    image = codec.encode(torch.zeros(2, 1000))
    assert image.shape == (2, 1, 7, 64)
    assert codec.decode(image, 1000).shape == (2, 1000)


@pytest.mark.parametrize("name", ["", "sd-vae", "sd-vae:", "mel"])
def test_an_unknown_picture_codec_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="needs pixel or sd-vae:FOLDER"):
        picture_codec(name)


@pytest.mark.parametrize("name", ["", "audioldm", "pixel"])
def test_an_unknown_sound_codec_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="needs mel or audioldm:FOLDER"):
        sound_codec(name)


@pytest.mark.parametrize(
    ("make", "package"), [(SDVAECodec.load, "diffusers"), (AudioLDMCodec.load, "diffusers")]
)
def test_without_diffusers_one_line_says_what_to_install(
    make: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent(package), *sys.meta_path])
    with pytest.raises(InputError, match=r"latents need diffusers.*; install sigform-generate\["):
        make(tmp_path)


class _Absent:
    """Finds nothing of a package, as if it were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)


# --- with diffusers, which takes long to import -------------------------------------------------


@pytest.fixture(scope="module")
def vae() -> Any:
    return tiny_vae()


@pytest.fixture(scope="module")
def heard() -> tuple[Any, Any]:
    return tiny_sound_vae(), tiny_vocoder()


@pytest.mark.slow
def test_frames_become_latents_an_eighth_as_wide_few_at_once(vae: Any) -> None:
    frames = torch.rand(2, 3, 3, 32, 16) * 2 - 1
    codec = SDVAECodec(vae, at_once=4)
    latents = codec.encode(frames)
    assert latents.shape == (2, 3, 4, 4, 2)
    assert codec.decode(latents).shape == frames.shape
    one_by_one = SDVAECodec(vae, at_once=1).encode(frames)
    assert torch.allclose(latents, one_by_one, atol=1e-5)
    with torch.no_grad():
        mean = vae.encode(frames[1]).latent_dist.mean * 0.18215
    assert torch.allclose(latents[1], mean, atol=1e-5)
    with pytest.raises(ValueError, match="30 x 16; this autoencoder needs multiples of 8"):
        codec.encode(frames[..., :30, :])


@pytest.mark.slow
def test_sound_becomes_audioldms_latents_and_keeps_its_length(heard: tuple[Any, Any]) -> None:
    codec = AudioLDMCodec(*heard)
    sound = 0.1 * torch.randn(2, 25_600)
    latents = codec.encode(sound)
    assert latents.shape == (2, 8, 40, 16)
    assert codec.decode(latents, 25_600).shape == sound.shape
    assert codec.decode(latents[:1], 25_600).shape == (1, 25_600)
    odd = codec.encode(sound[:, :1000])  # 7 windows, made 8
    assert odd.shape == (2, 8, 2, 16)
    assert codec.decode(odd, 1000).shape == (2, 1000)
    with pytest.raises(ValueError, match="latents hold 8 windows; 2000 samples need 13"):
        codec.decode(odd, 2000)


@pytest.mark.slow
def test_a_vocoder_of_other_sound_is_refused(heard: tuple[Any, Any]) -> None:
    vae, vocoder = heard
    config = type(vocoder.config)(model_in_dim=80, sampling_rate=16_000)
    other = type("Other", (torch.nn.Module,), {})()
    other.config = config
    with pytest.raises(ValueError, match="takes 80 bands at 16000 Hz; needs 64"):
        AudioLDMCodec(vae, other)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_both_load_from_a_folder_and_from_nowhere_else(
    vae: Any, heard: tuple[Any, Any], tmp_path: Path
) -> None:
    vae.save_pretrained(tmp_path / "sd")
    codec = picture_codec(f"sd-vae:{tmp_path / 'sd'}")
    frames = torch.rand(1, 1, 3, 16, 16)
    assert torch.allclose(codec.encode(frames), SDVAECodec(vae).encode(frames), atol=1e-6)
    heard[0].save_pretrained(tmp_path / "audio" / "vae")
    with pytest.raises(InputError, match=AUDIOLDM):
        sound_codec(f"audioldm:{tmp_path / 'audio'}")
    heard[1].save_pretrained(tmp_path / "audio" / "vocoder")
    sound = torch.rand(1, 3200)
    loaded = sound_codec(f"audioldm:{tmp_path / 'audio'}")
    assert torch.allclose(loaded.encode(sound), AudioLDMCodec(*heard).encode(sound), atol=1e-6)
    with pytest.raises(InputError, match=f"needs a copy of {SD_VAE}"):
        picture_codec(f"sd-vae:{tmp_path / 'none'}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(InputError, match="no model that can be read"):
        picture_codec(f"sd-vae:{tmp_path / 'broken'}")
