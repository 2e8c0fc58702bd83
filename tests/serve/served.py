"""A server in a thread of the test, a network whose pace the test sets, and a client that sees statuses and headers."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fiducial.card import Card, DetectorSpec
from fiducial.geometry import Size
from fiducial.runtime.runtime import Runtime
from fiducial.serve.limits import Limits
from fiducial.types import Keypoints, Skeleton


class Pacer:
    """A network whose two points are functions of the crop: its brightness. It waits for `open`, and notes its batches."""

    runtime, path = "pacer", Path("pacer")

    def __init__(self) -> None:
        skeleton = Skeleton("pair", ("left", "right"), edges=((0, 1),))
        self.card = Card(DetectorSpec("none", "brightness", {}, Size(8, 6), skeleton))
        self.open, self.batches = threading.Event(), list[int]()
        self.open.set()

    def predict(self, crops: np.ndarray) -> Keypoints:
        assert self.open.wait(20)
        self.batches.append(len(crops))
        if (crops == 13).all():
            raise RuntimeError("unlucky")
        mean = crops.reshape(len(crops), -1).mean(1)
        xy = np.stack([np.stack([mean, mean * 0], -1), np.stack([mean * 0, mean], -1)], 1)
        return Keypoints(xy, np.full((len(crops), 2), 0.5), np.ones_like(xy))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]  # lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """Where a server listens."""

    port: int

    def get(self, target: str) -> Reply:
        return self.ask("GET", target)

    def post(self, target: str, body: bytes, kind: str = "application/octet-stream") -> Reply:
        return self.ask("POST", target, body, {"Content-Type": kind})

    def ask(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, body, headers or {})
            found = connection.getresponse()
            return Reply(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def form(self, target: str, *fields: tuple[str, str | bytes]) -> Reply:
        """Bytes are files, texts are texts."""
        body = b""
        for name, value in fields:
            file = b'; filename="x"\r\nContent-Type: application/octet-stream' if isinstance(value, bytes) else b""
            data = value if isinstance(value, bytes) else value.encode()
            body += (
                b'--edge\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + file + b"\r\n\r\n" + data
            ) + b"\r\n"
        return self.post(target, body + b"--edge--\r\n", "multipart/form-data; boundary=edge")


@contextmanager
def served(network: Any, limits: Limits | None = None, token: str = "", room: int = 0) -> Iterator[Served]:
    """In a thread, until the block ends. `room`: bytes that the network holds of an answer, by default its own choice."""
    from fiducial.serve import app as application
    from fiducial.serve.server import uvicorn_of

    limits = limits or Limits()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        if room:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        app = application.create(Runtime(network), limits, token)
        server = uvicorn_of(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield Served(bound.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def encoded(picture: np.ndarray, kind: str = ".png", *settings: int) -> bytes:
    """An RGB picture as a file's bytes."""
    done, data = cv2.imencode(kind, np.ascontiguousarray(picture[:, :, ::-1]), settings)
    assert done
    return data.tobytes()


def grey(level: int, width: int = 16, height: int = 12) -> bytes:
    return encoded(np.full((height, width, 3), level, np.uint8))


def until(true: Any, seconds: float = 10) -> None:
    """Waits until `true()` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
