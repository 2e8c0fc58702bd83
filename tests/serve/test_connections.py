"""Clients that are slow, send too much ahead or don't listen: their connections end, whatever they ask for."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from serve.served import Pacer, Served, grey, served, until

from fiducial.serve import connections
from fiducial.serve.limits import Limits

PICTURE = grey(50)
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(Pacer(), Limits(head_s=0.4, timeout_s=0.8, idle_s=1, max_bytes=600_000, max_held=1_200_000)) as found:
        yield found


def heard(server: Served, *pieces: bytes, pause: float = 0.1) -> tuple[bytes, float]:
    """Sends pieces with pauses: what is heard until the server ends the connection, and when that is."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        begun, answer = time.monotonic(), b""
        connection.settimeout(pause)
        for piece in (*pieces, *[b""] * 200):
            try:
                connection.sendall(piece)
                while block := connection.recv(2**16):
                    answer += block
                return answer, time.monotonic() - begun
            except TimeoutError:
                continue
            except ConnectionError:
                return answer, time.monotonic() - begun
    raise AssertionError(f"still connected after {time.monotonic() - begun:.1f} s")


@pytest.mark.parametrize(
    ("pieces", "status", "seconds"),
    [
        ([], b"", 0.4),
        ([b"%c" % byte for byte in POST], b"", 0.4),
        ([b"GET /health HTTP/1.1\r\n\r\n", *[b"%c" % byte for byte in POST]], b"200", 0.4),
        ([POST + b"Content-Length: 50\r\n\r\n", *[b"x"] * 40], b"408", 0.8),
        ([POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 40], b"408", 0.8),
        ([POST.replace(b"predict", b"nowhere") + b"Content-Length: 50\r\n\r\n", *[b"x"] * 40], b"404", 1.8),
        ([POST.replace(b"POST", b"GET").replace(b"predict", b"health") + b"Content-Length: 9\r\n\r\n"], b"200", 1.0),
    ],
    ids=["silent", "head", "second head", "body", "chunks", "body for nobody", "body that never comes"],
)
def test_who_is_late_is_hung_up_on(server: Served, pieces: list[bytes], status: bytes, seconds: float) -> None:
    answer, after = heard(server, *pieces)
    assert answer[9:12] == status
    assert seconds - 0.1 < after < seconds + 2


def test_a_head_without_end_is_not_read(server: Served) -> None:
    answer, after = heard(server, POST + b"X: " + b"x" * 2 * connections.MOST_HEAD_BYTES)
    assert (answer, after < 0.4) == (b"", True)


def test_who_sends_thousands_of_requests_ahead_is_hung_up_on(server: Served) -> None:
    answer, after = heard(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
    assert answer.count(b"HTTP/1.1 200") <= connections.MOST_AHEAD + 1
    assert after < 0.4
    assert server.get("/health").status == 200


def test_a_few_requests_ahead_are_answered_in_turn(server: Served) -> None:
    ahead = [f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in ["health", "nowhere"] * 5]
    answer, after = heard(server, b"".join(ahead))
    assert 0.9 < after < 3, "then nothing comes, and the connection is closed"
    assert [answer[at + 9 : at + 12] for at in range(len(answer)) if answer.startswith(b"HTTP/1.1 ", at)] == [
        b"200",
        b"404",
    ] * 5


def test_who_does_not_take_the_answers_is_hung_up_on() -> None:
    """More of them than the network holds, which has little room here."""
    with served(Pacer(), Limits(timeout_s=1.0, idle_s=1000), room=4096) as server, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 12)
        hung_up = select.poll()
        hung_up.register(deaf, 0)
        assert hung_up.poll(15_000), "still connected"


def test_a_large_body_that_stops_makes_room(server: Served) -> None:
    """Bodies of together 1.2 million bytes: small ones are taken, while those that hold the most are told to come again."""
    large = []
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", server.port), 20)
        connection.sendall(POST + b"Content-Length: 600000\r\n\r\n" + bytes(490_000))
        large.append(connection)
    time.sleep(0.1)
    assert server.post("/predict", PICTURE).status == 200
    found = []
    for connection in large:
        with connection:
            connection.sendall(bytes(1000))
            time.sleep(0.05)
            connection.sendall(bytes(109_000))
            found.append(connection.recv(2000)[9:12])
    assert sorted(found) == [b"415", b"415", b"503"]
    until(lambda: server.get("/ready").json["in_flight"] == 0)
