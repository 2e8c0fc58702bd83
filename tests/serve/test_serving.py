"""A served model: the very points of the runtime, to everyone their own; no request breaks it, none is lost at the end."""

from __future__ import annotations

import errno
import json
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from hostile import pictures
from runtime.test_without_torch import COMMAND, PRELUDE
from serve.served import Pacer, Served, encoded, grey, served, until

from fiducial.data.images import decode_image
from fiducial.runtime import runtime
from fiducial.serve import uploads
from fiducial.serve.limits import Limits

PICTURE = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
BOXES = [[3.5, 2, 30, 25], [-10, 4, 40, 60]]


@pytest.fixture(scope="module")
def network(blob_onnx: Path) -> Any:
    return runtime.load(blob_onnx).network


@pytest.fixture(scope="module")
def server(network: Any) -> Iterator[Served]:
    limits = Limits(max_bytes=100_000, max_pixels=100_000, max_boxes=4, max_images=3)
    with served(network, limits) as found:
        yield found


def points(answer: dict[str, Any]) -> np.ndarray:
    """[n, k, 3]: x, y, score."""
    each = [[(p["x"], p["y"], p["score"]) for p in instance["points"]] for instance in answer["instances"]]
    return np.array(each) if each else np.empty((0, 3, 3))


def expected(network: Any, data: bytes, boxes: list[list[float]] | None = None) -> np.ndarray:
    found = runtime.Runtime(network)(decode_image(data, "image"), None if boxes is None else np.array(boxes))
    return np.concatenate([found.xy, found.score[..., None]], -1)


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=6e-4, rtol=0)  # answers are rounded to 1/1000 px


# What is answered


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_the_points_are_the_runtimes(server: Served, network: Any, kind: str) -> None:
    data = encoded(PICTURE, kind)
    reply = server.post("/predict", data)
    assert (reply.status, reply.json["size"]) == (200, [60, 40])
    assert [p["name"] for p in reply.json["instances"][0]["points"]] == ["red", "green", "blue"]
    assert_same(points(reply.json), expected(network, data))
    quoted = json.dumps(BOXES).replace(" ", "%20")
    for reply in (
        server.post(f"/predict?boxes={quoted}", data),
        server.form("/predict", ("image", data), ("boxes", json.dumps(BOXES))),
    ):
        assert reply.status == 200
        assert_same(points(reply.json), expected(network, data, BOXES))


def test_no_boxes_no_instances(server: Served) -> None:
    assert server.post("/predict?boxes=[]", encoded(PICTURE)).json["instances"] == []


def test_an_exif_rotation_is_done(server: Served, network: Any) -> None:
    jpeg = encoded(PICTURE, ".jpg")
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    reply = server.post("/predict", turned)
    assert reply.json["size"] == [40, 60]
    assert_same(points(reply.json), expected(network, turned))


def test_a_batch(server: Served, network: Any) -> None:
    files = [encoded(PICTURE), encoded(PICTURE[:, ::-1], ".jpg"), grey(90)]
    boxes = [BOXES, None, []]
    reply = server.form("/predict/batch", *(("images", file) for file in files), ("boxes", json.dumps(boxes)))
    assert reply.status == 200
    for answer, file, of in zip(reply.json["images"], files, boxes, strict=True):
        assert_same(points(answer), expected(network, file, of))


def test_many_at_a_time_get_their_own(server: Served, network: Any) -> None:
    generator = np.random.default_rng(2)
    files = [encoded(generator.integers(0, 256, (30 + i, 50 - i, 3), dtype=np.uint8)) for i in range(24)]
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda file: server.post("/predict", file), files * 3))
    assert {reply.status for reply in replies} == {200}
    for reply, file in zip(replies, files * 3, strict=True):
        assert_same(points(reply.json), expected(network, file))


