"""What a server accepts, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass, field

from fiducial.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Together they bound its memory: `max_held` bytes of bodies, and in each of the processes that decode, twelve bytes a
    pixel (`uploads`)."""

    max_bytes: int = 20 * 2**20  # of a request
    max_held: int = 64 * 2**20  # of all bodies that arrive or wait; more are sent away with 503
    max_pixels: int = 50_000_000  # of an image, as its decoder counts them
    max_boxes: int = 64  # of a request
    max_images: int = 16  # of a batch request
    max_in_flight: int = 64  # requests that have arrived, at a time; more are sent away with 503
    max_heavy: int = 4  # large images that wait; more are sent away with 503
    max_connections: int = 500  # at a time, silent ones included; more get 503
    head_s: float = 10.0  # for a request's head to arrive; then the connection is closed
    decode_s: float = 0.7  # of CPU time to decode an image (422)
    timeout_s: float = 30.0  # for a request to arrive (408), and from then on to be answered (503)
    max_batch: int = 32  # crops that go through the network together

    @property
    def most_held(self) -> int:
        """Gives how many bytes of bodies may be there: one request of the largest size always."""
        return max(self.max_held, self.max_bytes)


@dataclass
class Refused(Exception):
    """A request that is answered with `status` and {"detail": detail}."""

    status: int
    detail: str  # one line: what was wrong, what was expected
    headers: dict[str, str] = field(default_factory=dict)


def busy(why: str) -> Refused:
    """Makes the refusal of a server that has too much to do."""
    return Refused(503, f"{why}; try again after a second", {"Retry-After": "1"})


def check_token(token: str) -> None:
    """Raises UserError for a token that can't be sent in a header."""
    if token and not (token.isascii() and token.isprintable() and " " not in token and len(token) <= 1000):
        raise UserError("--token: expected up to 1000 printable ASCII characters without spaces")
