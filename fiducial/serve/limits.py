"""What a server accepts, and how it says no."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fiducial.errors import UserError

T = TypeVar("T")


def _limit(default: T, meaning: str) -> T:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server accepts; what each limit means is told to clients, too.

    Together they bound its memory: `max_held` bytes of bodies, and in each of the processes that decode, twelve bytes a
    pixel (`uploads`)."""

    max_bytes: int = _limit(20 * 2**20, "bytes of a request (413)")
    max_held: int = _limit(64 * 2**20, "bytes of all requests that arrive or wait (503 to the largest that arrive)")
    max_pixels: int = _limit(50_000_000, "pixels of an image, as its decoder counts them (413)")
    max_boxes: int = _limit(64, "boxes of a request (422)")
    max_images: int = _limit(16, "images of a batch request (422)")
    max_in_flight: int = _limit(64, "requests that have arrived, at a time (503)")
    max_heavy: int = _limit(4, "images of above 2 million pixels, or slow ones, that wait (503)")
    max_connections: int = _limit(500, "connections at a time, silent ones included (503)")
    head_s: float = _limit(10.0, "seconds for a request's head to arrive (the connection is closed)")
    idle_s: int = _limit(30, "seconds for another request on a connection (it is closed)")
    decode_s: float = _limit(0.5, "seconds of CPU time to decode an image (422)")
    timeout_s: float = _limit(
        30.0, "seconds for a request to arrive (408), then to be answered (503), then to be taken"
    )
    max_batch: int = _limit(32, "crops that go through the network together")

    @property
    def most_held(self) -> int:
        """Gives how many bytes of bodies may be there: one request of the largest size always."""
        return max(self.max_held, self.max_bytes)

    def shared_by(self, workers: int) -> Limits:
        """Gives each of several processes its part of what all may hold."""
        parts = ("max_held", "max_in_flight", "max_heavy", "max_connections")
        return replace(self, **{name: math.ceil(getattr(self, name) / workers) for name in parts})


@dataclass
class Refused(Exception):
    """A request that is answered with `status` and {"detail": detail}."""

    status: int
    detail: str  # one line: what was wrong, what was expected
    headers: dict[str, str] = field(default_factory=dict)


def busy(why: str) -> Refused:
    """Makes the refusal of a server that has too much to do."""
    return Refused(503, f"{why}; try again after a second", {"Retry-After": "1"})


def no_room(error: OSError) -> Refused:
    """Makes the refusal of a server whose disk or memory is full."""
    return Refused(503, f"the server has no room: {error.strerror}", {"Retry-After": "5"})


def check_token(token: str) -> None:
    """Raises UserError for a token that can't be sent in a header."""
    if token and not (token.isascii() and token.isprintable() and " " not in token and len(token) <= 1000):
        raise UserError("--token: expected up to 1000 printable ASCII characters without spaces")
