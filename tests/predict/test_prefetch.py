"""Items made in a thread are those that were made without it; so are its errors, and nothing is left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from fiducial.prediction.prefetch import MOST_AHEAD_BYTES, ahead, newest


def counted(limit: int, made: list[int], closed: list[bool] | None = None) -> Generator[int, None, None]:
    try:
        for number in range(limit):
            made.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(True)


def wait_until(condition: object) -> None:
    end = time.monotonic() + 5
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def test_all_items_in_order() -> None:
    assert list(ahead(counted(1000, []))) == list(range(1000))


def test_so_many_are_made_before_they_are_asked_for_and_no_more() -> None:
    made: list[int] = []
    items = ahead(counted(100, made), most=3)
    assert next(items) == 0
    wait_until(lambda: len(made) == 5)  # one given, three ready, one in the hand
    time.sleep(0.05)
    assert len(made) == 5
    items.close()


def test_large_items_wait_until_they_are_asked_for() -> None:
    made: list[int] = []
    items = ahead(counted(100, made), most=4, bytes_of=lambda number: MOST_AHEAD_BYTES // 2 + number)
    assert next(items) == 0
    wait_until(lambda: len(made) == 3)  # one given, one ready, one in the hand: two are too large
    time.sleep(0.05)
    assert len(made) == 3
    assert list(items) == list(range(1, 100))


def test_an_error_comes_where_it_would_have_come() -> None:
    def fails() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise KeyboardInterrupt

    items = ahead(fails())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        next(items)


@pytest.mark.parametrize("way", [ahead, newest])
def test_closing_ends_the_thread_and_the_source(way: object) -> None:
    closed: list[bool] = []
    before = threading.active_count()
    items = way(counted(10**9, [], closed))  # type: ignore[operator]
    next(items)
    items.close()
    assert closed == [True]
    assert threading.active_count() == before


def test_the_newest_is_what_a_slow_consumer_gets_and_the_last_is_never_lost() -> None:
    given, shown = threading.Semaphore(0), threading.Semaphore(0)

    def camera() -> Generator[int, None, None]:
        for number in range(8):
            given.acquire()
            yield number
            shown.release()

    def let(count: int) -> None:
        for _ in range(count):
            given.release()
            shown.acquire()

    seen, items = [], newest(camera())
    given.release()
    seen.append(next(items))
    shown.acquire()
    for count in (3, 1, 3):
        let(count)
        seen.append(next(items))
    assert seen == [0, 3, 4, 7]
    assert list(items) == []
