from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from kit.processes import SAMPLE, environment, sample
from kit.sample_app import app

from sigform_kit import App, InputError, LateCommand, run

HEAVY = ("torch", "pandas", "numpy", "scipy", "lightning", "matplotlib", "ray", "rich", "mne")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("abc")
    return path


def test_arguments_go_to_the_default_command(text):
    assert sample(text).stdout == "abc\n"


def test_options_before_the_argument_go_to_the_default_command(text):
    assert sample("--horizon", 2, text).stdout == "abcabc\n"
    assert sample("-h", 2, text).stdout == "abcabc\n"


def test_the_default_command_can_be_named(text):
    assert sample("copy", text).stdout == "abc\n"


def test_a_subcommand_is_not_taken_for_an_argument():
    assert sample("leave", 0).returncode == 0
    assert sample("late").stdout == "here at last\n"


def test_help_shows_the_default_command_and_all_others():
    shown = CliRunner().invoke(app, ["--help"], prog_name="sample").stdout
    assert "Usage: sample [OPTIONS] SOURCE\n       sample COMMAND [ARGS]..." in shown
    assert "--horizon INTEGER" in shown
    assert "--version" in shown
    assert "Loaded when it is called." in shown
    assert shown.index("  copy ") < shown.index("  late ") < shown.index("  fail ")


def test_help_of_the_default_command():
    shown = sample("data.txt", "--help")
    assert shown.stdout.startswith("Usage: sample copy [OPTIONS] SOURCE")
    assert shown.returncode == 0


@pytest.mark.parametrize("args", [["--help"], ["fail", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy_and_no_late_command(args):
    code = (
        "import sys, runpy\n"
        f"sys.argv = [{str(SAMPLE)!r}, *{args!r}]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        f"bad = {{*{HEAVY!r}, 'kit.late_command'}} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(bad)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_kit_imports_nothing():
    code = "import sys, sigform_kit; sys.exit('click' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there():
    import sigform_kit

    assert all(getattr(sigform_kit, name) is not None for name in sigform_kit.__all__)
    assert dir(sigform_kit) == sigform_kit.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sigform_kit.nothing


def test_no_arguments_show_help_as_a_usage_error():
    done = sample()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: sample" in done.stderr


def test_version():
    done = sample("--version")
    assert (done.returncode, done.stdout) == (0, "sigform-kit 0.1.0\n")


def test_a_misspelt_subcommand_is_not_taken_for_a_file(tmp_path):
    done = sample("leaf", "0")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "sample: error: No such command or file 'leaf'. Did you mean 'leave'?"
    )
    (tmp_path / "leaf").write_text("a file after all")
    assert sample("leaf", cwd=tmp_path).stdout == "a file after all\n"


def test_a_misspelt_option_is_met_with_the_nearest():
    done = sample("data.txt", "--horizn", 3)
    assert done.returncode == 2
    assert "No such option '--horizn'" in done.stderr
    assert "--horizon" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_misspelt_subcommand_without_a_default_command():
    group = App("plain", help="Plain.", distribution="sigform-kit")
    group.late("train", "kit.late_command:command", "Trains.")
    done = CliRunner().invoke(group, ["trian"])
    assert done.exit_code == 2
    assert "No such command 'trian'. Did you mean 'train'?" in done.stderr


def test_a_command_that_cannot_be_loaded_costs_one_line():
    done = sample("broken")
    assert done.returncode == 1
    assert done.stderr == (
        "sample: error: broken: cannot be loaded: "
        "ModuleNotFoundError: No module named 'kit.no_such_module'\n"
    )
    assert "not a command" not in sample("--help").stderr
    with pytest.raises(InputError, match="is not a command"):
        LateCommand("nothing", "kit.late_command:nothing", "").load()


def test_bare_is_called_only_without_a_subcommand():
    called = []
    group = App("b", help="B.", distribution="sigform-kit", bare=lambda: called.append("bare"))
    group.add_command(click.Command("one", callback=lambda: called.append("one")))
    CliRunner().invoke(group, [])
    CliRunner().invoke(group, ["one"])
    assert called == ["bare", "one"]


def test_an_app_is_a_late_command_of_another(text):
    umbrella = App("umbrella", help="Above.", distribution="sigform-kit")
    umbrella.late("sample", "kit.sample_app:app", "Copies.")
    assert CliRunner().invoke(umbrella, ["sample", str(text)]).stdout == "abc\n"
    assert "umbrella sample [OPTIONS] SOURCE" in CliRunner().invoke(
        umbrella, ["sample", "--help"], prog_name="umbrella"
    ).stdout  # fmt: skip


def test_shell_completion_lists_subcommands():
    asked = {"_SAMPLE_COMPLETE": "bash_complete", "COMP_WORDS": "sample l", "COMP_CWORD": "1"}
    # The default command takes a file.
    assert sample(env=asked).stdout.split() == ["file,l", "plain,late", "plain,leave"]


def test_shell_completion_knows_the_default_commands_options():
    asked = {"_SAMPLE_COMPLETE": "bash_complete", "COMP_WORDS": "sample --hor", "COMP_CWORD": "1"}
    assert sample(env=asked).stdout.split() == ["plain,--horizon"]
    asked |= {"COMP_WORDS": "sample --", "COMP_CWORD": "1"}
    offered = sample(env=asked).stdout.split()
    assert offered.count("plain,--help") == 1
    assert {"plain,--version", "plain,--soft"} <= set(offered)


def test_the_example_of_the_readme_works(tmp_path, capsys):
    readme = Path(__file__).parents[2] / "shared" / "kit" / "README.md"
    code = readme.read_text().partition("```python\n")[2].partition("```")[0]
    example: dict[str, Any] = {}
    exec(code, example)
    (tmp_path / "in.txt").write_text("abc")
    assert run(example["app"], [str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.txt")]) == 0
    assert (tmp_path / "out.txt").read_text() == "ABC"
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out.txt'}\n"
