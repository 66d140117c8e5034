"""Click groups that load a subcommand only when it is called, and know a default one."""

from __future__ import annotations

import importlib
import importlib.metadata
import operator
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sigform_kit.errors import InputError, UsageError, describe, did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LateCommand(click.Command):
    """Stands in a group for the command at `target` ("package.module:attribute").

    The group's help shows `help`; the module is imported when the command is called. A module
    that fails to import raises InputError, in one line, then and only then.
    """

    def __init__(self, name: str, target: str, help: str) -> None:
        super().__init__(name, help=help, short_help=help)
        self.target = target

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        try:
            command = operator.attrgetter(attribute)(importlib.import_module(module))
        except Exception as error:
            raise InputError(f"{self.name}: cannot be loaded: {describe(error)}") from error
        if not isinstance(command, click.Command):
            raise InputError(f"{self.name}: cannot be loaded: {self.target} is not a command")
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        try:
            command = self.load()
        except InputError:
            if not extra.get("resilient_parsing"):
                raise
            # A shell that completes a line must not be answered with an error.
            return super().make_context(info_name, args, parent, **extra)
        return command.make_context(info_name, args, parent, **extra)


class App(click.Group):
    """The command of a distribution: subcommands, `--version`, and perhaps a default command.

    With `default="forecast"`, arguments that do not begin with a subcommand belong to
    `forecast`, and `--help` shows its usage and options beside the list of subcommands.
    A file named like a subcommand is given as `./name`. Called without any argument, an app
    does `bare`, or shows its help.
    """

    def __init__(
        self,
        name: str,
        *,
        help: str,
        distribution: str,
        default: str | None = None,
        bare: Callable[[], None] | None = None,
    ) -> None:
        version = click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=self._print_version,
            help="Show the version and exit.",
        )
        super().__init__(
            name,
            help=help,
            params=[version],
            callback=partial(_call_alone, bare) if bare is not None else None,
            invoke_without_command=bare is not None,
        )
        self.distribution = distribution
        self.default = default

    def add(self, name: str) -> Callable[[click.Command], click.Command]:
        """Registers the decorated command under a name."""

        def register(command: click.Command) -> click.Command:
            self.add_command(command, name)
            return command

        return register

    def late(self, name: str, target: str, help: str) -> None:
        """Adds the command at "package.module:attribute", imported when it is called."""
        self.add_command(LateCommand(name, target, help))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The subcommands in the order in which they were added, which is that of their use."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.default is not None and args and args[0] not in self._first_words(ctx):
            if not ctx.resilient_parsing:
                self._refuse_misspelt(ctx, args[0])
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in self.commands and not ctx.resilient_parsing:
            hint = did_you_mean(word, self.commands)
            raise UsageError(f"No such command {word!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Subcommands and options, and what the default command takes as its first word."""
        found = super().shell_complete(ctx, incomplete)
        default = self._load_default()
        if default is None:
            return found
        inner = click.Context(default, parent=ctx, resilient_parsing=True)
        if incomplete.startswith("-"):
            known = {item.value for item in found}
            more = default.shell_complete(inner, incomplete)
            return found + [item for item in more if item.value not in known]
        words = [param for param in default.params if isinstance(param, click.Argument)][:1]
        # Before the names: the shells' scripts forget what came before "a file is meant here".
        return [item for word in words for item in word.shell_complete(inner, incomplete)] + found

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default = self._load_default()
        if default is None:
            super().format_usage(ctx, formatter)
            return
        formatter.write_usage(ctx.command_path, " ".join(default.collect_usage_pieces(ctx)))
        indent = " " * len("Usage: ")
        formatter.write_usage(ctx.command_path, self.subcommand_metavar, prefix=indent)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default = self._load_default()
        if default is None:
            super().format_options(ctx, formatter)
            return
        shown = click.Command(self.name, params=[*default.params, *self.params])
        shown.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def _load_default(self) -> click.Command | None:
        if self.default is None:
            return None
        command = self.commands[self.default]
        return command.load() if isinstance(command, LateCommand) else command

    def _first_words(self, ctx: click.Context) -> Iterator[str]:
        yield from self.commands
        for param in self.get_params(ctx):
            yield from param.opts

    def _refuse_misspelt(self, ctx: click.Context, word: str) -> None:
        hint = did_you_mean(word, self.commands)
        looks_like_a_name = word.replace("-", "").replace("_", "").isalnum()
        if hint and looks_like_a_name and not word.startswith("-") and not Path(word).exists():
            raise UsageError(f"No such command or file {word!r}.{hint}", ctx)

    def _print_version(self, ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            click.echo(f"{self.distribution} {importlib.metadata.version(self.distribution)}")
            ctx.exit()


def complete_path(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The `shell_complete` of a word that is text to Click, but mostly a file or a folder."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _call_alone(function: Callable[[], None]) -> None:
    if click.get_current_context().invoked_subcommand is None:
        function()
