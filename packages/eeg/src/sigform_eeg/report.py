"""The report of a training: one HTML file that needs no network, and the same as one PNG.

n trials, C channels, T samples.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sigform_eeg.alignment import Align, align_trials
from sigform_eeg.plotting import Curve, Picture, pictures, plot_report
from sigform_eeg.preprocessing import prepare
from sigform_kit.errors import InputError
from sigform_kit.outputs import Policy, output

if TYPE_CHECKING:
    from sigform_eeg.fitting import Fitted
    from sigform_eeg.networks import Network, Setup
    from sigform_eeg.trials import Trials

NAMES = {
    "dbconformer": "DBConformer",
    "lmuformer": "LMUFormer",
    "lmuformer-spiking": "spiking LMUFormer",
}

PROTOCOLS = {
    "co": "within each session, in time order: the first 80 % of each class train, the rest test",
    "cv": "cross-validation within each subject, over stretches of time",
    "loso": "leave one subject out: each is decoded by a network that never saw them",
    "held-out": "every fifth subject is held out and decoded by a network that never saw them",
    "runs": "leave one run out within each subject",
}

ALIGNMENTS: dict[str, str] = {
    "none": "none: trials as recorded",
    "subject": (
        "subject: Euclidean, by all trials of a subject, later ones too, so not causal: "
        "these scores do not hold for decoding while a session goes on"
    ),
    "online": (
        "online: Euclidean, each test trial by those of its subject up to itself, so causal "
        "(training trials by all of their subject's)"
    ),
}

SIMULATED = "simulated"
"""In the name of every subject that `simulated.py` makes up."""

AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The share that each channel has in what a network looks at; they sum to 1."""

    channels: tuple[str, ...]
    shares: NDArray[np.float64]  # (C,)
    trials: int
    mapped: bool  # back from aligned channels to electrodes


def importance_of(
    network: Network, setup: Setup, subjects: Sequence[Trials], *, align: Align | None = None
) -> Importance | None:
    """DBConformer's channel attention, averaged over trials as recorded; None for other networks.

    Alignment mixes channels: aligned channel i is a sum over electrodes j of m_ij x_j. Its share
    is given to the electrodes as their parts of its variance would be, m_ij^2 R_jj, R from the
    matrix itself.
    """
    import torch

    from sigform_eeg.dbconformer import DBConformer

    if not isinstance(network, DBConformer) or not network.config.channel_attention:
        return None
    align = align or setup.align
    total, count = np.zeros(len(setup.channels)), 0
    device = next(network.parameters()).device
    for trials in subjects:
        windows, matrices = align_trials(prepare(trials, setup.preprocessing).signals, align)
        for first in range(0, len(windows), AT_ONCE):
            batch = torch.from_numpy(np.ascontiguousarray(windows[first : first + AT_ONCE]))
            with torch.no_grad():
                shares = network.channel_importance(batch.to(device)).double().cpu().numpy()
            if align != "none":
                shares = to_electrodes(shares, matrices[first : first + AT_ONCE])
            total += shares.sum(axis=0)
        count += len(windows)
    if not count:
        raise ValueError("there are no trials; needs one or more")
    return Importance(
        channels=setup.channels, shares=total / count, trials=count, mapped=align != "none"
    )


