"""`sigform-studio`: the page over the installed domains."""

from __future__ import annotations

import threading

import click

from sigform_kit.options import Common, common_options
from sigform_kit.running import run


class Auth(click.ParamType):
    """USER:PASSWORD."""

    name = "USER:PASSWORD"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        user, _, password = str(value).partition(":")
        if not user or not password:
            self.fail("auth lacks a user or a password; needs USER:PASSWORD", param, ctx)
        return user, password


@click.command("sigform-studio")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port.  [default: the first free one from 7860]"
)
@click.option(
    "--auth", type=Auth(), envvar="SIGFORM_STUDIO_AUTH",
    help="Ask visitors for this; needed with a --host that others reach. Others on this machine "
    "see it among its processes, unless it comes from SIGFORM_STUDIO_AUTH.",
)  # fmt: skip
@click.option(
    "--max-upload", type=click.IntRange(1), default=200, show_default=True, metavar="MB",
    help="Largest file that can be dropped.",
)  # fmt: skip
@click.option("--open/--no-open", "open_browser", default=True, help="Open a browser.")
@click.version_option(package_name="sigform-studio", message="%(package)s %(version)s")
@common_options("device", "threads")
def app(
    host: str, port: int | None, auth: tuple[str, str] | None, max_upload: int,
    open_browser: bool, common: Common,
) -> None:  # fmt: skip
    """Open a page on this machine with a tab for every installed domain.

    Drop a file, hear or see the result. Nothing leaves the machine; what was dropped and made is
    removed when its page is closed. Ctrl-C ends it.
    """
    from sigform_studio.server import Serving, serving

    plan = Serving(
        host=host, port=port, auth=auth, max_upload=max_upload << 20, device=common.device,
        threads=common.threads, open_browser=open_browser,
    )  # fmt: skip
    with serving(plan) as address:
        common.console.result({"address": address}, address)
        threading.Event().wait()


def main() -> int:
    """The console script; returns the exit code."""
    return run(app)
