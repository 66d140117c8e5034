"""From trials to a weight file and its scores: what the command `train` does.

Every fold has a folder of its own with its checkpoint, then its result, so that a run that was
killed goes on within the fold under way.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.baselines import CspLda
from sigform_eeg.evaluation import probabilities
from sigform_eeg.metrics import Result, summary
from sigform_eeg.networks import Network, Setup, build, save_network
from sigform_eeg.preprocessing import Preprocessing, prepare
from sigform_eeg.protocols import Fold, chosen, folds_of
from sigform_eeg.training import Examples, Recipe, examples_of, find_mirror, train_network
from sigform_eeg.trials import Trials, common_channels

if TYPE_CHECKING:
    from sigform_core.training import OnProgress, TrainResult

OnFold = Callable[[int, int, str], None]
"""Number of the training about to begin (from 1), of all, and its name."""

FINAL = "final"
"""The training on all trials, whose network is kept."""

Float = NDArray[np.float32]
Keep = Literal["all", "fold"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained and tested how; a run is resumed with the same one only."""

    setup: Setup
    architecture: str = "dbconformer"
    protocol: str = "loso"
    recipe: Recipe = field(default_factory=Recipe)
    keep: Keep = "all"  # the network of all trials, or of the single fold, so that its score is its

    def __post_init__(self) -> None:
        if self.keep not in ("all", "fold"):
            raise ValueError(f"keep is {self.keep!r}; needs all or fold")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training came to; the summaries are those of `metrics.summary`."""

    weights: Path
    metrics: Path
    network: dict[str, Any]
    csp_lda: dict[str, Any]
    seconds: float  # of training, all folds
    steps: int


def make_setup(subjects: Sequence[Trials], preprocessing: Preprocessing, align: Align) -> Setup:
    """A setup for these subjects: channels that all of them have where none are named.

    Raises InputError where they have none in common.
    """
    if preprocessing.channels is None:
        preprocessing = replace(preprocessing, channels=common_channels(subjects))
    return Setup(preprocessing=preprocessing, classes=subjects[0].classes, align=align)


def fit_subjects(
    subjects: Sequence[Trials],
    run_dir: Path,
    plan: Plan,
    *,
    card: dict[str, Any] | None = None,
    resume: bool = False,
    on_fold: OnFold | None = None,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train and test by the folds of a protocol, then once more on all trials.

    `subjects` hold trials as recorded, best from LEAD_IN before the window on. Writes to
    `run_dir`: weights.safetensors with its card inside, metrics.json (the network and CSP+LDA by
    fold and subject), results.npz (labels and probabilities), plan.json, and a folder of
    checkpoints and metrics.csv for each training. `card` adds to what the weight file says.

    Raises ValueError where `run_dir` holds another plan or a run that is not resumed, InputError
    for trials that do not fit, TrainingInterrupted on Ctrl-C; resuming goes on from there.
    """
    folds = folds_of(plan.protocol, subjects)
    if plan.keep == "fold" and len(folds) != 1:
        raise ValueError(f"keep is 'fold' with {len(folds)} folds; needs a protocol with one")
    _begin(run_dir, plan, subjects, resume)
    bench = _Bench(subjects, plan)
    names = [fold.name for fold in folds] + ([FINAL] if plan.keep == "all" else [])
    seconds, steps = 0.0, 0
    tested: list[tuple[Result, Result]] = []
    for number, fold in enumerate(folds):
        if on_fold is not None:
            on_fold(number + 1, len(names), fold.name)
        folder = run_dir / "folds" / f"{number + 1:03d}"
        results, spent = bench.run(fold, folder, resume, on_progress)
        seconds += spent
        tested += results
    if plan.keep == "all":
        if on_fold is not None:
            on_fold(len(names), len(names), FINAL)
        everything = [(one.subject, np.arange(len(one))) for one in subjects]
        network, result = bench.train(
            chosen(subjects, everything), None, run_dir / FINAL, resume, on_progress
        )
        seconds, steps = seconds + result.seconds, result.steps
    else:
        network, result = bench.train(
            chosen(subjects, folds[0].train), chosen(subjects, folds[0].test),
            run_dir / "folds" / "001", True, on_progress,
        )  # fmt: skip
        steps = result.steps
    own = summary((one for one, _ in tested), plan.setup.classes)
    theirs = summary((other for _, other in tested), plan.setup.classes)
    fitted = Fitted(
        weights=run_dir / "weights.safetensors",
        metrics=run_dir / "metrics.json",
        network=own,
        csp_lda=theirs,
        seconds=seconds,
        steps=steps,
    )
    _write(fitted.metrics, {**_plan_dict(plan, subjects), "network": own, "csp_lda": theirs})
    _save_results(run_dir / "results.npz", tested)
    told = _card(plan, subjects, folds, fitted) | (card or {})
    save_network(fitted.weights, network, plan.setup, told)
    _write(run_dir / "card.json", told)
    return fitted


