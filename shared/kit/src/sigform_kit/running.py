"""Runs a command the way every sigform command ends.

Exit codes: 0 all is done; 1 an input or the work on it failed; 2 called wrongly; 130 stopped with
Ctrl-C; 143 stopped with SIGTERM. Whatever ends a command early costs one line on stderr,
`name: error: what and where`; `--debug` puts the traceback before it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import click

from sigform_kit.errors import InputsFailedError, describe

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
_EXPECTED = (click.ClickException, ValueError, OSError, MemoryError)


def run(app: click.Command, args: Sequence[str] | None = None) -> int:
    """Runs `app` with `args` (the process's own when None) and returns the exit code.

    A command body may return its exit code; any other value counts as 0. A console script is
    `def main() -> int: return run(app)`.
    """
    words = list(sys.argv[1:] if args is None else args)
    name = app.name or "sigform"
    debug = "--debug" in words
    noted: list[int] = []
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not valid text must not end the run when it is printed.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _signals_as_exceptions(noted):
            code = _invoke(app, words, name)
            sys.stdout.flush()
            return code
    except click.exceptions.NoArgsIsHelpError as error:
        _to_stderr(error.format_message())
        return USAGE
    except click.UsageError as error:
        hint = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
        return _report(name, error, debug, USAGE, hint)
    except (KeyboardInterrupt, click.Abort):
        return _stopped(name, signal.SIGINT)
    except BrokenPipeError:
        return FAILED
    except InputsFailedError as error:
        for which, why in error.failures:
            _to_stderr(f"{name}: failed: {which}: {why}")
        return _report(name, error, debug, error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort of every command
        if noted:
            # C code in which a signal is raised may tell it as an error of its own.
            return _stopped(name, noted[0])
        if isinstance(error, _EXPECTED):
            return _report(name, error, debug, FAILED)
        hint = "" if debug else " (run again with --debug for the traceback)"
        return _report(name, error, debug, FAILED, hint)
    finally:
        _settle_stdout()


def _invoke(app: click.Command, words: list[str], name: str) -> int:
    completion = "_" + name.replace("-", "_").replace(".", "_").upper() + "_COMPLETE"
    if instruction := os.environ.get(completion):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, name, completion, instruction)
    try:
        with app.make_context(name, words) as ctx:
            value = app.invoke(ctx)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    return value if type(value) is int else 0


@contextlib.contextmanager
def _signals_as_exceptions(noted: list[int]) -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that half-written outputs are removed.

    Both are `noted`. Where Ctrl-C is ignored, or another's business, it stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        noted.append(number)
        if number == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        signal.default_int_handler(number, frame)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, leave)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(name: str, number: int) -> int:
    if number == signal.SIGTERM:
        raise SystemExit(TERMINATED)
    _to_stderr(f"{name}: interrupted")
    return INTERRUPTED


def _report(name: str, error: Exception, debug: bool, code: int, hint: str = "") -> int:
    if debug:
        _to_stderr("".join(traceback.format_exception(error)).rstrip())
    _to_stderr(f"{name}: error: {describe(error)}{hint}")
    return code


def _to_stderr(line: str) -> None:
    # With stderr gone there is nobody left to tell.
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _settle_stdout() -> None:
    """Drops what stdout does not take: Python would try again, complain and change the code."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
