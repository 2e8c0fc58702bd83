"""Pictures of a corpus in stores and tables: the same points as of the same files in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from heard import heard

pytest.importorskip("pyarrow")

import pyarrow as pa
from pyarrow import parquet as pq

import fiducial
from fiducial.errors import Failure, UserError
from fiducial.prediction import corpus, parquet, pictures

BUCKET = "archive"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD", 7)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # nobody is asked who we are


@pytest.fixture
def folder(blobs: Path, tmp_path: Path) -> Path:
    """20 pictures of blobs, in two folders, and one that is none."""
    for place, path in enumerate(sorted((blobs / "images").iterdir())[:20]):
        to = tmp_path / "pictures" / ("a" if place % 2 else "b") / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)
    (tmp_path / "pictures/a/torn.png").write_bytes(b"\x89PNG not really")
    return tmp_path / "pictures"


@pytest.fixture
def store(folder: Path) -> Iterator[str]:
    """The folder as objects of a store, behind the part of S3's protocol that a reader uses."""
    objects = {f"some/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.png")}
    objects["some/notes.txt"] = b"of the pictures"
    with Serving(objects) as address:
        yield address


class Serving:
    """An S3 of one bucket: HEAD, GET with ranges, and ListObjectsV2."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                url = urllib.parse.urlsplit(self.path)
                asked = urllib.parse.parse_qs(url.query)
                key = urllib.parse.unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
                if "list-type" in asked:
                    prefix = asked.get("prefix", [""])[0]
                    within = {name: data for name, data in sorted(objects.items()) if name.startswith(prefix)}
                    listed = "".join(
                        f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size></Contents>"
                        for name, data in within.items()
                    )
                    counts = f"<KeyCount>{len(within)}</KeyCount><IsTruncated>false</IsTruncated>"
                    self._answer(200, f"<ListBucketResult>{counts}{listed}</ListBucketResult>".encode())
                elif not key:
                    self._answer(200, b"")
                elif key not in objects:
                    self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>")
                else:
                    data = objects[key]
                    if asked_bytes := self.headers.get("Range"):
                        first, _, last = asked_bytes.removeprefix("bytes=").partition("-")
                        self._answer(206, data[int(first) : int(last or len(data)) + 1])
                    else:
                        self._answer(200, data)

            def _answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        port = self._server.server_address[1]
        return f"s3://me:secret@{BUCKET}/some?scheme=http&endpoint_override=127.0.0.1:{port}&region=x"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def points_of(file: Path) -> dict[str, Any]:
    return {row["file_name"]: row["keypoints"] for row in parquet.read_rows(file)}


def test_a_store_gives_the_bytes_of_the_folder(blob_onnx: Path, folder: Path, store: str, tmp_path: Path) -> None:
    here = fiducial.predict_corpus(blob_onnx, folder, tmp_path / "here.parquet", jobs=1)
    with heard() as lines:
        there = fiducial.predict_corpus(blob_onnx, store, tmp_path / "there.parquet", jobs=2)
    assert (there.images, there.shards, len(there.problems)) == (21, 3, 1)
    assert f"s3://{BUCKET}/some: 1 of its 22 objects are by name no pictures, and left out" in lines
    assert not any("secret" in line for line in lines)
    assert points_of(there.file) == points_of(here.file)


def test_an_object_that_has_gone_is_told_and_the_others_are_found(
    blob_onnx: Path, folder: Path, tmp_path: Path
) -> None:
    objects = {f"some/{path.name}": path.read_bytes() for path in (folder / "b").iterdir()}
    gone = sorted(objects)[3]
    with Serving(objects) as address:
        found = pictures.find([address])
        del objects[gone]
        opened = [(picture.name, source) for picture, source in pictures.open_each(found)]
    for name, source in opened:
        assert source.read is not None
        if f"some/{name}" == gone:
            with pytest.raises(UserError, match="can't be read"):
                source.read()
        else:
            assert source.read() == objects[f"some/{name}"]


def test_a_store_that_goes_away_is_a_failure_that_can_go_on() -> None:
    deaf = f"s3://me:secret@{BUCKET}/some?scheme=http&endpoint_override=127.0.0.1:1&region=x"
    with pytest.raises(Failure, match=r"a\.png: the store does not answer") as told:
        list(pictures.open_each([pictures.Picture("a.png", f"{BUCKET}/some/a.png", deaf)]))
    assert not isinstance(told.value, UserError)


@pytest.mark.parametrize("layout", ["bytes", "image"])
def test_tables_give_the_points_of_the_files(blob_onnx: Path, folder: Path, tmp_path: Path, layout: str) -> None:
    here = points_of(fiducial.predict_corpus(blob_onnx, folder, tmp_path / "here.parquet", jobs=1).file)
    files = sorted(folder.rglob("*.png"))
    names = [file.relative_to(folder).as_posix() for file in files]
    held: list[Any] = [file.read_bytes() for file in files]
    if layout == "image":  # as Hugging Face's data sets write it
        held = [{"bytes": data, "path": name} for data, name in zip(held, names, strict=True)]
    tables = tmp_path / "tables"
    tables.mkdir()
    for number, part in enumerate((slice(0, 13), slice(13, None))):
        table = pa.table({"image": held[part], "mask": [b"no picture"] * len(held[part]), "label": names[part]})
        pq.write_table(table, tables / f"{number}.parquet", row_group_size=5)
    for given in (tables, f"file://{tables}"):
        found = fiducial.predict_corpus(blob_onnx, given, tmp_path / f"{layout}.parquet", jobs=1)
        assert found.images == len(names)
        by_row = points_of(found.file)
        assert list(by_row) == [f"0.parquet#{row:06d}" for row in range(13)] + [
            f"1.parquet#{row:06d}" for row in range(8)
        ]
        assert list(by_row.values()) == [here[name] for name in names]


def test_files_tables_and_addresses_are_one_corpus_each_once(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "more.parquet"
    pq.write_table(pa.table({"jpg": [b"1", None]}), table)
    some = folder / "b"
    found = pictures.find([str(some), str(table), f"file://{folder}/b", str(some)])
    here = len(list(some.iterdir()))
    assert len(found) == here + 2 + here, "a store's objects are not compared with files"
    assert len({picture.name for picture in found}) == len(found)
    rows = [source.read for _, source in pictures.open_each(found) if source.name.startswith("more")]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0]() == b"1"
    with pytest.raises(UserError, match=r"more\.parquet#000001: the row holds no picture"):
        rows[1]()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": ["a"]}, "no column holds pictures' files as bytes; it has label"),
        (
            {"front": [b"a"], "back": [b"b"]},
            r"several columns hold bytes \(front, back\); name that of the pictures image",
        ),
        ({"mask": [b"a"]}, None),
    ],
)
def test_which_column_is_told(tmp_path: Path, columns: dict[str, Any], words: str | None) -> None:
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), table)
    if words is None:
        assert len(pictures.find([str(table)])) == 1
        return
    with pytest.raises(UserError, match=words):
        pictures.find([str(table)])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://a.org/x", r"https://a\.org/x: not a store that is read"),
        ("file:///nowhere/at/all", "file:///nowhere/at/all: nothing is there"),
    ],
)
def test_addresses_that_hold_nothing(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pictures.find([address])


def test_a_table_that_is_none_and_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"t\.parquet: can't be read as a Parquet table"):
        pictures.find([str(tmp_path / "t.parquet")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures or tables among its 0 objects"):
        pictures.find([f"file://{tmp_path}/empty"])


def test_the_command_names_no_secret(blob_onnx: Path, tmp_path: Path) -> None:
    asked = "s3://me:secret@nobody/x?endpoint_override=127.0.0.1:1&scheme=http&region=x"
    command = [
        sys.executable,
        "-m",
        "fiducial.cli",
        "predict",
        str(blob_onnx),
        asked,
        "--out",
        str(tmp_path / "p.parquet"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120, check=False)
    assert done.returncode == 2
    assert "s3://nobody/x: can't be read" in done.stderr
    assert "secret" not in done.stderr
    assert json.dumps(asked) not in done.stderr
    assert not list(tmp_path.iterdir())
