"""The arithmetic floor of this machine, measured in a second: what no fp32 network can be faster than."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.profiling.parts import Machine

# Known loads, made by `tests/profiling/test_profiling.py` from ONNX's own text, since the base install has no `onnx`.
CONVOLUTION, CHAIN = (str(Path(__file__).with_name(f"{name}.onnx")) for name in ("convolution", "chain"))
CHANNELS, SIDE, KERNEL = 128, 64, 3  # of the convolution: 1.2e9 operations; weights stay in the cache
LINKS = 200  # of the chain: additions of one number, which take no time to speak of
STREAM_BYTES = 2**26  # more than caches hold
SECONDS, FEWEST = 0.4, 10  # for each of the two; and runs


def measure(threads: int = 1) -> Machine:
    """The best of many runs each. The peak is a convolution's in ONNX Runtime: matrix products of numpy and torch may
    reach half of it on processors that their libraries do not know."""
    return Machine(processor(), threads, _gflops(threads), _stream())


def processor() -> str:
    """The processor's name, as the system knows it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def session(model: str, threads: int, profile_to: str | None = None) -> Any:
    """A session of ONNX Runtime as the product has it; `profile_to`: prefix of the file of its own profile."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_to
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _gflops(threads: int) -> float:
    network = session(CONVOLUTION, threads)
    picture = {"x": np.full((1, CHANNELS, SIDE, SIDE), 0.5, np.float32)}
    operations = 2 * (CHANNELS * SIDE * KERNEL) ** 2  # products with the border of zeros count, as they do in layers
    return operations / _best_seconds(lambda: network.run(None, picture)) / 1e9


def _stream() -> float:
    source = np.ones(STREAM_BYTES // 4, np.float32)
    target = np.empty_like(source)
    return 2 * STREAM_BYTES / _best_seconds(lambda: np.copyto(target, source)) / 1e9


def _best_seconds(step: Callable[[], object]) -> float:
    step()  # memory is laid out
    times: list[float] = []
    deadline = time.perf_counter() + SECONDS
    while len(times) < FEWEST or time.perf_counter() < deadline:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)
