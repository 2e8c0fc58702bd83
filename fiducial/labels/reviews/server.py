"""The page's server, of the standard library: for one person on this machine, so that it listens here alone and answers only
the page itself."""

from __future__ import annotations

import json
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fiducial.errors import UserError
from fiducial.labels.reviews.reviewing import Review

MOST_BYTES = 1 << 20  # of an answer
HERE = "127.0.0.1"


def serving(review: Review, port: int = 0) -> ThreadingHTTPServer:
    """Makes a server of a review on a port of this machine [a free one]; `serve_forever` runs it. UserError where the port
    can't be taken."""
    handler = type("OfReview", (_Handler,), {"review": review, "word": secrets.token_urlsafe(16)})
    try:
        return ThreadingHTTPServer((HERE, port), handler)
    except OSError as error:
        raise UserError(f"--port {port}: can't be taken: {error}. Leave it out for a free one") from error


class _Handler(BaseHTTPRequestHandler):
    review: Review
    word: str  # only the page that this server gave has it, so that no other page of the browser can answer

    def do_GET(self) -> None:
        parts = [part for part in self.path.split("?")[0].split("/") if part]
        if not self._is_here():
            self._send(HTTPStatus.FORBIDDEN, b"not from this machine", "text/plain")
        elif not parts:
            page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
            self._send(HTTPStatus.OK, page.replace("{{word}}", self.word).encode(), "text/html; charset=utf-8")
        elif parts == ["items"]:
            self._send_json(self.review.items())
        elif parts[0] == "image" and len(parts) == 2 and parts[1].isdecimal() and int(parts[1]) < len(self.review):
            try:
                self._send(HTTPStatus.OK, self.review.image(int(parts[1])), "image/jpeg")
            except UserError as error:
                self._send(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain; charset=utf-8")
        else:
            self._send(HTTPStatus.NOT_FOUND, b"nothing here", "text/plain")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self._is_here() or self.headers.get("X-Word") != self.word:
            self._send(HTTPStatus.FORBIDDEN, b"not from the page", "text/plain")
        elif not length.isdecimal() or int(length) > MOST_BYTES:
            self._send(HTTPStatus.BAD_REQUEST, b"an answer of at most a megabyte is expected", "text/plain")
        else:
            try:
                given = json.loads(self.rfile.read(int(length)))
                self._send_json(self.review.answer(given["finding"], given["answer"], given.get("xy") or {}))
            except UserError as error:
                self._send(HTTPStatus.CONFLICT, str(error).encode(), "text/plain; charset=utf-8")
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self._send(HTTPStatus.BAD_REQUEST, f"no answer: {error!r}".encode(), "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's own name
        """Says nothing of requests."""

    def _is_here(self) -> bool:
        """Whether the browser asks for this machine by its number, not by a name that a page out there gave it."""
        assert isinstance(self.server, ThreadingHTTPServer)
        return self.headers.get("Host", "") == f"{HERE}:{self.server.server_port}"

    def _send_json(self, value: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
