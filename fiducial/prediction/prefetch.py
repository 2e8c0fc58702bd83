"""Making the next item while this one is used: an iterator that runs in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from typing import TypeVar

Item = TypeVar("Item")
Items = Generator[Item, None, None]


def ahead(items: Items[Item], most: int = 4) -> Items[Item]:
    """Makes up to `most` of the items before they are asked for; then the thread waits.

    An error comes out where it would have come without the thread. Closing the result ends the thread and closes
    `items` in it."""
    return _handed_over(items, most, waits=True)


def newest(items: Items[Item]) -> Items[Item]:
    """Gives, of the items that were made since the last one was asked for, only the newest.

    The thread never waits, so that a consumer that is slower than a camera sees the present. Errors and closing as in
    `ahead`."""
    return _handed_over(items, 1, waits=False)


def _handed_over(items: Items[Item], most: int, waits: bool) -> Items[Item]:
    ready: deque[Item] = deque(maxlen=most)
    changed = threading.Condition()
    stopped = False
    ended: list[BaseException | None] = []  # one entry when the thread is done: its error

    def work() -> None:
        error = None
        try:
            for item in items:
                with changed:
                    changed.wait_for(lambda: stopped or not waits or len(ready) < most)
                    if stopped:
                        break
                    ready.append(item)  # takes the place of the oldest where the deque is full
                    changed.notify_all()
            items.close()
        except BaseException as caught:  # Ctrl-C too: it is the consumer that decides what it means
            error = caught
        with changed:
            ended.append(error)
            changed.notify_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready or ended)
                if not ready:
                    if ended[0] is not None:
                        raise ended[0]
                    return
                item = ready.popleft()
                changed.notify_all()
            yield item
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join()