def test_a_crowd_shares_batches() -> None:
    network = Pacer()
    with served(network) as server, ThreadPoolExecutor(24) as pool:
        network.open.clear()
        asked = [pool.submit(server.post, "/predict", grey(20 + i)) for i in range(24)]
        until(lambda: "fiducial_in_flight 24.0" in server.get("/metrics").body.decode())
        network.open.set()
        found = [points(each.result().json)[0, :, :2] for each in asked]
        metrics = server.get("/metrics").body.decode()
    # The crop is half the picture: its px x is the picture's 2 x + 0.5.
    np.testing.assert_allclose([xy[0, 0] for xy in found], 2 * np.arange(20, 44) + 0.5)
    assert len(network.batches) <= 2 + 3
    assert 'fiducial_requests_total{code="200",endpoint="predict"} 24.0' in metrics
    assert f"fiducial_batch_crops_count {len(network.batches) - 2}.0" in metrics  # two were to warm up
    assert "fiducial_batch_crops_sum 24.0" in metrics


# What is told


def test_facts(server: Served, network: Any) -> None:
    card = server.get("/model").json
    assert card["spec"]["skeleton"]["points"] == ["red", "green", "blue"]
    assert (card["licence"], card["terms"]) == ("not stated", "not stated")
    assert (card["runtime"], card["heatmaps"]) == ("onnxruntime", False)
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/ready").json == {"ready": True, "in_flight": 0}
    interface = server.get("/openapi.json").json
    operation = interface["paths"]["/predict"]["post"]
    assert set(operation["responses"]) >= {"200", "400", "401", "408", "413", "415", "422", "503"}
    assert "image/webp" in operation["requestBody"]["content"]
    assert set(interface["components"]["schemas"]["Point"]["properties"]) == {
        "name",
        "x",
        "y",
        "score",
        "sigma",
        "radius_90",
        "visibility",
        "correlation",
    }


def test_the_page_fetches_nothing_from_elsewhere(server: Served) -> None:
    page = server.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.body.decode())
    assert links
    assert not [link for link in links if "//" in link]


# What is refused

GOOD = encoded(PICTURE)


