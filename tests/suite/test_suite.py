from __future__ import annotations

import json

import pytest
from suite.machine import Machine

HEAVY = ("torch", "pandas", "numpy", "scipy", "lightning", "matplotlib", "ray", "rich", "mne")

GOOD = """
import click, sys
from sigform_kit import App, Common, InputError, common_options

app = App("good", help="Does good.", distribution="sigform-good", default="do")

@app.command()
@click.argument("what")
@common_options("json")
def do(what: str, common: Common) -> int:
    '''Do good.'''
    if what == "bad":
        raise InputError("bad: cannot be done well")
    common.console.result({"done": what}, f"done {what}")
    return 1 if what == "half" else 0
"""


@pytest.fixture
def machine(tmp_path) -> Machine:
    made = Machine(tmp_path)
    made.install("sigform-good", "good", "good_app:app", "Does good things.", GOOD)
    made.install("sigform-bad", "bad", "bad_app:app", "Cannot load.", "import no_such_library\n")
    return made


def test_the_list_tells_verb_version_and_job_of_each_domain(machine):
    done = machine.sigform()
    assert done.returncode == 0
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert ["good", "sigform-good", "1.2", "Does good things."] in lines
    assert ["bad", "sigform-bad", "1.2", "Cannot load."] in lines
    assert done.stderr == ""


@pytest.mark.parametrize(
    "args", [[], ["--help"], ["--version"], ["doctor", "--help"], ["models", "upscale"]]
)
def test_no_domain_and_nothing_heavy_is_imported_before_it_is_called(machine, args):
    code = (
        "import sys\n"
        "from sigform_suite.cli import main\n"
        "code = main()\n"
        f"bad = {{*{HEAVY!r}, 'good_app', 'bad_app'}} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(bad)) or code)"
    )
    done = machine.sigform(*args, command=code)
    assert done.returncode == 0, done.stderr


def test_a_domain_gets_all_arguments(machine):
    assert machine.sigform("good", "this").stdout == "done this\n"
    assert machine.sigform("good", "--json", "this").stdout == '{"done": "this"}\n'
    assert machine.sigform("good", "do", "half").returncode == 1
    assert machine.sigform("good", "--version").stdout == "sigform-good 1.2\n"
    shown = machine.sigform("good", "--help").stdout
    assert shown.startswith("Usage: sigform good [OPTIONS] WHAT\n")


def test_a_domains_error_is_one_line(machine):
    done = machine.sigform("good", "bad")
    assert (done.returncode, done.stderr) == (1, "sigform: error: bad: cannot be done well\n")


def test_a_broken_domain_costs_one_line_and_leaves_the_others(machine):
    done = machine.sigform("bad", "x")
    assert done.returncode == 1
    assert done.stderr == (
        "sigform: error: bad: cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )
    assert machine.sigform("good", "this").returncode == 0


def test_a_misspelt_domain_is_met_with_the_nearest(machine):
    done = machine.sigform("goood", "x")
    assert done.returncode == 2
    assert "No such command 'goood'. Did you mean 'good'?" in done.stderr


def test_help_lists_domains_and_doctor(machine):
    shown = machine.sigform("--help").stdout
    assert "Does good things." in shown
    assert "Cannot load." in shown
    assert "doctor" in shown


def test_version_is_the_suites(machine):
    assert machine.sigform("--version").stdout == "sigform 0.1.0\n"


def test_of_two_distributions_with_one_verb_the_first_by_name_wins(machine):
    machine.install("a-rival", "good", "rival_app:app", "Rivals.", GOOD.replace("done ", "rival "))
    assert machine.sigform("good", "this").stdout == "rival this\n"


def test_a_half_removed_distribution_is_listed_by_its_module(machine):
    (machine.folder / "sigform_bad-1.2.dist-info" / "METADATA").unlink()
    done = machine.sigform()
    assert done.returncode == 0
    assert "sigform-good 1.2" in done.stdout
    assert "bad_app of unknown version" in done.stdout


# As where only the suite and the kit are installed.
WITHOUT_FORECAST = """
import importlib.metadata, sys
everything = importlib.metadata.entry_points
def some(**selection):
    return [e for e in everything(**selection) if e.name != "forecast"]
importlib.metadata.entry_points = some
from sigform_suite.cli import main
sys.exit(main())
"""


def test_a_domain_that_is_not_installed_names_its_install_line(machine):
    listed = machine.sigform(command=WITHOUT_FORECAST).stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("forecast ")]
    assert " ".join(line.split()).endswith(
        "not installed Forecast a table of time series. pip install sigform-forecast"
    )
    done = machine.sigform("forecast", "data.csv", "--horizon", "3", command=WITHOUT_FORECAST)
    assert done.returncode == 2
    assert done.stderr == (
        "sigform: error: forecast: not installed; pip install sigform-forecast\n"
    )
    shown = machine.sigform("--help", command=WITHOUT_FORECAST).stdout
    assert "not installed; pip install sigform-forecast" in shown


def test_doctor_says_which_domains_load(machine):
    # A torch that imports at once: the real one takes seconds.
    (machine.folder / "torch.py").write_text("raise ImportError('no driver')")
    done = machine.sigform("doctor", "--json")
    found = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert found["sigform"]["status"] == "ok"
    assert found["sigform"]["detail"] == "0.1.0"
    assert found["sigform-bad 1.2"]["status"] == "fail"
    assert "no_such_library" in found["sigform-bad 1.2"]["detail"]
    assert found["torch"] == {
        "name": "torch",
        "status": "fail",
        "detail": "ImportError: no driver",
        "advice": "pip install --force-reinstall torch",
    }
    assert found["sigform-bad 1.2"]["advice"] == "pip install --force-reinstall sigform-bad"


def test_doctor_warns_of_a_domain_of_another_release(machine):
    (machine.folder / "torch.py").write_text("raise ImportError('no driver')")
    done = machine.sigform("doctor", "--json")
    found = {check["name"]: check for check in map(json.loads, done.stdout.splitlines())}
    assert found["sigform-good 1.2"]["status"] == "warn"
    assert found["sigform-good 1.2"]["detail"] == "loads, but sigform is 0.1.0"
    assert found["sigform-good 1.2"]["advice"] == "pip install --upgrade sigform sigform-good"


def test_doctor_says_that_there_is_nothing_to_do(machine):
    alone = WITHOUT_FORECAST.replace('e.name != "forecast"', 'e.group != "sigform.apps"')
    (machine.folder / "torch.py").write_text("raise ImportError('no driver')")
    done = machine.sigform("doctor", command=alone)
    assert "warn  domains: none is installed; pip install one" in done.stdout
