"""The page of runs: what it holds, what it needs (nothing), and how it behaves in a browser without a network."""

import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from experiments.report import main
from experiments.running.directory import RunDirectory
from experiments.running.figures import CLEAN_TITLES, IMAGE_TITLES, report_images, write_images
from fusion_env import tasks
from fusion_env.errors import ConfigError
from fusion_env.task import build_task

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def pictured(copy: RunDirectory) -> RunDirectory:
    """A finished run with images of two report pairs: each has one grey level."""
    levels = {name: 40 + 40 * number for number, name in enumerate(IMAGE_TITLES)}
    pair = {name: np.full((48, 64, 3), level, np.uint8) for name, level in levels.items()}
    write_images([pair, pair], copy.images)
    return copy


def page_of(*runs: RunDirectory) -> str:
    out = runs[0].path.parent / "page.html"
    assert main([*(str(run.path) for run in runs), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_one_run(pictured: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    assert main([str(pictured.path)]) == 0
    out = pictured.path / "report.html"
    assert f"Written to {out}" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    for part in (
        "stage 0",
        "guidance weight",
        "teacher",
        "Reward",
        "Guidance loss",
        "Laplacian",
        "learning_rate",
        "torch",
    ):
        assert part in page, part
    assert page.count('class="compare"') == 2
    assert "unfinished" not in page


def test_a_page_needs_nothing_else(pictured: RunDirectory) -> None:
    page = page_of(pictured)
    targets = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page) + re.findall(r"url\(([^)]*)", page)
    assert targets
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page).replace('http-equiv="Content-Security-Policy"', "")


def test_runs_side_by_side(across: RunDirectory, pictured: RunDirectory) -> None:
    page = page_of(pictured, across)
    assert "2 runs" in page
    assert page.count('class="schedule"') == 2
    assert f"<h3>{across.path.name}</h3>" in page
    assert "All settings are the same." in page


def test_an_unfinished_run(copy: RunDirectory, capsys: pytest.CaptureFixture) -> None:
    copy.summary.path.unlink()
    page = page_of(copy)
    assert "is unfinished: 9 of 9 rounds are shown" in capsys.readouterr().out
    assert "unfinished" in page
    assert "--resume" in page
    assert 'class="schedule"' in page
    copy.rounds.path.unlink()
    assert "No round has been trained yet." in page_of(copy)


def test_what_is_no_run(copy: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the directory of a run"):
        main([str(tmp_path)])
    copy.rounds.path.write_text(copy.rounds.path.read_text().replace("loss_total", "loss_other"))
    with pytest.raises(ConfigError, match=r"rounds\.csv is damaged: column loss_total"):
        main([str(copy.path)])
    assert not (copy.path / "report.html").exists()


def test_a_lost_image_is_named(pictured: RunDirectory) -> None:
    (pictured.images / "2-teacher.png").unlink()
    with pytest.raises(ConfigError, match=r"2-teacher\.png is missing"):
        main([str(pictured.path)])


def test_through_cameras_the_clean_pair_is_shown_too(pictured: RunDirectory) -> None:
    assert "infrared, clean" not in page_of(pictured)
    config = pictured.read_config()
    pictured.write_config(replace(config, env=config.env.replace(camera="rough", score_size=None, score_crops=None)))
    with pytest.raises(ConfigError, match=r"1-clean_infrared\.png is missing"):
        page_of(pictured)
    images = {name: np.zeros((48, 64, 3), np.uint8) for name in IMAGE_TITLES | CLEAN_TITLES}
    write_images([images, images], pictured.images)
    page = page_of(pictured)
    assert page.count('class="compare"') == 2
    assert page.count(">infrared, clean</option>") == 4


@pytest.mark.slow
def test_images_through_cameras(cache: str) -> None:
    task = build_task(tasks.config("camera", "tiny", scenes=20, cache_dir=cache))
    first, _ = report_images(task.report, task.stage0, task.stage0)
    assert list(first) == [*IMAGE_TITLES, *CLEAN_TITLES]
    clean = task.source.load(task.splits.report[0])
    assert np.array_equal(first["clean_visible"], clean.vis.permute(1, 2, 0))
    assert np.array_equal(first["clean_infrared"][..., 1], clean.ir[0])
    assert not np.array_equal(first["visible"], first["clean_visible"])
    plain = build_task(task.config.replace(camera="none"))
    assert list(report_images(plain.report, plain.stage0, plain.stage0)[0]) == list(IMAGE_TITLES)


def test_names_are_text(pictured: RunDirectory) -> None:
    hostile = RunDirectory(pictured.path.rename(pictured.path.with_name("<script>alert(1)<!--")))
    page = page_of(hostile)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;!--" in page


class Browser:
    """Chromium without a network, spoken to over the pipe of its debugging protocol."""

    def __init__(self, profile: Path) -> None:
        (self._in, out), (inp, self._out) = os.pipe(), os.pipe()
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]
        offline = ["--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}"]

        # The browser reads from descriptor 3 and writes to 4.
        command = f'exec "$@" 3<&{inp} 4>&{out}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                command,
                "bash",
                CHROMIUM or "",
                *options,
                *offline,
                "--remote-debugging-pipe",
                "about:blank",
            ],
            pass_fds=(inp, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(inp)
        os.close(out)
        self._buffer, self._number, self._session = b"", 0, {}
        (page,) = (t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            while b"\0" not in self._buffer:
                # A page that has crashed answers nothing.
                readable, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
                assert readable, f"the browser does not answer {method}"
                read = os.read(self._in, 1 << 16)
                assert read, "the browser has ended"
                self._buffer += read
            answer, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(answer)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, page: Path, width: int = 1000, dark: bool = False) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=page.as_uri())
        until = time.monotonic() + 60
        while not self.js("document.readyState === 'complete' && document.querySelector('main') !== null"):
            assert time.monotonic() < until, "the page does not load"
            time.sleep(0.05)

    def js(self, expression: str) -> Any:
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium in PATH: install the system's package chromium to test the page in a browser")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser: Browser, pictured: RunDirectory) -> Callable[..., Browser]:
    """Function: the page in the browser."""
    page_of(pictured)

    def open_page(**settings: Any) -> Browser:
        browser.open(pictured.path.parent / "page.html", **settings)
        return browser

    return open_page


