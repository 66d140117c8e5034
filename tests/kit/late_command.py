"""A command that is loaded late; importing it leaves a trace in sys.modules."""

from __future__ import annotations

import click

nothing = "not a command"


@click.command()
def command() -> None:
    """Loaded when it is called."""
    click.echo("here at last")
