"""Connections that end when a request's head is late or too long; uvicorn alone would wait and read for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 2**16


class Patient(HttpToolsProtocol):
    """HTTP that waits `head_seconds` for a head, and reads MOST_HEAD_BYTES of one."""

    head_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _in_head, _head_bytes = True, 0

    @classmethod
    def within(cls, seconds: float) -> type[Patient]:
        """Makes the protocol of a server that waits this long."""
        return type("Patient", (cls,), {"head_seconds": seconds})

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; those of a head are counted."""
        if self._in_head:
            if self._timer is None:  # the next one on this connection
                self._wait()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Waits no longer; what comes now is a body."""
        self._stop()
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes now is another head."""
        self._in_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives everything back."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
