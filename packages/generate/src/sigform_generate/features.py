"""What pictures, clips and sounds are compared by: fixed features that need no download.

The proxies are small convolutional nets with random filters that are the same on every machine:
distances between their outputs order models of one kind and size, and are no FID, FVD or FAD,
which they never call themselves. Letters of shapes: B batch, T frames, D features, N samples.
"""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_kit.errors import InputError

FEATURES = 128
"""D of every proxy."""

IMAGE_PROXY = "fixed random convnet v1"
CLIP_PROXY = "fixed random 3-D convnet v1"
SOUND_PROXY = "fixed random mel convnet v1"
INCEPTION = "Inception-v3 (2015-12-05), pool3"

_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SIDE = 64  # pixels to which the proxies bring any picture


class _Convnet(nn.Module):
    """Three random convolutions with magnitudes and pooling between, and what each level sees.

    (B, C, ..., H, W) -> (B, D): means over the last level's halves in height and width, and over
    the whole of those before, mixed by one random projection. `time` makes the filters 3-D.
    """

    def __init__(self, channels: int, *, time: bool, seed: int) -> None:
        super().__init__()
        # RandomState's numbers are frozen for good, those of newer generators are not.
        random = np.random.RandomState(seed)
        self.time = time
        widths = (channels, 16, 32, 64) if time else (channels, 32, 64, 96)
        self.filters = nn.ParameterList()
        for before, after in itertools.pairwise(widths):
            side = 5 if before == channels else 3
            shape = (after, before, *([3] if time else []), side, side)
            filters = random.standard_normal(shape)
            # Without a mean of their own they see shapes; the thumbnail sees brightness.
            filters -= filters.mean(axis=tuple(range(2, len(shape))), keepdims=True)
            filters *= np.sqrt(2 / filters[0].size)
            self.filters.append(_fixed(filters))
        seen = sum(widths[1:3]) + 4 * widths[3] + 16 * channels
        self.mix = _fixed(random.standard_normal((seen, FEATURES)) / np.sqrt(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        conv = F.conv3d if self.time else F.conv2d
        pool = F.avg_pool3d if self.time else F.avg_pool2d
        window = (1, 2, 2) if self.time else 2
        thumbnail = _spread(x, 4).flatten(1) / 4
        seen = []
        last = len(self.filters) - 1
        for level, filters in enumerate(self.filters):
            stride = 2 if level == 0 else 1
            x = conv(
                x,
                filters,
                stride=(1, stride, stride) if self.time else stride,
                padding=[side // 2 for side in filters.shape[2:]],
            ).abs()
            seen.append(_spread(x, 2 if level == last else 1).flatten(1))
            if level < last:
                x = pool(x, window)
                x = x - x.mean(dim=1, keepdim=True)
        return torch.cat([thumbnail, *seen], dim=1) @ self.mix


def _spread(x: Tensor, side: int) -> Tensor:
    """Means over a raster of places, and over time: (B, C, ..., H, W) -> (B, C, s, s)."""
    if x.ndim == 5:
        x = x.mean(dim=2)
    return F.adaptive_avg_pool2d(x, side)


def _fixed(values: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(values.astype(np.float32)), requires_grad=False)


class ImageProxy(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> (B, D); any size is brought to 64x64."""

    name = IMAGE_PROXY

    def __init__(self) -> None:
        super().__init__()
        self.net = _Convnet(3, time=False, seed=20220421)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(_to_side(images))


class ClipProxy(nn.Module):
    """Clips (B, T, 3, H, W) in [-1, 1] -> (B, D), from the frames and from their differences."""

    name = CLIP_PROXY

    def __init__(self) -> None:
        super().__init__()
        self.still = _Convnet(3, time=True, seed=20230522)
        self.moving = _Convnet(3, time=True, seed=20240611)

    def forward(self, clips: Tensor) -> Tensor:
        frames = _to_side(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).transpose(1, 2)
        if frames.shape[2] < 2:
            raise ValueError(f"clips have {frames.shape[2]} frames; needs 2 or more")
        # Differences are small beside the frames: enlarged, movement counts for as much.
        return self.still(frames) + self.moving(4 * frames.diff(dim=2))


class SoundProxy(nn.Module):
    """Sounds (B, N) in [-1, 1] at `sample_rate` -> (B, D), by way of 64-band log-mel pictures."""

    name = SOUND_PROXY

    def __init__(self, sample_rate: int = 16000) -> None:
        super().__init__()
        import torchaudio

        self.hop = max(1, round(0.01 * sample_rate))
        self.window = max(16, round(0.064 * sample_rate))
        bands = torchaudio.functional.melscale_fbanks(
            self.window // 2 + 1, 50.0, sample_rate / 2, 64, sample_rate
        )
        self.bands = nn.Parameter(bands, requires_grad=False)
        self.net = _Convnet(1, time=False, seed=20190425)

    def forward(self, sounds: Tensor) -> Tensor:
        sounds = F.pad(sounds, (0, max(0, self.window - sounds.shape[1])))
        spectrum = torch.stft(
            sounds,
            self.window,
            self.hop,
            window=torch.hann_window(self.window, device=sounds.device),
            pad_mode="constant",
            return_complex=True,
        ).abs()
        mel = torch.einsum("bft,fm->bmt", spectrum, self.bands).clamp(min=1e-4).log10()
        return self.net(mel[:, None] / 2)


class InceptionFeatures(nn.Module):
    """The network of FID and KID behind the interface of ImageProxy; D is 2048."""

    name = INCEPTION

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from torchmetrics.image.fid import NoTrainInceptionV3

        self.net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))

    def forward(self, images: Tensor) -> Tensor:
        whole = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        return self.net(whole)


def find_inception(weights: Path | None = None) -> tuple[InceptionFeatures | None, str]:
    """(the Inception network, "") where torch-fidelity and its weights are here, else (None, why).

    Nothing is downloaded: the weights are the file given, or that in torch's cache. Raises
    InputError for a file with anything else in it.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        return None, "torch-fidelity is not installed: pip install 'sigform-generate[metrics]'"
    path = weights or Path(torch.hub.get_dir(), "checkpoints", _INCEPTION_FILE)
    if not path.is_file():
        return None, f"{path} is not there"
    try:
        # torch-fidelity unpickles the file whole: what is in it is looked at first.
        torch.load(path, weights_only=True)
        return InceptionFeatures(path), ""
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: not the weights of Inception-v3") from error


def _to_side(images: Tensor) -> Tensor:
    if images.shape[-2:] == (_SIDE, _SIDE):
        return images
    return F.interpolate(images, (_SIDE, _SIDE), mode="bilinear", antialias=True)


@torch.no_grad()
def extract(net: nn.Module, items: Tensor, *, batch: int = 64) -> np.ndarray:
    """Features (N, D) in float64 of all items, a batch at a time on the device of the net."""
    device = next(net.parameters()).device
    parts = [net(part.to(device)).cpu().double() for part in items.split(batch)]
    return torch.cat(parts).numpy()
