"""The papers' evaluation: shrink a test picture, enlarge it again, compare on luma.

Two protocols are in use and differ by about 0.02 dB:

- "rgb" (BasicSR, SwinIR, CRAFT, DLGSANet): the small picture is RGB rounded to uint8, and luma is
  not rounded. Bicubic reaches 33.68/30.41/28.43 dB on Set5 for x2/x3/x4.
- "srcnn" (SRCNN, VDSR): luma is rounded first and everything happens on it; the small picture is
  not rounded. Bicubic reaches 33.66/30.39/28.42 dB. A network that takes colours cannot follow this
  to the letter: it still gets the rounded RGB picture, and its luma is rounded before comparing.

Letters: H, W the height and width of the large picture, h, w those of the small one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import InputError, did_you_mean
from sigform_superres.metrics import luma, psnr, ssim
from sigform_superres.resizing import imresize

Protocol: TypeAlias = Literal["rgb", "srcnn"]
# uint8 RGB (h, w, 3) -> uint8 RGB (h * scale, w * scale, 3)
Upscale: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """PSNR in dB and SSIM of one picture, both on luma; `others` are metrics by pyiqa, by name."""

    psnr: float
    ssim: float
    others: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, float | None]:
        """Plain values; None for the infinite PSNR of equal pictures, which JSON cannot hold."""
        values = {"psnr": self.psnr, "ssim": self.ssim, **self.others}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One test picture, enlarged by the network and by bicubic."""

    name: str
    network: Score
    bicubic: Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores on a set of test pictures."""

    scale: int
    protocol: Protocol
    rows: tuple[Row, ...]

    @property
    def mean(self) -> Row:
        """The mean over the pictures, as the papers print it (of decibels, not of errors)."""
        return Row(
            name="mean",
            network=_mean([row.network for row in self.rows]),
            bicubic=_mean([row.bicubic for row in self.rows]),
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows as text, the mean last."""
        others = list(self.rows[0].network.others)
        header = ["image", "PSNR", "SSIM", *others]
        header += ["bicubic PSNR", "bicubic SSIM", *(f"bicubic {name}" for name in others)]
        rows = []
        for row in (*self.rows, self.mean):
            cells = [row.name]
            for score in (row.network, row.bicubic):
                cells += [f"{score.psnr:.2f}", f"{score.ssim:.4f}"]
                cells += [f"{score.others[name]:.4f}" for name in others]
            rows.append(cells)
        return header, rows

    def as_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""

        def plain(row: Row) -> dict[str, Any]:
            return {**row.network.as_json(), "bicubic": row.bicubic.as_json()}

        return {
            "scale": self.scale,
            "protocol": self.protocol,
            "images": [{"image": row.name, **plain(row)} for row in self.rows],
            "mean": plain(self.mean),
        }


