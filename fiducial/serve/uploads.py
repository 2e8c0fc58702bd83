"""Images of strangers become crops, in processes with limits: what the decoder itself reads, allocates and does decides.

Most images are small and come out at once; what is larger, or could be slow, is for a process of its own that steps back
when others need the cores, so that nobody waits behind it."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import crops as cutting
from fiducial.data import decoding
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.limited import Limited, TooMuch
from fiducial.serve.limits import Limits, Refused, no_room

LIGHT_PIXELS = 2**21  # a frame of 1920x1080; more is decoded by the process for heavy images
LIGHT_SECONDS = 0.3
BYTES_A_PIXEL = 12  # of memory: a progressive JPEG takes 9, 16 bits with alpha 11
MOST_PX_A_SIDE = 65_535  # JPEG's own limit
SIDES = ("OPENCV_IO_MAX_IMAGE_WIDTH", "OPENCV_IO_MAX_IMAGE_HEIGHT")
KINDS = (decoding.JPEG, decoding.PNG)  # how the files begin; WebP's mark is in the middle
# Blocks of this size go back to the system as soon as they are free.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**22), "MALLOC_TRIM_THRESHOLD_": str(2**22), "OPENBLAS_NUM_THREADS": "1"}
HEAVY_NICENESS = 10


@dataclass(frozen=True)
class Prepared:
    """The crops of a decoded image. The image itself is not kept."""

    size: Size
    crops: np.ndarray  # [n, h, w, 3] uint8
    image_to_crop: np.ndarray  # [n, 3, 3]
    first_box: np.ndarray  # [4] what the first crop shows, edge frame


class Heavy(Exception):
    """An image for the process for heavy ones."""


class Decoders:
    """The processes: some for light images, two for heavy ones, which `heavy` is given one at a time."""

    def __init__(self, spec: DetectorSpec, limits: Limits, light: int) -> None:
        """`spec`: of the network whose crops are cut where nobody says otherwise."""
        self._limits, self._spec = limits, spec
        self._renewing = ThreadPoolExecutor(1, "fiducial-renewing")
        few = min(LIGHT_PIXELS, limits.max_pixels)
        lights = [self._process(few, LIGHT_SECONDS, 0) for _ in range(light)]
        # While one is started anew, the other is there.
        heavies = [self._process(limits.max_pixels, limits.decode_s, HEAVY_NICENESS) for _ in range(2)]
        self._all = [*lights, *heavies]
        with ThreadPoolExecutor(len(self._all)) as pool:
            list(pool.map(Limited.start, self._all))
        self._light, self._heavy = _queue_of(lights), _queue_of(heavies)

    def end(self) -> None:
        """Ends the processes; to be called after the last answer."""
        self._renewing.shutdown()
        for process in self._all:
            process.end()

    def light(self, data: bytes, boxes: np.ndarray | None, name: str, spec: DetectorSpec | None = None) -> Prepared:
        """Makes the crops of a small image: the bytes of a file, boxes [n, 4] or None, the whole image, and of `spec` size and
        padding. Raises Refused, and Heavy for an image that is for `heavy`."""
        check_kind(data, name)
        if not decoding.has_few_scans(data):
            raise Heavy
        try:
            with self._taken(self._light) as process:
                return self._asked(process, data, boxes, name, spec or self._spec)
        except TooMuch as error:
            raise Heavy from error

    def heavy(self, data: bytes, boxes: np.ndarray | None, name: str, spec: DetectorSpec | None = None) -> Prepared:
        """Makes the crops of any image that the limits allow. Raises Refused."""
        try:
            with self._taken(self._heavy) as process:
                return self._asked(process, data, boxes, name, spec or self._spec)
        except Heavy as error:
            raise Refused(413, f"{name}: too large; the limit is {self._limits.max_pixels} pixels") from error
        except TooMuch as error:
            raise Refused(422, f"{name}: decoding it {error}; save it anew or smaller") from error

    def _asked(
        self, process: Limited, data: bytes, boxes: np.ndarray | None, name: str, spec: DetectorSpec
    ) -> Prepared:
        question = {"crop": list(spec.size), "padding": spec.padding, "name": name}
        question["boxes"] = None if boxes is None else boxes.tolist()
        try:
            found, crops = process(question, data)
        except TooMuch:
            raise
        except UserError as error:
            raise Refused(422, str(error)) from error
        except OSError as error:
            raise no_room(error) from error
        if found["heavy"]:
            raise Heavy
        size, maps = Size(*found["size"]), np.array(found["maps"], np.float64).reshape(-1, 3, 3)
        pixels = np.frombuffer(crops, np.uint8).reshape(len(maps), spec.size.h, spec.size.w, 3)
        return Prepared(size, pixels, maps, np.array(found["first"]))

    @contextmanager
    def _taken(self, free: queue.SimpleQueue[Limited]) -> Iterator[Limited]:
        process, ended = free.get(), False
        try:
            yield process
        except TooMuch:
            ended = True
            raise
        finally:
            if ended:  # nobody waits while another is started
                self._renewing.submit(self._renewed, process, free)
            else:
                free.put(process)

    @staticmethod
    def _renewed(process: Limited, free: queue.SimpleQueue[Limited]) -> None:
        try:
            process.start()
        finally:
            free.put(process)  # where it can't be started now, whoever takes it tries again

    def _process(self, most_pixels: int, seconds: float, niceness: int) -> Limited:
        sides = dict.fromkeys(SIDES, str(MOST_PX_A_SIDE))
        megabytes = 64 + most_pixels * BYTES_A_PIXEL // 2**20
        return Limited(
            f"{__name__}:crops_of",
            megabytes=megabytes,
            cpu_seconds=seconds,
            wall_seconds=self._limits.timeout_s,
            environment={**MEMORY, **sides, decoding.LIMIT: str(most_pixels)},
            niceness=niceness,
        )


def check_kind(data: bytes, name: str) -> None:
    """Refuses what is no JPEG, PNG or WebP by its first bytes."""
    if not data:
        raise Refused(422, f"{name}: is empty; send the bytes of a JPEG, PNG or WebP file")
    if not data.startswith(KINDS) and not (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        raise Refused(415, f"{name}: expected the bytes of a JPEG, PNG or WebP file")


def crops_of(question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """Decodes and cuts, in a process with limits; `heavy` where the image has too many pixels for it."""
    import cv2

    cv2.setNumThreads(1)
    try:
        image = decoding.decode(data, question["name"])
    except decoding.TooLarge:
        return {"heavy": True}, np.empty(0, np.uint8)
    boxes = None if question["boxes"] is None else np.array(question["boxes"], np.float64).reshape(-1, 4)
    crop_size = Size(*question["crop"])
    crops, maps = cutting.cut(image, boxes, crop_size, question["padding"])
    checked, padding = cutting.checked_boxes(image, boxes, question["padding"])
    first = geometry.fit_aspect(checked[0], crop_size, padding) if len(checked) else np.zeros(4)
    size = [image.shape[1], image.shape[0]]
    return {"heavy": False, "size": size, "maps": maps.tolist(), "first": first.tolist()}, crops


def _queue_of(processes: Iterable[Limited]) -> queue.SimpleQueue[Limited]:
    free: queue.SimpleQueue[Limited] = queue.SimpleQueue()
    for process in processes:
        free.put(process)
    return free
