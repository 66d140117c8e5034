"""Pictures of how well a network decodes, as PNG.

Nothing goes through pyplot, so no state is left behind. K classes, C channels, N tokens.
"""

from __future__ import annotations

import contextlib
import csv
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.channels import positions, spline_weights
from sigform_kit.errors import UsageError
from sigform_kit.outputs import Policy, output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

NETWORK, BASELINE, INK = "#2b6ca3", "#b0b7c3", "#3b4252"
COLOURS = (NETWORK, "#d1495b", "#3d8f6b", "#8a5aa3", "#b7791f")
STYLE = {
    "font.size": 9,
    "axes.edgecolor": "#b8bcc4",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#5b6270",
    "ytick.color": "#5b6270",
    "legend.frameon": False,
    "text.parse_math": False,  # names of subjects and classes may hold dollar signs
}

DPI = 150

LEAST_PLACES = 4
"""Electrodes with a known place, below which their importance is drawn as bars."""

MARGIN = 0.16
"""Of the head's radius around the outermost electrodes, beyond which nothing is drawn."""

SMOOTH = 9
"""Logged steps whose training scores are averaged: each is of one batch."""

NAMED = 40
"""Subjects, above which bars have no names."""

Summary = Mapping[str, Any]
"""What `metrics.summary` gives."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One training: scores of training batches and of the test trials, by step."""

    steps: NDArray[np.float64]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    held_steps: NDArray[np.float64]
    held_loss: NDArray[np.float64]
    held_accuracy: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Curve:
        """A metrics.csv as training writes it; what it lacks is empty."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found: dict[str, NDArray[np.float64]] = {}
        for kind, key in (("", "train"), ("held_", "held")):
            for part in ("loss", "accuracy"):
                pairs = [
                    (float(row["step"]), float(text))
                    for row in rows
                    if (text := row.get(f"{key}_{part}"))
                ]
                table = np.array(pairs, np.float64).reshape(-1, 2)
                found[f"{kind}steps"], found[f"{kind}{part}"] = table.T
        return cls(**found)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All that the report draws; `importance` (C,) has the share of each channel."""

    network: Summary
    baseline: Summary
    name: str  # of the network
    title: str
    subtitle: str
    channels: Sequence[str] = ()
    importance: NDArray[np.float64] | None = None
    importance_title: str = "Channel importance"
    curves: Sequence[Curve] = ()


def plot_report(picture: Picture, path: str | Path, *, policy: Policy = "refuse") -> None:
    """One PNG with everything; raises UsageError for another suffix, InputError as `output`."""
    with _styled():
        figure = _figure(13, 8.6)
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=13, color=INK)
        top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
        top.suptitle(picture.subtitle, x=0.01, ha="left", fontsize=9, color="#5b6270")
        draw_subjects(top.subplots(), picture)
        with_map = picture.importance is not None
        widths = (1.55, 1.15, 1.2) if with_map else (1.55, 1.2)
        parts = bottom.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
        draw_confusions(parts[0], picture)
        if picture.importance is not None:
            draw_importance(parts[1], picture)
        draw_curves(parts[-1], picture.curves, stacked=True)
        _save(figure, path, policy)


