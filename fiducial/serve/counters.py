"""What a server tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
CROPS = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """Counts the requests of one server, in a registry of its own."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "fiducial_requests", "Requests by endpoint and status", ["endpoint", "code"], registry=registry
        )
        self._seconds = Histogram(
            "fiducial_request_seconds",
            "From a request's head to its answer",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self._crops = Histogram(
            "fiducial_batch_crops", "Crops that went through the network together", buckets=CROPS, registry=registry
        )

    def watch(self, name: str, what: str, now: Callable[[], int]) -> None:
        """Adds a number that is asked for when Prometheus asks."""
        Gauge(name, what, registry=self._registry).set_function(now)

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        """Counts a request and how long it took."""
        self._requests.labels(endpoint, str(code)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def batch(self, crops: int) -> None:
        """Counts a batch that went through the network."""
        self._crops.observe(crops)

    def text(self) -> bytes:
        """Writes everything in Prometheus' format."""
        return generate_latest(self._registry)