class _Bench:
    """The subjects under one plan, prepared once."""

    def __init__(self, subjects: Sequence[Trials], plan: Plan) -> None:
        self.subjects = subjects
        self.plan = plan
        self.mirror = find_mirror(plan.setup.channels, plan.setup.classes)
        self.window = plan.setup.preprocessing.samples

    def run(
        self, fold: Fold, folder: Path, resume: bool, on_progress: OnProgress | None
    ) -> tuple[list[tuple[Result, Result]], float]:
        """Results of the network and of CSP+LDA by test subject, and seconds of training."""
        done = folder / "result.npz"
        if resume and done.exists():
            return _read_result(done, fold.name)
        train, test = chosen(self.subjects, fold.train), chosen(self.subjects, fold.test)
        network, result = self.train(train, test, folder, resume, on_progress)
        linear = CspLda().fit([self.seen(trials, self.offline) for trials in train])
        pairs = []
        for trials in test:
            seen = self.seen(trials, self.plan.setup.align)
            labelled = {"fold": fold.name, "subject": trials.subject, "labels": seen.labels}
            pairs.append(
                (
                    Result(**labelled, probabilities=probabilities(network, seen.signals)),
                    Result(**labelled, probabilities=linear.predict_proba(seen)),
                )
            )
        _write_result(done, pairs, result.seconds)
        return pairs, result.seconds

    def train(
        self, train: Sequence[Trials], test: Sequence[Trials] | None, folder: Path,
        resume: bool, on_progress: OnProgress | None,
    ) -> tuple[Network, TrainResult]:  # fmt: skip
        """A network trained on `train`; `test` is measured for the curve, and chooses nothing."""
        plan = self.plan
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.recipe.seed)
            network = build(plan.architecture, plan.setup)
        return train_network(
            network,
            self.examples(train, plan.recipe.shift),
            plan.recipe,
            folder,
            window=self.window,
            rate=plan.setup.preprocessing.sample_rate,
            mirror=self.mirror,
            held=None if test is None else self.held(test),
            resume=resume,
            on_progress=on_progress,
        )

    @property
    def offline(self) -> Align:
        """How training trials are aligned: all of a subject's are there, as published."""
        return "none" if self.plan.setup.align == "none" else "subject"

    def seen(self, trials: Trials, align: Align) -> Trials:
        """A subject's windows as the network sees them."""
        prepared = prepare(trials, self.plan.setup.preprocessing)
        return prepared.with_signals(align_trials(prepared.signals, align)[0])

    def held(self, test: Sequence[Trials]) -> Examples:
        windows = [self.seen(trials, self.plan.setup.align) for trials in test]
        return examples_of([one.signals for one in windows], [one.labels for one in windows])

    def examples(self, train: Sequence[Trials], shift: float) -> Examples:
        """Training trials aligned by their windows, with what windows are shifted over."""
        nominal = self.plan.setup.preprocessing
        wide = replace(
            nominal,
            start=max([nominal.start - shift, *(trials.start for trials in train)]),
            stop=min([nominal.stop + shift, *(trials.stop for trials in train)]),
        )
        begin = round((nominal.start - wide.start) * nominal.sample_rate)
        begin = max(0, min(begin, wide.samples - self.window))
        signals = []
        for trials in train:
            made = prepare(trials, wide).signals
            _, matrices = align_trials(made[..., begin : begin + self.window], self.offline)
            signals.append(matrices.astype(np.float32) @ made)
        return examples_of(signals, [trials.labels for trials in train], begin)


