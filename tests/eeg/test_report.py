"""The report of a training: what it says and shows, and importance mapped back to electrodes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from eeg.small import CHANNELS, setup, trials

from sigform_eeg import report
from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.fitting import Fitted, Plan, fit_subjects
from sigform_eeg.networks import build
from sigform_eeg.preprocessing import prepare
from sigform_eeg.report import (
    Importance,
    importance_of,
    read_fitted,
    to_electrodes,
    verdict,
    write_report,
)
from sigform_eeg.training import Recipe
from sigform_kit.errors import InputError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    """Two subjects, a few steps."""
    folder = tmp_path_factory.mktemp("run")
    recipe = Recipe(epochs=2, batch_size=12, validate_every=2, device="cpu")
    plan = Plan(setup=setup(), protocol="loso", recipe=recipe)
    return folder, fit_subjects([trials("one"), trials("<two>")], folder, plan)


def copied(trained: tuple[Path, Fitted], folder: Path) -> tuple[Path, Fitted]:
    place = folder / "run"
    shutil.copytree(trained[0], place)
    return place, read_fitted(place)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pictures, which take seconds."""
    monkeypatch.setattr(report, "plot_report", lambda *_, **__: None)
    parts = ("subjects", "confusion", "importance", "curves")
    monkeypatch.setattr(report, "pictures", lambda _: dict.fromkeys(parts, b""))


def importance() -> Importance:
    shares = np.full(len(CHANNELS), 1 / len(CHANNELS))
    return Importance(channels=CHANNELS, shares=shares, trials=48, mapped=True)


def text_of(page: Path) -> str:
    """Without tags and pictures."""
    bare = re.sub(r'src="data:[^"]*"', "", page.read_text("utf-8"))
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", bare, flags=re.DOTALL).split())


def test_the_page_says_what_was_done(trained: tuple[Path, Fitted], tmp_path: Path) -> None:
    run_dir, fitted = copied(trained, tmp_path)
    written = write_report(fitted, run_dir, importance=importance())
    assert written == [run_dir / "report.html", run_dir / "report.png"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    page, text = written[0].read_text("utf-8"), text_of(written[0])
    for part in (
        "DBConformer decodes", "CSP+LDA", "loso: leave one subject out", "&lt;two&gt;",
        "each test trial by those of its subject up to itself, so causal",
        "given back to the electrodes through the alignment matrices", "Training curve",
        "0 to 2 s after the cue", "95 % confidence intervals", f"{fitted.steps} steps",
    ):  # fmt: skip
        assert part in text
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "imulated" not in text
    accuracy = fitted.network["all"]["accuracy"]
    assert f"{100 * accuracy['mean']:.1f} % [{100 * accuracy['low']:.1f}, " in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("align", "word"), [("none", "as recorded"), ("subject", "not causal")])
def test_only_online_is_called_causal(
    trained: tuple[Path, Fitted], tmp_path: Path, align: Align, word: str
) -> None:
    run_dir, fitted = copied(trained, tmp_path)
    metrics = fitted.metrics.read_text().replace('"align": "online"', f'"align": "{align}"')
    fitted.metrics.write_text(metrics)
    text = text_of(write_report(fitted, run_dir)[0])
    assert word in text
    assert "causal" not in text.replace("not causal", "")
    assert "no channel attention to show" in text


@pytest.mark.usefixtures("undrawn")
def test_simulated_recordings_are_named(trained: tuple[Path, Fitted], tmp_path: Path) -> None:
    run_dir, fitted = copied(trained, tmp_path)
    text = text_of(write_report(fitted, run_dir, simulated=True)[0])
    assert "SIMULATED data" in text
    assert "The recordings are simulated" in text
    metrics = fitted.metrics.read_text().replace('"one"', '"simulated01"')
    fitted.metrics.write_text(metrics)
    assert "The recordings are simulated" in text_of(write_report(fitted, run_dir)[0])
    assert "The recordings are simulated" not in text_of(
        write_report(fitted, run_dir, simulated=False)[0]
    )


def test_a_finished_run_is_read(trained: tuple[Path, Fitted], tmp_path: Path) -> None:
    again = read_fitted(trained[0])
    assert again.network == trained[1].network
    assert again.steps == trained[1].steps
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        read_fitted(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: is no JSON"):
        read_fitted(tmp_path)


def test_the_verdict_tells_a_loss_and_chance() -> None:
    def told(own: float, other: float, low: float | None) -> dict[str, object]:
        def scores(mean: float) -> dict[str, object]:
            return {"all": {"accuracy": {"mean": mean, "low": low}}, "chance": 0.5}

        return {"architecture": "lmuformer", "network": scores(own), "csp_lda": scores(other)}

    assert "62.0 % of trials, 2.0 points better than CSP+LDA (60.0 %)" in verdict(
        told(0.62, 0.6, None)
    )
    worse = verdict(told(0.55, 0.6, 0.45))
    assert "5.0 points worse" in worse
    assert "includes chance" in worse
    assert "as good as CSP+LDA" in verdict(told(0.6, 0.6, 0.55))


def test_shares_go_back_to_the_electrodes() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(3, 4, 4)) + 3 * np.eye(4)
    shares = rng.dirichlet(np.ones(4), 3)
    np.testing.assert_allclose(to_electrodes(shares, matrices).sum(axis=1), 1)
    scaled = np.stack([np.diag([0.1, 5.0, 2.0, 1.0])] * 3)
    np.testing.assert_allclose(to_electrodes(shares, scaled), shares, atol=1e-12)
    order = np.eye(4)[[2, 0, 3, 1]]
    turned = to_electrodes(shares, np.stack([order] * 3))
    np.testing.assert_allclose(turned, shares @ order, atol=1e-12)
    # A channel half of one electrode and half of another, of equal variance.
    angle = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)
    np.testing.assert_allclose(to_electrodes(np.array([[1.0, 0.0]]), angle[None]), [[0.5, 0.5]])


@pytest.mark.parametrize("align", ["none", "online"])
def test_importance_is_the_mean_attention(align: Align) -> None:
    torch.manual_seed(0)
    network = build("dbconformer", setup(align)).eval()
    subjects = [trials("one", 6), trials("two", 4)]
    made = importance_of(network, setup(align), subjects)
    assert made is not None
    expected = []
    for subject in subjects:
        windows, matrices = align_trials(prepare(subject, setup().preprocessing).signals, align)
        with torch.no_grad():
            shares = network.channel_importance(torch.from_numpy(windows)).numpy()  # pyright: ignore
        expected.append(shares if align == "none" else to_electrodes(shares, matrices))
    np.testing.assert_allclose(made.shares, np.concatenate(expected).mean(axis=0), atol=1e-6)
    assert made.shares.sum() == pytest.approx(1)
    assert (made.trials, made.mapped, made.channels) == (10, align == "online", CHANNELS)


def test_other_networks_have_no_channel_attention() -> None:
    assert importance_of(build("lmuformer", setup()), setup(), [trials()]) is None
