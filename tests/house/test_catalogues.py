"""Every domain's catalogue says what its weight files, cards and published lists say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from safetensors import safe_open

import sigform_eeg.catalogue
import sigform_eeg.networks
import sigform_generate.catalogue
import sigform_speech.catalogue
import sigform_speech.networks
import sigform_superres.catalogue
import sigform_superres.networks
from sigform_kit.catalogue import Entry, read_catalogue

ROOT = Path(__file__).parents[2]
DOMAINS = {path.parent.name: path for path in sorted(ROOT.glob("packages/*/src/*/catalogue.toml"))}
SHIPPING = {
    "sigform_eeg": (sigform_eeg.catalogue, sigform_eeg.networks),
    "sigform_speech": (sigform_speech.catalogue, sigform_speech.networks),
    "sigform_superres": (sigform_superres.catalogue, sigform_superres.networks),
}
SHIPPED = [(domain, name) for domain, (said, _) in SHIPPING.items() for name in said.SHIPPED]


def entries(domain: str) -> dict[str, Entry]:
    return {entry.name: entry for entry in read_catalogue(DOMAINS[domain])}


def card(path: Path) -> dict:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["card"])


def parameters(networks: ModuleType, path: Path) -> int:
    return sum(parameter.numel() for parameter in networks.load_network(path)[0].parameters())


@pytest.mark.parametrize(("domain", "name"), SHIPPED)
def test_each_shipped_weight_file_is_told_as_it_is(domain: str, name: str) -> None:
    said, networks = SHIPPING[domain]
    path = said.SHIPPED[name]
    entry = entries(domain)[name]
    assert entry.parameters == parameters(networks, path)
    assert entry.card == f"weights/{name}.md"
    assert (DOMAINS[domain].parent / entry.card).is_file()
    assert entry.ours is not None
    facts = card(path)
    measured = {
        "% accuracy": 100 * facts.get("accuracy", 0.0),
        "dB SI-SDRi": next(iter(facts.get("si_sdri", {}).values()), 0.0),
        "dB PSNR": facts.get("set5_psnr", 0.0),
    }
    assert entry.ours.value == pytest.approx(measured[entry.ours.metric], abs=0.05)


def test_what_generates_is_in_training_until_it_is_shipped() -> None:
    """Once its weights are there, an entry has their parameters, our figure and the card."""
    for name in sigform_generate.catalogue.DEFAULTS.values():
        entry = entries("sigform_generate")[name]
        shipped = name in sigform_generate.catalogue.SHIPPED
        assert ("in training" in entry.task) != shipped, name
        if shipped:
            assert (entry.parameters or 0) > 0
            assert entry.ours is not None
            assert (DOMAINS["sigform_generate"].parent / entry.card).is_file()


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_is_measured_is_in_the_file_it_names(domain: str) -> None:
    package = DOMAINS[domain].parent
    for entry in entries(domain).values():
        if entry.ours is None:
            continue
        places = [package / entry.ours.source, package.parents[1] / entry.ours.source]
        text = next(place for place in places if place.is_file()).read_text("utf-8")
        # A table may drop the nought before the point.
        number = f"{entry.ours.value:g}".removeprefix("0")
        assert re.search(rf"(?<!\d){re.escape(number)}0?(?!\d)|0{re.escape(number)}", text), entry


def test_published_weights_of_speech_are_told_as_they_are_fetched() -> None:
    told = entries("sigform_speech")
    for weights in sigform_speech.catalogue.PUBLISHED:
        entry = told[weights.name]
        assert entry.licence == weights.licence
        assert entry.parameters == round(float(weights.parameters.split()[0]) * 1e6)
        assert entry.where in weights.address
        assert (entry.published is None) == (not weights.si_sdri)
        if entry.published is not None:
            assert entry.published.value == weights.si_sdri[entry.published.data]


def test_published_weights_of_superres_are_told_as_they_are_listed() -> None:
    told = entries("sigform_superres").values()
    for weights in sigform_superres.catalogue.PUBLISHED:
        of_it = [entry for entry in told if entry.model == weights.name]
        assert of_it
        for entry in of_it:
            assert (entry.licence, entry.where) == (weights.licence, weights.where)
            assert entry.published is not None
            assert f"{entry.published.value:.2f}" in weights.set5


@pytest.mark.parametrize("domain", DOMAINS)
def test_papers_are_among_the_third_parties(domain: str) -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text("utf-8")
    for entry in entries(domain).values():
        assert not entry.paper or f"arXiv {entry.paper}" in text, entry.name
