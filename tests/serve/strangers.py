"""Who comes to an open port: hostile pictures, clients that are slow on purpose, and a polite one who measures meanwhile.

`python tests/serve/strangers.py MODEL` (with tests/ in PYTHONPATH) does all of it to a server of its own and prints figures."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from hostile import pictures

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n"


TESTS = Path(__file__).resolve().parents[1]
load = SimpleNamespace(**runpy.run_path(str(TESTS.parent / "benchmarks" / "serve_load.py")))
POLITE = ("polite, alone", "polite, beside strangers")

# What strangers send


def hostile_pictures(count: int) -> Iterator[tuple[str, bytes]]:
    """Kinds and bytes, drawn by a seed: mutated, cut off, lying, bombs, scans without end, other formats."""
    dice = random.Random(0)
    for i in range(count):
        kind, data = list(HOSTILE.items())[i % len(HOSTILE)]
        yield kind, data(dice)


@cache
def _bomb(kind: str, side: int) -> bytes:
    if kind == "png":
        return pictures.png(side, side)
    if kind == "deep":
        return pictures.png(side, side, 16, 6)
    black = np.zeros((side, side, 3), np.uint8)
    black[::7, ::3] = 90
    return cv2.imencode(f".{kind}", black, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


def _lying(dice: random.Random) -> bytes:
    """A sound file whose header promises other sizes."""
    kind, side = dice.choice(["jpeg", "progressive", "png", "webp"]), dice.choice([1, 7000, 16_383, 32_760, 65_535])
    data = bytearray(pictures.whole(kind))
    if kind == "png":
        wide = dice.choice([side, 2**31 - 1])
        return bytes(data[:16] + struct.pack(">II", wide, side) + data[24:])
    if kind == "webp":
        return pictures.whole(kind)[:24] + struct.pack("<HH", min(side, 16_383), 16_383) + pictures.whole(kind)[28:]
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, dice.choice([side, 40]))
    return bytes(data)


def _cut_off(dice: random.Random) -> bytes:
    data = pictures.whole(dice.choice(["jpeg", "progressive", "png", "webp", "lossless"]))
    return data[: dice.randrange(3, len(data) - 12)]


HOSTILE: dict[str, Callable[[random.Random], bytes]] = {
    "mutated": lambda dice: pictures.mutated(
        dice.choice(["jpeg", "progressive", "cmyk", "exif"]), dice.randrange(10**6)
    ),
    "mutated PNG": lambda dice: pictures.mutated(dice.choice(["png", "palette", "png16"]), dice.randrange(10**6)),
    "mutated WebP": lambda dice: pictures.mutated(dice.choice(["webp", "lossless", "animated"]), dice.randrange(10**6)),
    "lying": _lying,
    "cut off": _cut_off,
    "bomb": lambda dice: _bomb(dice.choice(["png", "deep", "webp"]), dice.choice([2500, 5000, 9000])),
    "scans": lambda dice: pictures.many_scans(dice.choice([300, 4000]), dice.choice([60, 400, 4000])),
    "few scans": lambda dice: pictures.many_scans(dice.choice([500, 1400, 3000]), dice.choice([10, 30, 45])),
    "hidden": lambda dice: pictures.large_jpeg(dice.choice([9000, 32_760, 65_000])),
    "others": lambda dice: pictures.mutated(dice.choice(["tiff", "gif", "bmp", "avif", "jp2"]), dice.randrange(10**6)),
}


# Clients


@dataclass
class Told:
    """What clients were told, and when."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)  # 0: the connection ended without a word
    seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, list[float]] = field(default_factory=dict)  # those of the seconds that ended with 413 or 422

    def note(self, kind: str, status: int, seconds: float) -> None:
        self.statuses[kind, status] += 1
        self.seconds.setdefault(kind, []).append(seconds)
        if status in (413, 422):
            self.refused.setdefault(kind, []).append(seconds)


