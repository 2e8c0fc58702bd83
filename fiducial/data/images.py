"""Pictures from files or memory as uint8 RGB, upright; and what a file's header says without decoding it.

A JPEG cut short is an error here, though decoders fill the rest with grey. A JPEG with broken bits inside its data
can't be told from a strange picture and is decoded as far as the decoder gets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fiducial.data import apart, decoding
from fiducial.data.decoding import Header
from fiducial.errors import UserError
from fiducial.files import unreadable
from fiducial.geometry import Size
from fiducial.types import Images, Instances

# How the names of images end, small letters or capitals; OpenCV reads no HEIC, but files are often misnamed so.
ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".jpe", ".jfif", ".jp2", ".avif", ".heic", ".heif", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
)
END_BYTES = 1024  # of a file, in which its end mark is looked for
MOST_BYTES = 512 * 2**20  # of a picture's file


@dataclass(frozen=True)
class FileImages:
    """Pictures in files; implements `Images`."""

    folder: Path
    names: Sequence[str]  # relative to the folder
    declared: np.ndarray | None = None  # [m, 2] (w, h) that the annotations state, 0 = none

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return str(self.path(row))

    def path(self, row: int) -> Path:
        return self.folder / self.names[row]

    def declared_size(self, row: int) -> Size | None:
        if self.declared is None or not self.declared[row].all():
            return None
        return Size(*(int(value) for value in self.declared[row]))

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return read_image(self.path(row), reduce, self.declared_size(row))


@dataclass(frozen=True)
class SomeImages:
    """Some rows of images; implements `Images`."""

    images: Images
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return self.images.name(self.rows[row])

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return self.images.read(self.rows[row], reduce)

    def inner(self, row: int) -> tuple[Images, int]:
        return self.images, self.rows[row]


@dataclass(frozen=True)
class FramesOf:
    """Pictures that were made of others, and the files of some of these; implements `Images`."""

    made: Images
    files: Mapping[int, Path]  # row -> file

    def __len__(self) -> int:
        return len(self.made)

    def name(self, row: int) -> str:
        return self.made.name(row)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return self.made.read(row, reduce)

    def inner(self, row: int) -> tuple[Images, int]:
        file = self.files.get(row)
        return (self.made, row) if file is None else (FileImages(file.parent, [file.name]), 0)


def file_of(images: Images, row: int) -> Path | None:
    """Names the file that an image is in; None for those that are in none, whose names are made up."""
    if isinstance(images, FileImages):
        return images.path(row)
    inner = getattr(images, "inner", None)  # of images that are made of others
    return None if inner is None else file_of(*inner(row))


def on_images(instances: Instances, rows: np.ndarray) -> Instances:
    """Keeps some of the images, rows rising, and the instances on them."""
    place = np.full(len(instances.image_id), -1)
    place[rows] = np.arange(len(rows))
    own, some = instances.images, instances.select(place[instances.image_row] >= 0)
    if isinstance(own, FileImages):
        declared = None if own.declared is None else own.declared[rows]
        picked: Images = FileImages(own.folder, [str(own.names[row]) for row in rows.tolist()], declared)
    else:
        picked = SomeImages(own, rows.tolist())
    return replace(
        some,
        images=picked,
        image_id=instances.image_id[rows],
        image_size=instances.image_size[rows],
        image_row=place[some.image_row],
    )


@dataclass(frozen=True)
class ArrayImages:
    """Pictures in memory, [h, w] grey or [h, w, 3] RGB, uint8, of any sizes; implements `Images`."""

    arrays: Sequence[np.ndarray] | np.ndarray
    source: str = "memory"

    def __len__(self) -> int:
        return len(self.arrays)

    def name(self, row: int) -> str:
        return f"{self.source}#{row}"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        image = self.arrays[row]
        return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def read_image(path: Path, reduce: int = 1, declared: Size | None = None) -> np.ndarray:
    """Reads the picture in a file as uint8 RGB [h, w, 3].

    EXIF: turned upright, unless `declared`, the size that the annotations state, is the stored one and not the turned
    one: then the labels were made on stored pixels, and those are returned. 16 bits become 8 by division by 257,
    transparency is shown on black (what lies outside a picture is black, too), CMYK and grey become RGB; of several
    pages or frames it is the first.
    `reduce` 2, 4 or 8 lets a JPEG come at that fraction of the size; other files ignore it.
    Raises UserError naming the file."""
    return decode_image(_bytes_of(path), str(path), reduce, declared)


def decode_image(data: bytes, name: str, reduce: int = 1, declared: Size | None = None) -> np.ndarray:
    """Decodes the bytes of a file as `read_image` does; `name` is for messages.

    What could take all memory or run for hours is decoded in a process with limits."""
    if decoding.is_light(data):
        try:
            return decoding.decode(data, name, reduce, declared)
        except (decoding.TooLarge, MemoryError):
            pass
    return apart.decode(data, name, reduce, declared)


def is_one(path: Path) -> bool:
    """Tells by a file's first bytes whether OpenCV reads such files, or whether it is HEIC, which some rename."""
    import cv2

    with suppress(OSError), _opened(path) as file:
        if file.read(12)[4:] in decoding.HEIC:
            return True
    return cv2.haveImageReader(str(path))


