"""The page of a served model, in a real Chromium without a display."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from serve.served import Pacer, Served, encoded, served
from web.browsing import choose, chromium, errors, text, wait


class Painter(Pacer):
    """With a heatmap: a bright cell in the upper left, black elsewhere."""

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        maps = np.zeros((len(crops), 2, 3, 4), np.float32)
        maps[:, 0, 0, 0] = 1
        return maps


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(Painter()) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream") as driver:
        yield driver


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    """Fresh, its card loaded; at the end its console must be silent."""
    browser.set_window_size(1200, 900)
    browser.get(f"http://127.0.0.1:{server.port}/")
    wait(browser, lambda: "2 points" in text(browser, "about"))
    yield browser
    assert errors(browser) == []


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey 50, 160 x 120."""
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    path.write_bytes(encoded(np.full((120, 160, 3), 50, np.uint8)))
    return path


def pixel(browser: Any, x: int, y: int) -> list[int]:
    """Of the picture of 160 px."""
    script = """
        const canvas = document.getElementById("canvas"), density = canvas.width / 160;
        return [...canvas.getContext("2d").getImageData(arguments[0] * density, arguments[1] * density, 1, 1).data]"""
    return browser.execute_script(script, x, y)[:3]


def test_a_picture_is_shown_with_its_points(page: Any, photo: Path) -> None:
    choose(page, photo)
    wait(page, lambda: "2 points, mean score 0.50" in text(page, "said"))
    # 160 px shown by a crop of 8: px 50 of the crop is px 1009.5 of the picture, px 0 is 9.5.
    rows = [row.text for row in page.find_elements(By.CSS_SELECTOR, "#rows tr")]
    assert rows == ["left 1009.5 9.5 0.50", "right 9.5 1009.5 0.50"]
    assert '"name": "left"' in page.find_element(By.ID, "json").get_attribute("textContent")
    assert pixel(page, 100, 100) == [50, 50, 50]
    assert "2 points" in page.find_element(By.ID, "canvas").get_attribute("aria-label")


def test_the_heatmap_lies_where_it_belongs(page: Any, photo: Path) -> None:
    choose(page, photo)
    page.find_element(By.ID, "heatmap").click()
    wait(page, lambda: pixel(page, 100, 100) != [50, 50, 50])
    red, green, blue = pixel(page, 5, 5)
    assert red > 200
    assert red > green > blue
    assert pixel(page, 120, 90)[0] < 40  # elsewhere the picture is darkened


def test_by_keyboard_alone(page: Any, photo: Path) -> None:
    """Everything is reached by Tab, switched by Space; a box is typed."""
    choose(page, photo)
    reached = []
    for _ in range(14):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.append(page.switch_to.active_element.get_attribute("id"))
    for name in ("camera", "labels", "edges", "sigma", "heatmap", "least", "box", "points"):
        assert name in reached, (name, reached)
    page.execute_script("document.getElementById('labels').focus()")
    ActionChains(page).send_keys(Keys.SPACE).perform()
    assert page.find_element(By.ID, "labels").is_selected()
    page.find_element(By.ID, "box").send_keys("20, 15, 80, 60", Keys.ENTER)
    # 1.25 times the box: 100 px shown by 8, from (10, 7.5).
    wait(page, lambda: "left 640.8 13.3 0.50" in text(page, "rows"))


def test_a_box_by_the_mouse(page: Any, photo: Path) -> None:
    choose(page, photo)
    canvas = page.find_element(By.ID, "canvas")
    page.execute_script("arguments[0].scrollIntoView()", canvas)
    actions = ActionChains(page).move_to_element_with_offset(canvas, -100, -100)
    actions.click_and_hold().move_by_offset(200, 150).release().perform()
    wait(page, lambda: len(page.find_element(By.ID, "box").get_attribute("value").split(",")) == 4)
    x, y, width, height = map(float, page.find_element(By.ID, "box").get_attribute("value").split(","))
    shown = page.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", canvas)
    scale = max(160 / shown[0], 120 / shown[1])
    middle = 160 / scale / 2  # of the picture, across
    assert width == pytest.approx(200 * scale, abs=2)
    assert height == pytest.approx(150 * scale, abs=2)
    assert x == pytest.approx((middle - 100) * scale, abs=2)
    assert y == pytest.approx((shown[1] / 2 - 100) * scale, abs=2)


def test_what_is_wrong_is_said(page: Any, photo: Path, tmp_path: Path) -> None:
    choose(page, photo)
    box = page.find_element(By.ID, "box")
    box.send_keys("1, 2, x", Keys.ENTER)
    wait(page, lambda: "expected four numbers" in text(page, "said"))
    box.clear()
    box.send_keys("1, 2, -3, 4", Keys.ENTER)
    wait(page, lambda: "positive width and height" in text(page, "said"))
    assert "bad" in page.find_element(By.ID, "said").get_attribute("class")
    assert not page.find_element(By.ID, "points").is_displayed()
    words = tmp_path / "words.txt"
    words.write_text("no picture")
    choose(page, words)
    wait(page, lambda: text(page, "said") == "words.txt is not a picture that the browser can show.")
    # What the server refuses is a line of the console, too.
    assert all("422" in line for line in errors(page))


def test_the_camera(page: Any) -> None:
    button = page.find_element(By.ID, "camera")
    button.click()
    wait(page, lambda: "2 points" in text(page, "said"))
    assert (button.text, button.get_attribute("aria-pressed")) == ("stop the camera", "true")
    button.click()
    assert (button.text, button.get_attribute("aria-pressed")) == ("use the camera", "false")


def test_a_phones_width(page: Any, photo: Path, server: Served) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        choose(page, photo)
        wait(page, lambda: "2 points" in text(page, "said"))
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
        page.get(f"http://127.0.0.1:{server.port}/docs")
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_box_by_a_finger_once_it_was_asked_for(page: Any, photo: Path) -> None:
    """Without asking a finger scrolls."""
    swipe = """
        const canvas = document.getElementById("canvas"), shown = canvas.getBoundingClientRect();
        canvas.setPointerCapture = () => {};
        for (const [kind, across] of [["pointerdown", 0.4], ["pointermove", 0.6], ["pointerup", 0.6]]) {
            const place = {clientX: shown.left + across * shown.width, clientY: shown.top + across * shown.height};
            canvas.dispatchEvent(new PointerEvent(kind, {pointerType: "touch", ...place}));
        }"""
    choose(page, photo)
    box, button = (page.find_element(By.ID, name) for name in ("box", "boxing"))
    page.execute_script(swipe)
    assert box.get_attribute("value") == ""
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.execute_script(swipe)
    wait(page, lambda: len(box.get_attribute("value").split(",")) == 4)
    assert button.get_attribute("aria-pressed") == "false", "one box, then fingers scroll again"


def test_a_server_with_a_token_asks_for_it(browser: Any, photo: Path) -> None:
    with served(Painter(), token="open-sesame") as server:
        browser.get(f"http://127.0.0.1:{server.port}/")
        wait(browser, lambda: "wants its token" in text(browser, "said"))
        field = browser.find_element(By.ID, "token")
        field.send_keys("wrong", Keys.ENTER)
        wait(browser, lambda: browser.find_element(By.ID, "knock").is_displayed() and not field.get_attribute("value"))
        field.send_keys("open-sesame", Keys.ENTER)
        wait(browser, lambda: "2 points" in text(browser, "about"))
        assert not browser.find_element(By.ID, "knock").is_displayed()
        choose(browser, photo)
        wait(browser, lambda: "2 points, mean score 0.50" in text(browser, "said"))
        errors(browser)  # 401 is said in the console, too
