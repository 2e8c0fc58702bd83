"""A served model under load, against the same runtime without a server; and 1,000 malformed requests.

    python benchmarks/serve_load.py MODEL [--image FILE] [--seconds 30] [--clients 32] [--json]

`own` is the runtime's batched throughput in a process of its own: JPEGs decoded and cut by a pool of threads, 32 crops at a
time through the network, for as long. `served` counts answers to 32 clients that keep their connections, one request each
at a time; they are one small process, whose CPU time is taken on the same machine, so it is printed too: `of what is left`
is served over own x (1 - clients' share of the cores). Memory is the server's resident set after a tenth of the time and
at the end. Promises: served >= 0.8 of own, no error, memory flat (within 5 %), malformed requests all 4xx."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

OWN = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from fiducial import geometry
from fiducial.data import crops
from fiducial.data.images import decode_image
from fiducial.deploy import runtime
run, data, seconds = runtime.load(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes(), float(sys.argv[3])
spec = run.card.spec
def prepared(_):
    return crops.cut(decode_image(data, "image"), None, spec.size, spec.padding)
pool, count = ThreadPoolExecutor(), 0
waiting = [pool.submit(prepared, 0) for _ in range(64)]
start = time.perf_counter()
while time.perf_counter() - start < seconds:
    ready, waiting = waiting[:32], waiting[32:] + [pool.submit(prepared, 0) for _ in range(32)]
    cut, maps = zip(*[each.result() for each in ready])
    run.network.predict(np.concatenate(cut)).mapped(geometry.invert(np.concatenate(maps)))
    count += 32
print(count / (time.perf_counter() - start))
pool.shutdown(cancel_futures=True)
"""


def photo(path: Path) -> Path:
    """A JPEG of 640x480 with detail like a photograph's."""
    generator = np.random.default_rng(0)
    layers = [cv2.resize(generator.normal(size=(480 // s, 640 // s, 3)), (640, 480)) * s**0.5 for s in (4, 16, 80)]
    picture = np.clip(128 + 12 * sum(layers), 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path


def request_of(body: bytes, target: str = "/predict", content_type: str = "application/octet-stream") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("latin1", "replace") + body


async def answer_of(reader: asyncio.StreamReader) -> int:
    """Reads one answer whole; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
    await reader.readexactly(length)
    return int(head[9:12])


async def load(port: int, request: bytes, clients: int, seconds: float) -> tuple[float, dict[int, int]]:
    """Answers a second, and how many of each status."""
    statuses: dict[int, int] = {}
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - start < seconds:
            writer.write(request)
            status = await answer_of(reader)
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return sum(statuses.values()) / (time.perf_counter() - start), statuses


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG whose header says this, whatever its data are."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def malformed(good: bytes, count: int) -> list[bytes]:
    """Requests that a server must refuse: cut short, bombs, wrong types, wrong boxes, noise."""
    dice = random.Random(0)
    boxes = ["[[1,2,3]]", "[[1,2,NaN,4]]", "[[0,0,1e400,5]]", "[[0,0,-5,5]]", "{}", "[[", "[[1e300,0,5,5]]", "7",
             "[" + ",".join(["[0,0,9,9]"] * 500) + "]", '[["a",0,1,1]]', "[" * 5000, "[[true,0,5,5]]", "[[0,0,0,0]]"]  # fmt: skip
    made = []
    for i in range(count):
        kind = i % 8
        if kind == 0:
            made.append(request_of(good[: dice.randrange(0, len(good) - 200)]))
        elif kind == 1:
            made.append(request_of(png(dice.choice([60_000, 2**31 - 1]), dice.choice([60_000, 2**31 - 1]))))
        elif kind == 2:
            made.append(request_of(dice.randbytes(dice.randrange(0, 3000))))
        elif kind == 3:
            quoted = "".join(f"%{ord(c):02x}" for c in dice.choice(boxes))
            made.append(request_of(good, f"/predict?boxes={quoted}"))
        elif kind == 4:
            made.append(
                request_of(b"--b\r\nbroken" + dice.randbytes(50), content_type="multipart/form-data; boundary=b")
            )
        elif kind == 5:
            made.append(request_of(b'{"url": "http://localhost/x.jpg"}', content_type="application/json"))
        elif kind == 6:
            made.append(request_of(good, "/predict/batch"))
        else:
            made.append(request_of(png(500, 400, dice.randbytes(100))))
    return made


async def send_all(port: int, requests: list[bytes]) -> dict[int, int]:
    statuses: dict[int, int] = {}
    for request in requests:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        status = await asyncio.wait_for(answer_of(reader), 60)
        statuses[status] = statuses.get(status, 0) + 1
        writer.close()
    return statuses


def resident(pid: int) -> int:
    """Bytes."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--image", type=Path, help="JPEG [a made one of 640x480]")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--malformed", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = options.image or photo(Path(folder) / "photo.jpg")
        command = [sys.executable, "-c", OWN, str(options.model), str(image), str(min(options.seconds, 10))]
        own = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)]
        serve = [sys.executable, "-m", "fiducial.cli", "serve", str(options.model), "--port", "0"]
        server = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            port = int(re.search(r"http://[\d.]+:(\d+)", line)[1])  # type: ignore[index]
            found = measured(server.pid, port, image.read_bytes(), options)
        finally:
            server.terminate()
            server.wait()
        own.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    found |= {"own_per_s": sum(own) / 2, "ends_with": server.returncode}
    found["served_over_own"] = found["served_per_s"] / found["own_per_s"]
    found["of_what_is_left"] = found["served_over_own"] / (1 - found["clients_share_of_cpu"])
    print(f"own {found['own_per_s']:.0f}/s, served {found['served_per_s']:.0f}/s to {options.clients} clients = "
          f"{found['served_over_own']:.2f} of it, {found['of_what_is_left']:.2f} of what the clients leave "
          f"({found['clients_share_of_cpu']:.0%} of the cores)")  # fmt: skip
    print(f"answers {found['statuses']}, memory {found['memory_start'] / 2**20:.0f} -> {found['memory_end'] / 2**20:.0f} MiB, "
          f"malformed {found['malformed']}, alive after {found['alive']}")  # fmt: skip
    if options.json:
        print(json.dumps(found))


def measured(pid: int, port: int, data: bytes, options: argparse.Namespace) -> dict[str, Any]:
    request = request_of(data)
    asyncio.run(load(port, request, options.clients, options.seconds / 10))
    start_memory, start_cpu, start = resident(pid), time.process_time(), time.perf_counter()
    rate, statuses = asyncio.run(load(port, request, options.clients, options.seconds))
    share = (time.process_time() - start_cpu) / (time.perf_counter() - start) / (os.cpu_count() or 1)
    end_memory = resident(pid)
    refused = asyncio.run(send_all(port, malformed(data, options.malformed)))
    alive = asyncio.run(send_all(port, [request]))
    return {
        "served_per_s": rate, "statuses": statuses, "clients_share_of_cpu": share, "memory_start": start_memory,
        "memory_end": end_memory, "malformed": refused, "alive": alive,
    }  # fmt: skip


if __name__ == "__main__":
    main()
