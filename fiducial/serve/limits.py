"""What a server accepts, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Together the limits bound its memory: at most `max_in_flight` bodies of `max_bytes` and, since images are decoded by as
    many threads as there are cores, that many images of `max_pixels`."""

    max_bytes: int = 20 * 2**20  # of a request
    max_pixels: int = 50_000_000  # of an image, by its header
    max_boxes: int = 64  # of a request
    max_images: int = 16  # of a batch request
    max_in_flight: int = 64  # requests at a time; more are sent away with 429
    timeout_s: float = 30.0  # for a request to arrive (408), and from then on to be answered (504)
    max_batch: int = 32  # crops that go through the network together


@dataclass
class Refused(Exception):
    """A request that is answered with `status` and {"detail": detail}."""

    status: int
    detail: str  # one line: what was wrong, what was expected
    headers: dict[str, str] = field(default_factory=dict)
