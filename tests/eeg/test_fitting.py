"""From trials to a weight file: folds, scores, and runs that are stopped."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from eeg.small import CHANNELS, WINDOW, setup, trials

from sigform_core.training import TrainingInterrupted
from sigform_eeg import fitting, training
from sigform_eeg.evaluation import evaluate
from sigform_eeg.fitting import Fitted, Plan, fit_subjects, make_setup
from sigform_eeg.networks import load_network
from sigform_eeg.preprocessing import Preprocessing
from sigform_eeg.training import Recipe
from sigform_eeg.trials import Trials

RECIPE = Recipe(epochs=2, batch_size=8, device="cpu", validate_every=3, shift=0.1)
PLAN = Plan(setup=setup(), recipe=RECIPE, protocol="loso")


def people(count: int = 3) -> list[Trials]:
    return [trials(name, 12) for name in "abcde"[:count]]


def test_folds_then_all(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    steps: list[int] = []
    fitted = fit_subjects(
        people(), tmp_path, PLAN, card={"licence": "CC0-1.0"},
        on_fold=lambda *fold: told.append(fold),
        on_progress=lambda step, *_: steps.append(step),
    )  # fmt: skip
    assert told == [(1, 4, "a"), (2, 4, "b"), (3, 4, "c"), (4, 4, "final")]
    assert max(steps) == fitted.steps == 9
    network, seen, file = load_network(fitted.weights)
    assert seen == setup()
    assert file.card["licence"] == "CC0-1.0"
    assert file.card["trained_on"] == ["a", "b", "c"]
    assert file.card["trials"] == 36
    assert file.card["recipe"]["epochs"] == 2
    assert json.loads((tmp_path / "card.json").read_text("utf-8")) == file.card
    assert set(file.card["accuracy_by_subject"]) == {"a", "b", "c"}
    metrics = json.loads(fitted.metrics.read_text("utf-8"))
    assert metrics["network"] == fitted.network
    assert metrics["csp_lda"]["all"]["accuracy"]["folds"] == 3
    assert metrics["align"] == "online"
    with np.load(tmp_path / "results.npz") as results:
        assert results["subject"].tolist() == ["a"] * 12 + ["b"] * 12 + ["c"] * 12
        right = results["network"].argmax(axis=1) == results["labels"]
    assert right[:12].mean() == pytest.approx(metrics["network"]["folds"][0]["accuracy"])
    assert network(torch.randn(1, len(CHANNELS), WINDOW.samples)).shape == (1, 2)


def test_the_fold_that_is_kept_scores_as_it_says(tmp_path: Path) -> None:
    plan = replace(PLAN, protocol="held-out", keep="fold")
    fitted = fit_subjects(people(5), tmp_path, plan)
    network, seen, file = load_network(fitted.weights)
    assert file.card["trained_on"] == ["a", "b", "c", "d"]
    again = evaluate(network, seen, [trials("e", 12)])[0]
    told = (again.probabilities.argmax(axis=1) == again.labels).mean()
    assert told == pytest.approx(fitted.network["all"]["accuracy"]["mean"])
    with np.load(tmp_path / "results.npz") as results:
        np.testing.assert_allclose(results["network"], again.probabilities, atol=1e-6)
    with pytest.raises(ValueError, match="keep is 'fold' with 3 folds; needs a protocol with one"):
        fit_subjects(people(), tmp_path / "other", replace(PLAN, keep="fold"))


def test_a_stopped_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *, stop: tuple[int, int] | None = None, resume: bool = False) -> Fitted:
        fold = 0

        def count(number: int, *_: object) -> None:
            nonlocal fold
            fold = number

        def watch(step: int, *_: object) -> None:
            if (fold, step) == stop:
                signal.raise_signal(signal.SIGINT)

        return fit_subjects(
            people(), tmp_path / name, PLAN, resume=resume, on_fold=count, on_progress=watch
        )

    whole = run("whole")
    with pytest.raises(TrainingInterrupted):
        run("parts", stop=(2, 4))
    trained: list[Path] = []
    real = training.train_network

    def spy(*arguments: object, **settings: object) -> object:
        trained.append(arguments[3])  # pyright: ignore[reportArgumentType]
        return real(*arguments, **settings)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(fitting, "train_network", spy)
    parts = run("parts", resume=True)
    assert [path.name for path in trained] == ["002", "003", "final"]
    assert parts.network == whole.network
    assert parts.csp_lda == whole.csp_lda
    first, second = (load_network(one.weights)[0].state_dict() for one in (whole, parts))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0, msg=name)


def test_a_run_is_resumed_with_the_same_plan_only(tmp_path: Path) -> None:
    plan = replace(PLAN, recipe=replace(RECIPE, epochs=0.5), protocol="co")
    fit_subjects(people(1), tmp_path, plan)
    with pytest.raises(ValueError, match="holds a run; needs resume"):
        fit_subjects(people(1), tmp_path, plan)
    with pytest.raises(ValueError, match=r"protocol is cv; resuming .* needs co as before"):
        fit_subjects(people(1), tmp_path, replace(plan, protocol="cv"), resume=True)
    with pytest.raises(ValueError, match=r"subjects is \{'a'.*'b'"):
        fit_subjects(people(2), tmp_path, plan, resume=True)
    again = fit_subjects(people(1), tmp_path, plan, resume=True)
    assert again.steps == 1


def test_training_windows_reach_beyond_the_window() -> None:
    bench = fitting._Bench(people(1), PLAN)
    wide = bench.examples(people(1), 0.5)
    room = round((0.5 + 0.2) * WINDOW.sample_rate)  # trials end 0.2 s after the window
    assert wide.signals.shape[2] == pytest.approx(WINDOW.samples + room, abs=1)
    assert wide.begin == round(0.5 * WINDOW.sample_rate)
    narrow = bench.examples(people(1), 0.0)
    assert narrow.signals.shape[2] == WINDOW.samples
    window = wide.signals[..., wide.begin : wide.begin + WINDOW.samples]
    torch.testing.assert_close(window, narrow.signals, rtol=1e-4, atol=1e-4)


def test_channels_are_those_all_have() -> None:
    few = trials("b").pick(CHANNELS[2:])
    made = make_setup([trials("a"), few], Preprocessing(sample_rate=64.0, high=20.0), "none")
    assert made.channels == CHANNELS[2:]
    assert made.classes == ("left", "right")
    assert make_setup([trials("a")], WINDOW, "none").channels == CHANNELS