def pictures(picture: Picture) -> dict[str, bytes]:
    """The parts of the report as PNG files in memory, by what they show."""

    def made(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
        with _styled():
            figure = _figure(width, height)
            draw(figure)
            data = BytesIO()
            _render(figure, data)
        return data.getvalue()

    parts = {
        "subjects": made(lambda figure: draw_subjects(figure.subplots(), picture), 11, 3.6),
        "confusion": made(lambda figure: draw_confusions(figure, picture), 7, 3.4),
    }
    if picture.importance is not None:
        parts["importance"] = made(lambda figure: draw_importance(figure, picture), 4.8, 4.2)
    if picture.curves:
        parts["curves"] = made(lambda figure: draw_curves(figure, picture.curves), 9, 3.4)
    return parts


def draw_subjects(axis: Axes, picture: Picture) -> None:
    """Accuracy of each subject and of all, beside the baseline's, intervals and chance."""
    own, other = picture.network["subjects"], picture.baseline["subjects"]
    names = list(own)
    rows = [(own[name]["accuracy"], other[name]["accuracy"]) for name in names]
    rows.append((picture.network["all"]["accuracy"], picture.baseline["all"]["accuracy"]))
    places = np.append(np.arange(len(names)), len(names) + 0.5)
    for number, (label, colour) in enumerate(((picture.name, NETWORK), ("CSP+LDA", BASELINE))):
        values = [row[number] for row in rows]
        at = places + (number - 0.5) * 0.38
        heights = [value["mean"] for value in values]
        axis.bar(at, heights, 0.36, color=colour, label=label)
        for x, value in zip(at, values, strict=True):
            if value["low"] is not None:
                low, high = max(0.0, value["low"]), min(1.0, value["high"])
                axis.vlines(x, low, high, color=INK, linewidth=1.1)
    chance = picture.network["chance"]
    axis.axhline(
        chance, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"chance {100 * chance:.0f} %"
    )
    axis.set_ylim(0, 1)
    axis.set_xlim(-0.7, places[-1] + 0.7)
    axis.set_yticks(np.arange(0, 1.01, 0.2), [f"{part} %" for part in range(0, 101, 20)])
    axis.grid(axis="y", color="#eceef1", linewidth=0.7)
    labels = names if len(names) <= NAMED else [""] * len(names)
    crowded = len(names) * max(len(name) for name in names) > 90
    axis.set_xticks(
        places, [*labels, "all"], rotation=90 if crowded else 0, fontsize=7 if crowded else 9
    )
    axis.get_xticklabels()[-1].set_fontweight("bold")
    axis.tick_params(axis="x", length=0)
    several = any(value["low"] is not None for row in rows for value in row)
    level = round(100 * picture.network["confidence"])
    lines = f", lines: {level} % intervals over folds" if several else ""
    axis.set_title(f"Accuracy by subject{lines}")
    axis.legend(loc="lower left", bbox_to_anchor=(0.55, 1.0), ncols=3, borderaxespad=0.2)


def draw_confusions(figure: FigureBase, picture: Picture) -> None:
    """What was decoded of which class, for the network and for the baseline."""
    axes = figure.subplots(1, 2)
    pairs = ((picture.name, picture.network), ("CSP+LDA", picture.baseline))
    for number, (axis, (name, summary)) in enumerate(zip(axes, pairs, strict=True)):
        counts = np.array(summary["confusion"])  # (K, K)
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        many = len(counts) > 3
        aspect = "auto" if many else "equal"  # slanted names need room that squares would take
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect=aspect)
        classes = [_short(text) for text in summary["classes"]]
        axis.set_xticks(range(len(classes)), classes, rotation=45 if many else 0)
        axis.set_yticks(range(len(classes)), classes, rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set_xlabel("decoded")
        if number == 0:
            axis.set_ylabel("true")
        axis.set_title(f"{name}, {int(counts.sum())} trials")
        for (row, column), share in np.ndenumerate(shares):
            text = (
                f"{100 * share:.0f} %\n{counts[row, column]}"
                if len(classes) <= 4
                else f"{100 * share:.0f} %"
            )
            colour = "white" if share > 0.55 else INK
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        for spine in axis.spines.values():
            spine.set_visible(False)


def draw_importance(figure: FigureBase, picture: Picture) -> None:
    """The share of each channel over the head, or as bars where too few places are known."""
    values = np.asarray(picture.importance, np.float64)
    if values.shape != (len(picture.channels),):
        raise ValueError(f"importance has shape {values.shape}; needs ({len(picture.channels)},)")
    from matplotlib.path import Path as Path2D

    axis = figure.subplots()
    axis.set_title(picture.importance_title)
    known = positions(picture.channels)
    if len(known) < LEAST_PLACES:
        order = np.argsort(values)
        axis.barh([picture.channels[k] for k in order], 100 * values[order], color=NETWORK)
        axis.set_xlabel("share (%)")
        return
    rows = [number for number, name in enumerate(picture.channels) if name in known]
    places = np.array([known[picture.channels[row]] for row in rows])
    side = np.linspace(-1.15, 1.15, 180)
    across, up = np.meshgrid(side, side)
    points = _on_sphere(across, up).reshape(-1, 3)
    surface = (100 * spline_weights(places, points) @ values[rows]).reshape(across.shape)
    spots = _on_disk(places)
    low, high = 100 * values[rows].min(), 100 * values[rows].max()
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    image = axis.imshow(
        surface, origin="lower", extent=(-1.15, 1.15, -1.15, 1.15), cmap="YlOrRd",
        vmin=low, vmax=high, interpolation="bilinear",
    )  # fmt: skip
    image.set_clip_path(Path2D(_outline(spots)), axis.transData)
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color=INK, linewidth=1.2)
    axis.plot([-0.09, 0, 0.09], [0.996, 1.12, 0.996], color=INK, linewidth=1.2)
    for way in (-1, 1):
        ear = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 30)
        axis.plot(way * (1 + 0.06 * np.cos(ear)), 0.16 * np.sin(ear), color=INK, linewidth=1.2)
    size = 7 if len(rows) <= 32 else 5
    for place, row in zip(spots, rows, strict=True):
        axis.plot(*place, ".", color=INK, markersize=3)
        axis.annotate(
            picture.channels[row], place, (0, 3), textcoords="offset points",
            ha="center", fontsize=size, color="#10131a",
        )  # fmt: skip
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.set_xlim(-1.2, 1.2)
    axis.set_ylim(-1.2, 1.2)
    bar = figure.colorbar(image, ax=axis, shrink=0.7, pad=0.02, label="share of a channel (%)")
    bar.outline.set_linewidth(0)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]


