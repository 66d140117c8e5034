"""A command as a domain would write it; the tests run it as a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from sigform_kit import (
    App,
    Common,
    InputError,
    InputsFailedError,
    UsageError,
    common_options,
    output,
    resolved_settings,
    run,
    write_settings,
)

app = App("sample", help="Copies letters.", distribution="sigform-kit", default="copy")


@app.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where to write.")
@click.option("-h", "--horizon", type=int, default=1, show_default=True, help="Copies to make.")
@click.option("--scale", type=float, default=1.0)
@click.option("--column", multiple=True)
@click.option("--loud/--soft", default=False)
@common_options(
    "device", "dtype", "threads", "jobs", "engine", "overwrite", "json", "dry_run", "config",
    seed=0, batch_size=32,
)  # fmt: skip
def copy(
    source: Path,
    out: Path | None,
    horizon: int,
    scale: float,
    column: tuple[str, ...],
    loud: bool,
    common: Common,
) -> None:
    """Copy a text."""
    text = source.read_text() * horizon
    common.console.say("copying")
    common.console.detail(f"{len(text)} letters")
    if out is not None:
        with output(out, common.policy) as path:
            path.write_text(text)
        write_settings(f"{out}.toml", resolved_settings(click.get_current_context()))
        return
    fields = {name: getattr(common, name) for name in Common.__dataclass_fields__}
    record = {"scale": scale, "column": column, "loud": loud, "horizon": horizon, **fields}
    common.console.result(record, text.upper() if loud else text)


app.late("late", "kit.late_command:command", "Loaded when it is called.")
app.late("broken", "kit.no_such_module:command", "Cannot be loaded.")
app.late("nothing", "kit.late_command:nothing", "Is not a command.")


ERRORS = {
    "value": ValueError("horizon is 0; needs 1 or more"),
    "type": TypeError("two\nlines"),
    "memory": MemoryError(),
    "input": InputError("a.csv: empty"),
    "inputs": InputsFailedError([("a.csv", "empty"), ("b.csv", "broken")], 5),
    "usage": UsageError("this or that"),
    "interrupt": KeyboardInterrupt(),
    "pipe": BrokenPipeError(),
    "full": OSError(28, "No space left on device"),
}


@app.command()
@click.argument("kind", type=click.Choice([*ERRORS]))
@common_options()
def fail(kind: str, common: Common) -> None:
    """Fail in one of the ways there are."""
    common.console.detail(kind)
    raise ERRORS[kind]


@app.command()
@click.argument("code", type=int)
def leave(code: int) -> int:
    """Return an exit code."""
    return code


@app.command()
@click.argument("target")
@common_options("overwrite")
def slow(target: str, common: Common) -> None:
    """Write half a file, say so, and wait before writing the rest."""
    with output(target, common.policy) as path, path.open("w") as stream:
        stream.write("first half")
        stream.flush()
        click.echo("half")
        time.sleep(float(sys.stdin.readline()))
        stream.write(", second half")


@app.command()
@common_options()
def steps(common: Common) -> None:
    """Show progress, and print a result meanwhile."""
    with common.console.progress("working", 3) as step:
        for n in range(3):
            common.console.result({}, f"result {n}")
            common.console.warn(f"careful {n}")
            step()


@app.command()
def many() -> None:
    """Print more lines than a pipe holds, and leave the last ones in the buffer."""
    for n in range(100_000):
        sys.stdout.write(f"{n}\n")


@app.command()
def few() -> None:
    """Leave one line in the buffer."""
    sys.stdout.write("0\n")


if __name__ == "__main__":
    sys.exit(run(app))
