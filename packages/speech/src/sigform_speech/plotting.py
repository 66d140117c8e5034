"""Pictures of a separation: waveform and spectrogram of the mixture and of each speaker.

The sound is taken in block by block and kept as at most `2 * COLUMNS` columns, of which pairs are
merged when they run out: an hour takes the memory of ten seconds.

Shapes: S speakers, C channels, n samples of a block, F frequencies.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sigform_kit.errors import UsageError
from sigform_kit.outputs import Policy, output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")

COLUMNS = 2000
"""Of a picture, at the most; at half of it the columns of a long sound are merged again."""

FREQUENCIES = 256
"""Rows of a spectrogram, at the most."""

HOP, WINDOW = 0.002, 0.032
"""Seconds between the narrowest columns, and of sound behind each one's spectrum."""

STEP = 8
"""Hops from one spectrum to the next where a column is wide enough for several."""

RANGE = 60
"""dB that the colours span."""

MINUTES_FROM = 300
"""Seconds, from which on times are in minutes."""

MIXTURE, INK = "#3b4252", "#10131a"
SPEAKERS = ("#2b6ca3", "#d1495b", "#3d8f6b", "#8a5aa3", "#b7791f")
STYLE = {
    "font.size": 9,
    "axes.edgecolor": "#b8bcc4",
    "axes.labelcolor": "#3b4252",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#5b6270",
    "ytick.color": "#5b6270",
    "svg.fonttype": "none",
    "text.parse_math": False,  # file names may hold dollar signs
}


class SeparationPlot:
    """Draws a separation from its blocks, in memory that does not grow with the length."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._samples = 0
        self._traces: list[_Trace] = []

    def push(self, mixture: NDArray, speakers: NDArray) -> None:
        """Take in the next block: mixture (C, n) and speakers (S, C, n), full scale being 1.

        Raises ValueError where the shapes do not fit each other, or the blocks before.
        """
        if mixture.ndim != 2 or speakers.ndim != 3 or speakers.shape[1:] != mixture.shape:
            raise ValueError(
                f"mixture is {mixture.shape} and speakers {speakers.shape}; "
                "needs (C, n) and (S, C, n)"
            )
        if not self._traces:
            self._traces = [_Trace(self.sample_rate) for _ in range(1 + len(speakers))]
        if len(self._traces) != 1 + len(speakers):
            raise ValueError(f"there are {len(speakers)} speakers; needs {len(self._traces) - 1}")
        for trace, signal in zip(self._traces, [mixture, *speakers], strict=True):
            trace.push(signal)
        self._samples += mixture.shape[1]

    def save(self, path: str | Path, *, title: str = "", policy: Policy = "refuse") -> None:
        """Write the picture; .png, .svg or .pdf by the suffix.

        A row for the mixture and one for each speaker, on common scales. Raises UsageError for
        another suffix, ValueError where nothing was pushed, InputError as `sigform_kit.output`.
        """
        suffix = check_suffix(path)
        if self._samples == 0:
            raise ValueError("there is no sound to draw; needs 1 sample or more")
        import matplotlib as mpl
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
        from matplotlib.ticker import MultipleLocator

        seconds = self._samples / self.sample_rate
        columns = [trace.columns() for trace in self._traces]
        unit, scale = ("min", 60) if seconds >= MINUTES_FROM else ("s", 1)
        edges = np.arange(len(columns[0].lows) + 1) * (columns[0].seconds / scale)
        swing = max(1e-4, *(np.abs([c.lows, c.highs]).max() for c in columns)) * 1.05
        loudest = 10 * np.ceil(max(float(c.level.max()) for c in columns) / 10)
        with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
            rows = len(columns)
            figure = Figure(figsize=(11, 0.7 + 1.75 * rows), layout="constrained")
            axes = figure.subplots(
                rows, 2, sharex=True, squeeze=False, gridspec_kw={"width_ratios": (1, 1.12)}
            )
            for number, ((waves, spectrum), column) in enumerate(zip(axes, columns, strict=True)):
                colour = SPEAKERS[(number - 1) % len(SPEAKERS)] if number else MIXTURE
                name = f"Speaker {number}" if number else "Mixture"
                waves.set_title(name, loc="left", color=colour, fontsize=10, fontweight="bold")
                _draw_waves(waves, edges, column, colour, swing)
                image = spectrum.imshow(
                    column.level.T,
                    origin="lower",
                    aspect="auto",
                    extent=(0, edges[-1], 0, self.sample_rate / 2000),
                    cmap=LinearSegmentedColormap.from_list(
                        name, [(0, "white"), (0.75, colour), (1, INK)]
                    ),
                    vmin=loudest - RANGE,
                    vmax=loudest,
                )
                spectrum.set_ylabel("frequency (kHz)")
                spectrum.locator_params("y", nbins=4)
                waves.set_xlim(0, seconds / scale)
                bar = figure.colorbar(image, ax=spectrum, label="dBFS", pad=0.015, aspect=16)
                bar.locator = MultipleLocator(20)
                bar.outline.set_linewidth(0)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            for axis in axes[-1]:
                axis.set_xlabel(f"time ({unit})")
            if title:
                figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=MIXTURE)
            with output(path, policy, make_parents=True) as place, warnings.catch_warnings():
                # Names in a script that the font lacks are drawn as boxes; the sound is there.
                warnings.filterwarnings("ignore", "Glyph .* missing")
                figure.savefig(place, dpi=150, format=suffix.removeprefix("."))


def plot_separation(
    path: str | Path,
    mixture: NDArray,
    speakers: NDArray,
    sample_rate: int,
    *,
    title: str = "",
    policy: Policy = "refuse",
) -> None:
    """Draw a mixture (T,) or (C, T) and its speakers (S, T) or (S, C, T) into a picture.

    Raises as `SeparationPlot.push` and `SeparationPlot.save` do.
    """
    plot = SeparationPlot(sample_rate)
    if mixture.ndim == 1 and speakers.ndim == 2:
        mixture, speakers = mixture[None], speakers[:, None]
    plot.push(mixture, speakers)
    plot.save(path, title=title, policy=policy)


def check_suffix(path: str | Path) -> str:
    """The suffix of a picture, in small letters. Raises UsageError for another one."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} has the suffix {suffix!r}; needs {', '.join(SUFFIXES)}")
    return suffix