def draw_curves(figure: FigureBase, curves: Sequence[Curve], *, stacked: bool = False) -> None:
    """Loss and accuracy by step: each training thin, their mean thick where they are several."""
    axes = figure.subplots(*((2, 1) if stacked else (1, 2)), sharex=stacked)
    for axis, what in zip(axes, ("loss", "accuracy"), strict=True):
        axis.set_title(what.capitalize())
        if not stacked or what == "accuracy":
            axis.set_xlabel("step")
        axis.grid(color="#eceef1", linewidth=0.7)
        for kind, colour, label in (("", NETWORK, "training"), ("held_", "#d1495b", "test")):
            lines = [
                (getattr(curve, f"{kind}steps"), getattr(curve, f"{kind}{what}"))
                for curve in curves
            ]
            lines = [(x, y) for x, y in lines if len(x)]
            if not kind:
                lines = [(x, _smoothed(y)) for x, y in lines]
            marker = "o" if kind and len(lines) == 1 else ""
            for x, y in lines:
                axis.plot(
                    x, y, color=colour, marker=marker, markersize=3,
                    linewidth=1.6 if len(lines) == 1 else 0.7,
                    alpha=1 if len(lines) == 1 else 0.3,
                    label=label if len(lines) == 1 else None,
                )  # fmt: skip
            if len(lines) > 1:
                every = np.unique(np.concatenate([x for x, _ in lines]))
                every = every[every <= min(x[-1] for x, _ in lines)]
                mean = np.mean([np.interp(every, x, y) for x, y in lines], axis=0)
                label = f"{label}, mean of {len(lines)}"
                axis.plot(every, mean, color=colour, linewidth=1.8, label=label)
        if axis.lines and what == "accuracy":
            # In the title's line, where it hides nothing.
            axis.legend(loc="lower right", bbox_to_anchor=(1.02, 0.98), ncols=2, fontsize=8)
        axis.locator_params("x", nbins=5)


