from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from kit.sample_app import app

from sigform_kit import Common, common_options, resolved_settings, run, to_toml


@pytest.fixture
def settle(tmp_path, capsys, monkeypatch):
    """Runs `copy --json` on a file with these arguments and gives back what the body received."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("abc")

    def call(*args: object) -> dict:
        code = run(app, ["data.txt", "--json", "-q", *map(str, args)])
        out, err = capsys.readouterr()
        return json.loads(out) if code == 0 else {"code": code, "error": err}

    return call


def test_defaults_are_the_kits_or_the_commands_own(settle):
    got = settle()
    assert got["seed"] == 0
    assert got["batch_size"] == 32
    assert {name: got[name] for name in ("device", "dtype", "threads", "jobs", "engine")} == {
        "device": "auto",
        "dtype": "float32",
        "threads": None,
        "jobs": 1,
        "engine": "local",
    }


def test_values_arrive_in_common(settle):
    got = settle("--device", "cuda:1", "--dtype", "bfloat16", "--jobs", 3, "--seed", 7, "--dry-run")
    assert (got["device"], got["dtype"], got["jobs"]) == ("cuda:1", "bfloat16", 3)
    assert (got["seed"], got["dry_run"]) == (7, True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--device", "gpu"], "device is 'gpu'; needs auto, cpu, cuda, cuda:N or mps"),
        (["--device", "cuda:"], "device is 'cuda:'"),
        (["--dtype", "float64"], "'float64' is not one of"),
        (["--jobs", 0], "0 is not in the range x>=1"),
        (["--batch-size", -1], "-1 is not in the range x>=1"),
        (["--threads", "two"], "'two' is not a valid integer range"),
        (["--seed", -1], "-1 is not in the range"),
        (["--engine", "dask"], "'dask' is not one of"),
        (["--address", "auto"], "--address is given; needs --engine ray"),
        (["--overwrite", "--skip-existing"], "--overwrite and --skip-existing exclude each other"),
        (["-v"], "--quiet and --verbose exclude each other"),
        (["--config", "no.toml"], "File 'no.toml' does not exist."),
    ],
)
def test_bad_values_are_usage_errors(settle, args, said):
    got = settle(*args)
    assert got["code"] == 2
    assert said in got["error"]
    assert got["error"].count("\n") == 1


def test_only_chosen_options_are_offered():
    @click.command()
    @common_options("device", batch_size=4)
    def small(common: Common) -> None:
        click.echo(repr((common.batch_size, common.jobs, common.verbose)))

    shown = CliRunner().invoke(small, ["--help"]).stdout
    assert "--device" in shown
    assert "--debug" in shown
    assert "--jobs" not in shown
    assert CliRunner().invoke(small, ["-vv"]).stdout == "(4, 1, 2)\n"
    assert CliRunner().invoke(small, ["--jobs", "2"]).exit_code == 2


def test_an_unknown_shared_option_is_refused_where_it_is_written():
    with pytest.raises(ValueError, match="shared option is 'devise'"):
        common_options(devise="cpu")


def test_policy_follows_the_flags():
    assert Common().policy == "refuse"
    assert Common(overwrite=True).policy == "overwrite"
    assert Common(skip_existing=True).policy == "skip"


def test_a_config_file_fills_defaults_and_the_command_line_wins(settle, tmp_path):
    (tmp_path / "c.toml").write_text(
        'horizon = 3\nscale = 2\ncolumn = ["a", "b"]\nloud = true\nbatch_size = 8\n'
        'device = "cpu"\noverwrite = true\n'
    )
    got = settle("--config", "c.toml", "--scale", 0.5, "--skip-existing")
    assert (got["horizon"], got["column"], got["loud"]) == (3, ["a", "b"], True)
    assert (got["batch_size"], got["device"]) == (8, "cpu")
    assert got["scale"] == 0.5
    assert (got["overwrite"], got["skip_existing"]) == (False, True)
    assert got["config"] == "c.toml"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("horizn = 3", "c.toml: no option named 'horizn'. Did you mean 'horizon'?"),
        ("debug = true", "c.toml: no option named 'debug'."),
        ("horizon = 3.5", "c.toml: horizon: '3.5' is not a valid integer."),
        ("horizon = true", "c.toml: horizon: 'true' is not a valid integer."),
        ("horizon = [3]", "c.toml: horizon: value is ['3']; needs one value"),
        ("device = ['cpu']", "c.toml: device: value is ['cpu']; needs one value"),
        ("out = ['a']", "c.toml: out: value is ['a']; needs one value"),
        ("column = 'a'", "c.toml: column: value is 'a'; needs a list"),
        ("loud = 1", "c.toml: loud: value is 1; needs true or false"),
        ("jobs = 0", "c.toml: jobs: 0 is not in the range x>=1."),
        ("device = 'gpu'", "c.toml: device: device is 'gpu'"),
        ("[horizon]\nx = 1", "c.toml: horizon: value is {'x': 1}; needs a string"),
        ("horizon = ", "c.toml: Invalid value"),
    ],
)
def test_a_bad_config_file_names_file_and_key(settle, tmp_path, line, said):
    (tmp_path / "c.toml").write_text(line)
    got = settle("--config", "c.toml")
    assert got["code"] == 2
    assert said in got["error"]


def test_a_config_file_that_is_not_text(settle, tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    got = settle("--config", "c.toml")
    assert got["code"] == 2
    assert "c.toml: " in got["error"]


def test_a_required_option_may_come_from_the_file(tmp_path):
    @click.command()
    @click.option("--target", required=True)
    @common_options("config")
    def strict(target: str, common: Common) -> None:
        click.echo(f"{target} {common.config is not None}")

    path = tmp_path / "c.toml"
    path.write_text('target = "load"')
    assert CliRunner().invoke(strict, ["--config", str(path)]).stdout == "load True\n"
    assert CliRunner().invoke(strict, []).exit_code == 2


class Names(click.ParamType):
    name = "names"

    def convert(self, value, param, ctx):
        del param, ctx
        return tuple(value.split(",")) if isinstance(value, str) else tuple(value)


def test_a_type_that_makes_lists_takes_them_from_the_file(tmp_path):
    @click.command()
    @click.option("--names", type=Names(), default=())
    @click.option("--text")
    @common_options("config")
    def listing(names: tuple[str, ...], text: str | None, common: Common) -> None:
        del common
        click.echo(f"{names} {text} {to_toml(resolved_settings(click.get_current_context()))}")

    path = tmp_path / "c.toml"
    for line in ('names = ["a", "b"]', "names = []"):
        path.write_text(line)
        assert line in CliRunner().invoke(listing, ["--config", str(path)]).stdout
    path.write_text('text = ["a"]')
    done = CliRunner().invoke(listing, ["--config", str(path)])
    assert "text: value is ['a']; needs one value" in done.stderr