def png_of_size(width: int, height: int) -> bytes:
    """A header that promises this, and next to no data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("target", "body", "status", "words"),
    [
        ("/predict", b"", 422, "image: is empty"),
        ("/predict", b"GIF89a" + bytes(50), 415, "expected the bytes of a JPEG, PNG or WebP file"),
        ("/predict", b'{"url": "http://127.0.0.1/x.jpg"}', 415, "expected the bytes"),
        ("/predict", GOOD[:20], 422, "the PNG is cut off"),
        ("/predict", GOOD[:500], 422, "the PNG is cut off"),
        ("/predict", encoded(PICTURE, ".jpg")[:-50], 422, "cut off"),
        ("/predict", encoded(PICTURE, ".webp")[:-50], 422, "image"),
        ("/predict", png_of_size(60_000, 60_000), 413, "the limit is 100000 pixels"),
        ("/predict", png_of_size(70_000, 1), 413, "the limit is 100000 pixels"),
        ("/predict", png_of_size(2**31 - 1, 2**31 - 1), 422, "not a picture"),
        ("/predict", png_of_size(0, 5), 422, "not a picture"),
        ("/predict", png_of_size(50, 50), 422, "image"),
        ("/predict", GOOD + bytes(100_000), 413, "the limit is 100000 bytes"),
        ("/predict?boxes=[[1,2,3]]", GOOD, 422, "boxes: expected [[x, y, width, height], ..]"),
        ("/predict?boxes=[[1,2,NaN,4]]", GOOD, 422, "boxes"),
        ("/predict?boxes=[[0,0,Infinity,5]]", GOOD, 422, "boxes"),
        ("/predict?boxes=[[0,0,1e400,5]]", GOOD, 422, "boxes"),
        ("/predict?boxes=[[0,0,1" + "0" * 400 + ",5]]", GOOD, 422, "boxes"),
        ("/predict?boxes=[[0,0,1e300,5]]", GOOD, 422, "numbers up to 1,000,000 px"),
        ("/predict?boxes=[[0,0,-5,5]]", GOOD, 422, "positive width and height"),
        ("/predict?boxes=[[0,0,0,5]]", GOOD, 422, "positive width and height"),
        ("/predict?boxes=[[true,0,5,5]]", GOOD, 422, "boxes"),
        ("/predict?boxes=%22..%22", GOOD, 422, "boxes"),
        ("/predict?boxes=%ff%fe", GOOD, 422, "boxes"),
        ("/predict?boxes=" + "[" * 3000, GOOD, 422, "boxes"),
        ("/predict?boxes=[" + ",".join(["[0,0,9,9]"] * 5) + "]", GOOD, 422, "there are 5; the limit is 4"),
        ("/predict/batch", GOOD, 415, "multipart/form-data"),
        ("/model", GOOD, 405, "Method Not Allowed"),
        ("/nowhere", GOOD, 404, "Not Found"),
    ],
)
def test_refused(server: Served, target: str, body: bytes, status: int, words: str) -> None:
    reply = server.post(target, body)
    assert (reply.status, list(reply.json)) == (status, ["detail"]), reply.body
    assert words in reply.json["detail"]
    assert "\n" not in reply.json["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ([], 422, "images: expected 1 to 3 files, got 0"),
        ([("images", GOOD)] * 4, 422, "images: expected 1 to 3 files, got 4"),
        ([("images", GOOD)] * 9, 400, "the form can't be read"),
        ([("images", "text")], 422, "images[0]: expected a file"),
        ([("images", GOOD), ("images", b"?")], 415, "images[1]: expected the bytes"),
        ([("images", GOOD), ("boxes", "[null, null]")], 422, "of 2 images; there are 1"),
        ([("images", GOOD), ("boxes", b"[null]")], 422, "boxes: expected text"),
        (
            [("images", GOOD)] * 3 + [("boxes", "[null, [[0,0,9,9], [0,0,9,9]], [[0,0,9,9], [0,0,8,8]]]")],
            422,
            "limit is 4",
        ),
        ([("images", GOOD)] + [(f"more{i}", "x") for i in range(9)], 400, "the form can't be read"),
    ],
)
def test_a_batch_refused(server: Served, fields: list[Any], status: int, words: str) -> None:
    reply = server.form("/predict/batch", *fields)
    assert (reply.status, list(reply.json)) == (status, ["detail"]), reply.body
    assert words in reply.json["detail"]


def test_a_body_in_chunks_is_counted(server: Served) -> None:
    """A client need not say how long its body is."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")
        connection.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_the_decoder_itself_decides_and_others_are_answered_meanwhile(server: Served) -> None:
    """What no reader of headers sees: the size behind a strange marker, thousands of scans, a header that lies."""
    bombs = {
        "large": (pictures.large_jpeg(32_760), 413),
        "scans": (pictures.many_scans(side=300, scans=300_000), 422),
        "webp": (pictures.whole("webp")[:24] + b"\x7f\x3e\0\x7f\x3e\0" + pictures.whole("webp")[30:], 413),
    }
    with served(Pacer(), Limits(max_bytes=20_000_000)) as own, ThreadPoolExecutor(4) as pool:
        asked = {name: pool.submit(own.post, "/predict", data) for name, (data, _) in bombs.items()}
        assert own.post("/predict", grey(50)).status == 200
        replies = {name: reply.result() for name, reply in asked.items()}
        assert own.post("/predict", grey(50)).status == 200
    assert {name: reply.status in (status, 422) for name, (_, status) in bombs.items() if (reply := replies[name])}
    assert replies["large"].status == 413
    assert replies["scans"].status == 422
    assert "decoding it takes more than 0.5 s" in replies["scans"].json["detail"]


