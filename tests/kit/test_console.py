from __future__ import annotations

import json
import re
import subprocess
import sys

from kit.processes import on_terminal, sample

from sigform_kit import Console

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")


def test_results_go_to_stdout_and_messages_to_stderr(capsys):
    console = Console(verbosity=1)
    console.result({"x": 1}, "one")
    console.say("said")
    console.detail("detailed")
    console.warn("careful")
    assert capsys.readouterr() == ("one\n", "said\ndetailed\nwarning: careful\n")


def test_quiet_leaves_results_and_warnings(capsys):
    console = Console(verbosity=-1)
    console.result({}, "one")
    console.say("said")
    console.detail("detailed")
    console.warn("careful")
    assert capsys.readouterr() == ("one\n", "warning: careful\n")


def test_details_need_verbosity(capsys):
    Console().detail("detailed")
    assert capsys.readouterr().err == ""


def test_a_table_is_aligned_text_when_piped(capsys):
    rows = [
        {"model": "Informer", "mae": 0.123456789, "n": 12},
        {"model": "季節", "mae": 1234.5, "n": 3},
        {"model": None, "mae": None},
    ]
    Console().table(rows, ["model", "mae", "n"])
    assert capsys.readouterr().out == (
        "model          mae   n\n"
        "Informer  0.123457  12\n"
        "季節        1234.5   3\n"
        "\n"
    )  # fmt: skip


def test_a_table_without_rows_is_its_header(capsys):
    Console().table([], ["model", "mae"])
    assert capsys.readouterr().out == "model  mae\n"


def test_a_table_as_json_is_an_object_a_line(capsys):
    Console(json=True).table([{"a": 1, "b": float("nan")}, {"a": 2}], ["a", "b"])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "b": None}, {"a": 2, "b": None}]


def test_progress_is_silent_without_a_terminal():
    done = sample("steps")
    assert done.stdout == "result 0\nresult 1\nresult 2\n"
    assert done.stderr == "warning: careful 0\nwarning: careful 1\nwarning: careful 2\n"


def test_progress_colour_and_whole_lines_on_a_terminal():
    shown = on_terminal("steps")
    assert "working" in shown
    assert COLOUR.search(shown)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = {"result 0", "result 1", "result 2", "warning: careful 2"}
    assert lines <= set(re.split(r"[\r\n]+", plain))


def test_no_color_is_honoured():
    shown = on_terminal("steps", env={"NO_COLOR": "1"})
    assert "working" in shown
    assert not COLOUR.search(shown)


def test_quiet_shows_no_progress_on_a_terminal():
    assert "working" not in on_terminal("steps", "-q")


def test_progress_does_not_redirect_results():
    """stdout is a pipe while stderr is a terminal: results must stay in the pipe."""
    code = (
        "import sys; sys.stderr.isatty = lambda: True; from sigform_kit import Console\n"
        "console = Console()\n"
        "with console.progress('working', 1) as step: console.result({}, 'one'); step()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "one\n"
