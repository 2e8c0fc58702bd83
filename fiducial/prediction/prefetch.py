"""Making the next item while this one is used: an iterator that runs in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import TypeVar

MOST_AHEAD_BYTES = 2**26  # of images; a larger one is handed over when it is asked for

Item = TypeVar("Item")
Items = Generator[Item, None, None]


def ahead(items: Items[Item], most: int = 4, bytes_of: Callable[[Item], int] = lambda item: 0) -> Items[Item]:
    """Makes up to `most` of the items before they are asked for, and no more than MOST_AHEAD_BYTES of them by
    `bytes_of`; then the thread waits.

    An error comes out where it would have come without the thread. Closing the result ends the thread and closes
    `items` in it."""
    return _handed_over(items, most, waits=True, bytes_of=bytes_of)


def newest(items: Items[Item]) -> Items[Item]:
    """Gives, of the items that were made since the last one was asked for, only the newest.

    The thread never waits, so that a consumer that is slower than a camera sees the present. Errors and closing as in
    `ahead`."""
    return _handed_over(items, 1, waits=False, bytes_of=lambda item: 0)


def _handed_over(items: Items[Item], most: int, waits: bool, bytes_of: Callable[[Item], int]) -> Items[Item]:
    ready: deque[Item] = deque(maxlen=most)
    changed = threading.Condition()
    stopped = is_asked = False
    ended: list[BaseException | None] = []  # one entry when the thread is done: its error

    def has_room(item: Item) -> bool:
        is_light = sum(map(bytes_of, (*ready, item))) <= MOST_AHEAD_BYTES
        return len(ready) < most and (is_light or (is_asked and not ready))

    def work() -> None:
        error = None
        try:
            for item in items:
                with changed:
                    changed.wait_for(lambda item=item: stopped or not waits or has_room(item))
                    if stopped:
                        break
                    ready.append(item)  # takes the place of the oldest where the deque is full
                    changed.notify_all()
                del item  # while the next is made
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
                is_asked = True
                changed.notify_all()
                changed.wait_for(lambda: ready or ended)
                is_asked = False
                if not ready:
                    if ended[0] is not None:
                        raise ended[0]
                    return
                item = [ready.popleft()]
                changed.notify_all()
            yield item.pop()  # and nothing here holds it while the next is made
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        thread.join()
