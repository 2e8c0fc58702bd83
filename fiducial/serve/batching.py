"""Dynamic batching: crops of requests that are there at the same time go through the network together.

Some threads prepare crops, one owns the network. It takes what is ready, up to a number of crops, and waits for more only
while more is being prepared, and only for a moment: a lone request is not delayed, and a crowd comes in full batches."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from fiducial.runtime.runtime import Network
from fiducial.types import Keypoints

PATIENCE_S = 0.03


class HasCrops(Protocol):
    """What is prepared of one image."""

    @property
    def crops(self) -> np.ndarray:
        """[n, h, w, 3] uint8"""
        ...


P = TypeVar("P", bound=HasCrops)


@dataclass
class Job(Generic[P]):
    """One image on its way."""

    prepare: Callable[[], P]
    answer: asyncio.Future[tuple[P, Keypoints]]
    prepared: P | None = None

    @property
    def crops(self) -> np.ndarray:
        """The prepared crops."""
        assert self.prepared is not None
        return self.prepared.crops


class Batcher(Generic[P]):
    """Joins the crops of requests into batches; made and used within one event loop, `stop` after the last answer."""

    def __init__(
        self, network: Network, max_crops: int, preparers: int, observe: Callable[[int], None] = lambda crops: None
    ) -> None:
        """`observe` is told the number of crops of each batch. An image with more than `max_crops` goes alone."""
        self._network, self._max_crops, self._observe = network, max_crops, observe
        self._to_prepare: queue.SimpleQueue[Job[P] | None] = queue.SimpleQueue()  # None: one thread ends
        self._changed = threading.Condition()  # guards what follows
        self._ready: deque[Job[P]] = deque()
        self._preparing, self._stopping = 0, False
        self._preparers = [self._thread(self._prepare_all, "prepare") for _ in range(preparers)]
        self._runner = self._thread(self._run_all, "batches")

    async def points(self, prepare: Callable[[], P]) -> tuple[P, Keypoints]:
        """Calls `prepare` in a thread and gives what it returned, with the points on its crops.

        What it or the network raises is raised here. A job that is cancelled before its turn is not computed."""
        job = Job(prepare, asyncio.get_running_loop().create_future())
        with self._changed:
            self._preparing += 1
        self._to_prepare.put(job)
        return await job.answer

    def waiting(self) -> int:
        """Counts the images that no batch has taken yet."""
        return self._preparing + len(self._ready)

    def stop(self) -> None:
        """Ends the threads, and returns when they have ended."""
        for _ in self._preparers:
            self._to_prepare.put(None)
        with self._changed:
            self._stopping = True
            self._changed.notify()
        for thread in (*self._preparers, self._runner):
            thread.join()

    @staticmethod
    def _thread(target: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=target, name=f"fiducial-{name}", daemon=True)
        thread.start()
        return thread

    def _prepare_all(self) -> None:
        while (job := self._to_prepare.get()) is not None:
            try:
                if not job.answer.cancelled():
                    job.prepared = job.prepare()
            except Exception as error:  # whatever it is, somebody waits for it
                _deliver([job], [error])
            with self._changed:
                self._preparing -= 1
                if job.prepared is not None:
                    self._ready.append(job)
                # The network's thread is woken when it can begin, and to begin to wait.
                if len(self._ready) == 1 or self._enough():
                    self._changed.notify()
            del job  # nothing is kept while there is nothing to do

    def _enough(self) -> bool:
        return self._preparing == 0 or sum(len(job.crops) for job in self._ready) >= self._max_crops

    def _run_all(self) -> None:
        while batch := self._next_batch():
            self._run(batch)
            del batch

    def _next_batch(self) -> list[Job[P]]:
        """Empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._stopping)
            self._changed.wait_for(self._enough, PATIENCE_S)
            batch, count = [], 0
            while self._ready and (not batch or count + len(self._ready[0].crops) <= self._max_crops):
                batch.append(self._ready.popleft())
                count += len(batch[-1].crops)
            return batch

    def _run(self, batch: Sequence[Job[P]]) -> None:
        batch = [job for job in batch if not job.answer.cancelled()]
        if not batch:
            return
        crops = batch[0].crops if len(batch) == 1 else np.concatenate([job.crops for job in batch])
        self._observe(len(crops))
        try:
            points = self._network.predict(crops)
        except Exception as error:  # whatever it is, somebody waits for it
            _deliver(batch, [error] * len(batch))
            return
        answers, start = [], 0
        for job in batch:
            rows = slice(start, start + len(job.crops))
            start = rows.stop
            of_job = points.select(rows)
            answers.append((job.prepared, of_job))
        _deliver(batch, answers)


def _deliver(jobs: Sequence[Job[Any]], answers: Sequence[Any]) -> None:
    """From a thread to the event loop, which is woken once."""

    def deliver() -> None:
        for job, answer in zip(jobs, answers, strict=True):
            if job.answer.done():  # given up
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)

    jobs[0].answer.get_loop().call_soon_threadsafe(deliver)
