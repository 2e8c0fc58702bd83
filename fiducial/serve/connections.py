"""Connections that end when a client is late: with a request's head, with its body, or with taking the answer; or sends too
much ahead. uvicorn alone would wait for ever."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from fiducial.serve.limits import Limits

MOST_HEAD_BYTES = 2**16
MOST_AHEAD = 16  # requests that were sent before an earlier one was answered
MORE_CONNECTIONS = 100  # are told that there are too many; what comes on top of those is hung up on
NOTHING = struct.pack("ii", 1, 0)  # of the bytes that were sent is waited for
LINGER_S = 5.0  # for the last bytes to be taken


class Patient(HttpToolsProtocol):
    """HTTP that waits as long as the limits say."""

    limits = Limits()
    _late: asyncio.TimerHandle | None = None  # for the head or body that is awaited
    _untaken: asyncio.TimerHandle | None = None  # for an answer
    _in_head, _head_bytes = True, 0
    _answered: RequestResponseCycle | None = None

    @classmethod
    def within(cls, limits: Limits) -> type[Patient]:
        """Makes the protocol of a server with these limits."""
        return type("Patient", (cls,), {"limits": limits})

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections + MORE_CONNECTIONS:
            self._hang_up()
        self._await(self.limits.head_s)

    def data_received(self, data: bytes) -> None:
        """Takes bytes; those of a head are counted."""
        if self._in_head:
            if self._late is None:  # the next one on this connection
                self._await(self.limits.head_s)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES:
            self._end()

    def on_message_begin(self) -> None:
        """Begins a request, unless too many were sent ahead: they are answered like one that can't be read."""
        if len(self.pipeline) >= MOST_AHEAD:
            raise ValueError("too many requests at once")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Waits for the body, a moment longer than whoever reads it and says 408; some bodies nobody reads."""
        self._await(self.limits.timeout_s + 1)
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes now is another head."""
        self._stop_waiting()
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is on its way; where it was the last one, it must be taken soon."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        super().send_400_response(msg)
        self._end()

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection on which nothing happens."""
        self._end()

    def pause_writing(self) -> None:
        """More of an answer waits to be taken than the network holds."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self.limits.timeout_s, self._hang_up)

    def resume_writing(self) -> None:
        """It was taken."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives everything back."""
        self._stop_waiting()
        super().connection_lost(exc)
        self.resume_writing()
        if self._answered is not None:  # uvicorn tells the latest request alone
            self._answered.disconnected = True
            self._answered.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _await(self, seconds: float) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(seconds, self._end)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self.transport.close()
        self.loop.call_later(LINGER_S, self._hang_up)

    def _hang_up(self) -> None:
        """Ends at once: what was not taken is thrown away, by the system, too."""
        if self in self.connections:  # else it has ended, and its number may be another one's
            with suppress(AttributeError, OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOTHING)
            self.transport.abort()
