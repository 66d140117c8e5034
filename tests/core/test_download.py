"""Downloads against a server on this machine that misbehaves in every way we know."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sigform_core import download as download_module
from sigform_core.download import DownloadError, download

CONTENT = bytes(range(256)) * 4000  # 1 MB, so that it takes several reads
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Answer = Callable[[http.server.BaseHTTPRequestHandler, int], None]


class Server:
    """A local server whose n-th answer is the n-th of `answers`, the last one from then on."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = answers
        self.ranges: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = len(server.ranges)
                asked = self.headers["Range"]
                server.ranges.append(asked)
                offset = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                server.answers[min(number, len(server.answers) - 1)](self, offset)

            def log_message(self, format: str, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/model.bin"


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(*answers)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


def send(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str):
    handler.send_response(status)
    headers = {"Content_Length": str(len(body))} | headers
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def serve(content: bytes = CONTENT, cut_at: int | None = None) -> Answer:
    """Serves `content`, from the offset asked for; sends only up to byte `cut_at`."""

    def answer(handler: http.server.BaseHTTPRequestHandler, offset: int) -> None:
        headers = {"Content_Length": str(len(content) - offset)}
        if offset:
            headers["Content_Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
        send(handler, 206 if offset else 200, content[offset:cut_at], **headers)

    return answer


def whole_only(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    send(handler, 200, CONTENT)


def wrong_range(handler: http.server.BaseHTTPRequestHandler, _: int) -> None:
    span = f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
    send(handler, 206, CONTENT, Content_Range=span)


def status(code: int) -> Answer:
    return lambda handler, _: send(handler, code, b"sorry")


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_fetches_once(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.bin"
    counted: list[tuple[int, int | None]] = []
    with serving(serve()) as server:
        got = download(server.url, target, sha256=SHA256, progress=lambda *now: counted.append(now))
        assert got == target
        assert target.read_bytes() == CONTENT
        assert files(target.parent) == {"model.bin"}
        download(server.url, target, sha256=SHA256)
        assert server.ranges == [None]
    assert counted[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in counted] == sorted({done for done, _ in counted})


def test_resumes_within_a_call(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    cuts = [1000, 300_000, 300_001]
    with serving(*(serve(cut_at=cut) for cut in cuts), serve()) as server:
        download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=300000-", "bytes=300001-"]


def test_resumes_after_a_killed_call(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:5000])
    counted: list[tuple[int, int | None]] = []
    with serving(serve()) as server:
        download(server.url, target, sha256=SHA256, progress=lambda *now: counted.append(now))
    assert server.ranges == ["bytes=5000-"]
    assert target.read_bytes() == CONTENT
    assert counted[0][0] > 5000
    assert counted[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("answer", [whole_only, wrong_range])
def test_starts_over_when_the_range_is_ignored(tmp_path: Path, answer: Answer) -> None:
    target = tmp_path / "model.bin"
    (tmp_path / "model.bin.part").write_bytes(CONTENT[:5000])
    with serving(answer) as server:
        download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["bytes=5000-"]


def test_starts_over_when_the_range_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    (tmp_path / "model.bin.part").write_bytes(CONTENT + b"more")
    with serving(status(416), serve()) as server:
        download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_known_size_spares_a_request(tmp_path: Path) -> None:
    target, part = tmp_path / "model.bin", tmp_path / "model.bin.part"
    part.write_bytes(CONTENT)
    with serving(serve()) as server:
        download(server.url, target, sha256=SHA256, size=len(CONTENT))
        assert server.ranges == []
        target.unlink()
        part.write_bytes(CONTENT + b"more")
        download(server.url, target, sha256=SHA256, size=len(CONTENT))
        assert server.ranges == [None]
    assert target.read_bytes() == CONTENT


def test_not_found_is_not_tried_again(tmp_path: Path) -> None:
    with serving(status(404)) as server:
        with pytest.raises(DownloadError, match=r"model\.bin answered 404 Not Found"):
            download(server.url, tmp_path / "model.bin", sha256=SHA256)
        assert len(server.ranges) == 1
    assert files(tmp_path) == set()


def test_busy_servers_are_tried_again(tmp_path: Path) -> None:
    with serving(status(503), status(429), serve()) as server:
        download(server.url, tmp_path / "model.bin", sha256=SHA256)
        assert len(server.ranges) == 3
    with serving(status(503)) as server:
        with pytest.raises(DownloadError, match="503 Service Unavailable"):
            download(server.url, tmp_path / "other.bin", sha256=SHA256)
        assert len(server.ranges) == 4


def test_gives_up_when_nothing_more_comes(tmp_path: Path) -> None:
    with serving(serve(cut_at=700)) as server:
        with pytest.raises(DownloadError, match=f"cut off after 700 of {len(CONTENT)} bytes"):
            download(server.url, tmp_path / "model.bin", sha256=SHA256)
        assert len(server.ranges) == 5
    assert (tmp_path / "model.bin.part").read_bytes() == CONTENT[:700]


def test_wrong_bytes_are_not_kept(tmp_path: Path) -> None:
    wrong = hashlib.sha256(b"wrong").hexdigest()
    with serving(serve(b"wrong")) as server, pytest.raises(ValueError) as error:
        download(server.url, tmp_path / "model.bin", sha256=SHA256)
    assert SHA256 in str(error.value)
    assert wrong in str(error.value)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == set()


def test_a_wrong_file_at_the_target_is_left_and_named(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"mine")
    with serving(serve()) as server:
        with pytest.raises(ValueError, match=r"model\.bin has SHA-256 .* delete it first"):
            download(server.url, tmp_path / "model.bin", sha256=SHA256)
        assert server.ranges == []
    assert (tmp_path / "model.bin").read_bytes() == b"mine"


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/model.bin"
    target = tmp_path / "model.bin"
    with pytest.raises(DownloadError) as error:
        download(url, target, sha256=SHA256)
    message = str(error.value)
    assert message.startswith(f"could not reach the network for {url} (")
    assert message.endswith(f"put the file with SHA-256 {SHA256} at {target}")
    assert "\n" not in message
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "file:///etc/passwd", "ftp://127.0.0.1/a", "model.bin"]
)
def test_only_https_or_this_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="needs https"):
        download(url, tmp_path / "model.bin", sha256=SHA256)


def test_redirects_are_followed_but_not_anywhere(tmp_path: Path) -> None:
    with serving(serve()) as server:
        to_here: Answer = lambda handler, _: send(handler, 302, b"", Location=server.url)  # noqa: E731
        with serving(to_here) as first:
            download(first.url, tmp_path / "model.bin", sha256=SHA256)
    assert (tmp_path / "model.bin").read_bytes() == CONTENT
    away: Answer = lambda handler, _: send(handler, 302, b"", Location="http://example.org/a")  # noqa: E731
    with serving(away) as server, pytest.raises(ValueError, match="needs https"):
        download(server.url, tmp_path / "other.bin", sha256=SHA256)


def _download_in_process(url: str, target: Path) -> None:
    download(url, target, sha256=SHA256)


def test_three_callers_fetch_it_once(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    both_started = threading.Event()

    def slowly(handler: http.server.BaseHTTPRequestHandler, offset: int) -> None:
        both_started.wait(20)
        serve()(handler, offset)

    with serving(slowly) as server:
        threads = [
            threading.Thread(target=_download_in_process, args=(server.url, target))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        both_started.set()
        for thread in threads:
            thread.join()
        assert server.ranges == [None]
    assert target.read_bytes() == CONTENT
    assert files(tmp_path) == {"model.bin"}
