"""Bodies of requests on their way: together they take no more memory than a limit. Where it is reached, who has sent the
most, and not all, is sent away, so that few large bodies that stop don't keep out small ones."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fiducial.serve.limits import busy

WORTH_GIVING_BACK = 2**23  # bytes


class Body:
    """The bytes of one body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._chunks, self.size, self._given_up = bodies, list[bytes](), 0, False

    def add(self, chunk: bytes) -> None:
        """Takes what has arrived. Raises Refused where there is no room for it, or was none since."""
        self._bodies.make_room(len(chunk), self)
        self._check()
        self._chunks.append(chunk)
        self.size += len(chunk)
        self._bodies.count(len(chunk))

    def whole(self) -> bytes:
        """Gives all bytes, when the last has arrived; they count until the request is answered."""
        self._check()
        self._bodies.arriving.discard(self)
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)

    def give_up(self) -> None:
        """Frees what has arrived."""
        self._given_up = True
        self.forget()

    def forget(self) -> None:
        """Counts no longer."""
        self._bodies.arriving.discard(self)
        size, self._chunks, self.size = self.size, [], 0
        self._bodies.count(-size)

    def _check(self) -> None:
        if self._given_up:
            raise busy("too many bytes at a time")


class Bodies:
    """All bodies that arrive or wait for an answer."""

    def __init__(self, most: int) -> None:
        self._most, self._held, self.arriving = most, 0, set[Body]()
        self._peak = 0  # since memory was given back

    @contextmanager
    def another(self) -> Iterator[Body]:
        """Gives one that counts until the block ends."""
        body = Body(self)
        self.arriving.add(body)
        try:
            yield body
        finally:
            body.forget()

    def make_room(self, count: int, body: Body) -> None:
        """Gives up the largest that still arrive, `body` among them, until there is room for `count` bytes of it."""
        while self._held + count > self._most and self.arriving:
            largest = max(self.arriving, key=lambda other: other.size + (count if other is body else 0))
            largest.give_up()

    def count(self, more: int) -> None:
        """Counts bytes that came or went. Much that went is given back to the system."""
        self._held += more
        self._peak = max(self._peak, self._held)
        if self._peak - self._held > WORTH_GIVING_BACK:
            self._peak = self._held
            _give_back()


def _give_back() -> None:
    """glibc keeps freed memory where something small lies behind it, unless it is asked to look; others have no such call."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
