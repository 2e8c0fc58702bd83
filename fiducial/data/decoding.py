"""Pixels from a picture's bytes, by OpenCV, and what its header says, by Pillow. No format is parsed here.

OpenCV refuses pictures of more than OPENCV_IO_MAX_IMAGE_PIXELS pixels, by the size that it is about to allocate; the command
line sets that before OpenCV is imported. Where Python called, the environment stays as it is, and what Pillow finds too
large in the header, or doesn't know, is decoded in a process that has the limit."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import BinaryIO, NamedTuple

import numpy as np

from fiducial.data import noise
from fiducial.errors import UserError, counted
from fiducial.geometry import Size

LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
MOST_PIXELS = 2**25  # that are decoded in this process; more only in one with limits (`data/apart.py`)
MOST_SCANS = 50  # of a JPEG that is decoded in this process: encoders write about ten
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how such files begin
PNG_DEPTH = 24  # the place of the byte that tells the bits of a PNG's colours
DOUBTFUL = ("F", "I")  # Pillow's modes of a TIFF's pixels that are no whole numbers of 8 or 16 bits
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # of those whose header Pillow is asked for
TURNED = ("JPEG", "MPO", "PNG", "WEBP")  # whose EXIF orientation is applied; of the others the decoder knows
EXIF_CHUNKS = {PNG[:4]: b"eXIf", b"RIFF": b"EXIF"}  # without these bytes there is none, and Pillow is not asked
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")  # how such files go on after four bytes
ORIENTATION = 0x0112  # EXIF's tag
ROWS_AT_A_TIME = 256  # of a deep picture that becomes 8 bits


class TooLarge(UserError):
    """A picture of more pixels than may be decoded here."""


class Header(NamedTuple):
    """What a file says about a picture before it is decoded."""

    size: Size  # as stored
    orientation: int = 1  # EXIF, 1-8; 5-8 exchange width and height
    mode: str = ""  # how Pillow calls the kind of pixels

    @property
    def upright(self) -> Size:
        """Gives the size after the EXIF rotation."""
        return Size(self.size.h, self.size.w) if self.orientation >= 5 else self.size


def is_light(data: bytes) -> bool:
    """Tells whether OpenCV may decode this in this process: it has a limit of pixels, and no JPEG of endless scans."""
    if not has_few_scans(data):
        return False
    if _has_limit():
        return True
    head = header(io.BytesIO(data))
    return head is not None and head.size.w * head.size.h <= MOST_PIXELS


@cache
def _has_limit() -> bool:
    """Tries whether OpenCV refuses more than MOST_PIXELS in this process, by a file of a header alone. It has read its
    limit when it was imported, maybe by somebody else; its own is 2^30."""
    import cv2

    side = math.isqrt(MOST_PIXELS) + 1
    with noise.taken("a trial"):
        try:
            cv2.imdecode(np.frombuffer(b"P5 %d %d 255\n" % (side, side), np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            return "CV_IO_MAX_IMAGE" in str(error)
    return False


def has_few_scans(data: bytes) -> bool:
    """Tells whether a JPEG surely has few scans; others have none.

    A decoder goes over all pixels once a scan, and a scan can be a few bytes. Each begins with the same two, so that there
    are at most as many scans as these have places; metadata may hold some, too."""
    return not data.startswith(JPEG) or _pairs(data, START_OF_SCAN) <= MOST_SCANS


def header(file: BinaryIO) -> Header | None:
    """Reads a picture's size and orientation; None for a kind that Pillow doesn't know and for broken headers."""
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            exif = image.info.get("exif") if image.format in TURNED else None
            return Header(Size(*image.size), 1 if exif is None else _orientation(exif), image.mode)
    except Exception:  # of many kinds, all for broken headers; whoever decodes says what is wrong
        return None


def has_end(start: bytes, end: bytes) -> bool:
    """Tells by a file's first and last bytes whether its end is there; False where that must be looked at closely."""
    if start.startswith(JPEG):
        return END_OF_IMAGE in end
    return b"IEND" in end if start.startswith(PNG) else True


def brightest_of_16_bits(data: bytes, name: str) -> int | None:
    """Finds the largest value of a picture's colours; None where these have other than 16 bits."""
    if not (data.startswith(TIFF) or (data.startswith(PNG) and data[PNG_DEPTH : PNG_DEPTH + 1] == b"\x10")):
        return None
    import cv2

    stored = _decoded(data, cv2.IMREAD_UNCHANGED, name)
    colours = stored if stored.ndim == 2 else stored[:, :, :3]
    return int(colours.max()) if stored.dtype == np.uint16 else None


def may_be_unreadable(start: bytes, head: Header | None) -> bool:
    """Tells by a file's first bytes and its header whether its pixels may be of a kind that `decode` refuses: fractions, as
    TIFF has them. Pillow knows few of these files."""
    return start.startswith(TIFF) and (head is None or head.mode in DOUBTFUL)


