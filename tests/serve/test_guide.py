"""/docs says what the server does: its fields, statuses and limits are the server's own, its examples run."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from serve.served import Pacer, Served, encoded, served

from fiducial.files import command_line
from fiducial.serve import app
from fiducial.serve.limits import Limits

PHOTO = encoded(np.full((240, 320, 3), 77, np.uint8), ".jpg")


class Mapper(Pacer):
    """With heatmaps."""

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        return np.ones((len(crops), 2, 3, 4), np.float32)


@pytest.fixture(scope="module", params=["", "open-sesame"], ids=["open", "token"])
def token(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def server(token: str) -> Iterator[Served]:
    said = command_line.set(f"fiducial serve model.onnx --token {token}")
    with served(Mapper(), Limits(max_boxes=5, timeout_s=12.5), token=token) as found:
        yield found
    command_line.reset(said)


@pytest.fixture(scope="module")
def page(server: Served) -> str:
    reply = server.get("/docs")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return reply.body.decode()


@pytest.fixture(scope="module")
def tables(page: str) -> dict[str, list[list[str]]]:
    """Rows of cells by the title above them, or the first column's name."""
    found = {}
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        rows = [
            re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        rows = [[html.unescape(cell.replace("<wbr>", "")) for cell in row] for row in rows]
        title = re.search(r"<caption>(.*?)</caption>", table)
        found[html.unescape(title[1]) if title else rows[0][0]] = rows[1:]
    return found


def objects(answer: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """The fields of all objects in an answer, by where they are."""
    if isinstance(answer, dict):
        yield path, list(answer)
        for name, value in answer.items():
            yield from objects(value, f"{path}.{name}".lstrip("."))
    elif isinstance(answer, list) and answer:
        yield from objects(answer[0], f"{path}[]")


def test_fields_are_those_of_an_answer(server: Served, token: str, tables: dict[str, list[list[str]]]) -> None:
    reply = server.ask("POST", "/predict?heatmap=1", PHOTO, {"Authorization": f"Bearer {token}"})
    found = dict(objects(reply.json))
    assert set(found) == {"", "instances[]", "instances[].points[]", "heatmap"}
    for path, names in found.items():
        rows = tables[path or "the answer"]
        assert sorted(row[0] for row in rows) == sorted(names)
        assert all(all(row) for row in rows), "a field without a type or meaning"


def test_statuses_and_limits_are_the_servers(tables: dict[str, list[list[str]]]) -> None:
    assert {row[0]: row[1] for row in tables["status"]} == {
        str(status): refusal["description"] for status, refusal in app.REFUSALS.items()
    }
    limits = {row[0]: row[1] for row in tables["limit"]}
    assert (limits["max_boxes"], limits["timeout_s"]) == ("5", "12.5")
    assert {row[0] for row in tables["request"]} >= {"POST /predict", "POST /predict/batch", "GET /model"}


def test_it_tells_no_secrets_and_fetches_nothing(server: Served, page: str, token: str) -> None:
    assert not token or token not in page
    assert ("send its token" in page) == bool(token)
    assert "model.onnx" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#)([^"']+)""", page)
    assert "<script" not in server.ask("GET", "/docs", headers={"Host": "<script>"}).body.decode()


def examples(page: str) -> list[str]:
    """What a browser shows, and copies, of the page's commands and programs."""
    blocks = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", "", block)) for block in blocks]


@pytest.mark.parametrize(("program", "at"), [("curl", 0), ("python", 1), ("node", 2)])
def test_the_examples_run(server: Served, page: str, token: str, tmp_path: Path, program: str, at: int) -> None:
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"no {program}")
    example = examples(page)[at]
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    assert ("TOKEN" in example) == bool(token)
    (tmp_path / "example.mjs").write_text(example.replace("TOKEN", token))
    command = {"curl": ["sh", "-e"], "python": [sys.executable], "node": ["node"]}[program]
    done = subprocess.run(
        [*command, "example.mjs"],
        cwd=tmp_path,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    if program == "curl":
        whole, boxed, batch = [json.loads(text) for text in done.stdout.replace("}{", "}\n{").splitlines()]
        assert batch["images"][0]["instances"] == whole["instances"]
        assert batch["images"][1]["instances"] == boxed["instances"] != whole["instances"]
    else:
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["left", "right"]


def test_examples_say_what_was_refused(server: Served, page: str, tmp_path: Path, token: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"GIF89a")
    example = examples(page)[1].replace("TOKEN", token)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "no_proxy": "127.0.0.1"},
    )
    assert (done.returncode, done.stderr) == (1, "415: image: expected the bytes of a JPEG, PNG or WebP file\n")
