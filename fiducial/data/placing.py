"""Where the images of written labels are: referred to where they lie, or copied beside the labels."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fiducial import files
from fiducial.data.images import ENDINGS, upright_size
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Images, Instances


@dataclass
class Placing:
    """Names the images of written labels. Each image is copied once, under a name that no other has in its folder."""

    folder: Path  # in which labels are written
    copies: bool = False  # even where the labels could say where the images are
    is_new: bool = False  # nothing else is in the folder
    _placed: dict[tuple[str, str], str] = field(default_factory=dict)  # (name of an image, folder) -> its copy
    _taken: set[str] = field(default_factory=set)

    def copy(self, images: Images, row: int, folder: str, *, by_stem: bool = False) -> str:
        """Copies an image into a folder below, and gives its path relative to it all, with slashes. Images that are no
        files become PNG. `by_stem`: no two may differ in their endings alone, since labels are found by the stem."""
        key = (images.name(row), folder)
        if key not in self._placed:
            source = file_of(images, row)
            data = _png(images.read(row)) if source is None else source.read_bytes()
            name = self._free(_plain(images.name(row), source), folder, by_stem, data)
            place = self.folder / folder / name
            if not place.exists():
                files.write_bytes(place, data)
            self._placed[key] = f"{folder}/{name}" if folder else name
        return self._placed[key]

    def refer(self, images: Images, row: int) -> str:
        """Gives the absolute path of an image; that of its copy, relative to the labels, where copies are asked for or
        the image is no file."""
        source = file_of(images, row)
        if source is None or self.copies:
            return self.copy(images, row, "images")
        return os.path.abspath(source)

    def _free(self, name: str, folder: str, by_stem: bool, data: bytes) -> str:
        """A name that no other image has, nor another file that was there before."""
        stem, ending = os.path.splitext(name)
        number = 1
        while True:
            name = f"{stem}{'' if number == 1 else f'_{number}'}{ending}"
            taken = f"{folder}/{os.path.splitext(name)[0] if by_stem else name}".casefold()
            place = self.folder / folder / name
            is_free = not place.exists() or (place.is_file() and place.read_bytes() == data)
            if taken not in self._taken and is_free:
                self._taken.add(taken)
                return name
            number += 1


def file_of(images: Images, row: int) -> Path | None:
    """Finds the file of an image; None for one in memory, or a frame of a video."""
    path = Path(images.name(row))
    return path if os.path.isfile(path) else None


def size_of(instances: Instances, row: int) -> Size:
    """Gives the size of an image: as its labels were made on it, else as it is stored."""
    width, height = instances.image_size[row].tolist()
    if width and height:
        return Size(width, height)
    source = file_of(instances.images, row)
    if source is not None:
        return upright_size(source)
    height, width = instances.images.read(row).shape[:2]
    return Size(width, height)


def rows_by_image(instances: Instances) -> list[np.ndarray]:
    """Gives the rows of the instances on each image, in their order."""
    order = np.argsort(instances.image_row, kind="stable")
    counts = np.bincount(instances.image_row, minlength=len(instances.images))
    return np.split(order, np.cumsum(counts)[:-1])


def _plain(name: str, source: Path | None) -> str:
    """The last part of a name, as a file's."""
    last = re.sub(r"[^\w. +()-]+", "_", name.replace("\\", "/").rpartition("/")[2]).strip(" .") or "image"
    _, ending = os.path.splitext(last[-150:])
    return last[-150:] if source is not None and ending.lower() in ENDINGS else f"{last[-150:]}.png"


def _png(image: np.ndarray) -> bytes:
    import cv2

    written, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not written:
        raise UserError(f"an image of {image.shape} can't be written as PNG")
    return data.tobytes()
