"""Pictures from files or memory as uint8 RGB, upright; and what a file's header says without decoding it.

A JPEG cut short is an error here, though decoders fill the rest with grey. A JPEG with broken bits inside its data
can't be told from a strange picture and is decoded as far as the decoder gets."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fiducial.errors import UserError
from fiducial.geometry import Size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".JPG", ".JPEG", ".PNG")
# Reading this much answers `header` for nearly all files; longer metadata make it read the whole file.
HEAD_BYTES = 65536


class Header(NamedTuple):
    """What the first bytes of a picture say."""

    size: Size  # as stored
    orientation: int = 1  # EXIF, 1-8; 5-8 exchange width and height
    simple: bool = True  # 8 bits a channel and no alpha: the decoder's own conversion to RGB is right
    data_start: int = 0  # JPEG: where the entropy-coded data begin; 0 = not a JPEG

    @property
    def upright(self) -> Size:
        """The size after the EXIF rotation."""
        return Size(self.size.h, self.size.w) if self.orientation >= 5 else self.size


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
    """The picture in a file as uint8 RGB [h, w, 3].

    EXIF: turned upright, unless `declared`, the size that the annotations state, is the stored one and not the turned
    one: then the labels were made on stored pixels, and those are returned. 16 bits become 8 by division by 257,
    transparency is shown on black (what lies outside a picture is black, too), CMYK and grey become RGB.
    `reduce` 2, 4 or 8 lets a JPEG come at that fraction of the size; other files ignore it.
    Raises UserError naming the file."""
    data = _bytes_of(path)
    return decode_image(data, str(path), reduce, declared)


def decode_image(data: bytes, name: str, reduce: int = 1, declared: Size | None = None) -> np.ndarray:
    """As `read_image`, from a file's bytes; `name` is for messages."""
    import cv2

    header = parse_header(data)
    problem = _cut_short(data, header)
    if problem:
        raise UserError(name, f"{problem}; fetch or export the picture again")
    stored = header is not None and keeps_stored(header, declared)
    turning = cv2.IMREAD_IGNORE_ORIENTATION if stored else 0
    buffer = np.frombuffer(data, np.uint8)
    if header is not None and header.simple:
        # A reduced JPEG of a size that isn't divisible ends in half-filled pixels: its edges would not coincide.
        while header.size.w % reduce or header.size.h % reduce:
            reduce //= 2
        # OpenCV names its reduced modes with their colour; RGB is a bit of its own, so the grey ones are its base.
        reduced = {
            2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
            4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        }
        size_flag = reduced.get(reduce, 0) if header.data_start else 0
        image = _decoded(buffer, cv2.IMREAD_COLOR_RGB | size_flag | turning, name)
    else:
        image = _to_rgb8(_decoded(buffer, cv2.IMREAD_UNCHANGED, name), name)
        if header is not None and not stored:
            image = _turned(image, header.orientation)
    return image


def keeps_stored(header: Header, declared: Size | None) -> bool:
    """Whether labels that state `declared` were made on stored pixels, in spite of an EXIF rotation."""
    return declared is not None and declared == header.size and declared != header.upright


def file_header(path: Path) -> Header | None:
    """The header of a picture's file, from its first bytes; None for a kind that `parse_header` doesn't know.
    Raises UserError for a file that is missing, empty or cut short."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            header = parse_header(head)
            length = os.fstat(file.fileno()).st_size
            if length > len(head):
                if header is None:
                    head += file.read()
                    header = parse_header(head)
                else:
                    file.seek(max(length - 1024, header.data_start))
                    head = head[: header.data_start] + file.read()
    except OSError as error:
        raise UserError(path, f"can't be read: {error.strerror}") from error
    problem = _cut_short(head, header)
    if problem and header is not None and length > HEAD_BYTES:
        # Some cameras append kilobytes after the end of the picture.
        problem = _cut_short(path.read_bytes(), header)
    if problem:
        raise UserError(path, f"{problem}; fetch or export the picture again")
    return header


def upright_size(path: Path) -> Size:
    """Width and height of a picture as `read_image` returns it without a declared size."""
    header = file_header(path)
    if header is not None:
        return header.upright
    height, width = read_image(path).shape[:2]
    return Size(width, height)


def parse_header(data: bytes) -> Header | None:
    """What the first bytes of a JPEG or a PNG say; None for other kinds and for headers that are cut off."""
    if data[:2] == b"\xff\xd8":
        return _jpeg_header(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 29:
        width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
        chunks = data[:HEAD_BYTES].split(b"IDAT", 1)[0]
        alpha = colour in (4, 6) or b"tRNS" in chunks
        place = chunks.find(b"eXIf")
        orientation = _exif_orientation(chunks[place + 4 :]) if place > 0 else 1
        return Header(Size(width, height), orientation, bits <= 8 and not alpha)
    return None


def _jpeg_header(data: bytes) -> Header | None:
    """Walks the segments up to the start of the scan (ITU T.81, annex B)."""
    place, orientation, size = 2, 1, None
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        length = struct.unpack(">H", data[place + 2 : place + 4])[0]
        body = data[place + 4 : place + 2 + length]
        if marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _exif_orientation(body[6:])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            size = Size(width, height)
        elif marker == 0xDA:
            return None if size is None else Header(size, orientation, data_start=place + 2 + length)
        place += 2 + length
    return None


def _exif_orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory (EXIF 2.3, section 4.6.2); 1 where there is none or it makes no sense."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    start = struct.unpack(order + "I", tiff[4:8])[0]
    if start + 2 > len(tiff):
        return 1
    count = struct.unpack(order + "H", tiff[start : start + 2])[0]
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, value = struct.unpack(order + "H6xH", tiff[entry : entry + 10])
        if tag == 0x0112:
            return value if 1 <= value <= 8 else 1
    return 1


def _cut_short(data: bytes, header: Header | None) -> str:
    """What is missing from a file's bytes; "" where nothing is known to be."""
    if not data:
        return "the file is empty"
    if header is None:
        return "the JPEG is cut off in its header" if data[:2] == b"\xff\xd8" else ""
    # Inside entropy-coded data every 0xFF is followed by 0 or a restart number, so this marker is the end.
    if header.data_start:
        return "" if data.rfind(b"\xff\xd9", header.data_start) > 0 else "the JPEG is cut off, it has no end"
    return "" if b"IEND" in data[-1024:] or b"IEND" in data else "the PNG is cut off, it has no end"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"can't be read: {error.strerror}") from error


def _decoded(buffer: np.ndarray, flags: int, name: str) -> np.ndarray:
    import cv2

    try:
        image = cv2.imdecode(buffer, flags)
    except cv2.error as error:
        raise UserError(name, f"the picture can't be decoded: {error.err}") from error
    if image is None:
        raise UserError(name, "not a picture, or a damaged one; expected JPEG, PNG or another kind OpenCV reads")
    return image


def _to_rgb8(image: np.ndarray, name: str) -> np.ndarray:
    """OpenCV's unchanged picture (grey, BGR or BGRA; 8 or 16 bits) as uint8 RGB on black."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UserError(name, f"{image.dtype} pixels; expected 8 or 16 bits a channel, convert the picture first")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    rgb = image[:, :, 2::-1]
    if image.shape[2] == 4:
        alpha = image[:, :, 3:].astype(np.uint16)
        rgb = ((rgb * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(rgb)


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright, as the EXIF orientation says."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    across = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(image, across))
