"""The options that mean the same in every command."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.core import ParameterSource

from sigform_kit.config import load_config
from sigform_kit.console import Console
from sigform_kit.errors import InputError, UsageError
from sigform_kit.outputs import Policy

Result = TypeVar("Result")
OptionName = Literal[
    "device", "dtype", "seed", "threads", "batch_size", "jobs", "engine", "overwrite", "json",
    "dry_run", "config",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Common:
    """The shared options as a command body receives them; those not offered keep their default.

    `threads`, `batch_size` and `seed` are None where the choice is left to the work itself.
    """

    device: str = "auto"
    dtype: str = "float32"
    seed: int | None = None
    threads: int | None = None
    batch_size: int | None = None
    jobs: int = 1
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    overwrite: bool = False
    skip_existing: bool = False
    manifest: Path | None = None
    json: bool = False
    dry_run: bool = False
    config: Path | None = None
    verbose: int = 0
    quiet: bool = False
    debug: bool = False

    @property
    def policy(self) -> Policy:
        """What to do with a target that exists, as `output` and `check_target` take it."""
        if self.overwrite:
            return "overwrite"
        return "skip" if self.skip_existing else "refuse"

    @cached_property
    def console(self) -> Console:
        """The console of this command, as --json, -v and -q ask for it."""
        return Console(json=self.json, verbosity=-1 if self.quiet else self.verbose)


class Source(click.Path):
    """A file or folder to read; a missing one is refused before anything is imported."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        return path


class Device(click.ParamType):
    """auto, cpu, cuda, cuda:N or mps; whether the machine has it is the work's business."""

    name = "device"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", value):
            self.fail(f"device is {value!r}; needs auto, cpu, cuda, cuda:N or mps", param, ctx)
        return value


def common_options(
    *names: OptionName, **defaults: object
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Gives a command the named shared options, and -v, -q and --debug in any case.

    The body receives them all as one keyword argument, `common`. A keyword names an option and
    gives it another default: `@common_options("device", "json", seed=0, batch_size=32)`.
    "engine" brings --address and --report along, "overwrite" brings --skip-existing.
    """
    chosen = [*names, *defaults]
    unknown = [name for name in chosen if name not in _OPTIONS]
    if unknown:
        raise ValueError(f"shared option is {unknown[0]!r}; needs one of {', '.join(_OPTIONS)}")

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(function)
        def body(*args: Any, **values: Any) -> Result:
            ctx = click.get_current_context()
            fields = {f: values.pop(f) for f in Common.__dataclass_fields__ if f in values}
            _settle(ctx, fields)
            return function(*args, common=Common(**fields), **values)

        decorated: Callable[..., Result] = body
        for name in reversed(_OPTIONS):
            if name not in chosen and name not in _ALWAYS:
                continue
            first, *companions = _OPTIONS[name]
            for option in reversed(companions):
                decorated = option()(decorated)
            own = {"default": defaults[name]} if name in defaults else {}
            decorated = first(**own)(decorated)
        return decorated

    return decorate


def _settle(ctx: click.Context, fields: dict[str, Any]) -> None:
    """Resolves options that exclude each other; the command line wins over the file."""
    for one, other in (("overwrite", "skip_existing"), ("quiet", "verbose")):
        if not (fields.get(one) and fields.get(other)):
            continue
        typed = [
            name
            for name in (one, other)
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if len(typed) != 1:
            flags = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise UsageError(f"{flags[0]} and {flags[1]} exclude each other", ctx)
        loser = other if typed == [one] else one
        fields[loser] = type(fields[loser])()
    if fields.get("address") and fields["engine"] != "ray":
        raise UsageError("--address is given; needs --engine ray", ctx)


_ALWAYS = ("verbose", "quiet", "debug")
_shown = partial(click.option, show_default=True)
_flag = partial(click.option, is_flag=True)
_OPTIONS: dict[str, list[partial[Any]]] = {
    "device": [
        partial(
            _shown,
            "--device",
            type=Device(),
            default="auto",
            metavar="auto|cpu|cuda[:N]|mps",
            help="Where to compute.",
        )
    ],
    "dtype": [
        partial(
            _shown,
            "--dtype",
            type=click.Choice(["float32", "bfloat16", "float16"]),
            default="float32",
            help="Number format to compute in.",
        )
    ],
    "seed": [
        partial(_shown, "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of all randomness.")
    ],
    "threads": [
        partial(_shown, "--threads", type=click.IntRange(1), help="CPU threads of each process.")
    ],
    "batch_size": [
        partial(_shown, "--batch-size", type=click.IntRange(1), help="Samples computed at once.")
    ],
    "jobs": [
        partial(
            _shown,
            "--jobs",
            type=click.IntRange(1),
            default=1,
            help="Inputs worked on at once, each in its own process.",
        )
    ],
    "engine": [
        partial(
            _shown,
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            help="Where the processes run: on this machine or on a Ray cluster.",
        ),
        partial(click.option, "--address", help="Ray cluster to join.  [default: the running one]"),
        partial(
            click.option,
            "--report",
            "manifest",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE.jsonl",
            help="Write what became of each input, a line each, as it happens.",
        ),
    ],
    "overwrite": [
        partial(_flag, "--overwrite", help="Replace outputs that exist."),
        partial(_flag, "--skip-existing", help="Leave outputs that exist, and do the rest."),
    ],
    "json": [partial(_flag, "--json", help="Print results as one JSON object a line.")],
    "dry_run": [partial(_flag, "--dry-run", help="Say what would be done, and do nothing.")],
    "config": [
        partial(
            click.option,
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            is_eager=True,
            callback=load_config,
            help="TOML file with defaults for these options.",
        )
    ],
    "verbose": [partial(click.option, "-v", "--verbose", count=True, help="Say more.")],
    "quiet": [partial(_flag, "-q", "--quiet", help="Say nothing but warnings and errors.")],
    "debug": [partial(_flag, "--debug", help="Show the traceback of an error.")],
}
