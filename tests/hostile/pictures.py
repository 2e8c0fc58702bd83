"""Pictures of every kind that is read, whole and mutated; run in processes with limits by `test_pictures`."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from functools import cache
from typing import Any

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**25))  # as the command line does

import cv2
import numpy as np
from PIL import Image

from fiducial.data import images

PILLOWS = {
    "jpeg": ("RGB", "JPEG", {}),
    "progressive": ("RGB", "JPEG", {"progressive": True}),
    "cmyk": ("CMYK", "JPEG", {}),
    "exif": ("RGB", "JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
    "png": ("RGB", "PNG", {}),
    "palette": ("P", "PNG", {}),
    "webp": ("RGBA", "WEBP", {}),
    "lossless": ("RGB", "WEBP", {"lossless": True}),
    "tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "gif": ("P", "GIF", {}),
    "bmp": ("RGB", "BMP", {}),
    "avif": ("RGB", "AVIF", {}),
    "jp2": ("RGB", "JPEG2000", {}),
    "ppm": ("RGB", "PPM", {}),
}
KINDS = (*PILLOWS, "png16", "tiff16", "pages", "animated")


@cache
def whole(kind: str) -> bytes:
    """The bytes of a sound picture."""
    pixels = cv2.resize(np.random.default_rng(3).integers(0, 255, (9, 12, 3), dtype=np.uint8), (160, 120))
    if kind in ("png16", "tiff16"):
        return cv2.imencode(f".{kind[:-2]}", pixels.astype(np.uint16) * 257)[1].tobytes()
    image, file = Image.fromarray(pixels), io.BytesIO()
    if kind in ("pages", "animated"):
        image.save(file, "TIFF" if kind == "pages" else "WEBP", save_all=True, append_images=[image.rotate(90)])
    else:
        mode, name, options = PILLOWS[kind]
        image.convert(mode).save(file, name, **options)
    return file.getvalue()


def mutated(kind: str, seed: int) -> bytes:
    """The bytes of a picture with some changed."""
    return changed(whole(kind), random.Random(f"{kind} {seed}"))


def changed(whole: bytes, dice: random.Random) -> bytes:
    """The bytes of a file with some changed, cut out, doubled, or set to extremes where headers are."""
    data = bytearray(whole)
    for _ in range(dice.choice([1, 1, 2, 4, 16])):
        place = dice.randrange(min(len(data), dice.choice([64, 512, 10**9])))
        match dice.choice(["byte", "extreme", "cut", "double", "end", "noise"]):
            case "byte":
                data[place] = dice.randrange(256)
            case "extreme":
                data[place : place + 4] = dice.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\x7f"]
                )
            case "cut":
                del data[place : place + dice.randrange(1, 200)]
            case "double":
                data[place:place] = data[place : place + dice.randrange(1, 2000)]
            case "end":
                del data[place + 1 :]
            case _:
                data[place : place + 20] = dice.randbytes(20)
        data = data or bytearray(b"\0")
    return bytes(data)


def png(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG of this size, all black, of few bytes; of a very large one the first rows alone."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, row = zlib.compressobj(9), bytes(1 + width * {2: 3, 6: 4, 0: 1}[colour] * bits // 8)
    rows = b"".join(packer.compress(row) for _ in range(min(height, 2**28 // len(row)))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def many_scans(side: int = 4000, scans: int = 4000) -> bytes:
    """A small progressive JPEG that says it is large and holds thousands of scans of a few bytes."""
    data = bytearray(whole("progressive"))
    frame, last = data.index(b"\xff\xc2"), data.rindex(b"\xff\xda")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data[:-2] + data[last : last + 30] * scans + data[-2:])


def large_jpeg(side: int) -> bytes:
    """A JPEG of a few bytes whose header promises this many pixels, after a marker that hides it from simple readers."""
    data = bytearray(whole("progressive"))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data[:2] + b"\xff\x01" + data[2:])


def read_one(value: Any) -> str:
    """Reads a mutated picture, as training, evaluate and predict do."""
    image = images.decode_image(mutated(*value), "image")
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    return ""


def read_file(path: str) -> str:
    """Reads a file, its header first."""
    from pathlib import Path

    images.file_header(Path(path))
    return str(images.read_image(Path(path)).shape)
