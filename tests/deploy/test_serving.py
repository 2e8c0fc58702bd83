"""The server over a real socket: it answers what the runtime answers, refuses what it must by 4xx, and drains."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")
import uvicorn

from fiducial.deploy import runtime
from fiducial.deploy.runtime import Runtime
from fiducial.deploy.serving import app as application
from fiducial.deploy.serving.batching import Batcher
from fiducial.deploy.serving.pictures import Limits
from fiducial.types import Keypoints

LIMITS = Limits(max_bytes=300_000, max_pixels=500_000, max_boxes=5, max_images=3, max_in_flight=64, timeout_s=20)


class Served:
    """An application on a port of its own, in a thread."""

    def __init__(self, run: Runtime, limits: Limits = LIMITS) -> None:
        self.app = application.create(run, limits)
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        bound.listen(64)
        self.port = bound.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(self.app, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)

    def ask(self, target: str, body: bytes | None = None, kind: str = "image/png") -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or text), headers; POST where there is a body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET" if body is None else "POST", target, body, {"Content-Type": kind})
        response = connection.getresponse()
        data = response.read()
        text = response.getheader("content-type", "")
        connection.close()
        return response.status, json.loads(data) if "json" in text else data.decode(), dict(response.getheaders())


@pytest.fixture(scope="module")
def run(blob_onnx: Path) -> Runtime:
    return runtime.load(blob_onnx, threads=1)


@pytest.fixture(scope="module")
def served(run: Runtime) -> Iterator[Served]:
    made = Served(run)
    yield made
    made.stop()


def picture(seed: int = 0, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def form(fields: dict[str, list[bytes | str]]) -> tuple[bytes, str]:
    """A multipart body and its type; bytes are files."""
    body = b""
    for name, values in fields.items():
        for value in values:
            file = '; filename="a.png"' if isinstance(value, bytes) else ""
            body += f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
            body += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return body + b"--x--\r\n", "multipart/form-data; boundary=x"


def test_an_answer_is_the_runtimes(served: Served, run: Runtime) -> None:
    boxes = [[5.5, 4, 40, 40], [-10, 20, 60, 70]]
    status, found, _ = served.ask(f"/predict?boxes={quote(json.dumps(boxes))}", png(picture()))
    assert status == 200
    expected = run(picture(), np.array(boxes))
    np.testing.assert_allclose([each["xy"] for each in found["instances"]], expected.xy, atol=2e-3)
    np.testing.assert_allclose([each["score"] for each in found["instances"]], expected.score, atol=1e-4)
    assert (found["width"], found["height"], found["points"]) == (80, 60, ["red", "green", "blue"])
    body, kind = form({"image": [png(picture())], "boxes": [json.dumps(boxes)]})
    assert served.ask("/predict", body, kind)[1] == found, "a form says the same as raw bytes"
    assert len(served.ask("/predict", png(picture()))[1]["instances"]) == 1, "no boxes: the whole picture"
    assert served.ask("/predict?boxes=[]", png(picture()))[1]["instances"] == []


def test_a_batch_is_each_alone(served: Served) -> None:
    body, kind = form({"images": [png(picture(1)), png(picture(2, 40, 50))], "boxes": ["[[[1,2,30,30]], null]"]})
    status, found, _ = served.ask("/predict/batch", body, kind)
    assert status == 200
    assert found["images"][0] == served.ask("/predict?boxes=[[1,2,30,30]]", png(picture(1)))[1]
    assert found["images"][1] == served.ask("/predict", png(picture(2, 40, 50)))[1]


REFUSED = {
    "nothing": ("/predict", b"", "image/png", 422, "is empty"),
    "no picture": ("/predict", b"hello", "image/png", 415, "JPEG or PNG"),
    "cut short": ("/predict", png(picture())[:-400], "image/png", 422, "fetch or export"),
    "a bomb": ("/predict", png(picture())[:16] + b"\0\1\0\0\0\1\0\0" + png(picture())[24:], "image/png", 413, "pixels"),
    "bytes": ("/predict", b"\xff\xd8" + bytes(400_000), "image/jpeg", 413, "bytes"),
    "three numbers": ("/predict?boxes=[[1,2,3]]", png(picture()), "image/png", 422, "expected [[x, y, width, height]"),
    "NaN": ("/predict?boxes=[[1,2,NaN,3]]", png(picture()), "image/png", 422, "finite"),
    "huge": ("/predict?boxes=[[1,2,1e30,3]]", png(picture()), "image/png", 422, "finite numbers below"),
    "no area": ("/predict?boxes=[[1,2,0,3]]", png(picture()), "image/png", 422, "no area"),
    "no JSON": ("/predict?boxes=[[1,2", png(picture()), "image/png", 422, "no JSON"),
    "deep": ("/predict?boxes=" + "[" * 3000, png(picture()), "image/png", 422, "boxes"),
    "many": ("/predict?boxes=" + quote(json.dumps([[0, 0, 5, 5]] * 6)), png(picture()), "image/png", 422, "limit of 5"),
    "text for a file": ("/predict", *form({"image": ["text"]}), 422, "expected a file"),
    "broken form": ("/predict", b"--x\r\nnothing", "multipart/form-data", 400, "boundary"),
    "raw batch": ("/predict/batch", png(picture()), "image/png", 415, "multipart"),
    "four images": ("/predict/batch", *form({"images": [png(picture())] * 4}), 422, "1 to 3 files"),
    "boxes of one": ("/predict/batch", *form({"images": [png(picture())] * 2, "boxes": ["[null]"]}), 422, "each of the 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_in_words(served: Served, name: str) -> None:
    target, body, kind, expected, words = REFUSED[name]
    status, found, _ = served.ask(target, body, kind)
    assert status == expected
    assert words in found["detail"]
    assert served.ask("/health")[0] == 200


def test_bytes_are_counted_where_none_are_declared(served: Served) -> None:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    chunks = iter([b"\xff\xd8", *[bytes(50_000)] * 10])
    connection.request("POST", "/predict", chunks, {"Content-Type": "image/jpeg"}, encode_chunked=True)
    assert connection.getresponse().status == 413


class Slow:
    """A network that says when it was asked, and waits."""

    runtime, path = "slow", Path("slow")

    def __init__(self, run: Runtime, seconds: float) -> None:
        self.card, self.run, self.seconds, self.batches = run.card, run, seconds, []

    def predict(self, crops: np.ndarray) -> Keypoints:
        self.batches.append(len(crops))
        time.sleep(self.seconds)
        return self.run.network.predict(crops)


def test_requests_share_batches_and_too_many_get_429(run: Runtime) -> None:
    network = Slow(run, 0.3)
    served = Served(Runtime(network), Limits(max_in_flight=6))
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: served.ask("/predict", png(picture(i))), range(12)))
    statuses = [status for status, _, _ in answers]
    assert statuses.count(200) == 6
    assert statuses.count(429) == 6
    assert all(headers["retry-after"] == "1" for status, _, headers in answers if status == 429)
    assert sum(network.batches) == 6
    assert len(network.batches) < 6, "those that waited went together"
    for i, (status, found, _) in enumerate(answers):
        if status == 200:
            np.testing.assert_allclose(found["instances"][0]["xy"], run(picture(i)).xy[0], atol=2e-3)
    served.stop()


def test_a_request_that_takes_too_long_gets_504(run: Runtime) -> None:
    served = Served(Runtime(Slow(run, 1.0)), Limits(timeout_s=0.2))
    assert served.ask("/predict", png(picture()))[0] == 504
    served.stop()


def test_a_network_that_fails_fails_its_batch_alone(run: Runtime) -> None:
    class Failing(Slow):
        def predict(self, crops: np.ndarray) -> Keypoints:
            if crops.max() == 0:
                raise RuntimeError("black")
            return super().predict(crops)

    batcher = Batcher(Failing(run, 0.0), 4)
    size = run.card.spec.size
    bad = batcher.submit(np.zeros((1, size.h, size.w, 3), np.uint8))
    with pytest.raises(RuntimeError, match="black"):
        bad.result(10)
    assert batcher.submit(np.ones((2, size.h, size.w, 3), np.uint8)).result(10).xy.shape == (2, 3, 2)
    batcher.stop()


def test_card_interface_and_measures(served: Served) -> None:
    card = served.ask("/model")[1]
    assert card["runtime"] == "onnxruntime"
    assert card["spec"]["skeleton"]["points"] == ["red", "green", "blue"]
    assert "/predict/batch" in served.ask("/openapi.json")[1]["paths"]
    served.ask("/predict", png(picture()))
    text = served.ask("/metrics")[1]
    assert re.search(r'fiducial_requests_total\{code="200",endpoint="predict"\} \d', text)
    assert "fiducial_batch_crops_bucket" in text
    assert "<canvas" in served.ask("/")[1]


def test_heatmaps_where_the_model_has_them(blobs: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from fiducial.geometry import Size
    from fiducial.models import detector as detectors
    from fiducial.models.card import Card, DetectorSpec
    from fiducial.types import Skeleton

    torch.manual_seed(0)
    spec = DetectorSpec("mobilenetv3_small_050", "heatmap", {}, Size(64, 64), Skeleton("blobs", ("a", "b", "c")))
    detector = detectors.build(spec).eval()
    detectors.save(detector, tmp_path / "run", Card(detector.spec))
    served = Served(runtime.load(tmp_path / "run"))
    found = served.ask("/predict?heatmap=true&boxes=[[4,6,32,24]]", png(picture()))[1]
    np.testing.assert_allclose(found["heatmap"]["box"], [0, -2, 40, 40], atol=1e-6)  # the box enlarged by 1.25, then square
    assert served.ask("/model")[1]["heatmaps"] is True
    served.stop()


def test_sigterm_drains(blob_onnx: Path) -> None:
    """A request that was under way is answered, then the process ends by itself."""
    command = [sys.executable, "-m", "fiducial.cli", "serve", str(blob_onnx), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    port = int(re.search(r"http://127.0.0.1:(\d+)", server.stderr.readline())[1])  # type: ignore[index]
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    data = png(picture(3, 400, 500))
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:1000])
    time.sleep(1.0)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    connection.send(data[1000:])
    assert connection.getresponse().status == 200
    assert server.wait(20) == 0


@pytest.mark.parametrize(
    ("options", "words"), [(["--port", "99999"], "99999"), (["--host", "no.such.host.invalid"], "can't be taken")]
)
def test_addresses_that_can_not_be_taken(options: list[str], words: str, blob_onnx: Path) -> None:
    command = [sys.executable, "-m", "fiducial.cli", "serve", str(blob_onnx), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