class _Columns:
    """What is drawn of a sound, each column `seconds` wide."""

    def __init__(self, lows: NDArray, highs: NDArray, power: NDArray, seconds: float) -> None:
        self.lows = lows  # (n,)
        self.highs = highs  # (n,)
        self.level = 10 * np.log10(np.maximum(power, 1e-12))  # (n, F), dBFS of a sine's peak
        self.seconds = seconds


class _Trace:
    """One row of the picture, as far as it is known."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._hop = max(1, round(HOP * sample_rate))
        size = max(2, round(WINDOW * sample_rate))
        # A sine at full scale shall be 0 dB.
        window = np.hanning(size + 1)[:-1]
        self._window = (window * 2 / window.sum()).astype(np.float32)
        self._pool = -(-(size // 2 + 1) // FREQUENCIES)
        self._hops = 1  # in a column
        self._half = size // 2
        # (C, n) that no column holds yet, after half a window that the last one held: so spectra
        # stand in the middle of what they are made of.
        self._rest: NDArray[np.float32] | None = None
        self._lows = np.zeros(0, np.float32)
        self._highs = np.zeros(0, np.float32)
        self._power = np.zeros((0, (size // 2 + 1) // self._pool), np.float32)

    def push(self, signal: NDArray) -> None:
        signal = signal.astype(np.float32, copy=False)
        if self._rest is None:
            self._rest = np.zeros((len(signal), self._half), np.float32)
        rest = np.concatenate([self._rest, signal], axis=1)
        while True:
            span = self._hops * self._hop
            ready = (rest.shape[1] - len(self._window)) // span
            if ready < 1:
                break
            # A piece at a time: the spectra of a whole recording would not fit.
            count = min(ready, 2 * COLUMNS - len(self._lows), max(1, 64 // self._hops))
            self._append(rest, count)
            rest = rest[:, count * span :]
        self._rest = rest.copy()

    def columns(self) -> _Columns:
        """All that was pushed; the sound may go on afterwards."""
        assert self._rest is not None
        span = self._hops * self._hop
        count = -(-(self._rest.shape[1] - self._half) // span)
        missing = count * span + len(self._window) - self._rest.shape[1]
        parts = self._measured(np.pad(self._rest, ((0, 0), (0, missing))), count)
        lows, highs, power = (
            np.concatenate(pair)
            for pair in zip((self._lows, self._highs, self._power), parts, strict=True)
        )
        return _Columns(lows, highs, power, span / self._rate)

    def _append(self, signal: NDArray, count: int) -> None:
        lows, highs, power = self._measured(signal, count)
        self._lows = np.concatenate([self._lows, lows])
        self._highs = np.concatenate([self._highs, highs])
        self._power = np.concatenate([self._power, power])
        if len(self._lows) >= 2 * COLUMNS:
            self._lows = self._lows.reshape(-1, 2).min(1)
            self._highs = self._highs.reshape(-1, 2).max(1)
            self._power = self._power.reshape(len(self._lows), 2, -1).mean(1)
            self._hops *= 2

    def _measured(self, signal: NDArray, count: int) -> tuple[NDArray, NDArray, NDArray]:
        """Lowest and highest sample (count,) and power (count, F) of the first columns."""
        channels, span = len(signal), self._hops * self._hop
        samples = signal[:, self._half : self._half + count * span].reshape(channels, count, span)
        looks = max(1, self._hops // STEP)
        views = np.lib.stride_tricks.sliding_window_view(signal, len(self._window), axis=1)
        views = views[:, :: span // looks][:, : count * looks]  # (C, count * looks, window)
        spectra = np.fft.rfft(views * self._window)[..., : self._pool * self._power.shape[1]]
        power = np.square(spectra.real) + np.square(spectra.imag)
        power = power.reshape(channels, count, looks, -1, self._pool).mean((0, 2, 4))
        return samples.min((0, 2)), samples.max((0, 2)), power.astype(np.float32)


def _draw_waves(axis: Axes, edges: NDArray, column: _Columns, colour: str, swing: float) -> None:
    axis.fill_between(
        edges,
        np.append(column.lows, column.lows[-1]),
        np.append(column.highs, column.highs[-1]),
        step="post",
        color=colour,
        linewidth=0.3,
    )
    axis.set_ylim(-swing, swing)
    axis.set_ylabel("amplitude")
    axis.locator_params("y", nbins=5)
