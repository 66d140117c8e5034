"""What each command does, once its words are understood: imported late, as all of it needs torch.

`work_off` is what an engine calls for each recording.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sigform_eeg import catalogue, reading
from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.baselines import CspLda
from sigform_eeg.batch import WEIGHT_SUFFIXES, Job, Task, run_weights
from sigform_eeg.decoder import Decoder, Windows
from sigform_eeg.epochs import is_epochs, read_epochs
from sigform_eeg.evaluation import evaluate, prefix_curve
from sigform_eeg.metrics import METRICS, Result, summary
from sigform_eeg.networks import Setup, load_network
from sigform_eeg.preprocessing import prepare
from sigform_eeg.protocols import chosen, folds_of
from sigform_eeg.recording import Recording, noted, open_recording
from sigform_eeg.simulated import simulate
from sigform_eeg.trials import Trials
from sigform_kit.batch import OnStage
from sigform_kit.catalogue import FILE as CATALOGUE
from sigform_kit.catalogue import read_catalogue
from sigform_kit.doctor import Check
from sigform_kit.errors import InputError
from sigform_kit.outputs import Policy, check_target, output

if TYPE_CHECKING:
    # With lightning, twice what all else takes to import.
    from sigform_eeg.fitting import Fitted

RUN_FILES = (
    "plan.json", "weights.safetensors", "card.json", "metrics.json", "results.npz", "settings.toml",
    "report.html", "report.png",
)  # fmt: skip
"""What a training leaves in its folder, beside the folders `folds` and `final`."""


# --- run -----------------------------------------------------------------------------------------


def work_off(job: Job, folder: Path) -> Callable[[Task], dict[str, Any]]:
    """The worker of an engine: loads the network once a process, then is called with each task.

    Paths are meant from `folder`, which a cluster's processes need to see as well.
    """
    os.chdir(folder)
    decoder = load(job)

    def work(task: Task) -> dict[str, Any]:
        return run(job, task, decoder)

    return work


def load(job: Job) -> Decoder:
    """The decoder of a job. Raises what `Decoder.load` does."""
    return Decoder.load(
        job.weights, align=cast(Align | None, job.align), device=job.device, threads=job.threads
    )


def run(
    job: Job, task: Task, decoder: Decoder | None = None, *, on_progress: OnStage = lambda *_: None
) -> dict[str, Any]:
    """Decode a recording or file of epochs and write its files; returns what `--json` says of it.

    `decoder` is that of the job, loaded if there is none yet. Raises ValueError, OSError or a
    ClickException in one line; nothing is left half written.
    """
    wanted = [check_target(path, task.policy, make_parents=True) for path in task.outputs]
    record = {"input": str(task.source), "outputs": [str(path) for path in task.outputs]}
    if not any(wanted):
        return {**record, "status": "skipped"}
    decoder = decoder or load(job)
    begun = time.monotonic()

    def on_seconds(done: float, total: float) -> None:
        on_progress(str(task.source), int(done), int(total))

    opened: Recording | Trials
    if is_epochs(task.source):
        if task.annotated is not None:
            raise InputError(f"{task.source}: holds epochs; --annotate needs a recording")
        opened = read_epochs(task.source, str(task.source))
        duration = opened.signals.shape[2] * len(opened) / opened.sample_rate
    else:
        opened = open_recording(task.source, decoder.channels)
        duration = opened.duration
    windows = decoder(opened, hop=job.hop, on_progress=on_seconds)
    with output(task.table, task.policy, make_parents=True) as place:
        write_windows(windows, place)
    if task.annotated is not None and isinstance(opened, Recording):
        annotate(opened, windows, job.hop, task.annotated, task.policy)
    return {
        **record,
        "status": "done",
        "classes": list(windows.classes),
        "windows": len(windows),
        "counts": {name: windows.labels.count(name) for name in windows.classes},
        "duration": round(duration, 3),
        "align": windows.align,
        "causal": windows.causal,
        "seconds": round(time.monotonic() - begun, 3),
        "notes": [*windows.notes, *_told_of(windows)],
    }


def _told_of(windows: Windows) -> Iterator[str]:
    if not windows.causal:
        yield f"{windows.align} alignment saw the whole recording first; only online is causal"


def write_windows(windows: Windows, place: Path) -> None:
    """A table: where a window ends in seconds, the probability of each class, the likeliest."""
    with place.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["time", *windows.classes, "class"])
        for at, told, label in zip(
            windows.times, windows.probabilities, windows.labels, strict=True
        ):
            table.writerow([f"{at:.6g}", *(f"{share:.6f}" for share in told), label])


def annotate(
    recording: Recording, windows: Windows, hop: float, path: Path, policy: Policy
) -> None:
    """Write the recording as .fif, what was decoded added to its annotations.

    Each covers the `hop` seconds up to the end of its window and is named `decoded/CLASS`.
    """
    import mne

    raw = recording.raw
    held = raw.annotations.copy()
    if held.orig_time is None:
        held.onset = held.onset - raw.first_time
    shift = 0.0 if held.orig_time is None else raw.first_time
    names = [f"decoded/{label}" for label in windows.labels]
    onsets = np.maximum(windows.times - hop, 0.0)
    new = mne.Annotations(onsets + shift, windows.times - onsets, names, orig_time=held.orig_time)
    told = raw.copy()
    notes: list[str] = []
    with noted(notes), output(path, policy, make_parents=True) as place:
        told.set_annotations(held + new, verbose="ERROR")
        told.save(place, overwrite=True, verbose="ERROR")


# --- stream --------------------------------------------------------------------------------------


def calibration(decoder: Decoder, path: Path | None) -> np.ndarray | None:
    """The alignment of an earlier recording, for "subject" alignment of a stream.

    Raises InputError where it is needed and there is none.
    """
    if decoder.align != "subject":
        return None
    if path is None:
        raise InputError(
            "subject alignment needs an earlier recording of the same person by --calibrate; "
            "--align online needs none"
        )
    return decoder.alignment_of(path)


# --- evaluate ------------------------------------------------------------------------------------


def labelled(
    place: Path, setup: Setup, events: Mapping[str, Sequence[str]] | None, runs: list[int] | None
) -> reading.Read:
    """The trials of a folder as a model needs them. Raises InputError for other classes."""
    read = reading.read_trials(place, setup.preprocessing, events=events, runs=runs, check=False)
    found = read.subjects[0].classes
    if set(found) != set(setup.classes):
        words = " ".join(f"--events {name}=EVENT" for name in setup.classes)
        raise InputError(
            f"{place}: classes are {', '.join(found)}; the model knows {', '.join(setup.classes)}: "
            f"say {words}"
        )
    subjects = [_in_order(trials, setup.classes) for trials in read.subjects]
    return reading.Read(subjects=subjects, notes=read.notes)


def _in_order(trials: Trials, classes: tuple[str, ...]) -> Trials:
    numbers = np.array([classes.index(name) for name in trials.classes], np.int64)
    return Trials(
        signals=trials.signals,
        labels=numbers[trials.labels],
        runs=trials.runs,
        classes=classes,
        channels=trials.channels,
        sample_rate=trials.sample_rate,
        start=trials.start,
        subject=trials.subject,
    )


def measure(decoder: Decoder, subjects: Sequence[Trials], *, baseline: bool) -> dict[str, Any]:
    """The summaries of `metrics.summary`: `network` and, where asked for, `csp_lda`.

    CSP+LDA is trained on these trials: leaving one subject out, or by cross-validation within a
    single one.
    """
    results = evaluate(decoder.network, decoder.setup, subjects, align=decoder.align)
    told = {
        "align": decoder.align,
        "causal": decoder.align != "subject",
        "network": summary(results, decoder.classes),
        "csp_lda": None,
        "csp_lda_protocol": None,
    }
    if baseline:
        protocol = "loso" if len(subjects) > 1 else "cv"
        linear = _linear(decoder, subjects, protocol)
        told |= {"csp_lda": summary(linear, decoder.classes), "csp_lda_protocol": protocol}
    return told


def _linear(decoder: Decoder, subjects: Sequence[Trials], protocol: str) -> Iterator[Result]:
    offline: Align = "none" if decoder.align == "none" else "subject"

    def seen(trials: Trials, align: Align) -> Trials:
        prepared = prepare(trials, decoder.setup.preprocessing)
        return prepared.with_signals(align_trials(prepared.signals, align)[0])

    for fold in folds_of(protocol, subjects):
        model = CspLda().fit([seen(one, offline) for one in chosen(subjects, fold.train)])
        for one in chosen(subjects, fold.test):
            tested = seen(one, decoder.align)
            yield Result(
                fold=fold.name,
                subject=one.subject,
                labels=tested.labels,
                probabilities=model.predict_proba(tested),
            )


def score_rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each subject and one for all, chance and CSP+LDA's accuracy beside."""
    network, linear = told["network"], told["csp_lda"]
    counts = Counter[str]()
    for fold in network["folds"]:
        counts[fold["subject"]] += fold["trials"]
    rows = []
    for name, scored in [*network["subjects"].items(), ("all", network["all"])]:
        other = None
        if linear is not None:
            other = linear["all"] if name == "all" else linear["subjects"].get(name)
        rows.append(
            {
                "subject": name,
                "trials": network["trials"] if name == "all" else counts[name],
                **{metric: _mean(scored, metric) for metric in METRICS},
                "chance": network["chance"],
                "csp_lda": None if other is None else _mean(other, "accuracy"),
            }
        )
    return rows


