from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from kit.processes import SAMPLE, environment, sample, start_sample
from kit.sample_app import app

from sigform_kit import run


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("value", 1, "sample: error: horizon is 0; needs 1 or more\n"),
        (
            "type",
            1,
            "sample: error: TypeError: two lines (run again with --debug for the traceback)\n",
        ),
        ("memory", 1, "sample: error: out of memory\n"),
        ("input", 1, "sample: error: a.csv: empty\n"),
        (
            "inputs",
            1,
            "sample: failed: a.csv: empty\nsample: failed: b.csv: broken\n"
            "sample: error: 2 of 5 inputs failed\n",
        ),
        ("usage", 2, "sample: error: this or that (see 'sample fail --help')\n"),
        ("interrupt", 130, "sample: interrupted\n"),
        ("full", 1, "sample: error: No space left on device\n"),
    ],
)
def test_errors_end_in_one_line_and_their_code(kind, code, said, capsys):
    assert run(app, ["fail", kind]) == code
    assert capsys.readouterr() == ("", said)


def test_debug_shows_the_traceback_first(capsys):
    assert run(app, ["fail", "type", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("\nsample: error: TypeError: two lines\n")


def test_a_missing_file_and_a_folder_are_named(tmp_path, capsys):
    missing = tmp_path / "no.txt"
    assert run(app, [str(missing)]) == 1
    expected = f"sample: error: {missing}: No such file or directory\n"
    assert capsys.readouterr().err == expected
    assert run(app, [str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"sample: error: {tmp_path}: Is a directory\n"


def test_a_usage_error_names_the_help_of_its_command(capsys):
    assert run(app, ["copy"]) == 2
    assert capsys.readouterr().err.endswith("(see 'sample copy --help')\n")


def test_termination_is_handled_only_while_a_command_runs():
    before = signal.getsignal(signal.SIGTERM)
    assert run(app, ["leave", "0"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_returns_its_exit_code():
    assert run(app, ["leave", "0"]) == 0
    assert run(app, ["leave", "1"]) == 1
    assert sample("leave", 3).returncode == 3


def test_a_closed_pipe_ends_quietly():
    process = start_sample("many")
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    for stream in (process.stdin, process.stderr):
        assert stream is not None
        stream.close()


def test_a_full_disk_behind_stdout_is_reported():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(SAMPLE), "few"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "sample: error: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "sample: interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_a_signal_leaves_no_half_file(tmp_path, number, code, said):
    process, target = _half_way(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, said)
    assert list(tmp_path.iterdir()) == []
    assert not target.exists()


def test_a_killed_run_leaves_no_target_and_the_next_one_finishes(tmp_path):
    process, target = _half_way(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert not target.exists()
    again, _ = _half_way(tmp_path)
    again.communicate("0\n", timeout=30)
    assert again.returncode == 0
    assert target.read_text() == "first half, second half"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "sample: interrupted\n"), (signal.SIGTERM, 143, "")],
)
def test_a_signal_that_c_code_tells_as_an_error_is_a_signal(number, code, said, capsys):
    @click.command("sample")
    def sample() -> None:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise TypeError("could not determine the shape of an object") from error

    try:
        ended = run(sample, [])
    except SystemExit as leaving:
        ended = leaving.code
    assert ended == code
    assert capsys.readouterr().err == said


def test_an_ignored_interrupt_stays_ignored(capsys):
    @click.command("sample")
    def sample() -> None:
        signal.raise_signal(signal.SIGINT)
        click.echo("went on")

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(sample, []) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().out == "went on\n"


def _half_way(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    target = folder / "out.txt"
    process = start_sample("slow", target)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process, target
