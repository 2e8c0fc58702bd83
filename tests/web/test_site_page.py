"""A page without a server as people use it: opened as a file and from a server that knows nothing of it, by mouse, keyboard
and on a phone's width, in a real Chromium."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serve.served import encoded
from settled import settled
from web import browsing

pytest.importorskip("selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from web.browsing import choose, errors, text, wait

from fiducial.card import Card
from fiducial.data.images import read_image
from fiducial.exporting import export
from fiducial.runtime import runtime

CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same detector as a page and as an ONNX file."""
    own, folder = settled("rle", backbone="mobilenetv3_small_050"), tmp_path_factory.mktemp("site")
    file = export.write(own, Card(own.spec, "CC0"), "onnx", folder, crop="inside", decode="own").file
    with pytest.MonkeyPatch.context() as patch:
        browsing.need_ort(patch)
        site = tmp_path_factory.mktemp("page")
        return export.write(own, Card(own.spec, "CC0"), "web", site, crop="inside", decode="own").file, file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.chromium(*CAMERA) as driver:
        yield driver


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    path.write_bytes(encoded(cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC)))
    return path


@pytest.fixture
def page(browser: Any, models: tuple[Path, Path]) -> Iterator[Any]:
    """Opened as a file, its model loaded; at the end its console must be silent."""
    browser.set_window_size(1200, 900)
    browser.get(models[0].as_uri())
    wait(browser, lambda: "5 points" in text(browser, "about"))
    yield browser
    assert errors(browser) == []


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Python's own, which sends no headers of isolation."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            pass

    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=files.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield files.server_address[1]
    finally:
        files.shutdown()
        files.server_close()


@contextmanager
def before_the_page(browser: Any, script: str) -> Iterator[None]:
    """Runs a script in each page before its own."""
    found = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": found["identifier"]})


def answer(browser: Any) -> Any:
    return json.loads(browser.find_element("id", "json").get_attribute("textContent"))


def test_a_page_that_is_a_file_finds_the_points(page: Any, models: tuple[Path, Path], photo: Path) -> None:
    choose(page, photo)
    wait(
        page,
        lambda: "5 points, mean score" in text(page, "said") and "in this browser, one thread" in text(page, "said"),
    )
    expected = runtime.load(models[1]).batch([photo])[0]
    points = answer(page)["instances"][0]["points"]
    np.testing.assert_allclose([[p["x"], p["y"]] for p in points], expected.xy[0], atol=0.05)
    assert expected.sigma is not None
    np.testing.assert_allclose([p["sigma"] for p in points], expected.sigma[0], atol=0.05)
    np.testing.assert_allclose([p["radius_90"] for p in points], expected.radius(0.9)[0], atol=0.05)
    assert page.find_element("id", "sigma-choice").is_displayed()
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith(("file:", "blob:", "data:")) for name in loaded), loaded
    # A box, and what is saved.
    page.find_element("id", "box").send_keys("20, 15, 80, 60", Keys.ENTER)
    box = np.array([[20, 15, 80, 60]], np.float32)
    inside = runtime.load(models[1])(read_image(photo), box)
    wait(page, lambda: abs(answer(page)["instances"][0]["points"][0]["x"] - inside.xy[0, 0, 0]) < 0.05)
    (entry,) = json.loads(page.execute_script("return cocoText(entries)"))
    (expected_entry,) = inside.to_coco(file_name="photo.png")
    np.testing.assert_allclose(entry["keypoints"], expected_entry["keypoints"], atol=0.05)
    assert set(entry) == set(expected_entry) - {"bbox"}


def test_from_a_server_it_works_without_one_later_and_with_several_threads(
    browser: Any, models: tuple[Path, Path], photo: Path
) -> None:
    """The first visit fills the cache; from then on it has several threads, and needs no network."""
    with server(models[0].parent) as port:
        address = f"http://127.0.0.1:{port}/"
        browser.get(address)
        wait(browser, lambda: "5 points" in text(browser, "about"))
        assert (
            browser.execute_script("return document.querySelector('link[rel=manifest]').href")
            == f"{address}index.webmanifest"
        )
        wait(browser, lambda: browser.execute_script("return Boolean(navigator.serviceWorker.controller)"))
    browser.get(f"{address}?threads=2")  # the server is gone
    wait(browser, lambda: "5 points" in text(browser, "about"))
    assert browser.execute_script("return crossOriginIsolated")
    choose(browser, photo)
    wait(browser, lambda: "in this browser, 2 threads" in text(browser, "said"))
    assert errors(browser) == []


def test_a_browser_without_simd_is_told_so(browser: Any, models: tuple[Path, Path]) -> None:
    with before_the_page(browser, "WebAssembly.validate = () => false;"):
        browser.get(models[0].as_uri())
        wait(browser, lambda: "no WebAssembly with SIMD" in text(browser, "said"))
    with before_the_page(browser, "delete self.DecompressionStream;"):
        browser.get(models[0].as_uri())
        wait(browser, lambda: "can't unpack gzip" in text(browser, "said"))
    assert "bad" in browser.find_element("id", "said").get_attribute("class")


