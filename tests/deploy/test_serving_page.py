"""The page in a real headless Chromium: a picture is sent, its points are drawn and listed, errors are said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("selenium", reason="the extra `dev` is not installed")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from fiducial.deploy import runtime

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no Chromium here (Debian: apt-get install chromium chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1000,900",
                     "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                     f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(blob_onnx: Path) -> Iterator[str]:
    from deploy.test_serving import Served

    served = Served(runtime.load(blob_onnx, threads=1))
    yield f"http://127.0.0.1:{served.port}/"
    served.stop()


def said(browser: Any, words: str) -> str:
    element = browser.find_element(By.ID, "said")
    WebDriverWait(browser, 20).until(lambda _: words in element.text)
    return element.text


def test_a_picture_gets_its_points(browser: Any, address: str, tmp_path: Path) -> None:
    browser.get(address)
    WebDriverWait(browser, 20).until(lambda _: "3 points by deeppose" in browser.find_element(By.ID, "about").text)
    picture = np.full((120, 160, 3), 40, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), picture)
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "grey.png"))
    assert "1 instance(s), 3 points" in said(browser, "instance(s)")
    rows = [row.text.split() for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert [row[0] for row in rows] == ["red", "green", "blue"]
    size = browser.execute_script("return [canvas.width, canvas.height]")
    assert size == [160, 120]
    # What is drawn at a point is not the picture's grey.
    x, y = float(rows[0][1]) + 0.5, float(rows[0][2]) + 0.5
    pixel = browser.execute_script(f"return Array.from(context.getImageData({x}, {y}, 1, 1).data)")
    assert max(pixel[:3]) - min(pixel[:3]) > 60
    assert not browser.find_element(By.ID, "heatmap-choice").is_displayed(), "this model has no maps"


def test_a_file_that_is_no_picture_is_said(browser: Any, address: str, tmp_path: Path) -> None:
    browser.get(address)
    (tmp_path / "notes.png").write_text("no picture")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "notes.png"))
    assert "JPEG or PNG" in said(browser, "can't show")


def test_the_camera_runs_until_it_is_stopped(browser: Any, address: str) -> None:
    browser.get(address)
    button = browser.find_element(By.ID, "camera")
    button.click()
    said(browser, "instance(s)")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    WebDriverWait(browser, 20).until(lambda _: button.get_attribute("aria-pressed") == "false")