def to_electrodes(
    shares: NDArray[np.float64], matrices: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares (n, C) of channels aligned by matrices (n, C, C) -> those of electrodes (n, C)."""
    inverse = np.linalg.inv(matrices)
    variances = np.square(inverse).sum(axis=2)  # (n, C), the diagonal of R = M^-1 M^-T
    parts = np.square(matrices) * variances[:, None]  # (n, aligned, electrodes)
    parts /= parts.sum(axis=2, keepdims=True)
    return np.einsum("ni,nij->nj", shares, parts)


def read_fitted(run_dir: Path) -> Fitted:
    """What `fit_subjects` gave when it filled a folder. Raises InputError for another folder."""
    from sigform_eeg.fitting import Fitted

    metrics = run_dir / "metrics.json"
    told, card = _read(metrics), _read(run_dir / "card.json")
    return Fitted(
        weights=run_dir / "weights.safetensors", metrics=metrics, network=told["network"],
        csp_lda=told["csp_lda"], seconds=card["seconds"], steps=card["steps"],
    )  # fmt: skip


def write_report(
    fitted: Fitted,
    run_dir: Path,
    *,
    importance: Importance | None = None,
    simulated: bool | None = None,
    policy: Policy = "overwrite",
) -> list[Path]:
    """Write report.html and report.png to the folder that `fit_subjects` filled; gives their paths.

    `simulated` None: where the names of subjects say so. Raises InputError for a folder without
    the results, and as `output`.
    """
    told = _read(fitted.metrics)
    if simulated is None:
        simulated = any(SIMULATED in name.lower() for name in told["subjects"])
    picture = _picture(told, run_dir, importance, simulated)
    page, image = run_dir / "report.html", run_dir / "report.png"
    plot_report(picture, image, policy=policy)
    text = _page(picture, told, fitted, importance, simulated)
    with output(page, policy) as place:
        place.write_text(text, encoding="utf-8")
    return [page, image]


def _picture(
    told: Mapping[str, Any], run_dir: Path, importance: Importance | None, simulated: bool
) -> Picture:
    network = told["network"]
    name = _name(told)
    curves = [Curve.read(path) for path in sorted(run_dir.glob("folds/*/metrics.csv"))]
    kind = "simulated trials" if simulated else "trials"
    subtitle = (
        f"{network['trials']} {kind} of {_counted(len(network['subjects']), 'subject')}; "
        f"protocol {told['protocol']}; alignment {told['align']}"
        f"{' (causal)' if told['align'] == 'online' else ''}"
    )
    mapped = importance is not None and importance.mapped
    return Picture(
        network=network,
        baseline=told["csp_lda"],
        name=name,
        title=f"{name}: {' or '.join(network['classes'])}"
        + (" — SIMULATED data" if simulated else ""),
        subtitle=subtitle,
        channels=() if importance is None else importance.channels,
        importance=None if importance is None else importance.shares,
        importance_title="Channel attention" + (", mapped back to electrodes" if mapped else ""),
        curves=curves,
    )


def verdict(told: Mapping[str, Any]) -> str:
    """In a sentence, how good the network is beside CSP+LDA and chance."""
    own, other = told["network"]["all"]["accuracy"], told["csp_lda"]["all"]["accuracy"]
    name = _name(told)
    gain = 100 * (own["mean"] - other["mean"])
    if abs(gain) < 0.05:
        beside = "as good as CSP+LDA"
    else:
        way = "better" if gain > 0 else "worse"
        beside = f"{abs(gain):.1f} points {way} than CSP+LDA ({100 * other['mean']:.1f} %)"
    chance = told["network"]["chance"]
    line = f"{name} decodes {100 * own['mean']:.1f} % of trials, {beside} on the same folds"
    line += f"; chance is {100 * chance:.1f} %."
    if own["low"] is not None and own["low"] <= chance:
        line += " Its interval over folds includes chance."
    return line


def _page(
    picture: Picture,
    told: Mapping[str, Any],
    fitted: Fitted,
    importance: Importance | None,
    simulated: bool,
) -> str:
    parts = pictures(picture)
    figures = [
        _image(parts["subjects"], "Accuracy of each subject, beside CSP+LDA and chance"),
        _image(parts["confusion"], "Confusion matrices over all test trials"),
    ]
    if importance is None:
        figures.append("<p>There is no channel attention to show for this network.</p>")
    else:
        figures.append(_image(parts["importance"], _explained(importance)))
    if "curves" in parts:
        caption = (
            "Training curve. Training scores are those of distorted batches, averaged over a few; "
            "test scores choose nothing."
        )
        figures.append(_image(parts["curves"], caption))
    warning = (
        '<p class="warning">The recordings are simulated: made by sigform-eeg, of no person. '
        "These scores say nothing of real recordings.</p>"
        if simulated
        else ""
    )
    title = html.escape(picture.title)
    return PAGE.format(
        title=title,
        warning=warning,
        verdict=html.escape(verdict(told)),
        facts=_table([], _facts(told, fitted)),
        figures="\n".join(figures),
        scores=_scores(told, picture.name),
        level=round(100 * told["network"]["confidence"]),
    )


def _facts(told: Mapping[str, Any], fitted: Fitted) -> list[list[str]]:
    window, recipe = told["preprocessing"], told["recipe"]
    channels = window["channels"]
    trials = "; ".join(
        f"{name}: {', '.join(f'{label} {count}' for label, count in counts.items())}"
        for name, counts in told["subjects"].items()
    )
    rows = [
        ["Network", _name(told)],
        ["Protocol", f"{told['protocol']}: {PROTOCOLS.get(told['protocol'], '')}"],
        ["Alignment", ALIGNMENTS[told["align"]]],
        ["Window", f"{window['start']:g} to {window['stop']:g} s after the cue"],
        [
            "Signals",
            f"{window['low']:g} to {window['high']:g} Hz, at {window['sample_rate']:g} Hz, "
            f"filtered forwards only, order {window['order']}",
        ],
        [f"{len(channels)} channels", ", ".join(channels)],
        ["Trials", trials],
        [
            "Training",
            f"{recipe['epochs']:g} epochs of batches of {recipe['batch_size']}, learning rate "
            f"{recipe['learning_rate']:g}, seed {recipe['seed']}"
            f"; {fitted.steps} steps in {fitted.seconds:.0f} s",
        ],
    ]
    if told["keep"] == "all":
        rows.append(["Kept", "a network trained once more on all trials, so tested on none"])
    else:
        rows.append(["Kept", "the network that was tested"])
    return rows


def _scores(told: Mapping[str, Any], name: str) -> str:
    """The table of scores: all, then each subject."""
    header = ["", "", "accuracy", "balanced accuracy", "kappa", "AUROC", "folds"]
    rows = []
    groups = [("all", told["network"]["all"], told["csp_lda"]["all"])]
    groups += [
        (subject, scored, told["csp_lda"]["subjects"][subject])
        for subject, scored in told["network"]["subjects"].items()
    ]
    for label, own, other in groups:
        for shown, model, scored in ((label, name, own), ("", "CSP+LDA", other)):
            cells = [
                _score(scored["accuracy"], 100), _score(scored["balanced_accuracy"], 100),
                _score(scored["kappa"], 1), _score(scored["auroc"], 1),
            ]  # fmt: skip
            rows.append([shown, model, *cells, str(scored["accuracy"]["folds"])])
    return _table(header, rows)


def _score(value: Mapping[str, Any] | None, scale: float) -> str:
    """A mean and its interval; a dash where it is not defined."""
    if value is None:
        return "–"
    digits, unit = (1, " %") if scale == 100 else (3, "")
    text = f"{scale * value['mean']:.{digits}f}{unit}"
    if value["low"] is None:
        return text
    return f"{text} [{scale * value['low']:.{digits}f}, {scale * value['high']:.{digits}f}]"


def _explained(importance: Importance) -> str:
    text = f"Channel attention of the network, averaged over {importance.trials} trials."
    if not importance.mapped:
        return text
    return (
        f"{text} Alignment mixes channels, so each aligned channel's share is given back to the "
        "electrodes through the alignment matrices, by their parts of its variance."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = [line(row, "td") for row in rows]
    return "\n".join(["<table>", *([line(header, "th")] if header else []), *lines, "</table>"])


def _image(data: bytes, caption: str) -> str:
    text = html.escape(caption)
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{source}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _name(told: Mapping[str, Any]) -> str:
    architecture = str(told["architecture"])
    return NAMES.get(architecture, architecture)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; needs the folder of a training") from None
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no results")
    return values


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 62rem;
  padding: 0 1rem; color: #20242c; background: #fff; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.warning {{ background: #fdf0d5; border-left: 4px solid #b7791f; padding: 0.6rem 0.8rem; }}
.verdict {{ font-size: 1.05rem; }}
figure {{ margin: 1.5rem 0; }}
figure img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #5b6270; font-size: 0.9rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.9rem; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.25rem 0.9rem 0.25rem 0;
  border-bottom: 1px solid #eceef1; }}
.facts td:first-child {{ color: #5b6270; white-space: nowrap; }}
</style>
</head>
<body>
<h1>{title}</h1>
{warning}
<p class="verdict">{verdict}</p>
{figures}
<h2>Scores</h2>
<p>Means over folds; in brackets {level} % confidence intervals over folds, where there are two or
more.</p>
<div class="wide">{scores}</div>
<h2>How it was made</h2>
<div class="wide facts">{facts}</div>
</body>
</html>
"""