def _mean(scored: Mapping[str, Any], metric: str) -> float | None:
    return None if scored[metric] is None else round(scored[metric]["mean"], 6)


def write_rows(rows: Sequence[Mapping[str, Any]], place: Path) -> None:
    with place.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def draw_curve(decoder: Decoder, subjects: Sequence[Trials], path: Path, policy: Policy) -> str:
    """Draws accuracy after each token, writes its CSV beside it, and says how much is needed.

    Raises ValueError for a network that needs whole windows.
    """
    from sigform_eeg.plotting import plot_prefix_curve

    curve = prefix_curve(decoder.network, decoder.setup, subjects, align=decoder.align)
    needed = curve.share_needed()
    name = "LMUFormer"
    window = float(curve.seconds[-1]) - curve.start
    plot_prefix_curve(
        curve.seconds, {name: curve.accuracy}, path,
        chance=1 / len(decoder.setup.classes), enough={name: curve.start + needed * window},
        policy=policy,
    )  # fmt: skip
    return f"99% of the final accuracy, {curve.final:.1%}, takes {needed:.1%} of the window"


# --- train ---------------------------------------------------------------------------------------


def example(folder: Path, policy: Policy, *, resume: bool) -> list[Path]:
    """Simulated recordings to train on; those of a run that is resumed are there already."""
    if resume and any(folder.glob("*_simulated_eeg.fif")):
        return sorted(folder.glob("*_simulated_eeg.fif"))
    return simulate(folder, subjects=3, runs=2, trials=20, overwrite=policy == "overwrite")


