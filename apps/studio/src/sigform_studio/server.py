"""Serves the page on this machine, and to nobody else unless a password is asked for."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from sigform_kit.errors import InputError, UsageError
from sigform_studio.workfolder import work_folder

FIRST_PORT, LAST_PORT = 7860, 7959
"""Tried one after the other when no port is asked for."""

HEARTBEAT_SECONDS = "2"
"""After which a page that was closed is known to be."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
"""What browsers let the page load: nothing but its own."""

# Parts of Gradio that fetch from elsewhere, or tell of other visitors.
CLOSED = ("/gradio_api/file=http", "/gradio_api/proxy=", "/gradio_api/deep_link", "/monitoring")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How to serve. Raises UsageError for a host that others reach, without a user and password."""

    host: str = "127.0.0.1"
    port: int | None = None
    auth: tuple[str, str] | None = None
    max_upload: int = 200 << 20  # bytes
    device: str = "auto"
    threads: int | None = None
    open_browser: bool = False

    def __post_init__(self) -> None:
        if self.auth is None and not is_loopback(self.host):
            raise UsageError(
                f"--host is {self.host}, which others reach; needs --auth USER:PASSWORD with it"
            )


class Guard:
    """Turns away what a page of this machine has no use for, and binds browsers to it.

    Of a page that only this machine may reach, a name that leads here from elsewhere in the world
    is refused, as such names are how other web sites would read it.
    """

    def __init__(self, app: Any, *, own_names_only: bool) -> None:
        self.app = app
        self.own_names_only = own_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        path = str(scope["path"])
        if (self.own_names_only and not is_loopback(name_of(host))) or path.startswith(CLOSED):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not here"})
            return

        async def send_bound(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await self.app(scope, receive, send_bound)


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def name_of(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def free_port(host: str, asked: int | None) -> int:
    """The port asked for, or the first free one. Raises InputError where there is none."""
    for port in [asked] if asked is not None else range(FIRST_PORT, LAST_PORT + 1):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((host.strip("[]"), port))
                return int(tried.getsockname()[1])
        except OSError as error:
            if asked is not None:
                raise InputError(f"port {asked} of {host}: {error.strerror or error}") from error
    raise InputError(f"ports {FIRST_PORT} to {LAST_PORT} of {host} are all taken; give --port")


@contextlib.contextmanager
def serving(plan: Serving) -> Iterator[str]:
    """Serves meanwhile; gives the address. Afterwards nothing is left, on disk or running."""
    port = free_port(plan.host, plan.port)
    with work_folder() as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_HEARTBEAT_INTERVAL": HEARTBEAT_SECONDS,
            "HF_HUB_OFFLINE": "1",
        }
        with warnings.catch_warnings():
            # What a user of the studio can do nothing about.
            warnings.simplefilter("ignore")
            from starlette.middleware import Middleware

            from sigform_studio import look
            from sigform_studio.desk import Desk
            from sigform_studio.page import build_page
            from sigform_studio.visits import Visits

            visits = Visits(folder / "files")
            page = build_page(Desk(visits=visits, device=plan.device, threads=plan.threads))
            logging.getLogger("httpx").setLevel(logging.WARNING)
            try:
                page.queue(api_open=False).launch(
                    server_name=plan.host,
                    server_port=port,
                    auth=plan.auth,
                    share=False,
                    quiet=True,
                    prevent_thread_lock=True,
                    inbrowser=plan.open_browser,
                    show_error=True,
                    ssr_mode=False,
                    enable_monitoring=False,
                    run_history=False,
                    footer_links=[],
                    max_file_size=plan.max_upload,
                    theme=look.theme(),
                    css=look.css(),
                    head=look.head(),
                    app_kwargs={
                        "docs_url": None,
                        "redoc_url": None,
                        "middleware": [
                            Middleware(Guard, own_names_only=is_loopback(plan.host)),
                        ],
                    },
                )
                shown = f"[{plan.host}]" if ":" in plan.host else plan.host
                yield f"http://{shown}:{port}/"
            finally:
                page.close(verbose=False)
                visits.close()
