"""Sound as a picture: log-mel spectrograms in the front end of AudioLDM, and the way back.

AudioLDM (arXiv 2301.12503) hears 16 kHz through windows of 1024 samples every 160, in 64 mel
bands up to 8 kHz, as the natural logarithm of the magnitude. On top of it the values are brought
to about [-1, 1], which is ours. The way back needs no vocoder: the magnitudes are found from the
bands by least squares without negatives, the phases by Griffin-Lim.

Letters of shapes: B batch, N samples, F windows in time, M mel bands, K frequencies.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

UNMIX_STEPS = 50
"""Multiplicative steps from bands to frequencies; more change the sound by less than it errs."""

PHASE_STEPS = 60
"""Rounds of Griffin-Lim with momentum."""


@dataclass(frozen=True, kw_only=True)
class MelSettings:
    """How sound becomes a spectrogram; the defaults are AudioLDM's, but for `loudest`."""

    sample_rate: int = 16_000  # Hz
    window: int = 1024  # samples, also the length of the transform
    hop: int = 160  # samples between windows
    bands: int = 64
    lowest: float = 0.0  # Hz
    highest: float = 8000.0  # Hz
    floor: float = 1e-5  # smallest magnitude, becomes -1
    loudest: float = math.e**2  # magnitude that becomes 1; few sounds go above it

    def __post_init__(self) -> None:
        for what in ("sample_rate", "window", "hop", "bands"):
            if getattr(self, what) < 1:
                raise ValueError(f"{what} is {getattr(self, what)}; needs 1 or more")
        if (self.window - self.hop) % 2 or self.hop > self.window:
            raise ValueError(
                f"hop is {self.hop}; needs at most the window's {self.window}, both odd or even"
            )
        if not 0 <= self.lowest < self.highest <= self.sample_rate / 2:
            raise ValueError(
                f"bands lie in {self.lowest} to {self.highest} Hz; needs 0 to half the sample rate"
            )
        if not 0 < self.floor < self.loudest:
            raise ValueError(f"floor is {self.floor}; needs above 0, under {self.loudest}")

    def windows(self, samples: int) -> int:
        """How many windows `samples` of sound make: one for every hop begun."""
        return -(-samples // self.hop)


def log_mel(audio: Tensor, settings: MelSettings | None = None) -> Tensor:
    """audio (B, N) in [-1, 1] -> natural log of the mel magnitudes (B, F, M), as AudioLDM's.

    Window f is centred at sample hop * (f + 1/2); the ends are mirrored, an unfinished hop is
    filled with silence. Raises ValueError for a wrong shape or no sound.
    """
    settings = settings or MelSettings()
    if audio.ndim != 2 or audio.shape[1] < 1:
        raise ValueError(f"audio has shape {tuple(audio.shape)}; needs (batch, samples)")
    samples = audio.shape[1]
    whole = max(settings.windows(samples) * settings.hop, settings.window)
    audio = functional.pad(audio, (0, whole - samples))
    side = (settings.window - settings.hop) // 2
    audio = functional.pad(audio[:, None], (side, side), mode="reflect")[:, 0]
    spectrum = torch.stft(
        audio,
        settings.window,
        settings.hop,
        window=torch.hann_window(settings.window, device=audio.device, dtype=audio.dtype),
        center=False,
        return_complex=True,
    )  # (B, K, F)
    bands = spectrum.abs().transpose(1, 2) @ _filters(settings).to(audio)  # (B, F, M)
    return bands[:, : settings.windows(samples)].clamp(min=settings.floor).log()


def to_image(audio: Tensor, settings: MelSettings | None = None) -> Tensor:
    """audio (B, N) -> spectrogram (B, 1, F, M), float32 in about [-1, 1]; silence is -1."""
    settings = settings or MelSettings()
    low, high = math.log(settings.floor), math.log(settings.loudest)
    return ((log_mel(audio.float(), settings) - low) / (high - low) * 2 - 1)[:, None]


def from_image(
    image: Tensor, samples: int, settings: MelSettings | None = None, *, seed: int = 0
) -> Tensor:
    """spectrogram (B, 1, F, M) -> audio (B, samples), float32 in [-1, 1].

    The phases start from `seed`; the sound of one spectrogram does not depend on the others.
    Raises ValueError when the spectrogram's windows are not those of `samples`.
    """
    import torchaudio  # slow to import, and only needed here

    settings = settings or MelSettings()
    windows = settings.windows(samples)
    if image.ndim != 4 or image.shape[1:] != (1, windows, settings.bands):
        raise ValueError(
            f"spectrogram has shape {tuple(image.shape)}; needs (batch, 1, {windows}, "
            f"{settings.bands}) for {samples} samples"
        )
    magnitudes = unmix(from_scale(image[:, 0], settings), settings)
    # The transform's windows are centred at whole hops, ours half a hop later: one more window at
    # either end, and half a hop cut off, put every window where it was.
    # The transform also needs a whole window of sound.
    more = max(1, settings.window // settings.hop + 1 - windows)
    magnitudes = functional.pad(magnitudes, (1, more), mode="replicate")
    length = (windows + more) * settings.hop
    shape = torch.hann_window(settings.window, device=image.device)
    sounds = []
    for one in magnitudes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sounds.append(
                torchaudio.functional.griffinlim(
                    one,
                    window=shape,
                    n_fft=settings.window,
                    hop_length=settings.hop,
                    win_length=settings.window,
                    power=1.0,
                    n_iter=PHASE_STEPS,
                    momentum=0.99,
                    length=length,
                    rand_init=True,
                )
            )
    start = settings.hop // 2
    return torch.stack(sounds)[:, start : start + samples].clamp(-1, 1)


def from_scale(image: Tensor, settings: MelSettings) -> Tensor:
    """Values in about [-1, 1] -> mel magnitudes, of any shape; what is at the floor is silent."""
    low, high = math.log(settings.floor), math.log(settings.loudest)
    magnitudes = ((image.float().clamp(-1, 1.5) + 1) / 2 * (high - low) + low).exp()
    return magnitudes - settings.floor


def unmix(bands: Tensor, settings: MelSettings) -> Tensor:
    """mel magnitudes (B, F, M) -> magnitudes of frequencies (B, K, F) that mix to them.

    Least squares without negatives (Lee and Seung, 2001), from the bands spread evenly.
    """
    filters = _filters(settings).to(bands)  # (K, M)
    spread = filters / filters.sum(0, keepdim=True)
    found = bands @ spread.T / filters.max()  # (B, F, K)
    wanted = bands @ filters.T
    gram = filters @ filters.T
    for _ in range(UNMIX_STEPS):
        found = found * wanted / (found @ gram + 1e-12)
    return found.transpose(1, 2)


@cache
def _filters(settings: MelSettings) -> Tensor:
    """Slaney's mel filters (K, M), each of area 1: those that AudioLDM's front end uses."""
    edges = torch.linspace(
        _to_mel(settings.lowest), _to_mel(settings.highest), settings.bands + 2, dtype=torch.float64
    )
    corners = torch.where(
        edges < BREAK_MEL,
        edges * HERTZ_PER_MEL,
        BREAK_HERTZ * torch.exp((edges - BREAK_MEL) * LOG_STEP),
    )
    hertz = torch.linspace(
        0, settings.sample_rate / 2, settings.window // 2 + 1, dtype=torch.float64
    )
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (hertz[:, None] - left) / (middle - left)
    falling = (right - hertz[:, None]) / (right - middle)
    triangles = torch.minimum(rising, falling).clamp(min=0)  # (K, M)
    return (triangles * 2 / (right - left)).float()


HERTZ_PER_MEL = 200 / 3
BREAK_HERTZ = 1000.0
BREAK_MEL = BREAK_HERTZ / HERTZ_PER_MEL
LOG_STEP = math.log(6.4) / 27
"""Slaney's scale: linear up to 1 kHz, 27 steps from there to 6.4 times as high."""


def _to_mel(hertz: float) -> float:
    if hertz < BREAK_HERTZ:
        return hertz / HERTZ_PER_MEL
    return BREAK_MEL + math.log(hertz / BREAK_HERTZ) / LOG_STEP