def degrade(hr: NDArray, scale: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A test picture, cropped at the right and bottom to a multiple of `scale`, and its reduction.

    `hr` is uint8 RGB, or grey, which is taken as R = G = B. Returns uint8 (H, W, 3) and (H / scale,
    W / scale, 3), the latter by MATLAB's bicubic. Raises ValueError for another shape or dtype.
    """
    hr = _crop(_as_rgb(hr), scale)
    return hr, imresize(hr, size=(hr.shape[0] // scale, hr.shape[1] // scale))


def srcnn_bicubic(hr: NDArray, scale: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The luma of a test picture and its bicubic restoration, by the SRCNN protocol.

    Takes what `degrade` takes. Both results are (H, W) float64 holding whole numbers: luma is
    rounded before it is reduced and after it was enlarged, but not in between.
    """
    truth = _rounded_luma(_crop(_as_rgb(hr), scale))
    small = imresize(truth, size=(truth.shape[0] // scale, truth.shape[1] // scale))
    return truth, np.clip(np.floor(imresize(small, scale) + 0.5), 0, 255)


def evaluate(
    upscale: Upscale,
    images: Iterable[tuple[str, NDArray]],
    scale: int,
    *,
    protocol: Protocol = "rgb",
    perceptual: "Perceptual | None" = None,
) -> Evaluation:
    """Reduce each picture, enlarge it with `upscale` and with bicubic, and score both.

    `images` are names and what `degrade` takes. PSNR and SSIM are taken on luma, `scale` pixels
    inside the border; `perceptual` metrics on the whole RGB picture. Raises ValueError, naming the
    picture, when it is too small, or when `upscale` returns anything but uint8 (H, W, 3).
    """
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; needs one of {', '.join(get_args(Protocol))}")
    rows = []
    for name, image in images:
        with _naming(name):
            hr, lr = degrade(image, scale)
            rows.append(_score(name, hr, lr, upscale, scale, protocol, perceptual))
    return _evaluation(scale, protocol, rows)


def evaluate_pairs(
    upscale: Upscale,
    pairs: Iterable[tuple[str, NDArray, NDArray]],
    scale: int,
    *,
    perceptual: "Perceptual | None" = None,
) -> Evaluation:
    """Score `upscale` on small pictures that are given, by the "rgb" protocol.

    `pairs` are a name, the large picture and the small one, both uint8 and RGB or grey. The large
    one may exceed the small one's `scale` times by less than `scale` pixels, which are cropped.
    Raises ValueError, naming the picture, when the two do not fit, and as `evaluate` does.
    """
    rows = []
    for name, hr, lr in pairs:
        with _naming(name):
            hr, lr = _crop(_as_rgb(hr), scale), _as_rgb(lr)
            if hr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
                raise ValueError(
                    f"the small picture is {lr.shape[1]}x{lr.shape[0]}; needs "
                    f"{hr.shape[1] // scale}x{hr.shape[0] // scale} for x{scale}"
                )
            rows.append(_score(name, hr, lr, upscale, scale, "rgb", perceptual))
    return _evaluation(scale, "rgb", rows)


def pair_paths(hr: Sequence[Path], lr: Sequence[Path], scale: int) -> list[tuple[Path, Path]]:
    """Match files of large and small pictures by name: `baby.png` and `babyx4.png`.

    The small one is called as the large one, or with `x4` or `_x4` after its name, or with `LR` for
    a final `HR`. Raises ValueError for a large picture without a small one.
    """
    small = {path.stem: path for path in lr}
    pairs = []
    for path in hr:
        stem = path.stem
        names = [f"{stem}x{scale}", f"{stem}_x{scale}", stem]
        if stem.endswith("HR"):
            names.insert(0, f"{stem.removesuffix('HR')}LR")
        found = next((small[name] for name in names if name in small), None)
        if found is None:
            raise ValueError(f"{path.name} has no small picture; needs one called {names[0]}")
        pairs.append((path, found))
    return pairs


class Perceptual:
    """Metrics of the pyiqa package by name ("lpips", "dists", "niqe", ...); extra `metrics`.

    Raises InputError when pyiqa is not installed or knows no metric of that name.
    """

    def __init__(self, names: Sequence[str], device: str = "cpu") -> None:
        try:
            pyiqa = import_module("pyiqa")
        except ImportError as error:
            raise InputError(
                f"{', '.join(names)} needs pyiqa: pip install 'sigform-superres[metrics]'"
            ) from error
        known = pyiqa.list_models()
        for name in names:
            if name not in known:
                raise InputError(f"pyiqa has no metric {name!r}.{did_you_mean(name, known)}")
        self._device = device
        self._metrics = {name: pyiqa.create_metric(name, device=device) for name in names}

    def __call__(self, picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
        """Score uint8 RGB (H, W, 3); metrics without a reference do not look at `truth`."""
        import torch

        tensors = [
            torch.tensor(image, device=self._device).permute(2, 0, 1)[None] / 255
            for image in (picture, truth)
        ]  # (1, 3, H, W) in [0, 1]
        return {
            name: float(metric(*tensors) if metric.metric_mode == "FR" else metric(tensors[0]))
            for name, metric in self._metrics.items()
        }


@contextmanager
def _naming(picture: str) -> Iterator[None]:
    """Puts the name of the picture before the text of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{picture}: {error}") from error


def _score(
    name: str,
    hr: NDArray[np.uint8],
    lr: NDArray[np.uint8],
    upscale: Upscale,
    scale: int,
    protocol: Protocol,
    perceptual: Perceptual | None,
) -> Row:
    network, bicubic = upscale(lr), imresize(lr, scale)
    if network.shape != hr.shape or network.dtype != np.uint8:
        raise ValueError(
            f"upscale returned {network.dtype} of shape {network.shape}; needs uint8 {hr.shape}"
        )
    if protocol == "srcnn":
        truth, bicubic_luma = srcnn_bicubic(hr, scale)
        network_luma = _rounded_luma(network)
    else:
        truth, network_luma, bicubic_luma = luma(hr), luma(network), luma(bicubic)
    planes = {"network": (network, network_luma), "bicubic": (bicubic, bicubic_luma)}
    scores = {
        which: Score(
            psnr=psnr(plane, truth, border=scale),
            ssim=ssim(plane, truth, border=scale),
            others={} if perceptual is None else perceptual(picture, hr),
        )
        for which, (picture, plane) in planes.items()
    }
    return Row(name=name, network=scores["network"], bicubic=scores["bicubic"])


def _evaluation(scale: int, protocol: Protocol, rows: list[Row]) -> Evaluation:
    if not rows:
        raise ValueError("there is no picture to evaluate; needs 1 or more")
    return Evaluation(scale=scale, protocol=protocol, rows=tuple(rows))


def _mean(scores: Sequence[Score]) -> Score:
    return Score(
        psnr=float(np.mean([score.psnr for score in scores])),
        ssim=float(np.mean([score.ssim for score in scores])),
        others={
            name: float(np.mean([score.others[name] for score in scores]))
            for name in scores[0].others
        },
    )


def _rounded_luma(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.floor(luma(picture) + 0.5)


def _as_rgb(picture: NDArray) -> NDArray[np.uint8]:
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or channels not in (1, 3):
        raise ValueError(
            f"picture is {picture.dtype} of shape {picture.shape}; needs uint8 grey or RGB"
        )
    return np.repeat(picture.reshape(*picture.shape[:2], channels), 3 // channels, axis=2)


def _crop(picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    if scale < 1:
        raise ValueError(f"scale is {scale}; needs a whole number from 1")
    height, width = (length // scale * scale for length in picture.shape[:2])
    if min(height, width) == 0:
        raise ValueError(
            f"picture is {picture.shape[1]}x{picture.shape[0]}; needs at least {scale}x{scale}"
        )
    return picture[:height, :width]
