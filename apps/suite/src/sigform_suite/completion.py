"""Tab completion in bash, zsh and fish, of `sigform` and of every domain's own command."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, commands: Iterable[str]) -> str:
    """What the shell is to read so that it completes the commands, whose apps have their names.

    Raises ValueError for a shell that is none of SHELLS.
    """
    found = get_completion_class(shell) if shell in SHELLS else None
    if found is None:
        raise ValueError(f"shell is {shell!r}; needs one of {', '.join(SHELLS)}")
    # The script only names the command and its variable; the completion itself is in `run`.
    stand_in = click.Command("sigform")
    texts = [
        found(stand_in, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE").source()
        for name in commands
    ]
    return "\n".join(texts)
