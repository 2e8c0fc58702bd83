"""A person goes through findings in a real browser: nothing is lost, and the mended set is what was answered."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fiducial
from fiducial.errors import UserError
from fiducial.labels.reviews import run
from fiducial.labels.reviews.reviewing import Review

ABOUT = {"confidence": 0.9, "split": "val"}
SWAP = {"kind": "left_right", "annotation_id": 1, "points": ["red", "green"], "what": "red and green are exchanged"}
MOVED = {"kind": "moved_point", "annotation_id": 2, "points": ["blue"], "what": "blue is far off"}
COPY = {"kind": "duplicate", "annotation_id": None, "points": [], "what": "is an image of train"}


def image_of(data: Path, row: int) -> str:
    return fiducial.Instances.read(data, "val").images.name(row)


@pytest.fixture
def findings(blobs: Path, tmp_path: Path) -> Path:
    entries = [
        {**ABOUT, **SWAP, "image": image_of(blobs, 0), "proposal": {"swap": [["red", "green"]]}},
        {**ABOUT, **MOVED, "image": image_of(blobs, 1), "proposal": {"xy": {"blue": [30.0, 20.0]}}},
        {**ABOUT, **COPY, "image": image_of(blobs, 2), "proposal": {"leave_out": True}},
    ]
    file = tmp_path / "findings.json"
    file.write_text(json.dumps({"data": str(blobs), "findings": entries}))
    return file


def mended(folder: Path) -> fiducial.Instances:
    return fiducial.Instances.read(folder, "val")


def test_answers_become_a_new_set(findings: Path, blobs: Path, tmp_path: Path) -> None:
    before = fiducial.Instances.read(blobs, "val")
    review = run.read_review(findings, tmp_path / "out")
    review.answer(0, "take", {})
    review.answer(1, "moved", {"blue": [11.5, 12.25]})
    review.answer(2, "take", {})
    changes = run.write_mended(review)
    after = mended(tmp_path / "out")
    np.testing.assert_allclose(after.xy[0], before.xy[0][[1, 0, 2]], atol=0.01)
    np.testing.assert_allclose(after.xy[1], [*before.xy[1][:2], [11.5, 12.25]], atol=0.01)
    assert len(after) == len(before) - 1
    np.testing.assert_allclose(after.xy[2:], before.xy[3:], atol=0.01)
    assert len(changes) == 3
    assert (tmp_path / "out" / "changes.txt").read_text().count("\n") == 3
    train = fiducial.Instances.read(tmp_path / "out", "train")
    np.testing.assert_allclose(train.xy, fiducial.Instances.read(blobs, "train").xy, atol=0.01)


def test_the_last_answer_counts_and_a_killed_review_goes_on(findings: Path, tmp_path: Path) -> None:
    first = run.read_review(findings, tmp_path / "out")
    first.answer(0, "take", {})
    first.answer(0, "keep", {})
    first.answer(1, "skip", {})
    with open(first.log.path, "ab") as file:  # killed while it wrote
        file.write(b'{"finding": "[\\"mo')
    again = run.read_review(findings, tmp_path / "out")
    assert [item["answer"] for item in again.items()["findings"]] == ["keep", "skip", ""]
    assert again.open == 2
    again.answer(2, "keep", {})
    third = run.read_review(findings, tmp_path / "out")
    assert [item["answer"] for item in third.items()["findings"]] == ["keep", "skip", "keep"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not what `fiducial data check --json` writes"),
        ('{"findings": [{"kind": "odd", "split": "val", "what": ""}], "data": "DATA"}', r"findings\[0\]: kind 'odd'"),
        ('{"findings": []}', "--data"),
        ('{"findings": [], "data": "nowhere"}', "nowhere"),
    ],
)
def test_what_are_no_findings_is_said(content: str, words: str, blobs: Path, tmp_path: Path) -> None:
    file = tmp_path / "findings.json"
    file.write_text(content.replace("DATA", str(blobs)))
    with pytest.raises(UserError, match=words):
        run.read_review(file, tmp_path / "out")


def ask(port: int, path: str, **request: Any) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", **request)) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_page_may_answer(findings: Path, tmp_path: Path) -> None:
    review = run.read_review(findings, tmp_path / "out")
    body = json.dumps({"finding": 0, "answer": "take"}).encode()
    with run.running(review) as server:
        port, word = server.server_port, server.RequestHandlerClass.word  # type: ignore[attr-defined]
        assert ask(port, "/items", headers={"Host": "evil.example"}) == 403
        assert ask(port, "/answer", data=body, headers={"X-Word": "guessed"}) == 403
        assert ask(port, "/image/99") == ask(port, "/elsewhere") == 404
        assert ask(port, "/answer", data=b"{}", headers={"X-Word": word}) == 400
        assert ask(port, "/answer", data=body.replace(b"take", b"eat"), headers={"X-Word": word}) == 409
        assert review.answers == {}
        assert ask(port, "/answer", data=body, headers={"X-Word": word}) == 200
    assert review.open == 2


# -------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_a_person_answers_with_keys_and_drags_a_point(
    browser: Any, findings: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def text(name: str) -> str:
        return browser.find_element(By.ID, name).text

    def shows(words: str) -> None:
        WebDriverWait(browser, 20).until(lambda _: words in text("what"))
        WebDriverWait(browser, 20).until(lambda _: browser.execute_script("return picture !== null"))

    review: Review = run.read_review(findings, tmp_path / "out")
    with run.running(review) as server:
        browser.set_window_size(*size)
        browser.get(f"http://127.0.0.1:{server.server_port}/")
        shows("red and green")
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        ActionChains(browser).send_keys("p").perform()
        shows("blue is far off")
        [x, y] = browser.execute_script(
            "const b = canvas.getBoundingClientRect(); const v = toView(place(2)); return [v[0] + b.left, v[1] + b.top]"
        )
        scale = browser.execute_script("return map.scale")
        before = browser.execute_script("return finding().xy[2]")
        chain = ActionChains(browser)
        chain.w3c_actions.pointer_action.move_to_location(round(x), round(y)).pointer_down()
        chain.w3c_actions.pointer_action.move_to_location(round(x) + 20, round(y) - 10).pointer_up()
        chain.w3c_actions.perform()
        browser.refresh()  # a moved point that was not saved is not there any more; the answer before is
        shows("blue is far off")
        chain = ActionChains(browser)
        chain.w3c_actions.pointer_action.move_to_location(round(x), round(y)).pointer_down()
        chain.w3c_actions.pointer_action.move_to_location(round(x) + 20, round(y) - 10).pointer_up()
        chain.w3c_actions.perform()
        ActionChains(browser).send_keys("m").perform()
        shows("is an image of train")
        browser.find_element(By.ID, "keep").click()
        WebDriverWait(browser, 20).until(lambda _: "All are answered" in text("said"))
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    assert {given.answer for given in review.answers.values()} == {"take", "moved", "keep"}
    xy = next(given.xy["blue"] for given in review.answers.values() if given.answer == "moved")
    np.testing.assert_allclose(np.subtract(xy, before[:2]) * scale, [20, -10], atol=1.5)
    np.testing.assert_allclose(mended(tmp_path / "out").xy[1, 2], xy, atol=0.01)
