"""Pictures of trainings and prefix curves: what is drawn, what is refused, and no state left."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from sigform_eeg.channels import positions
from sigform_eeg.metrics import Result, summary
from sigform_eeg.plotting import (
    Curve,
    Picture,
    _on_disk,
    _on_sphere,
    _outline,
    draw_confusions,
    draw_curves,
    draw_importance,
    draw_subjects,
    plot_prefix_curve,
    plot_report,
)
from sigform_kit.errors import InputError, UsageError

CHANNELS = ("FC3", "FC4", "C3", "Cz", "C4", "CPz")
CLASSES = ("left", "right")


def scored(subjects: int = 3, folds: int = 1, *, right: float = 0.75) -> dict[str, Any]:
    results = []
    for subject in range(subjects):
        for fold in range(folds):
            labels = np.arange(20) % 2
            told = np.where(np.arange(20) < round(20 * right) + fold, labels, 1 - labels)
            results.append(
                Result(
                    fold=f"{fold}", subject=f"$sub{subject}$", labels=labels,
                    probabilities=np.eye(2)[told],
                )
            )  # fmt: skip
    return summary(results, CLASSES)


def curve(length: int = 30) -> Curve:
    steps, held = np.arange(20.0, 20.0 * length + 1, 20.0), np.array([200.0, 400.0, 600.0])
    return Curve(
        steps=steps, loss=1 / steps, accuracy=1 - 1 / steps,
        held_steps=held, held_loss=2 / held, held_accuracy=1 - 2 / held,
    )  # fmt: skip


def picture(**more: Any) -> Picture:
    given: dict[str, Any] = {
        "network": scored(),
        "baseline": scored(right=0.6),
        "name": "DBConformer",
        "title": "a title",
        "subtitle": "a subtitle",
    }
    return Picture(**(given | more))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


@pytest.mark.parametrize("folds", [1, 4])
def test_subjects_are_drawn_beside_the_baseline_and_chance(folds: int) -> None:
    made = picture(network=scored(folds=folds), baseline=scored(folds=folds, right=0.6))
    figure = Figure()
    axis = figure.subplots()
    draw_subjects(axis, made)
    heights = [patch.get_height() for patch in axis.patches]  # pyright: ignore
    own = [one["accuracy"]["mean"] for one in made.network["subjects"].values()]
    np.testing.assert_allclose(heights[:4], [*own, made.network["all"]["accuracy"]["mean"]])
    assert len(heights) == 8
    assert heights[4] < heights[0]
    assert [label.get_text() for label in axis.get_xticklabels()][-2:] == ["$sub2$", "all"]
    assert {"DBConformer", "CSP+LDA", "chance 50 %"} <= set(texts(figure))
    # Over a single fold there is no interval but that of all subjects.
    assert len(axis.collections) == (2 if folds == 1 else 8)


def test_confusions_are_of_the_true_class() -> None:
    figure = Figure()
    made = picture()
    draw_confusions(figure, made)
    counts = made.network["confusion"]
    shown = f"{100 * counts[0][1] / sum(counts[0]):.0f} %\n{counts[0][1]}"
    assert figure.axes[0].texts[1].get_text() == shown
    assert figure.axes[0].get_ylabel() == "true"
    assert "CSP+LDA, 60 trials" in texts(figure)


def test_importance_is_highest_at_its_electrode() -> None:
    values = np.full(len(CHANNELS), 0.1)
    values[CHANNELS.index("C4")] = 0.5
    figure = Figure()
    draw_importance(figure, picture(channels=CHANNELS, importance=values))
    axis = figure.axes[0]
    surface = np.asarray(axis.images[0].get_array())
    spot = _on_disk(positions(["C4"])["C4"][None])[0]
    column, row = (round((part + 1.15) / 2.3 * (len(surface) - 1)) for part in spot)
    assert surface[row, column] == pytest.approx(50, abs=3)
    assert spot[0] > 0.3  # right is right
    assert set(CHANNELS) <= set(texts(figure))


def test_unknown_places_are_drawn_as_bars() -> None:
    figure = Figure()
    draw_importance(
        figure, picture(channels=("A01", "B7", "Cz"), importance=np.array([0.2, 0.5, 0.3]))
    )
    widths = [patch.get_width() for patch in figure.axes[0].patches]  # pyright: ignore
    np.testing.assert_allclose(widths, [20, 30, 50])
    with pytest.raises(ValueError, match=r"importance has shape \(2,\); needs \(3,\)"):
        draw_importance(Figure(), picture(channels=("A", "B", "C"), importance=np.ones(2)))


def test_the_disk_is_the_sphere_seen_from_above() -> None:
    places = np.array(list(positions(["Cz", "C3", "Fpz", "O2"]).values()))
    spots = _on_disk(places)
    np.testing.assert_allclose(_on_sphere(spots[:, 0], spots[:, 1]), places, atol=1e-9)
    line = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.0]])  # has no hull of its own
    assert np.abs(_outline(line)[:, 1]).max() == pytest.approx(0.16, abs=0.01)


def test_curves_of_several_trainings_have_their_mean() -> None:
    figure = Figure()
    draw_curves(figure, [curve(), curve(20)])
    labels = figure.axes[1].get_legend_handles_labels()[1]
    assert labels == ["training, mean of 2", "test, mean of 2"]
    longest = figure.axes[0].lines[2].get_xdata()
    assert np.asarray(longest)[-1] == 400  # where the shorter training ends
    draw_curves(Figure(), [])


def test_metrics_without_tests_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,train_accuracy,train_loss\n20,0.5,0.7\n40,0.75,0.6\n")
    made = Curve.read(path)
    assert made.steps.tolist() == [20, 40]
    assert made.accuracy.tolist() == [0.5, 0.75]
    assert made.held_steps.shape == made.held_loss.shape == (0,)


def test_a_report_is_one_png(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    path = tmp_path / "new" / "report.png"
    made = picture(channels=CHANNELS, importance=np.full(6, 1 / 6), curves=[curve()])
    plot_report(made, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before
    with pytest.raises(InputError, match="exists"):
        plot_report(made, path)
    with pytest.raises(UsageError, match=r"needs \.png"):
        plot_report(made, tmp_path / "report.jpg")


def test_prefix_curves_are_drawn_and_tabled(tmp_path: Path) -> None:
    times = np.array([0.5, 1.0, 1.5])
    told = {"plain": np.array([0.5, 0.6, 0.7]), "spiking": np.array([0.5, 0.55, 0.65])}
    path = tmp_path / "curve.png"
    table = plot_prefix_curve(times, told, path, chance=0.5, enough={"plain": 1.25})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert table == tmp_path / "curve.csv"
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["seconds_after_cue", "plain", "spiking"]
    assert rows[2] == ["1", "0.6", "0.55"]
    with pytest.raises(InputError, match="exists"):
        plot_prefix_curve(times, told, path)
    with pytest.raises(ValueError, match=r"plain has shape \(3,\); needs \(2,\)"):
        plot_prefix_curve(times[:2], told, tmp_path / "other.png")
    with pytest.raises(ValueError, match="no curve"):
        plot_prefix_curve(times, {}, tmp_path / "other.png")
