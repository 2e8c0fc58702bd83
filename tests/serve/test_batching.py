"""Who asks gets the points of its own crops, whatever batches they went in; what fails, fails alone."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from serve.served import Pacer, until

from fiducial.serve.batching import Batcher


@dataclass
class Crops:
    crops: np.ndarray


def of(level: float, count: int = 1) -> Crops:
    return Crops(np.full((count, 6, 8, 3), level, np.uint8))


def test_everyone_gets_its_own_points_in_few_batches() -> None:
    network, sizes = Pacer(), []
    counts = [1, 2, 3, 0, 1, 9, 1, 2, 2, 1, 1, 1, 4, 1, 1, 2]

    async def ask() -> list[np.ndarray]:
        batcher = Batcher(network, max_crops=8, preparers=2, observe=sizes.append)
        network.open.clear()
        asked = [asyncio.ensure_future(batcher.points(lambda i=i, n=n: of(20 + i, n))) for i, n in enumerate(counts)]
        # While the network is busy with the first, all others come; then they go together, in their order.
        await asyncio.to_thread(until, lambda: not batcher._preparing)
        network.open.set()
        found = [points.xy for _, points in await asyncio.gather(*asked)]
        batcher.stop()
        return found

    for i, (xy, count) in enumerate(zip(asyncio.run(ask()), counts, strict=True)):
        expected = np.tile([[20 + i, 0], [0, 20 + i]], (count, 1, 1))
        np.testing.assert_array_equal(xy, expected.reshape(count, 2, 2))
    assert sizes == network.batches
    assert sum(sizes) == sum(counts)
    assert all(size <= 8 or size == 9 for size in sizes), sizes  # the nine of one picture are not torn apart
    assert len(sizes) <= 7, sizes  # 32 crops in batches of 8 need five when cut well


def test_a_lone_request_does_not_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiducial.serve.batching.PATIENCE_S", 60.0)

    async def ask() -> np.ndarray:
        batcher = Batcher(Pacer(), max_crops=8, preparers=1)
        _, points = await asyncio.wait_for(batcher.points(lambda: of(5)), 10)
        batcher.stop()
        return points.xy

    np.testing.assert_array_equal(asyncio.run(ask()), [[[5, 0], [0, 5]]])


def test_nobody_waits_long_for_a_picture_that_is_slow_to_prepare() -> None:
    slow = threading.Event()

    def late() -> Crops:
        assert slow.wait(20)
        return of(6)

    async def ask() -> None:
        batcher = Batcher(Pacer(), max_crops=8, preparers=2)
        behind = asyncio.ensure_future(batcher.points(late))
        await asyncio.wait_for(batcher.points(lambda: of(5)), 10)
        slow.set()
        assert (await behind)[1].xy[0, 0, 0] == 6
        batcher.stop()

    asyncio.run(ask())


def test_what_fails_fails_alone_and_what_is_given_up_is_not_computed() -> None:
    network = Pacer()

    def broken() -> Crops:
        raise ValueError("no picture")

    async def ask() -> None:
        batcher = Batcher(network, max_crops=1, preparers=1)
        found = await asyncio.gather(
            *(batcher.points(each) for each in (lambda: of(5), broken, lambda: of(13), lambda: of(7))),
            return_exceptions=True,
        )
        assert [type(each) for each in found] == [tuple, ValueError, RuntimeError, tuple]
        network.open.clear()
        first = asyncio.ensure_future(batcher.points(lambda: of(1)))
        given_up = asyncio.ensure_future(batcher.points(lambda: of(2, 3)))
        await asyncio.to_thread(until, lambda: not batcher._preparing)
        given_up.cancel()
        await asyncio.sleep(0)
        network.open.set()
        await first
        batcher.stop()

    asyncio.run(ask())
    assert network.batches == [1, 1, 1, 1]
