"""A corpus by processes: every picture once, the same bytes whoever finds them, whatever is killed or stopped on the way."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import heard

pytest.importorskip("pyarrow")

import fiducial
from fiducial.errors import Failure, UserError
from fiducial.prediction import corpus, parquet


@pytest.fixture
def pictures(blobs: Path, tmp_path: Path) -> Path:
    """The 80 pictures of blobs and one that is none."""
    folder = tmp_path / "pictures"
    shutil.copytree(blobs / "images", folder)
    (folder / "torn.png").write_bytes(b"\x89PNG not really")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SHARD", 16)


def test_every_picture_once_and_as_predict_finds_them(blob_onnx: Path, pictures: Path, tmp_path: Path) -> None:
    with heard() as lines:
        found = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "points.parquet", jobs=1)
    assert (found.images, found.instances, len(found.problems), found.shards) == (81, 80, 1, 6)
    assert any("torn.png" in line for line in lines)
    rows = parquet.read_rows(found.file)
    names = sorted(path.name for path in pictures.iterdir())
    assert sorted(row["file_name"] for row in rows) == names
    assert [row["image_id"] for row in rows] == list(range(1, 82))
    torn = next(row for row in rows if row["file_name"] == "torn.png")
    assert torn["keypoints"] is None
    assert "torn.png" in torn["problem"]
    assert not found.file.with_name("points.parquet.parts").exists()
    usual = fiducial.predict(blob_onnx, pictures, tmp_path / "found")
    points = {entry["file_name"]: entry["keypoints"] for entry in usual.results}
    for row in rows:
        if row["problem"] is None:
            np.testing.assert_array_equal(row["keypoints"], points[row["file_name"]])


def test_a_killed_worker_costs_nothing_but_time(
    blob_onnx: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "alone.parquet", jobs=1)
    sent: list[int] = []
    send = corpus.Worker.send

    def killing(self: Any, message: Any) -> None:
        send(self, message)
        if isinstance(message, dict) and "number" in message:
            sent.append(message["number"])
            if len(sent) == 3:
                os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(corpus.Worker, "send", killing)
    with heard() as lines:
        several = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "several.parquet", jobs=2)
    assert any("a worker was lost (killed by SIGKILL" in line for line in lines)
    assert len(sent) == 7, "one shard twice"
    assert several.file.read_bytes() == alone.file.read_bytes()


def test_stopped_it_goes_on_with_what_lacks(
    blob_onnx: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "points.parquet"
    whole = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "whole.parquet", jobs=1)

    def stopping(self: Any, message: Any) -> None:
        if isinstance(message, dict) and message.get("number") == 2:
            raise KeyboardInterrupt
        send(self, message)

    send = corpus.Worker.send
    with monkeypatch.context() as patch:
        patch.setattr(corpus.Worker, "send", stopping)
        with pytest.raises(KeyboardInterrupt):
            fiducial.predict_corpus(blob_onnx, pictures, out, jobs=1)
    assert not out.exists()
    (pictures / "torn.png").rename(tmp_path / "torn.png")
    with pytest.raises(UserError, match="count was 81 and is now 80"):
        fiducial.predict_corpus(blob_onnx, pictures, out, jobs=1)
    (tmp_path / "torn.png").rename(pictures / "torn.png")
    with heard() as lines:
        found = fiducial.predict_corpus(blob_onnx, pictures, out, jobs=1)
    assert "going on: 2 of 6 shards are there" in lines
    assert found.shards == 4
    assert out.read_bytes() == whole.file.read_bytes()


def test_a_shard_that_is_lost_again_and_again_is_named(
    blob_onnx: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = corpus.Worker.send

    def killing(self: Any, message: Any) -> None:
        send(self, message)
        if isinstance(message, dict) and message.get("number") == 1:
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(corpus.Worker, "send", killing)
    with heard(), pytest.raises(Failure, match=r"pictures 17 to 32 .*lost 3 times: killed by SIGKILL"):
        fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "points.parquet", jobs=1)


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "no cluster answers there"), ("somewhere", "expected local, auto, or HOST:PORT")],
)
def test_a_cluster_that_is_not_there_is_told(
    blob_onnx: Path, pictures: Path, tmp_path: Path, address: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "points.parquet", ray=address)
    assert not list(tmp_path.glob("points*"))


@pytest.mark.long
def test_ray_gives_the_same_bytes_with_a_worker_lost(
    blob_onnx: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker that takes the second shard dies of it."""
    ray = pytest.importorskip("ray")
    alone = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "alone.parquet", jobs=1)
    once = tmp_path / "once"

    def dying(task: dict[str, Any], shard: dict[str, Any]) -> dict[str, Any]:
        if shard["number"] == 1 and not once.exists():
            once.touch()
            os._exit(9)
        return corpus._in_ray(task, shard)

    monkeypatch.setattr(corpus, "IN_RAY", dying)
    try:
        several = fiducial.predict_corpus(blob_onnx, pictures, tmp_path / "ray.parquet", ray="local", jobs=2)
        assert once.exists()
        assert several.file.read_bytes() == alone.file.read_bytes()
    finally:
        ray.shutdown()
