"""Who is let in: clients that send the server's token, where it has one."""

from __future__ import annotations

import hmac

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = {"/", "/docs", "/health", "/ready", "/openapi.json"}  # these say nothing about the model's images or numbers
BODY = msgspec.json.encode({"detail": "no valid token; send it as `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`"})
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
    (b"www-authenticate", b"Bearer"),
    (b"connection", b"close"),
]


class Guard:
    """Answers 401 to requests without the token, before anything of their bodies is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request, as ASGI asks."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._knows(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        sent = bearer.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(sent, self._token)
