"""`sigform models`: the catalogues of what is installed."""

from __future__ import annotations

import json

import pytest
from command_runner import runner
from suite.machine import Machine

from sigform_kit.catalogue import catalogue_of, read_catalogue
from sigform_suite.cli import make_app
from sigform_suite.domains import installed_domains

CATALOGUE = """
[[models]]
name = "tiny"
task = "does good"
model = "Good"
paper = "2101.00001"
command = "sigform-good this"
parameters = 1234567
ours = { value = 9.5, metric = "% good", data = "all", source = "RESULTS.md" }
"""


@pytest.fixture
def command():
    return runner(make_app())


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_every_model_of_every_domain_is_listed(command):
    told = command("models")
    assert (told.code, told.err) == (0, "")
    listed = [line.split()[:2] for line in told.out.splitlines()[1:]]
    for domain in installed_domains():
        path = catalogue_of(domain.package)
        for entry in read_catalogue(path) if path else []:
            assert [domain.verb, entry.name.split()[0]] in listed
    assert ["upscale", "craft-x4"] in listed
    assert "30.56 dB PSNR (Set5, x4)" in told.out
    assert "32.52 dB PSNR (Set5, x4)" in told.out


def test_json_tells_all_that_is_known(command):
    records = {(r["verb"], r["name"]): r for r in command("models", "--json").records}
    craft = records["upscale", "craft-x4"]
    assert craft["distribution"] == "sigform-superres"
    assert (craft["paper"], craft["parameters"]) == ("2308.05022", 753344)
    assert craft["ours"]["source"] == "RESULTS.md"
    assert craft["card"] == "weights/craft-x4.md"
    assert records["forecast", "LastValue"]["published"] is None


def test_one_domain_is_asked_for_by_its_verb(command):
    assert {r["verb"] for r in command("models", "separate", "--json").records} == {"separate"}
    told = command("models", "upscal")
    assert told.code == 2
    assert told.error.startswith("'upscal' is no installed domain; needs one of decode, forecast")


def test_a_broken_catalogue_costs_a_line_and_leaves_the_others(machine):
    for name in ("good", "bad"):
        package = machine.folder / f"{name}_package"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        machine.install(f"sigform-{name}", name, f"{name}_package.cli:app")
    (machine.folder / "good_package" / "catalogue.toml").write_text(CATALOGUE)
    broken = machine.folder / "bad_package" / "catalogue.toml"
    broken.write_text(CATALOGUE.replace("task", "tusk"))
    done = machine.sigform("models", "good", "bad", "--json")
    assert done.returncode == 1
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["tiny"]
    assert done.stderr == (
        f"warning: {broken}: model tiny: key 'tusk' is unknown. Did you mean 'task'?\n"
    )
    shown = machine.sigform("models", "good").stdout.splitlines()[1]
    assert "1,234,567" in shown
    assert shown.endswith("9.5 % good (all)")


def test_no_model_at_all_is_said(machine):
    machine.install("sigform-plain", "plain", "plain_app:app", "Has no catalogue.")
    done = machine.sigform("models", "plain")
    assert done.returncode == 1
    assert done.stderr.startswith("sigform: error: no models; 'sigform' lists the domains")
