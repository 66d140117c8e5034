"""Leave one run out within subjects: a network beside CSP+LDA on the same folds, by one recipe.

`cd tests && python -m benchmarks.eeg_within FOLDER RUN_DIR --network eegconformer`, FOLDER with the
epochs of `data/eeg`. Every fourth subject by number, subject alignment. Goes on where it stopped.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import click
import torch
from torch import nn

from sigform_eeg import fitting
from sigform_eeg.metrics import summary
from sigform_eeg.networks import Setup
from sigform_eeg.preprocessing import Preprocessing
from sigform_eeg.protocols import leave_one_run_out
from sigform_eeg.reading import read_epochs
from sigform_eeg.training import Recipe


def eeg_conformer(architecture: str, setup: Setup) -> nn.Module:
    """braindecode's EEGConformer at its defaults, in the place of ours."""
    del architecture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of braindecode's imports
        from braindecode.models import EEGConformer

    return EEGConformer(
        n_chans=len(setup.channels),
        n_outputs=len(setup.classes),
        n_times=setup.preprocessing.samples,
        sfreq=setup.preprocessing.sample_rate,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--network", type=click.Choice(["dbconformer", "eegconformer"]), required=True)
@click.option("--epochs", default=40)
@click.option("--seed", default=0)
def main(folder: Path, run_dir: Path, network: str, epochs: int, seed: int) -> None:
    torch.set_num_threads(1)
    subjects = [read_epochs(path) for path in sorted(folder.glob("sub-*.npz"))][::4]
    setup = fitting.make_setup(subjects, Preprocessing(), "subject")
    recipe = replace(Recipe(), seed=seed, epochs=epochs, device="cpu")
    if network == "eegconformer":
        fitting.build = eeg_conformer  # pyright: ignore
    plan = fitting.Plan(setup=setup, architecture=network, protocol="runs", recipe=recipe)
    bench = fitting._Bench(subjects, plan)
    tested, seconds = [], 0.0
    for number, fold in enumerate(leave_one_run_out(subjects)):
        pairs, spent = bench.run(fold, run_dir / f"{number:03d}", True, None)
        tested += pairs
        seconds += spent
        click.echo(f"{fold.name}: {spent:.0f} s", err=True)
    for place, name in enumerate((network, "CSP+LDA")):
        scores = summary([pair[place] for pair in tested], setup.classes)
        each = {who: round(100 * s["accuracy"]["mean"], 1) for who, s in scores["subjects"].items()}
        whole = {
            key: round(100 * scores["all"]["accuracy"][key], 1) for key in ("mean", "low", "high")
        }
        click.echo(f"{name}: {whole}, {each}")
    click.echo(f"training took {seconds:.0f} s")


if __name__ == "__main__":
    main()