def check_run(run_dir: Path, *, resume: bool, anew: bool) -> None:
    """Raises InputError where there is a run that is neither resumed nor to be replaced."""
    if (run_dir / "plan.json").exists() and not resume and not anew:
        raise InputError(f"{run_dir} holds a run; --resume goes on, --overwrite starts anew")


def clear_run(run_dir: Path, *, resume: bool) -> None:
    """Remove an earlier run that is not resumed; other files of the folder stay."""
    if resume or not (run_dir / "plan.json").exists():
        return
    for name in ("folds", "final"):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in RUN_FILES:
        (run_dir / name).unlink(missing_ok=True)


def reports(fitted: Fitted, run_dir: Path, subjects: Sequence[Trials]) -> list[Path]:
    """Writes the page and pictures of a training on these subjects beside its weights."""
    from sigform_eeg.report import importance_of, write_report

    network, setup, _ = load_network(fitted.weights)
    return write_report(fitted, run_dir, importance=importance_of(network, setup, subjects))


def fitted_record(
    fitted: Fitted, run_dir: Path, written: Sequence[Path], align: Align
) -> dict[str, Any]:
    """What a `--json` line says of a training: means over folds and subjects, and the files."""
    network, linear = fitted.network["all"], fitted.csp_lda["all"]
    return {
        "run": str(run_dir),
        "weights": str(fitted.weights),
        "files": [str(path) for path in written],
        **{metric: _mean(network, metric) for metric in METRICS},
        "chance": fitted.network["chance"],
        "csp_lda": _mean(linear, "accuracy"),
        "align": align,
        "causal": align != "subject",
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 1),
    }