def decode(data: bytes, name: str, reduce: int = 1, declared: Size | None = None) -> np.ndarray:
    """Decodes a picture as `images.decode_image` does, in this process. TooLarge for one of too many pixels,
    MemoryError where there is not enough memory."""
    if not data:
        raise UserError(name, "the file is empty; fetch or export the picture again")
    if data.startswith(JPEG):
        return _jpeg(data, name, reduce, declared)
    if data.startswith(PNG) and not (b"IEND" in data[-1024:] or b"IEND" in data):
        raise UserError(name, "the PNG is cut off, it has no end; fetch or export the picture again")
    import cv2

    stored = _rgb8(_decoded(data, cv2.IMREAD_UNCHANGED, name), name)
    chunk = EXIF_CHUNKS.get(data[:4])
    head = header(io.BytesIO(data)) if chunk is not None and chunk in data else None
    if head is None or (declared == size_of(stored) and declared != head.upright):
        return stored
    return turned(stored, head.orientation)


def size_of(image: np.ndarray) -> Size:
    """Gives the size of an image [h, w, ..]."""
    return Size(image.shape[1], image.shape[0])


def _jpeg(data: bytes, name: str, reduce: int, declared: Size | None) -> np.ndarray:
    import cv2

    # OpenCV names its reduced modes with their colour; RGB is a bit of its own, so the grey ones are its base.
    reduced = {
        1: 0,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    expected = declared
    if reduce > 1 and declared is None:
        head = header(io.BytesIO(data))
        expected = None if head is None else head.upright
    # A reduced JPEG of a size that isn't divisible ends in half-filled pixels: its edges would not coincide.
    while reduce > 1 and (expected is None or expected.w % reduce or expected.h % reduce):
        reduce //= 2
    flags = cv2.IMREAD_COLOR_RGB | reduced[reduce]
    image = _decoded(data, flags, name)
    if not data.endswith(END_OF_IMAGE) and data.rfind(END_OF_IMAGE) < data.rfind(START_OF_SCAN):
        _check_end(data, name)
    if expected is None:
        return image
    full = Size(image.shape[1] * reduce, image.shape[0] * reduce)
    if full == expected:
        return image
    if full == Size(expected.h, expected.w):  # labels that were made on stored pixels, in spite of an EXIF rotation
        stored = _decoded(data, flags | cv2.IMREAD_IGNORE_ORIENTATION, name)
        return stored if Size(stored.shape[1] * reduce, stored.shape[0] * reduce) == expected else image
    return image if reduce == 1 else _jpeg(data, name, 1, declared)


def _pairs(data: bytes, pair: bytes) -> int:
    """Counts where two bytes stand; ten times as fast as bytes.count."""
    number = int.from_bytes(pair, "little")
    views = (np.frombuffer(data, "<u2", (len(data) - odd) // 2, odd) for odd in (0, 1))
    return sum(int(np.count_nonzero(view == number)) for view in views)


def _check_end(data: bytes, name: str) -> None:
    """No end behind what may be the last scan: cut off, or other things follow the picture. Pillow's decoder tells."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.load()
    except Exception as error:
        raise UserError(name, "the JPEG is cut off, it has no end; fetch or export the picture again") from error


def _orientation(exif: bytes) -> int:
    from PIL import Image

    directory = Image.Exif()
    try:
        directory.load(exif)
        value = directory.get(ORIENTATION, 1)
    except Exception:  # broken metadata of a picture that may be sound
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decoded(data: bytes, flags: int, name: str) -> np.ndarray:
    import cv2

    try:
        with noise.taken(name):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if image is None:
                raise UserError(name, _advice(data))
    except cv2.error as error:
        said = " ".join(str(error.err or error).split())
        if "CV_IO_MAX_IMAGE" in said:
            raise TooLarge(name, "more pixels than are decoded; shrink the picture") from error
        if error.code == cv2.Error.StsNoMem or "memory" in said:
            raise MemoryError(said) from error
        raise UserError(name, f"the picture can't be decoded: {said}") from error
    return image


def _advice(data: bytes) -> str:
    if data.startswith(JPEG) and not data.endswith(END_OF_IMAGE):
        return "the JPEG is damaged or cut off; fetch or export the picture again"
    if data[4:12] in HEIC:
        return "it looks like HEIC, which OpenCV doesn't read; convert it to JPEG or PNG"
    return "not a picture, or a damaged one; expected JPEG, PNG, WebP or another kind OpenCV reads"


def _rgb8(image: np.ndarray, name: str) -> np.ndarray:
    """OpenCV's unchanged picture (grey, BGR or BGRA; 8 or 16 bits) as uint8 RGB on black."""
    import cv2

    if image.dtype == np.uint16:
        image = _eight_bits(image)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != np.uint8 or channels not in (1, 3, 4):
        found = f"{image.dtype} pixels of {counted(channels, 'channel')}"
        kind = ", floating-point numbers of which no one can tell what is white" if image.dtype.kind == "f" else ""
        raise UserError(
            name, f"{found}{kind}; expected 1, 3 or 4 channels of 8 or 16 bits, save the picture with these"
        )
    if channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if channels == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    for top in range(0, len(image), ROWS_AT_A_TIME):
        part = image[top : top + ROWS_AT_A_TIME]
        rgb[top : top + ROWS_AT_A_TIME] = (part[:, :, 2::-1] * part[:, :, 3:].astype(np.uint16) + 127) // 255
    return rgb


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """16 bits divided by 257, to the nearest."""
    made = np.empty(image.shape, np.uint8)
    for top in range(0, len(image), ROWS_AT_A_TIME):
        made[top : top + ROWS_AT_A_TIME] = (image[top : top + ROWS_AT_A_TIME].astype(np.uint32) + 128) // 257
    return made


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels upright, as the EXIF orientation says."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    across = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(image, across))
