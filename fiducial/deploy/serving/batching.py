"""Dynamic batching: crops of requests that wait at the same time go through the network together.

One thread owns the network. It takes what waits, up to a number of crops, and does not wait for more: while it works the
next batch gathers by itself, so that a lone request is not delayed and a crowd is not cut up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from fiducial.deploy.runtime import Network
from fiducial.types import Keypoints


@dataclass
class _Job:
    crops: np.ndarray  # [n, h, w, 3]
    answer: Future[Keypoints] = field(default_factory=Future)


class Batcher:
    """`submit` from any thread; `stop` finishes what was submitted."""

    def __init__(self, network: Network, max_crops: int, observe: Callable[[int], None] = lambda crops: None) -> None:
        """`observe` is told the number of crops of each batch."""
        self._network, self._max_crops, self._observe = network, max_crops, observe
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fiducial-batcher", daemon=True)
        self._thread.start()

    def submit(self, crops: np.ndarray) -> Future[Keypoints]:
        """Points on the crops, later; what the network raises is raised by the future."""
        job = _Job(crops)
        self._jobs.put(job)
        return job.answer

    def waiting(self) -> int:
        """Requests that no batch has taken yet."""
        return self._jobs.qsize()

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        left: _Job | None = None  # did not fit into the last batch
        while True:
            first = left or self._jobs.get()
            left = None
            if first is None:
                return
            batch, count = [first], len(first.crops)
            ends = False
            while count < self._max_crops:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    ends = True
                    break
                if count + len(job.crops) > self._max_crops:
                    left = job
                    break
                batch.append(job)
                count += len(job.crops)
            # A request that was given up, its client gone or its time over, is not computed.
            batch = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            if batch:
                self._run(batch)
            if ends:
                self._jobs.put(None)

    def _run(self, batch: Sequence[_Job]) -> None:
        crops = batch[0].crops if len(batch) == 1 else np.concatenate([job.crops for job in batch])
        self._observe(len(crops))
        try:
            found = self._network.predict(crops)
        except Exception as error:
            for job in batch:
                job.answer.set_exception(error)
            return
        start = 0
        for job in batch:
            rows = slice(start, start + len(job.crops))
            start = rows.stop
            columns = {name: None if value is None else value[rows] for name, value in vars(found).items()}
            job.answer.set_result(Keypoints(**columns))