def plot_prefix_curve(
    times: NDArray[np.float64],
    accuracies: Mapping[str, NDArray[np.float64]],
    path: str | Path,
    *,
    chance: float | None = None,
    enough: Mapping[str, float] | None = None,
    title: str = "Accuracy against time after the cue",
    policy: Policy = "refuse",
) -> Path:
    """Accuracy (N,) of each model at `times` (N,) in s after the cue, as a PNG; and as a CSV.

    `enough` marks the time from which on a model needs no more. Gives the path of the CSV, which
    lies beside the PNG. Raises UsageError for another suffix than .png, ValueError for shapes that
    do not fit, InputError as `output`.
    """
    for name, values in accuracies.items():
        if np.shape(values) != np.shape(times):
            raise ValueError(f"{name} has shape {np.shape(values)}; needs {np.shape(times)}")
    if not accuracies or np.ndim(times) != 1 or not len(times):
        raise ValueError("there is no curve to draw; needs one or more, of one or more times")
    with _styled():
        figure = _figure(7.5, 4.2)
        axis = figure.subplots()
        for number, (name, values) in enumerate(accuracies.items()):
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(times, 100 * np.asarray(values), color=colour, linewidth=1.8, label=name)
            if enough is not None and name in enough:
                when = enough[name]
                level = 100 * np.interp(when, times, values)
                axis.plot(when, level, "o", color=colour, markersize=6, markeredgecolor="white")
                axis.annotate(
                    f"{when:.2f} s", (when, level), (4, -12), textcoords="offset points",
                    color=colour, fontsize=8,
                )  # fmt: skip
        if chance is not None:
            label = f"chance {100 * chance:.0f} %"
            axis.axhline(100 * chance, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=label)
        axis.set_title(title)
        axis.set_xlabel("time after the cue (s)")
        axis.set_ylabel("accuracy (%)")
        axis.margins(x=0.02, y=0.12)
        axis.grid(color="#eceef1", linewidth=0.7)
        axis.legend(loc="best")
        _save(figure, path, policy)
    table = Path(path).with_suffix(".csv")
    with output(table, policy, make_parents=True) as place, place.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["seconds_after_cue", *accuracies])
        for number, when in enumerate(times):
            row = [f"{values[number]:.6g}" for values in accuracies.values()]
            writer.writerow([f"{when:.6g}", *row])
    return table


def _on_disk(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (n, 3) -> (n, 2), distances from the vertex kept, the equator at 1."""
    angle = np.arccos(np.clip(places[:, 2], -1, 1))
    flat = np.linalg.norm(places[:, :2], axis=1, keepdims=True)
    return places[:, :2] / np.maximum(flat, 1e-9) * (angle / (np.pi / 2))[:, None]


def _outline(spots: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of the hull around places (n, 2), MARGIN away from them."""
    from scipy.spatial import ConvexHull

    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = MARGIN * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    around = (spots[:, None] + ring).reshape(-1, 2)
    return around[ConvexHull(around).vertices]


def _on_sphere(across: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """The other way round: (..., 3)."""
    angle = np.hypot(across, up) * (np.pi / 2)
    scale = np.sin(angle) / np.maximum(np.hypot(across, up), 1e-9)
    return np.stack([across * scale, up * scale, np.cos(angle)], axis=-1)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of SMOOTH values around each, of fewer at the ends."""
    kernel = np.ones(min(SMOOTH, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def _short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@contextlib.contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
        yield


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path, policy: Policy) -> None:
    suffix = Path(path).suffix.lower()
    if suffix != ".png":
        raise UsageError(f"{path} has the suffix {suffix!r}; needs .png")
    with output(path, policy, make_parents=True) as place:
        _render(figure, place)


def _render(figure: Figure, target: Path | BytesIO) -> None:
    with warnings.catch_warnings():
        # Names in a script that the font lacks are drawn as boxes; the numbers are all there.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(target, dpi=DPI, format="png")
