"""Who is let in, and who is not."""

import asyncio
import socket
from collections.abc import MutableMapping
from typing import Any

import pytest

from sigform_kit.errors import InputError, UsageError
from sigform_studio.server import FIRST_PORT, Guard, Serving, free_port, is_loopback, name_of


def answer(path: str, host: str, *, own_names_only: bool = True) -> list[MutableMapping[str, Any]]:
    """What the guard sends for a request; a page behind it that says yes."""
    sent: list[MutableMapping[str, Any]] = []

    async def page(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(b"host", host.encode())]}
    asyncio.run(Guard(page, own_names_only=own_names_only)(scope, receive, send))
    return sent


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_its_own_names_are_let_in(host: str) -> None:
    start, body = answer("/", host)
    assert start["status"] == 200
    assert body["body"] == b"yes"


@pytest.mark.parametrize("host", ["evil.example:7860", "127.0.0.1.evil.example", "10.0.0.5", ""])
def test_other_names_that_lead_here_are_not(host: str) -> None:
    assert answer("/", host)[0]["status"] == 403
    assert answer("/", host, own_names_only=False)[0]["status"] == 200


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=https://example.org/x", "/gradio_api/proxy=https://x", "/monitoring/key"],
)
def test_nothing_is_fetched_from_elsewhere(path: str) -> None:
    assert answer(path, "127.0.0.1")[0]["status"] == 403


def test_browsers_are_told_to_load_nothing_else() -> None:
    headers = dict(answer("/", "127.0.0.1")[0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example", ""])
def test_a_host_that_others_reach_needs_a_password(host: str) -> None:
    with pytest.raises(UsageError, match="needs --auth"):
        Serving(host=host)
    assert Serving(host=host, auth=("anna", "secret")).host == host


def test_loopback() -> None:
    assert is_loopback("127.8.9.1")
    assert is_loopback("::1")
    assert not is_loopback("localhost.evil.example")
    assert name_of("[::1]:7860") == "[::1]"
    assert name_of("localhost:1") == "localhost"


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", None) >= FIRST_PORT
    assert free_port("127.0.0.1", 0) > 0
