"""A served model under load, against the same runtime without a server. Among strangers: tests/serve/strangers.py.

    python benchmarks/serve_load.py MODEL [--image FILE] [--seconds 30] [--clients 32] [--pin] [--json]

`own` is the runtime's batched throughput in a process of its own: JPEGs decoded and cut by as many threads as cores, ahead
of the network, which takes 32 crops at a time; for a third of the time before the server and a third after it. `served`
counts the answers to clients that keep their connections and ask one thing at a time, all in one small process. They share
the machine with the server, so what CPU time they take is printed, too; with --pin they have the last core and the others
are the server's and `own`'s. Where neighbours make the machine noisy, CPU time a picture says more than pictures a second.

CPU time and memory are those of the server and of the processes that decode for it. Promises: served >= 0.8 of own, no error,
memory after a tenth of the time, and at the end, within 5 %, SIGTERM ends with code 0."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

OWN = """
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import cv2
import numpy as np
from fiducial import geometry
from fiducial.data import crops
from fiducial.data.images import decode_image
from fiducial.runtime import runtime
cv2.setNumThreads(1)
threads = int(sys.argv[4]) or None
run, data, seconds = runtime.load(Path(sys.argv[1]), threads=threads), Path(sys.argv[2]).read_bytes(), float(sys.argv[3])
spec = run.card.spec
def prepared(_):
    return crops.cut(decode_image(data, "image"), None, spec.size, spec.padding)
def batch(ready):
    cut, maps = zip(*[each.result() for each in ready])
    run.network.predict(np.concatenate(cut)).mapped(geometry.invert(np.concatenate(maps)))
pool, count = ThreadPoolExecutor(threads or os.cpu_count()), 0
batch([pool.submit(prepared, 0) for _ in range(32)])
waiting = [pool.submit(prepared, 0) for _ in range(64)]
start, start_cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - start < seconds:
    ready, waiting = waiting[:32], waiting[32:] + [pool.submit(prepared, 0) for _ in range(32)]
    batch(ready)
    count += 32
wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
print(json.dumps({"per_s": count / wall, "cpu_ms": 1e3 * cpu / count}))
pool.shutdown(cancel_futures=True)
"""


def photo() -> bytes:
    """A JPEG of 640x480 with detail like a photograph's."""
    generator = np.random.default_rng(0)
    layers = [cv2.resize(generator.normal(size=(480 // s, 640 // s, 3)), (640, 480)) * s**0.5 for s in (4, 16, 80)]
    picture = np.clip(128 + 12 * sum(layers), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def request_of(body: bytes, target: str = "/predict") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def answer_of(reader: asyncio.StreamReader) -> int:
    """Reads one answer whole; its status, 0 where the connection ends before."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        return int(head[9:12])
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0


async def fetched(port: int, target: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


async def load(port: int, request: bytes, clients: int, seconds: float) -> tuple[float, dict[int, int]]:
    """Answers a second, and how many of each status."""
    statuses: Counter[int] = Counter()
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - start < seconds:
            writer.write(request)
            status = await answer_of(reader)
            statuses[status] += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return sum(statuses.values()) / (time.perf_counter() - start), dict(statuses)


def family_of(pid: int) -> list[int]:
    """A process and its children: images are decoded there."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def memory_mib(pid: int) -> float:
    """What a process and its children hold together; what they share counts once."""
    total = 0
    for member in family_of(pid):
        with suppress(OSError):
            total += int(re.search(r"Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text())[1])  # type: ignore[index]
    return total / 1024


def cpu_s(pid: int) -> float:
    """User and system time so far, of a process and its children."""
    fields = [Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split() for member in family_of(pid)]
    return sum(int(field) for of_one in fields for field in of_one[11:13]) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--image", type=Path, help="JPEG [a made one of 640x480]")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pin", action="store_true", help="clients on the last core, the rest on the others")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    theirs, ours = (set(cores[:-1]), {cores[-1]}) if options.pin else (set(cores), set(cores))
    with tempfile.TemporaryDirectory() as folder:
        image = options.image or Path(folder) / "photo.jpg"
        if options.image is None:
            image.write_bytes(photo())
        found = compared(image, options, theirs, ours)
    own, clients = found["own"], options.clients
    print(f"own    {own['per_s']:6.0f}/s, {own['cpu_ms']:.2f} ms of CPU a picture")
    print(
        f"served {found['per_s']:6.0f}/s, {found['cpu_ms']:.2f} ms of CPU a picture, {found['crops_a_batch']:.1f} crops a batch"
    )
    print(
        f"= {found['served_over_own']:.2f} of own, by CPU time {found['by_cpu']:.2f}; {clients} clients took "
        f"{found['clients_cores']:.2f} of {len(cores)} cores"
    )
    print(
        f"answers {found['statuses']}; memory {found['memory_mib'][0]:.0f} -> {found['memory_mib'][1]:.0f} MiB; "
        f"ended with {found['ended_with']}"
    )
    if options.json:
        print(json.dumps(found))


def compared(image: Path, options: argparse.Namespace, theirs: set[int], ours: set[int]) -> dict[str, Any]:
    """`own` before and after; between them the server. `theirs` are the server's cores, `ours` the clients'."""
    threads = len(theirs) if options.pin else 0
    command = [sys.executable, "-c", OWN, str(options.model), str(image), str(options.seconds / 3), str(threads)]

    def own() -> dict[str, float]:
        os.sched_setaffinity(0, theirs)
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    before = own()
    serve = [sys.executable, "-m", "fiducial.cli", "serve", str(options.model), "--port", "0"]
    server = subprocess.Popen(
        serve + (["--threads", str(threads)] if threads else []), stderr=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(0, ours)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        port = int(re.search(r"http://[\d.]+:(\d+)", line)[1])  # type: ignore[index]
        found = measured(server.pid, port, image.read_bytes(), options)
    finally:
        server.terminate()
        server.wait()
    after = own()
    found["own"] = {name: (before[name] + after[name]) / 2 for name in before}
    found["served_over_own"] = found["per_s"] / found["own"]["per_s"]
    found["by_cpu"] = found["own"]["cpu_ms"] / found["cpu_ms"]
    return found | {"ended_with": server.returncode}


def measured(pid: int, port: int, data: bytes, options: argparse.Namespace) -> dict[str, Any]:
    request = request_of(data)
    asyncio.run(load(port, request, options.clients, options.seconds / 10))
    memory, server_cpu, clients_cpu = memory_mib(pid), cpu_s(pid), time.process_time()
    rate, statuses = asyncio.run(load(port, request, options.clients, options.seconds))
    server_cpu, clients_cpu = cpu_s(pid) - server_cpu, time.process_time() - clients_cpu
    memory = (memory, memory_mib(pid))
    metrics = asyncio.run(fetched(port, "/metrics"))
    crops, batches = (float(re.search(rf"fiducial_batch_crops_{x} (\S+)", metrics)[1]) for x in ("sum", "count"))  # type: ignore[index]
    count = sum(statuses.values())
    return {
        "per_s": rate,
        "cpu_ms": 1e3 * server_cpu / count,
        "clients_cores": clients_cpu * rate / count,
        "crops_a_batch": crops / batches,
        "statuses": statuses,
        "memory_mib": memory,
    }


if __name__ == "__main__":
    main()