SHARE = "getComputedStyle(document.querySelector('.stack')).getPropertyValue('--at')"
LEFT = "document.querySelector('.compare img.left').alt"


@pytest.mark.slow
def test_by_keyboard(opened: Callable[..., Browser]) -> None:
    browser = opened()
    for _ in range(40):
        browser.press("Tab", 9)
        if browser.js("document.activeElement.type") == "range":
            break
    assert browser.js("document.activeElement.type") == "range"
    assert browser.js("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    before = browser.js(SHARE)
    browser.press("ArrowRight", 39)
    assert (before, browser.js(SHARE)) == ("50%", "51%")
    assert "51 % student, stage 0" in browser.js("document.activeElement.getAttribute('aria-valuetext')")
    browser.press("Tab", 9)
    assert browser.js("document.activeElement.dataset.side") == "left"
    browser.press("ArrowUp", 38)
    assert "teacher" in browser.js(LEFT)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_on_a_narrow_screen(opened: Callable[..., Browser], dark: bool) -> None:
    browser = opened(width=360, dark=dark)
    assert browser.js("document.documentElement.scrollWidth") <= 360
    assert browser.js("[...document.images].every(i => i.complete && i.naturalWidth === 64)")
    paper = [int(part) for part in re.findall(r"\d+", browser.js("getComputedStyle(document.body).backgroundColor"))]
    assert (max(paper) < 60) if dark else (min(paper) > 200)
    assert browser.js("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_every_run_has_a_colour_of_its_own(browser: Browser, across: RunDirectory, tmp_path: Path, dark: bool) -> None:
    runs = [RunDirectory(Path(shutil.copytree(across.path, tmp_path / f"run{number}"))) for number in range(12)]
    page_of(*runs)
    browser.open(tmp_path / "page.html", dark=dark)
    strokes = browser.js(
        "[...document.querySelectorAll('.chart:nth-child(2) svg[role] .curve')]"
        ".map(curve => getComputedStyle(curve).stroke)"
    )
    assert len(set(strokes)) == 12
    assert "none" not in strokes


def test_written_images_are_what_they_were(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_images([dict.fromkeys(IMAGE_TITLES, picture)], tmp_path / "images")
    assert np.array_equal(cv2.imread(str(tmp_path / "images" / "1-teacher.png"))[..., ::-1], picture)
