"""The bytes of an image from a stranger, checked by what its header says before anything is allocated for its pixels."""

from __future__ import annotations

import re
import struct

import numpy as np

from fiducial.data.images import decode_image, parse_header
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.serve.limits import Limits, Refused

MOST_PX_A_SIDE = 65_535  # JPEG's own limit; OpenCV refuses longer sides than a million
MOST_SCANS = 100  # of a progressive JPEG; encoders write about ten
# In a JPEG's data 0xFF is followed by 0 or the number of a restart; any other byte makes it the marker of a segment.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def image_of(data: bytes, limits: Limits, name: str = "image") -> np.ndarray:
    """Decodes an image as `data.images` does: uint8 RGB [h, w, 3], upright. Refused: no JPEG, PNG or WebP, too many pixels,
    broken; `name` is for the message."""
    if not data:
        raise Refused(422, f"{name}: is empty; send the bytes of a JPEG, PNG or WebP file")
    size = stored_size(data, name)
    if max(size) > MOST_PX_A_SIDE:
        raise Refused(413, f"{name}: {size} px; the limit is {MOST_PX_A_SIDE} px a side")
    if size.w * size.h > limits.max_pixels:
        raise Refused(413, f"{name}: {size} px are {size.w * size.h} pixels; the limit is {limits.max_pixels}")
    if scans(data) > MOST_SCANS:
        raise Refused(422, f"{name}: a progressive JPEG of more than {MOST_SCANS} scans; save it anew")
    try:
        return decode_image(data, name)
    except UserError as error:
        raise Refused(422, str(error)) from error


def stored_size(data: bytes, name: str) -> Size:
    """Reads the size from the header alone."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = _webp_size(data)
    elif data[:2] == b"\xff\xd8" or data[:8] == b"\x89PNG\r\n\x1a\n":
        header = parse_header(data)
        size = None if header is None else header.size
    else:
        raise Refused(415, f"{name}: expected the bytes of a JPEG, PNG or WebP file")
    if size is None or 0 in size:
        raise Refused(422, f"{name}: its header is broken or cut short")
    return size


def _webp_size(data: bytes) -> Size | None:
    """The first chunk's (RFC 9649): lossy, lossless, or the canvas of the extended kind."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[6:10])
        return Size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        return Size(int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    return None


def scans(data: bytes) -> int:
    """Counts the scans of a JPEG, up to one too many; at most that many for other files.

    A decoder goes over all pixels once a scan, and a scan can be a few bytes: a small file would keep it busy for hours."""
    # Pairs of bytes as numbers: ten times as fast as bytes.count, and other threads go on.
    pairs = (np.frombuffer(data, "<u2", (len(data) - odd) // 2, odd) for odd in (0, 1))
    occurrences, header = sum(int(np.count_nonzero(pair == 0xDAFF)) for pair in pairs), parse_header(data)
    if occurrences <= MOST_SCANS or header is None or not header.data_start:
        return min(occurrences, MOST_SCANS)
    # Metadata, thumbnails and what some cameras append hold such bytes, too: look at the segments alone.
    place, count = header.data_start, 1
    while count <= MOST_SCANS and (marker := MARKER.search(data, place)):
        place = marker.end()
        if marker[0] == b"\xff\xd9":  # the end
            break
        count += marker[0] == b"\xff\xda"
        place += int.from_bytes(data[place : place + 2], "big")
    return count