async def polite(port: int, data: bytes, told: Told, kind: str, done: asyncio.Event, pause: float = 0.01) -> None:
    """Asks one thing after another on a connection that stays, until `done`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while not done.is_set():
        begun = time.perf_counter()
        writer.write(load.request_of(data))
        told.note(kind, await load.answer_of(reader), time.perf_counter() - begun)
        await asyncio.sleep(pause)
    writer.close()


async def send_hostile(port: int, todo: Iterator[tuple[str, bytes]], told: Told) -> None:
    """Sends one picture after another, each on a connection of its own, until there are no more."""
    for kind, data in todo:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            writer.write(load.request_of(data))
        told.note(kind, await asyncio.wait_for(load.answer_of(reader), 60), time.perf_counter() - begun)
        writer.close()


async def drip(writer: asyncio.StreamWriter, data: bytes, seconds: float) -> None:
    """A byte now and then."""
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(seconds)


async def _slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    await drip(writer, HEAD * 20, 0.5)


async def _slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(HEAD + b"Content-Length: 500000\r\n\r\n")
    await drip(writer, good[:1000], 0.5)


async def _slow_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(1000):
        writer.write(b"1\r\nx\r\n")
        await asyncio.sleep(0.5)


async def _large_body_that_stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(HEAD + b"Content-Length: 19000000\r\n\r\n" + bytes(18_000_000))
    await asyncio.sleep(1000)


async def _slow_body_nobody_wants(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(HEAD.replace(b"/predict", b"/nowhere") + b"Content-Length: 500000\r\n\r\n")
    await drip(writer, good[:1000], 0.5)


async def _half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(HEAD + b"Content-Length: 5000\r\n\r\nno more")
    writer.write_eof()
    await asyncio.sleep(1000)


async def _never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    for _ in range(8):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        await asyncio.sleep(0.5)
    await asyncio.sleep(1000)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    await asyncio.sleep(1000)


async def _a_thousand_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes) -> None:
    writer.write(b"GET /model HTTP/1.1\r\n\r\n" * 10_000)
    await asyncio.sleep(1000)


SLOW: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "slow head": _slow_head,
    "slow body": _slow_body,
    "slow chunks": _slow_chunks,
    "large body that stops": _large_body_that_stops,
    "slow body nobody wants": _slow_body_nobody_wants,
    "half closed": _half_closed,
    "never reads": _never_reads,
    "silent": _silent,
    "a thousand at once": _a_thousand_at_once,
}


async def slow_client(port: int, kind: str, good: bytes, told: Told) -> None:
    """Connects and does what it does until the server ends the connection."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(sock=own, limit=2**12)
    acting = asyncio.ensure_future(SLOW[kind](reader, writer, good))
    status = 0
    try:
        if kind not in ("never reads", "a thousand at once"):
            status = await load.answer_of(reader)
            with suppress(ConnectionError):
                await reader.read()
        else:
            await acting
    finally:
        acting.cancel()
        told.note(kind, status, time.perf_counter() - begun)
        writer.transport.abort()


# A server and what it takes


def connections(pid: int) -> int:
    """Sockets that a process holds."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it has just been closed
            count += os.readlink(link).startswith("socket:")
    return count


@dataclass(frozen=True)
class Process:
    """`fiducial serve`, and what it says."""

    pid: int
    port: int
    log: Path


PACED = """
import sys
from pathlib import Path
from serve.served import Pacer
from fiducial import log
from fiducial.runtime import runtime
from fiducial.serve import server
from fiducial.serve.limits import Limits
runtime.load = lambda model, threads: runtime.Runtime(Pacer())
with log.shown():
    server.serve(Path("pacer"), "127.0.0.1", 0, Limits(timeout_s=1.5, head_s=1.0, idle_s=2, decode_s=0.1))