def _begin(run_dir: Path, plan: Plan, subjects: Sequence[Trials], resume: bool) -> None:
    """Remember the plan, or hold a resumed run to it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, now = run_dir / "plan.json", json.loads(json.dumps(_plan_dict(plan, subjects)))
    if not path.exists():
        _write(path, now)
        return
    if not resume:
        raise ValueError(f"run_dir {run_dir} holds a run; needs resume")
    was = json.loads(path.read_text("utf-8"))
    for name in sorted(set(was) | set(now)):
        if was.get(name) != now.get(name):
            raise ValueError(
                f"{name} is {now.get(name)}; resuming {run_dir} needs {was.get(name)} as before"
            )


def _plan_dict(plan: Plan, subjects: Sequence[Trials]) -> dict[str, Any]:
    return {
        "architecture": plan.architecture,
        "protocol": plan.protocol,
        "keep": plan.keep,
        **plan.setup.to_dict(),
        "recipe": asdict(plan.recipe),
        "subjects": {trials.subject: trials.count() for trials in subjects},
    }


def _card(
    plan: Plan, subjects: Sequence[Trials], folds: Sequence[Fold], fitted: Fitted
) -> dict[str, Any]:
    if plan.keep == "fold":
        counts = {name: len(index) for name, index in folds[0].train}
    else:
        counts = {trials.subject: len(trials) for trials in subjects}
    by_subject = {
        name: {"network": scored["accuracy"]["mean"],
               "csp_lda": fitted.csp_lda["subjects"][name]["accuracy"]["mean"]}
        for name, scored in fitted.network["subjects"].items()
    }  # fmt: skip
    return {
        "architecture": plan.architecture,
        "protocol": plan.protocol,
        "trained_on": list(counts),
        "trials": sum(counts.values()),
        "recipe": asdict(plan.recipe),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds),
        "accuracy": round(fitted.network["all"]["accuracy"]["mean"], 4),
        "csp_lda_accuracy": round(fitted.csp_lda["all"]["accuracy"]["mean"], 4),
        "accuracy_by_subject": by_subject,
    }


def _write_result(path: Path, pairs: Sequence[tuple[Result, Result]], seconds: float) -> None:
    arrays: dict[str, Any] = {"subjects": [own.subject for own, _ in pairs], "seconds": seconds}
    for number, (own, other) in enumerate(pairs):
        arrays[f"labels{number}"] = own.labels
        arrays[f"network{number}"] = own.probabilities
        arrays[f"csp_lda{number}"] = other.probabilities
    _save_arrays(path, arrays)


def _read_result(path: Path, fold: str) -> tuple[list[tuple[Result, Result]], float]:
    with np.load(path) as stored:
        pairs = []
        for number, subject in enumerate(stored["subjects"]):
            labelled = {
                "fold": fold, "subject": str(subject), "labels": stored[f"labels{number}"],
            }  # fmt: skip
            pairs.append(
                (
                    Result(**labelled, probabilities=stored[f"network{number}"]),
                    Result(**labelled, probabilities=stored[f"csp_lda{number}"]),
                )
            )
        return pairs, float(stored["seconds"])


def _save_results(path: Path, tested: Sequence[tuple[Result, Result]]) -> None:
    """All test trials one after the other, for reports."""
    own = [one for one, _ in tested]
    _save_arrays(
        path,
        {
            "subject": np.concatenate([[one.subject] * len(one.labels) for one in own]),
            "fold": np.concatenate([[one.fold] * len(one.labels) for one in own]),
            "labels": np.concatenate([one.labels for one in own]),
            "network": np.concatenate([one.probabilities for one in own]),
            "csp_lda": np.concatenate([other.probabilities for _, other in tested]),
        },
    )


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def _write(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    shutil.move(part, path)
