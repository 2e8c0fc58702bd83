"""What tests of pages need that may be missing: ONNX Runtime Web, a browser, Node.js. Each is skipped for with a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fiducial.errors import UserError
from fiducial.exporting import ort_web
from fiducial.runtime import browser
from fiducial.web import pages

# The user's own: tests have a cache of theirs, which is empty.
KEPT = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fiducial" / f"onnxruntime-web-{ort_web.VERSION}"
)
ORT = Path(os.environ.get(ort_web.GIVEN) or KEPT)


def need_ort(patch: pytest.MonkeyPatch) -> None:
    """Lets exports take the package that this user has fetched."""
    patch.setenv(ort_web.GIVEN, str(ORT))
    try:
        ort_web.parts()
    except UserError:
        pytest.skip(f"{ort_web.PACKAGE} was not fetched here: `fiducial export face --to web --out DIR` does")


def need_browser() -> None:
    if (why := browser.lacks()) is not None:
        pytest.skip(why)


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """A Chromium without a display that selenium drives, until the block ends."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium with chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    usual = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900")
    for argument in (*usual, *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def wait(browser: Any, true: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: true())


def errors(browser: Any) -> list[str]:
    """Of the console, since the last look."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def text(browser: Any, name: str) -> str:
    return browser.find_element("id", name).text


def choose(browser: Any, path: Path) -> None:
    browser.find_element("id", "file").send_keys(str(path))
    wait(browser, lambda: text(browser, "said"))


def javascript(*scripts: str, expression: str, **values: Any) -> Any:
    """What an expression is after the page's scripts `scripts`, by Node.js; `values` are variables, given as JSON."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    text = "".join((pages.SOURCE / name).read_text() for name in scripts)
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    program = f"{text}\n{given}(async () => process.stdout.write(JSON.stringify({expression})))();"
    done = subprocess.run([node, "-"], input=program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