"""


@contextmanager
def process_served(log: Path, *words: str) -> Iterator[Process]:
    """Serves in a process of its own, which must end well: `fiducial serve WORDS`, without words a Pacer with short limits."""
    command = ["-m", "fiducial.cli", "serve", *words, "--port", "0"] if words else ["-c", PACED]
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *command], stderr=file, cwd=TESTS)
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        yield Process(process.pid, int(found[1]), log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What was measured while strangers were there."""

    told: Told
    memory_mib: tuple[float, float, float]  # before, the most, after it has settled
    processes: tuple[int, int]  # before and after
    sockets: tuple[int, int]
    settled_s: float  # until nothing of the strangers was left

    def times_ms(self, kind: str) -> tuple[float, float]:
        """Median and 95th percentile."""
        median, late = np.percentile(self.told.seconds[kind], (50, 95)) * 1e3
        return float(median), float(late)

    def slower(self) -> tuple[float, float]:
        """By how much the polite client's median and 95th percentile were above those before and after."""
        usual, beside = self.times_ms(POLITE[0]), self.times_ms(POLITE[1])
        return beside[0] / usual[0], beside[1] / usual[1]

    def statuses(self, *kinds: str) -> Counter[int]:
        """Counts the answers to some kinds of clients, by default to all."""
        found: Counter[int] = Counter()
        for (kind, status), count in self.told.statuses.items():
            if not kinds or kind in kinds:
                found[status] += count
        return found

    def table(self) -> str:
        """Says everything, a line a kind."""
        before, most, after = self.memory_mib
        lines = [
            f"memory {before:.0f} MiB, at most {most:.0f}, then {after:.0f}; processes {self.processes}, sockets "
            f"{self.sockets}, settled after {self.settled_s:.1f} s; polite client: median and 95th percentile "
            f"{self.slower()[0]:.2f} and {self.slower()[1]:.2f} times the usual"
        ]
        for kind, seconds in self.told.seconds.items():
            median, late = self.times_ms(kind)
            counts = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses(kind).items()))
            refusals = self.told.refused.get(kind)
            refused = (
                f"; refused in {1e3 * np.median(refusals):.0f} ms, at most {1e3 * max(refusals):.0f}"
                if refusals
                else ""
            )
            lines.append(f"{kind:24} {median:7.1f} ms {late:7.1f} {1e3 * max(seconds):7.0f}   {counts}{refused}")
        return "\n".join(lines)


async def visit(
    server: Process, *, hostile: int, at_once: int, slow: Sequence[str], seconds: float, good: bytes, rounds: int = 1
) -> Visit:
    """Measures a polite client alone for some seconds and beside strangers until their pictures are sent, in turn, since a
    machine is not always equally quick."""
    pid, port, told, pictures_to_send = server.pid, server.port, Told(), list(hostile_pictures(hostile))
    await _all_of([send_hostile(port, iter([("warm", good)] * 10), told) for _ in range(4)])
    before, most, processes, sockets, settled = (
        load.memory_mib(pid),
        [0.0],
        len(load.family_of(pid)),
        connections(pid),
        0.0,
    )
    left = processes, sockets
    for i in range(rounds):
        if rounds > 1:
            print(f"round {i + 1} of {rounds}", flush=True)
        await _beside(POLITE[0], port, good, told, asyncio.sleep(seconds))
        watching = asyncio.ensure_future(_watch(pid, most))
        slows = [asyncio.ensure_future(slow_client(port, kind, good, told)) for kind in slow[i::rounds]]
        todo = iter(pictures_to_send[i::rounds])
        senders = [send_hostile(port, todo, told) for _ in range(at_once)]
        await _beside(POLITE[1], port, good, told, _all_of([asyncio.sleep(seconds), *senders]))
        watching.cancel()
        begun = time.monotonic()
        while time.monotonic() < begun + 60 and (connections(pid) > sockets or len(load.family_of(pid)) != processes):
            await asyncio.sleep(0.2)
        settled = max(settled, time.monotonic() - begun)
        left = len(load.family_of(pid)), connections(pid)
        for client in slows:
            client.cancel()
        await asyncio.gather(*slows, return_exceptions=True)
    await _beside(POLITE[0], port, good, told, asyncio.sleep(seconds))
    return Visit(
        told=told,
        memory_mib=(before, max(most), load.memory_mib(pid)),
        processes=(processes, left[0]),
        sockets=(sockets, left[1]),
        settled_s=settled,
    )


async def _beside(kind: str, port: int, good: bytes, told: Told, others: Coroutine[Any, Any, Any]) -> None:
    """A polite client asks until the others have ended."""
    done = asyncio.Event()
    asking = asyncio.ensure_future(polite(port, good, told, kind, done))
    await others
    done.set()
    await asking


async def _all_of(others: list[Coroutine[Any, Any, Any]]) -> None:
    await asyncio.gather(*others)


async def _watch(pid: int, most: list[float]) -> None:
    while True:
        most.append(load.memory_mib(pid))
        await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--hostile", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--slow", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        process_served(Path(folder) / "log", str(asked.model.resolve()), "--timeout", "10") as server,
    ):
        slow = [list(SLOW)[i % len(SLOW)] for i in range(asked.slow)]
        counts = {"hostile": asked.hostile, "at_once": asked.at_once, "rounds": asked.rounds}
        print(asyncio.run(visit(server, slow=slow, **counts, seconds=asked.seconds, good=load.photo())).table())
        print(server.log.read_text()[:3000])


if __name__ == "__main__":
    main()
