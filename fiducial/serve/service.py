"""A loaded model and what its requests share: threads that decode, the batches, and the gate."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from fiducial import files, geometry
from fiducial.card import DetectorSpec
from fiducial.runtime import finder as finders
from fiducial.runtime.finder import Finder
from fiducial.runtime.runtime import Runtime
from fiducial.serve import answers
from fiducial.serve.batching import Batcher
from fiducial.serve.bodies import Bodies
from fiducial.serve.counters import Counters
from fiducial.serve.limits import Limits, Refused, busy
from fiducial.serve.uploads import Decoders, Heavy, Prepared
from fiducial.types import Found


@runtime_checkable
class ShowsHeatmaps(Protocol):
    """What some networks offer besides points: heatmaps. Exported files don't."""

    def heatmaps(self, crops: np.ndarray) -> np.ndarray | None:
        """Gives the maps [n, k, h, w] in 0..1 of uint8 RGB crops [n, h, w, 3]; None where the method has none."""
        ...


class Service:
    """A loaded model and what its requests share; used by one event loop."""

    def __init__(self, run: Runtime, limits: Limits) -> None:
        self.run, self.limits = run, limits
        spec = run.card.spec
        self.title = f"{run.card.title}, {run.network.runtime}"
        self.in_flight, self.draining = 0, False
        self.bodies = Bodies(limits.most_held)
        black = np.zeros((2, spec.size.h, spec.size.w, 3), np.uint8)
        for count in (1, 2):  # what a runtime makes when it is first used is made now
            run.network.predict(black[:count])
        self.has_heatmaps = isinstance(run.network, ShowsHeatmaps) and run.network.heatmaps(black[:1]) is not None
        self.counters = Counters()
        cores = files.cores()
        self._decoders = Decoders(spec, limits, cores)
        self._batcher: Batcher[Prepared] = Batcher(run.network, limits.max_batch, cores, self.counters.batch)
        self._heavy_thread, self._heavy = ThreadPoolExecutor(1, "fiducial-heavy"), 0
        self._finding = ThreadPoolExecutor(cores, "fiducial-finding")
        if run.finder is not None:
            run.finder(black[0])
        self.counters.watch("fiducial_in_flight", "Requests that are being answered", lambda: self.in_flight)
        self.counters.watch("fiducial_waiting", "Pictures that no batch has taken yet", self._batcher.waiting)

    @property
    def ready(self) -> bool:
        """Whether another request would be taken."""
        return not self.draining and self.in_flight < self.limits.max_in_flight

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Takes a place for one request, or raises Refused."""
        if self.draining:
            raise Refused(503, "the server is stopping", {"Connection": "close"})
        if not self.ready:
            raise busy("too many requests at a time")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def stop(self) -> None:
        """Ends the threads and processes; to be called after the last request."""
        self._batcher.stop()
        self._heavy_thread.shutdown()
        self._finding.shutdown()
        self._decoders.end()

    async def answer(
        self, data: bytes, boxes: np.ndarray | None, name: str = "image", heatmap: bool = False
    ) -> answers.Answer:
        """Finds points on one image: the bytes of a file and boxes [n, 4], None = those that the model's finder finds, and without
        one the whole image. `name` is for messages."""
        start = time.perf_counter()
        found = None
        if boxes is None and self.run.finder is not None:
            found = await self._found(data, name, self.run.finder)
            boxes = found.box_xywh
        try:
            prepared, points = await self._batcher.points(partial(self._decoders.light, data, boxes, name))
        except Heavy:
            prepared = await self._prepared_slowly(data, boxes, name)
            prepared, points = await self._batcher.points(lambda: prepared)
        points = points.mapped(geometry.invert(prepared.image_to_crop))
        if found is not None and self.run.kinds is not None:
            points = replace(points, kind=self.run.kinds[found.kind], skeleton=self.run.skeleton)
        ms = (time.perf_counter() - start) * 1e3
        answer = answers.answer(self.title, self.run.skeleton.points, prepared.size, points, ms, found)
        if heatmap and self.has_heatmaps and len(prepared.crops):
            answer.heatmap = await asyncio.to_thread(self._heatmap, prepared)
        return answer

    async def _found(self, data: bytes, name: str, finder: Finder) -> Found:
        """The instances of an image, as many as a request may name boxes."""
        loop = asyncio.get_running_loop()
        try:
            look = partial(self._decoders.light, data, None, name, finder.spec)
            scene = await loop.run_in_executor(self._finding, look)
        except Heavy:
            scene = await self._prepared_slowly(data, None, name, finder.spec)
        seen = await loop.run_in_executor(self._finding, finder.network.find, scene.crops)
        least = finder.threshold if self.run.min_score is None else self.run.min_score
        own = Found(seen.box_xywh[0], seen.score[0], seen.kind[0])
        placed = finders.placed(own, scene.image_to_crop[0], scene.size, least)
        some = slice(0, self.limits.max_boxes)
        return Found(placed.box_xywh[some], placed.score[some], placed.kind[some])

    async def _prepared_slowly(
        self, data: bytes, boxes: np.ndarray | None, name: str, spec: DetectorSpec | None = None
    ) -> Prepared:
        if self._heavy >= self.limits.max_heavy:
            raise busy("too many large images at a time")
        self._heavy += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._heavy_thread, self._decoders.heavy, data, boxes, name, spec)
        finally:
            self._heavy -= 1

    def _heatmap(self, prepared: Prepared) -> answers.Heatmap:
        assert isinstance(self.run.network, ShowsHeatmaps)
        maps = self.run.network.heatmaps(prepared.crops[:1])
        assert maps is not None
        grey = np.clip(maps[0].max(0) * 255, 0, 255).astype(np.uint8)
        x, y, w, h = prepared.first_box.tolist()
        return answers.Heatmap(base64.b64encode(cv2.imencode(".png", grey)[1].tobytes()).decode(), (x, y, w, h))
