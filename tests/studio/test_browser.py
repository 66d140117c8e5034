"""The page in Chromium: every tab's main job on a real file, visitors apart, nothing left.

Screenshots, to be looked at, go to the folder that SIGFORM_SCREENSHOTS names.
"""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image
from studio.chromium import (
    FLAGS,
    Studio,
    drop,
    error_of,
    find_chromium,
    open_tab,
    press,
    running_studio,
    saved,
    visitor,
)

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = find_chromium()
FIXTURES = os.environ.get("SIGFORM_FIXTURES")
needs_fixtures = pytest.mark.skipif(not FIXTURES, reason="SIGFORM_FIXTURES is not set")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.timeout(600),
]

Shoot = Callable[[object, str], None]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    place = tmp_path_factory.mktemp("studio") / "temporary"
    with running_studio(place, "--max-upload", "4", "--threads", "1") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    folder = Path(os.environ.get("SIGFORM_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page, name: str) -> None:
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png", full_page=True)

    return take


def until(true: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def picture(path: Path, width: int, height: int) -> Path:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_enlarged(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    source = picture(tmp_path / "small.png", 40, 31)
    with visitor(browser, studio) as page:
        titles = [tab.inner_text() for tab in page.get_by_role("tab").all()]
        assert titles == ["Voices", "Pictures", "Tables", "EEG", "Generate"]
        shoot(page, "start")
        open_tab(page, "Pictures")
        drop(page, "upscale", source)
        press(page, "upscale")
        page.locator("#upscale-slider img").nth(1).wait_for()
        assert "40 x 31 became 80 x 62 pixels" in page.locator("#upscale-result").inner_text()
        shoot(page, "pictures")
        large = saved(page, "small_x2.png", tmp_path / "saved")
        with Image.open(large) as image:
            assert image.size == (80, 62)
        assert studio.files
    assert until(lambda: not studio.files), studio.files


def test_bad_files_are_one_line(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with visitor(browser, studio) as page:
        open_tab(page, "Pictures")
        assert error_of(page, "upscale") == "Nothing to work on yet: drop a picture first."
        drop(page, "upscale", text)
        line = error_of(page, "upscale")
        assert line.startswith("text.png: is not a picture that can be read")
        shoot(page, "error")
        large = tmp_path / "large.png"
        large.write_bytes(bytes(5 << 20))
        page.reload()
        open_tab(page, "Pictures")
        page.locator("#upscale-file input[type=file]").set_input_files(str(large))
        page.get_by_text("exceed the maximum allowed size").first.wait_for()


@pytest.mark.slow
@needs_fixtures
def test_each_speaker_is_heard(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    source = Path(str(FIXTURES)) / "data/speech/mixtures/01_clean_FM/mix.wav"
    with visitor(browser, studio) as page:
        drop(page, "separate", source)
        press(page, "separate")
        players = page.locator("#separate-result audio")
        assert players.count() == 3
        seconds = soundfile.info(source).duration
        for number in range(3):
            player = players.nth(number)
            player.evaluate("player => { player.muted = true; return player.play(); }")
            page.wait_for_function(
                "player => player.currentTime > 0.2", arg=player.element_handle()
            )
            assert abs(player.evaluate("player => player.duration") - seconds) < 0.05
        # Two at once would not be heard apart.
        assert players.evaluate_all("all => all.filter(one => !one.paused).length") == 1
        shoot(page, "voices")
        voices = [
            soundfile.read(saved(page, f"mix_speaker{n}.wav", tmp_path / "saved"))[0]
            for n in (1, 2)
        ]
    mixture = soundfile.read(source)[0]
    assert voices[0].shape == voices[1].shape == mixture.shape
    assert np.abs(voices[0] - voices[1]).max() > 0.01


@pytest.mark.slow
def test_a_table_is_forecast(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    source = tmp_path / "sales.csv"
    season = [100, 120, 90, 140, 160, 80, 60]
    rows = [
        f"2024-{1 + n // 28:02d}-{1 + n % 28:02d},{season[n % 7] + n},{season[(n + 3) % 7] - n / 4}"
        for n in range(28)
    ] + [f"2024-01-{n:02d},{season[(n - 1) % 7] + n - 1},{50 + n}" for n in (29, 30, 31)]
    source.write_text("\n".join(["day,north,south", *rows]) + "\n")
    with visitor(browser, studio) as page:
        open_tab(page, "Tables")
        drop(page, "forecast", source)
        page.locator("#forecast-horizon input").fill("5")
        page.locator("#forecast-budget input").fill("2")
        press(page, "forecast")
        chart = page.locator("#forecast-result sigform-forecast")
        assert chart.locator("polygon").count() == 2
        lines = chart.locator("path").count()
        chart.get_by_role("button", name="LastValue").click()
        assert chart.locator("path").count() == lines + 1
        chart.locator("select").select_option("1")
        assert chart.locator("svg").get_attribute("aria-label").startswith("Forecast of south")
        box = chart.locator("svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 100)
        assert "95 %" in chart.locator(".sf-reading").inner_text()
        shoot(page, "tables")
        with saved(page, "sales_forecast.csv", tmp_path / "saved").open() as file:
            made = list(csv.DictReader(file))
    assert [row["unique_id"] for row in made] == ["north"] * 5 + ["south"] * 5
    assert made[0]["ds"].startswith("2024-02-01")


@pytest.mark.slow
@needs_fixtures
def test_a_recording_is_decoded(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    source = Path(str(FIXTURES)) / "data/eeg/raw/S001R04.edf"
    with visitor(browser, studio) as page:
        open_tab(page, "EEG")
        drop(page, "decode", source)
        press(page, "decode")
        player = page.locator("#decode-result sigform-posterior")
        place = player.get_by_label("Place in the recording")
        before = float(place.input_value())
        player.get_by_label("Speed").select_option("8")
        player.get_by_role("button", name="Play").click()
        page.wait_for_function(
            "([range, before]) => Number(range.value) > before + 4",
            arg=[place.element_handle(), before],
        )
        player.get_by_role("button", name="Pause").click()
        shoot(page, "eeg")
        shares = player.locator(".sf-bars output").all_inner_texts()
        assert abs(sum(int(text.split()[0]) for text in shares) - 100) <= 1
        with saved(page, "S001R04_posteriors.csv", tmp_path / "saved").open() as file:
            rows = list(csv.DictReader(file))
    assert len(rows) > 200
    assert {row["class"] for row in rows} == {"left", "right"}


@pytest.mark.slow
def test_a_simulated_recording_says_so(studio: Studio, browser) -> None:
    with visitor(browser, studio) as page:
        open_tab(page, "EEG")
        page.locator("#decode-simulated input").check()
        press(page, "decode")
        assert "it is of nobody" in page.locator("#decode-result").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "shape"), [("Images", "img"), ("Clips with sound", "video")])
def test_things_are_generated(studio: Studio, browser, shoot: Shoot, what: str, shape: str) -> None:
    catalogue = pytest.importorskip("sigform_generate.catalogue")
    kind = {"Images": "image", "Clips with sound": "av"}[what]
    if catalogue.DEFAULTS[kind] not in catalogue.SHIPPED:
        pytest.skip(f"no weights for {what} are shipped")
    with visitor(browser, studio) as page:
        open_tab(page, "Generate")
        page.locator("#generate-kind").get_by_label(what, exact=True).check()
        page.locator("#generate-count input").fill("2")
        page.locator("#generate-seed input").fill("5")
        press(page, "generate")
        things = page.locator(f"#generate-result {shape}")
        assert things.count() == 2
        shoot(page, f"generate-{kind}")
        captions = page.locator("#generate-result figcaption").all_inner_texts()
        assert [text.split("\n")[0] for text in captions] == ["seed 5", "seed 6"]


@pytest.mark.slow
def test_work_is_stopped(studio: Studio, browser, tmp_path: Path, shoot: Shoot) -> None:
    source = tmp_path / "long.csv"
    values = np.random.default_rng(0).normal(size=2000).cumsum()
    rows = [f"{np.datetime64('2000-01-01') + n},{value:.4f}" for n, value in enumerate(values)]
    source.write_text("\n".join(["day,value", *rows]))
    with visitor(browser, studio) as page:
        open_tab(page, "Tables")
        drop(page, "forecast", source)
        page.locator("#forecast-budget input").fill("600")
        page.locator("#forecast-run").click()
        page.locator("#forecast-status").get_by_text("training").wait_for()
        shoot(page, "busy")
        page.locator("#forecast-stop").click()
        page.locator("#forecast-status").get_by_text("Stopped.").wait_for(timeout=60_000)
        assert page.locator("#forecast-run").is_enabled()
        assert [path.name for path in studio.files] == ["long.csv"]


@pytest.mark.slow
def test_visitors_do_not_mix(studio: Studio, browser, tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png", 32, 20), picture(tmp_path / "b.png", 24, 36)
    with visitor(browser, studio) as anna:
        with visitor(browser, studio) as ben:
            for page, source in ((anna, first), (ben, second)):
                open_tab(page, "Pictures")
                drop(page, "upscale", source)
            for page in (anna, ben):
                page.locator("#upscale-run").click()
            for page, told in ((ben, "24 x 36 became 48 x 72"), (anna, "32 x 20 became 64 x 40")):
                page.locator("#upscale-result").get_by_text(told).wait_for()
            # The same file from both: it stays while either is here.
            ben.reload()
            open_tab(ben, "Pictures")
            drop(ben, "upscale", first)
            link = ben.url + anna.locator("#upscale-result a").get_attribute("href")
            assert httpx.get(link).status_code == 200
        assert until(lambda: all("b_x2" not in path.name for path in studio.files))
        press(anna, "upscale")
    assert until(lambda: not studio.files), studio.files
    assert httpx.get(link).status_code == 403


@pytest.mark.slow
def test_a_password_is_asked_for(tmp_path: Path) -> None:
    words = "--auth", "anna:secret"
    with running_studio(tmp_path / "temporary", *words, end=signal.SIGTERM) as studio:
        assert httpx.get(f"{studio.address}config").status_code == 401
        answer = httpx.post(f"{studio.address}login", data={"username": "anna", "password": "no"})
        assert answer.status_code == 400
        with httpx.Client() as client:
            right = {"username": "anna", "password": "secret"}
            assert client.post(f"{studio.address}login", data=right).status_code == 200
            assert client.get(f"{studio.address}config").status_code == 200