def scores_text(scored: Mapping[str, Any]) -> str:
    """The scores of a summary, with the interval of the accuracy, for a reader."""
    every = scored["all"]
    accuracy = every["accuracy"]
    parts = [f"accuracy {accuracy['mean']:.1%}"]
    if accuracy["low"] is not None:
        parts[0] += f" ({accuracy['low']:.1%} to {accuracy['high']:.1%})"
    for metric, name in (("balanced_accuracy", "balanced"), ("kappa", "kappa"), ("auroc", "AUROC")):
        if every[metric] is not None:
            parts.append(f"{name} {every[metric]['mean']:.3f}")
    return ", ".join(parts)


# --- info, models, doctor ------------------------------------------------------------------------


def describe(word: str) -> dict[str, Any]:
    """What weights, a recording or a folder of them hold. Raises InputError or ValueError."""
    place = Path(run_weights(word))
    if word in catalogue.SHIPPED or place.suffix.lower() in WEIGHT_SUFFIXES:
        return _weights(catalogue.find_weights(str(place)))
    if not place.exists():
        raise InputError(f"{word}: no such file or folder, nor shipped weights")
    return reading.describe(place)


def _weights(path: Path) -> dict[str, Any]:
    told = catalogue.describe(path)
    setup = Setup.from_dict(told.config["setup"])
    window = setup.preprocessing
    return {
        "file": str(path),
        "model": told.model,
        "parameters": told.parameters,
        "classes": list(setup.classes),
        "channels": list(setup.channels),
        "align": setup.align,
        "sample_rate": window.sample_rate,
        "band": [window.low, window.high],
        "window": [window.start, window.stop],
        "card": told.card,
    }


def list_models() -> list[dict[str, Any]]:
    """The weights in the package."""
    entries = read_catalogue(Path(__file__).with_name(CATALOGUE))
    papers = {entry.name: entry.origin for entry in entries}
    rows = []
    for name, path in catalogue.SHIPPED.items():
        held = _weights(path)
        card = held["card"]
        rows.append(
            {
                "name": name,
                "model": held["model"],
                "paper": papers.get(name),
                "classes": ", ".join(held["classes"]),
                "channels": len(held["channels"]),
                "sample_rate": held["sample_rate"],
                "parameters": held["parameters"],
                "align": held["align"],
                "accuracy": card.get("accuracy"),
                "licence": card.get("licence", "Apache-2.0"),
                "where": "in this package",
            }
        )
    return rows


EXTRAS = (
    ("lsl", "mne_lsl", "stream --source lsl:NAME"),
    ("bids", "mne_bids", "BIDS folders"),
)
"""Extras, what they bring, and what for."""


def own_checks() -> Iterator[Callable[[], Check]]:
    """Are the weights there and whole, and which extras are installed?"""
    yield weights
    for extra, module, purpose in EXTRAS:
        yield partial(installed, extra, module, purpose)


def weights() -> Check:
    """Do the shipped weights load?"""
    for name in catalogue.SHIPPED:
        Decoder.load(name, device="cpu")
    if not catalogue.SHIPPED:
        advice = "install sigform-eeg again"
        return Check(name="weights", status="fail", detail="none in the package", advice=advice)
    return Check(name="weights", status="ok", detail=", ".join(catalogue.SHIPPED))


def installed(extra: str, module: str, purpose: str) -> Check:
    """Is the package of an extra there?"""
    if importlib.util.find_spec(module) is None:
        advice = f"for {purpose}: pip install 'sigform-eeg[{extra}]'"
        return Check(name=module, status="warn", detail="not installed", advice=advice)
    return Check(name=module, status="ok", detail=f"installed, for {purpose}")
