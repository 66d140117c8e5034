"""A studio in a process of its own, and Chromium to visit it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 240_000
"""Milliseconds; the first job of a domain imports it."""

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def find_chromium() -> str | None:
    """Debian's and other distributions' names of it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return None


@dataclass
class Studio:
    """A studio that runs: its address, the folder it keeps its files in, and its process."""

    address: str
    place: Path
    process: subprocess.Popen[str]

    @property
    def files(self) -> list[Path]:
        """What visitors uploaded and made, while it is there."""
        found = self.place.glob("sigform-studio-*/files/*/*")
        return sorted(path for path in found if path.is_file())


@contextlib.contextmanager
def running_studio(
    place: Path, *words: str, end: signal.Signals = signal.SIGINT
) -> Iterator[Studio]:
    """Starts the command as a person would, and ends it with a signal, which leaves nothing."""
    place.mkdir()
    command = [sys.executable, "-m", "sigform_studio", "--no-open", "--port", "0", *words]
    variables = {**os.environ, "TMPDIR": str(place)}
    with (place.parent / f"{place.name}.log").open("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=variables
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            log.seek(0)
            assert line, log.read()
            yield Studio(line.strip(), place, process)
            process.send_signal(end)
            assert process.wait(60) == CODES[end]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        log.seek(0)
        assert "Traceback" not in log.read()
    assert list(place.iterdir()) == []


@contextlib.contextmanager
def visitor(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A page of its own that has asked this machine only, and met no error of a script."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    asked: set[str] = set()
    failed: list[str] = []
    page.on("request", lambda request: asked.add(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    try:
        page.goto(studio.address)
        page.get_by_role("tab", name="Voices", exact=True).wait_for()
        yield page
    finally:
        context.close()
    local = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert local == {"127.0.0.1"}
    assert failed == []


def open_tab(page: Page, title: str) -> None:
    page.get_by_role("tab", name=title, exact=True).click()


def drop(page: Page, tab: str, path: Path) -> None:
    """Give the tab a file and wait until it is there."""
    page.locator(f"#{tab}-file input[type=file]").set_input_files(str(path))
    page.locator(f"#{tab}-file").get_by_text(path.stem).first.wait_for()


def press(page: Page, tab: str) -> None:
    """Run the tab's job to its result; an error of the job fails here, with its line."""
    page.locator(f"#{tab}-run").click()
    either = page.locator(f"#{tab}-result .sf-result, #{tab}-status .sf-error")
    either.first.wait_for()
    error = page.locator(f"#{tab}-status .sf-error")
    assert error.count() == 0, error.inner_text()


def error_of(page: Page, tab: str) -> str:
    """The line that a job ends with; that of a job before does not count."""
    page.locator(f"#{tab}-status .sf-error").evaluate_all(
        "lines => lines.forEach(line => line.setAttribute('data-before', ''))"
    )
    page.locator(f"#{tab}-run").click()
    line = page.locator(f"#{tab}-status .sf-error:not([data-before])")
    line.wait_for()
    return line.inner_text()


def saved(page: Page, name: str, folder: Path) -> Path:
    """Follow the link that saves a file of this name."""
    folder.mkdir(exist_ok=True)
    with page.expect_download() as download:
        page.locator(f'a.sf-download[download="{name}"]').first.click()
    path = folder / name
    download.value.save_as(path)
    return path