def test_what_is_missing_or_damaged_beside_it_is_said(browser: Any, models: tuple[Path, Path], tmp_path: Path) -> None:
    site = shutil.copytree(models[0].parent, tmp_path / "site")
    for name, data in (
        ("index.ort.js", None),
        ("index.model.js", b"fiducialParts.model = {"),
        ("index.model.js", None),
    ):
        whole = (site / name).read_bytes()
        if data is None:
            (site / name).unlink()
        else:
            (site / name).write_bytes(data)
        browser.get((site / "index.html").as_uri())
        wait(
            browser,
            lambda name=name: (
                text(browser, "said") == f"{name} is missing beside this page, or damaged. Copy the whole folder anew."
            ),
        )
        (site / name).write_bytes(whole)
    errors(browser)  # the console says so, too


def test_what_is_no_picture_and_a_camera_that_is_refused(page: Any, photo: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("no picture")
    choose(page, words)
    wait(page, lambda: text(page, "said") == "words.txt is not a picture that the browser can show.")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no video")
    choose(page, clip)
    wait(page, lambda: text(page, "said") == "clip.mp4 is not a video that the browser can play.")
    for error, words in (
        ("NotAllowedError", "The camera was refused. Allow it"),
        ("NotFoundError", "There is no camera"),
        ("OtherError", "The camera can't be used: because"),
    ):
        page.execute_script(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('because', arguments[0]))",
            error,
        )
        page.find_element("id", "camera").click()
        wait(page, lambda words=words: words in text(page, "said"))
        assert page.find_element("id", "camera").text == "use the camera"
    choose(page, photo)  # it goes on
    wait(page, lambda: "5 points, mean" in text(page, "said"))


def test_the_camera_is_followed(page: Any) -> None:
    button = page.find_element("id", "camera")
    button.click()
    wait(page, lambda: "5 points" in text(page, "said"))
    assert button.text == "stop the camera"
    assert page.find_element("id", "track-choice").is_displayed()
    wait(page, lambda: page.execute_script("return entries.length") > 2)
    entry = page.execute_script("return entries.at(-1)")
    assert {"seconds", "track_id", "bbox"} <= set(entry)
    button.click()
    assert button.text == "use the camera"


def test_a_video_is_looked_at_to_its_end(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "clip.webm"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"VP80"), 10, (160, 120))
    if not writer.isOpened():
        pytest.skip("OpenCV writes no WebM here")
    for level in range(12):
        writer.write(np.full((120, 160, 3), 20 * level, np.uint8))
    writer.release()
    choose(page, file)
    wait(page, lambda: "The video is over" in text(page, "said"))
    looked = page.execute_script("return [...new Set(entries.map(entry => entry.file_name))].length")
    assert f"{looked} frames were looked at" in text(page, "said")
    assert looked >= 3
    entry = page.execute_script("return entries.at(-1)")
    assert entry["file_name"].startswith("clip.webm#0000")
    assert entry["seconds"] == pytest.approx(entry["image_id"] / 10 - 0.1, abs=0.06)
    assert not page.find_element("id", "player").is_displayed()


def test_by_keyboard_and_by_a_screen_reader(page: Any, photo: Path) -> None:
    """All is reached by Tab and has a name; what is found is read aloud."""
    choose(page, photo)
    wait(page, lambda: "5 points, mean" in text(page, "said"))
    reached = []
    for _ in range(18):
        ActionChains(page).send_keys(Keys.TAB).perform()
        element = page.switch_to.active_element
        reached.append(element.get_attribute("id"))
        if element.tag_name in ("input", "button", "canvas"):
            assert element.accessible_name, reached[-1]
    for name in ("file", "camera", "labels", "edges", "sigma", "least", "boxing", "box", "points", "save"):
        assert name in reached, (name, reached)
    said = page.find_element("id", "said")
    assert (said.get_attribute("role"), said.get_attribute("aria-live")) == ("status", "polite")
    assert "5 points" in page.find_element("id", "canvas").get_attribute("aria-label")


def test_a_phones_width(page: Any, photo: Path) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        choose(page, photo)
        wait(page, lambda: "5 points, mean" in text(page, "said"))
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_network_runs_on_a_gpu_and_finds_the_same_points(models: tuple[Path, Path], photo: Path) -> None:
    """By WebGPU, on a GPU that Chromium computes itself: which is slow, and so is taken only where it is told to."""
    gpu = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with browsing.chromium(*gpu) as browser:
        for query, where in (("?gpu=yes", "on the GPU"), ("?gpu=no", "one thread")):
            browser.get(models[0].as_uri() + query)
            wait(browser, lambda: "5 points" in text(browser, "about"))
            if query == "?gpu=yes":
                if not browser.execute_async_script(
                    "navigator.gpu?.requestAdapter().then(a => arguments[0](Boolean(a))) ?? arguments[0](false)"
                ):
                    pytest.skip("this Chromium has no WebGPU")
                wait(browser, lambda: browser.execute_script("return backend.gpu"))
                found = browser.execute_script("return backend.gpu")
                assert found["used"], found
                assert found["apart_px"] < 0.05
            choose(browser, photo)
            wait(browser, lambda where=where: f"in this browser, {where}" in text(browser, "said"))
            expected = runtime.load(models[1]).batch([photo])[0]
            points = answer(browser)["instances"][0]["points"]
            np.testing.assert_allclose([[p["x"], p["y"]] for p in points], expected.xy[0], atol=0.05)
        assert errors(browser) == []