def test_a_large_image_is_decoded_apart(network: Any) -> None:
    """More pixels than the quick processes decode, and bytes of scans where there are none: the same points."""
    picture = cv2.resize(PICTURE, (2100, 1100))
    assert picture.shape[0] * picture.shape[1] > uploads.LIGHT_PIXELS
    jpeg, noise = encoded(picture, ".jpg"), b"\xff\xda" * 500
    comment = b"\xff\xfe" + struct.pack(">H", len(noise) + 2) + noise
    with served(network) as own:
        for data in (jpeg, jpeg + noise, jpeg[:2] + comment + jpeg[2:]):
            assert_same(points(own.post("/predict", data).json), expected(network, jpeg))


def test_no_broken_request_breaks_the_server(server: Served, network: Any) -> None:
    """Good requests with bytes changed, cut out, doubled; whatever it is, it is the client's fault or it is answered."""
    dice = random.Random(0)
    files = [encoded(PICTURE, kind) for kind in (".png", ".jpg", ".webp")]
    for _ in range(300):
        data = bytearray(dice.choice(files))
        for _ in range(dice.randrange(1, 6)):
            place = dice.randrange(len(data))
            change = dice.choice(["set", "cut", "double", "long"])
            if change == "set":
                data[place] = dice.randrange(256)
            elif change == "cut":
                del data[place : place + dice.randrange(1, 200)]
            elif change == "double":
                data[place:place] = data[place : place + dice.randrange(1, 200)]
            else:
                data[place : place + 4] = dice.randbytes(4)
            data = data or bytearray(b"\0")
        boxes = "".join(dice.choice("[]0123456789,.-eE ") for _ in range(dice.randrange(30))).replace(" ", "%20")
        target = dice.choice(["/predict", "/predict", f"/predict?boxes={boxes}", f"/predict?boxes=[[{boxes}]]"])
        reply = server.post(target, bytes(data))
        assert reply.status in (200, 413, 415, 422), (reply, target)
    assert_same(points(server.post("/predict", GOOD).json), expected(network, GOOD))


@pytest.mark.parametrize("box", [[-1e6, -1e6, 1e6, 1e6], [1e6, 1e6, 1e-3, 1e-3], [0, 0, 1e6, 1e-3], [5, 5, 1e-3, 1e6]])
@pytest.mark.parametrize("size", [(1, 1), (65_535, 1), (1, 65_535), (60, 40)])
def test_odd_boxes_on_odd_pictures_are_answered(server: Served, box: list[float], size: tuple[int, int]) -> None:
    data = grey(90, *size)
    for target in ("/predict", f"/predict?boxes={json.dumps([box]).replace(' ', '')}"):
        reply = server.post(target, data)
        assert reply.status == 200, reply.body
        assert np.isfinite(points(reply.json)).all()


# What happens when it is too much, too late, or over


def test_too_many_at_a_time_are_sent_away() -> None:
    network = Pacer()
    with served(network, Limits(max_in_flight=3)) as server, ThreadPoolExecutor(3) as pool:
        network.open.clear()
        asked = [pool.submit(server.post, "/predict", grey(50)) for _ in range(3)]
        until(lambda: server.get("/ready").json["in_flight"] == 3)
        assert server.get("/ready").status == 503
        reply = server.post("/predict", grey(50))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "too many requests" in reply.json["detail"]
        assert server.get("/health").status == 200
        network.open.set()
        assert [each.result().status for each in asked] == [200] * 3
        assert server.post("/predict", grey(50)).status == 200
        assert server.get("/ready").json == {"ready": True, "in_flight": 0}


def test_too_late() -> None:
    network = Pacer()
    with served(network, Limits(timeout_s=0.5)) as server:
        network.open.clear()
        reply = server.post("/predict", grey(50))
        assert (reply.status, reply.json) == (503, {"detail": "not answered within 0.5 s"})
        network.open.set()
        assert server.post("/predict", grey(50)).status == 200
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nno more")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
        metrics = server.get("/metrics").body.decode()
        assert all(f'fiducial_requests_total{{code="{code}"' in metrics for code in (200, 408, 503))


