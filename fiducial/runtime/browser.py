"""A page of `fiducial export --to web` in a browser without a window, which is asked as any runtime is.

The browser is given the page from a server of this process (127.0.0.1 alone, at a path that is a secret), with a script
beside it that fetches questions and sends answers (`browser.js`): no protocol of one browser, and no package, is needed."""

from __future__ import annotations

import http.server
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.errors import BadAnswer, UserError

CHOSEN = "FIDUCIAL_BROWSER"  # in the environment: the program that is started
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ARGUMENTS = (
    "--headless=new",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
)
START_SECONDS, ANSWER_SECONDS, POLL_SECONDS = 90.0, 300.0, 20.0
TYPES = {".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml", ".webmanifest": "application/json"}


def program() -> str | None:
    """Finds a browser that can be started: $FIDUCIAL_BROWSER, else Chromium or one of its kin; None where there is none."""
    if chosen := os.environ.get(CHOSEN):
        return shutil.which(chosen)
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    return found or next((path for path in ELSEWHERE if os.access(path, os.X_OK)), None)


def lacks() -> str | None:
    """Says what is to be done before a page can be run on this machine; None where nothing is."""
    if program() is not None:
        return None
    if chosen := os.environ.get(CHOSEN):
        return f"{CHOSEN}={chosen} is no program: set it to a browser's path"
    return f"there is no Chromium here: install it, or set {CHOSEN} to the path of one of its kin"


class Browser:
    """A site that is open in a browser. One question at a time; ended by `close`, or with whoever holds it."""

    def __init__(self, page: Path, threads: int | None) -> None:
        """page: the site's HTML; threads: that the model may use [the browser's choice]. Raises UserError where there is no
        browser, or the page says that it can't load its model."""
        found = program()
        if found is None:
            raise UserError(page, f"needs a browser to run in, and {lacks()}")
        self.page, self._lock = page, threading.Lock()
        self.ms = self.open_ms = 0.0  # that the page worked on the last question, and that it had been open then
        self._questions: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        path = f"/{secrets.token_hex(8)}/"
        server = _server(page.parent, page.name, path, self._questions, self._answers)
        self._profile = Path(tempfile.mkdtemp(prefix="fiducial-browser."))
        query = "offline=no&gpu=no" + ("" if threads is None else f"&threads={threads}")
        address = f"http://127.0.0.1:{server.server_address[1]}{path}{page.name}?{query}"
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [found, *ARGUMENTS, *as_root, f"--user-data-dir={self._profile}", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.close = weakref.finalize(self, _end, self._process, server, self._profile)
        try:
            self._ask({"kind": "start"}, {}, b"", START_SECONDS)
        except BadAnswer as error:
            self.close()
            raise UserError(page, f"can't load its model: {error.what}") from error
        except UserError:
            self.close()
            raise

    def run(self, names: list[str] | None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the model's file, as an ONNX Runtime's session does. `names` of the outputs must be told."""
        assert names is not None
        columns = self._ask({"kind": "run", "names": names}, feed, b"", ANSWER_SECONDS)
        return [columns[name] for name in names]

    def look(self, picture: bytes, boxes_xywh: np.ndarray | None) -> dict[str, np.ndarray]:
        """Asks about a picture's file as a user of the page does: decoded by the browser. The file's columns by name."""
        boxes = [] if boxes_xywh is None else np.asarray(boxes_xywh, np.float32).tolist()
        return self._ask({"kind": "look", "boxes": boxes}, {}, picture, ANSWER_SECONDS)

    def _ask(
        self, about: dict[str, Any], feed: dict[str, np.ndarray], rest: bytes, seconds: float
    ) -> dict[str, np.ndarray]:
        with self._lock:
            self._questions.put(message_of(about, feed, rest))
            end = time.monotonic() + seconds
            while True:
                try:
                    answer, columns, _ = content_of(self._answers.get(timeout=0.2))
                    break
                except queue.Empty:
                    pass
                if (code := self._process.poll()) is not None:
                    raise UserError(self.page, f"the browser ended by itself ({code}): {self._process.args[0]}")  # type: ignore[index]
                if time.monotonic() > end:
                    raise UserError(self.page, f"the browser did not answer within {seconds:.0f} s")
        if "error" in answer:
            raise BadAnswer(self.page, answer["error"])
        self.ms, self.open_ms = answer["ms"], answer["open_ms"]
        return columns


def message_of(about: dict[str, Any], feed: dict[str, np.ndarray], rest: bytes = b"") -> bytes:
    """Writes a message: the length of its JSON (4 bytes), the JSON, the arrays' bytes, others."""
    arrays = {name: np.ascontiguousarray(value) for name, value in feed.items()}
    tensors = [
        {"name": name, "type": str(value.dtype), "dims": list(np.shape(feed[name]))} for name, value in arrays.items()
    ]
    head = json.dumps({**about, "tensors": tensors}).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *(value.tobytes() for value in arrays.values()), rest])


def content_of(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray], bytes]:
    """Reads what `message_of` writes."""
    at = 4 + int.from_bytes(message[:4], "little")
    about = json.loads(message[4:at])
    columns = {}
    for tensor in about["tensors"]:
        count = int(np.prod(tensor["dims"]))
        column = np.frombuffer(message, tensor["type"], count, at)
        columns[tensor["name"]] = column.reshape(tensor["dims"]).copy()
        at += column.nbytes
    return about, columns, message[at:]


class Quiet(http.server.ThreadingHTTPServer):
    """Says nothing of browsers that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever asks waits for an answer, and says that there was none."""


def _server(
    folder: Path, page: str, path: str, questions: queue.Queue[bytes], answers: queue.Queue[bytes]
) -> http.server.ThreadingHTTPServer:
    """Serves the files of a site, and what drives it, from a thread."""
    driver = (Path(__file__).parent / "browser.js").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            own, _, name = self.path.partition("?")[0].rpartition("/")
            if f"{own}/" != path:
                self._send(404)
            elif name == "next":
                try:
                    self._send(200, questions.get(timeout=POLL_SECONDS), "application/octet-stream")
                except queue.Empty:
                    self._send(204)
            elif name == "driver.js":
                self._send(200, driver, "text/javascript")
            elif (file := folder / name).is_file():
                data = file.read_bytes()
                if name == page:
                    data = data.replace(b"</body>", b'<script src="driver.js"></script>\n</body>')
                self._send(200, data, TYPES.get(file.suffix, "application/octet-stream"))
            else:
                self._send(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            is_answer = self.path == f"{path}answer"
            if is_answer:
                answers.put(body)
            self._send(204 if is_answer else 404)

        def _send(self, status: int, data: bytes = b"", kind: str = "text/plain") -> None:
            with suppress(OSError):  # the browser has gone
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(data)),
                    "Cache-Control": "no-store",
                    "Cross-Origin-Opener-Policy": "same-origin",  # with the next: several threads
                    "Cross-Origin-Embedder-Policy": "require-corp",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Nothing is said of requests."""

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _end(process: subprocess.Popen[bytes], server: http.server.ThreadingHTTPServer, profile: Path) -> None:
    """Ends a browser that was started here, with all its processes."""
    for kind in ("SIGTERM", "SIGKILL"):
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, getattr(signal, kind))
            else:
                process.kill()
        try:
            process.wait(5)
            break
        except subprocess.TimeoutExpired:
            continue
    server.shutdown()
    server.server_close()
    shutil.rmtree(profile, ignore_errors=True)