def beside(place: Path, name: str) -> Path | None:
    """Finds the image of a name without its ending, in whatever letters that is."""
    paths = (place / (name + ending) for small in ENDINGS for ending in (small, small.upper()))
    found = next((path for path in paths if os.path.isfile(path)), None)
    if found is None and os.path.isdir(place):
        last = _by_stem(place, os.stat(place).st_mtime_ns).get(name)
        return None if last is None else place / last
    return found


@lru_cache(maxsize=8)
def _by_stem(folder: Path, changed_ns: int) -> dict[str, str]:
    """The images of a folder by their names without ending."""
    parts = [(os.path.splitext(name), name) for name in sorted(os.listdir(folder))]
    return {stem: name for (stem, ending), name in parts if ending.lower() in ENDINGS}


def keeps_stored(header: Header, declared: Size | None) -> bool:
    """Tells whether labels that state `declared` were made on stored pixels, in spite of an EXIF rotation."""
    return declared is not None and declared == header.size and declared != header.upright


def file_header(path: Path) -> Header | None:
    """Reads the header of a picture's file; None for a kind that Pillow doesn't know.
    Raises UserError for a file that is missing, empty, cut short or of pixels that can't be read."""
    try:
        with _opened(path) as file:
            length = os.fstat(file.fileno()).st_size
            header = decoding.header(file)
            file.seek(0)
            start = file.read(8)
            file.seek(max(length - END_BYTES, 0))
            end = file.read()
    except OSError as error:
        raise UserError(path, f"can't be read: {error.strerror}") from error
    if length == 0 or not decoding.has_end(start, end) or decoding.may_be_unreadable(start, header):
        read_image(path)  # says what is wrong; some cameras append kilobytes after the end of the picture
    return header


def brightest_of_16_bits(path: Path) -> int | None:
    """Finds the largest value of a picture of 16 bits; None for others, and for what takes long to decode."""
    data = _bytes_of(path)
    return decoding.brightest_of_16_bits(data, str(path)) if decoding.is_light(data) else None


def upright_size(path: Path) -> Size:
    """Reads the width and height of a picture as `read_image` returns it without a declared size."""
    header = file_header(path)
    return decoding.size_of(read_image(path)) if header is None else header.upright


def _opened(path: Path) -> BinaryIO:
    """A file that is one: who opens a pipe waits for its other end."""
    if path.exists() and not path.is_file():
        raise UserError(path, f"expected a picture's file, it is {'a folder' if path.is_dir() else 'a pipe or device'}")
    return open(path, "rb")


def _bytes_of(path: Path) -> bytes:
    try:
        with _opened(path) as file:
            length = os.fstat(file.fileno()).st_size
            if length > MOST_BYTES:
                raise UserError(
                    path, f"{length / 2**20:,.0f} MB; pictures may have {MOST_BYTES // 2**20} MB, save it anew"
                )
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from error