def test_a_full_disk_is_told(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", full)
    reply = server.form("/predict", ("image", GOOD))
    assert (reply.status, reply.json) == (503, {"detail": "the server has no room: No space left on device"})
    monkeypatch.undo()
    assert server.form("/predict", ("image", GOOD)).status == 200


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    network = Pacer()
    with served(network) as server:
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nno more")
        until(lambda: 'code="400",endpoint="predict"} 1.0' in server.get("/metrics").body.decode())
        assert server.get("/ready").json["in_flight"] == 0


def test_a_network_that_fails_is_told_and_serves_on() -> None:
    with served(Pacer()) as server:
        reply = server.post("/predict", grey(13))
        assert (reply.status, reply.json) == (500, {"detail": "the server failed; its log says where"})
        assert server.post("/predict", grey(50)).status == 200
        assert 'fiducial_requests_total{code="500",endpoint="predict"} 1.0' in server.get("/metrics").body.decode()


SLOW = """
import logging, sys, time
from pathlib import Path
from serve.served import Pacer
from fiducial.runtime import runtime
from fiducial.serve import server
from fiducial.serve.limits import Limits
class Slow(Pacer):
    def predict(self, crops):
        time.sleep(0 if crops.max() < 40 else 2)
        return super().predict(crops)
runtime.load = lambda model, threads: runtime.Runtime(Slow())
logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
server.serve(Path("slow"), "127.0.0.1", 0, Limits())
print("ended")
"""


def test_sigterm_finishes_what_was_accepted_and_refuses_what_comes() -> None:
    tests = Path(__file__).resolve().parents[1]
    process = subprocess.Popen([sys.executable, "-c", SLOW], cwd=tests, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        server = Served(int(found[1]))
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(server.post, "/predict", grey(50))
            until(lambda: server.get("/ready").json["in_flight"] == 1)
            process.send_signal(signal.SIGTERM)
            until(lambda: not server.get("/ready").json["ready"])
            late = server.post("/predict", grey(20))
            assert (late.status, late.json) == (503, {"detail": "the server is stopping"})
            assert not accepted.done()
            assert accepted.result().status == 200
        assert process.wait(20) == 0
        assert process.stdout.read() == "ended\n"
    finally:
        process.kill()
        process.communicate()


# The command


def test_the_command_serves_without_torch(blob_onnx: Path) -> None:
    command = [sys.executable, "-c", COMMAND, "serve", str(blob_onnx), "--port", "0", "--max-pixels", "500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
        assert found is not None
        server = Served(int(found[1]))
        assert server.post("/predict", grey(50)).status == 200
        assert server.post("/predict", grey(50, 30, 30)).status == 413
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == "[]\n"
    finally:
        process.kill()
        process.communicate()


def call(code: str, *arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr.splitlines()[0]


def test_wrong_commands(blob_onnx: Path, tmp_path: Path) -> None:
    code, line = call(COMMAND, "serve", tmp_path / "no.onnx")
    assert (code, "no such file or folder" in line) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = call(COMMAND, "serve", blob_onnx, "--port", port)
    assert code == 2
    assert line.startswith(f"fiducial: --host 127.0.0.1 --port {port}: can't be taken")
    assert "--port 0" in line
    code, line = call(COMMAND, "serve", blob_onnx, "--host", "nowhere.invalid")
    assert (code, "can't be taken" in line) == (2, True)


def test_the_extra_is_named(blob_onnx: Path) -> None:
    without = PRELUDE.replace("('torch',", "('fastapi', 'torch',")
    code, line = call(without + "from fiducial.cli import main\nmain()\n", "serve", blob_onnx)
    assert (code, line) == (2, "fiducial: fastapi is not installed: pip install 'fiducial[serve]'")
