"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CROPS = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fiducial_requests", "Requests by endpoint and status", ["endpoint", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "fiducial_request_seconds", "Seconds from the request's head to its answer", ["endpoint"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._crops = Histogram(
            "fiducial_batch_crops",
            "Crops that went through the network together",
            buckets=CROPS,
            registry=self.registry,
        )
        self._waiting = Gauge("fiducial_waiting", "Requests that no batch has taken yet", registry=self.registry)

    def watch_queue(self, length: Callable[[], int]) -> None:
        self._waiting.set_function(length)

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        self._requests.labels(endpoint, str(code)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def batch(self, crops: int) -> None:
        self._crops.observe(crops)

    def text(self) -> str:
        return generate_latest(self.registry).decode()
