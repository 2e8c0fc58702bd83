"""Reading pictures against Pillow, and what broken files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile import pictures
from PIL import Image, ImageOps

from fiducial import geometry
from fiducial.data import decoding, images, noise
from fiducial.errors import UserError
from fiducial.geometry import Size

W, H = 64, 40


@pytest.fixture
def picture() -> np.ndarray:
    small = np.random.default_rng(3).integers(0, 255, (5, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (W, H), interpolation=cv2.INTER_CUBIC)


def save(path: Path, picture: np.ndarray, orientation: int = 1, mode: str = "RGB", **options) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).convert(mode).save(path, exif=exif, **options)
    return path


def upright_map(orientation: int, size: Size) -> np.ndarray:
    """Stored px of a picture of `size` -> px of the upright one, by EXIF 2.3, table 6: a [3, 3] matrix."""
    w, h = size
    matrices = {
        1: [[1, 0, 0], [0, 1, 0]],
        2: [[-1, 0, w - 1], [0, 1, 0]],
        3: [[-1, 0, w - 1], [0, -1, h - 1]],
        4: [[1, 0, 0], [0, -1, h - 1]],
        5: [[0, 1, 0], [1, 0, 0]],
        6: [[0, -1, h - 1], [1, 0, 0]],
        7: [[0, -1, h - 1], [-1, 0, w - 1]],
        8: [[0, 1, 0], [-1, 0, w - 1]],
    }
    return np.array([*matrices[orientation], [0, 0, 1]], dtype=np.float64)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "mode"), [(".jpg", "RGB"), (".png", "RGB"), (".png", "RGBA"), (".jpg", "L"), (".webp", "RGB")]
)
def test_exif_as_pillow_turns_it(tmp_path: Path, picture: np.ndarray, orientation: int, suffix: str, mode: str) -> None:
    path = save(
        tmp_path / f"a{suffix}", picture, orientation, mode, **({"lossless": True} if suffix == ".webp" else {})
    )
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    upright = images.upright_size(path)
    assert (upright.h, upright.w) == expected.shape[:2]
    assert abs(images.read_image(path).astype(int) - expected).max() <= 2
    # Labels made on stored pixels keep them; the picture's map is the one geometry writes down.
    stored = images.read_image(path, declared=Size(W, H))
    if orientation >= 5:
        assert stored.shape == (H, W, 3)
        turned = geometry.warp(stored, upright_map(orientation, Size(W, H)), upright)
        assert abs(turned.astype(int) - expected).max() <= 2
    else:
        assert abs(stored.astype(int) - expected).max() <= 2


def test_cmyk_as_pillow(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).convert("CMYK").save(path, quality=95)
    with Image.open(path) as opened:
        assert abs(images.read_image(path).astype(int) - np.asarray(opened.convert("RGB"))).mean() < 2


def test_sixteen_bits_are_divided_by_257(tmp_path: Path) -> None:
    deep = (np.arange(H * W * 3, dtype=np.uint32) * 8).astype(np.uint16).reshape(H, W, 3)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    expected = np.rint(deep[:, :, ::-1] / 257).astype(np.uint8)
    assert np.array_equal(images.read_image(tmp_path / "a.png"), expected)
    cv2.imwrite(str(tmp_path / "g.png"), deep[:, :, 0])
    assert np.array_equal(images.read_image(tmp_path / "g.png")[:, :, 1], expected[:, :, 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_refused_by_the_header_alone(tmp_path: Path, channels: int) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((H, W, channels), 0.5, np.float32))
    expected = r"a\.tif: float32 pixels of . channels?, floating-point .* 8 or 16 bits, save the picture with these"
    for read in (images.read_image, images.file_header):
        with pytest.raises(UserError, match=expected):
            read(tmp_path / "a.tif")
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((H, W, channels), 500, np.uint16))
    assert images.file_header(tmp_path / "a.tif") is not None


def test_transparency_is_black(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros((H, W), np.uint8)
    alpha[:, : W // 2] = 255
    alpha[0, 0] = 128
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    read = images.read_image(tmp_path / "a.png")
    assert np.array_equal(read[1:, : W // 2], picture[1:, : W // 2])
    assert not read[:, W // 2 :].any()
    assert abs(read[0, 0].astype(float) - picture[0, 0].astype(float) * 128 / 255).max() <= 1


@pytest.mark.parametrize(
    ("size", "reduce", "expected"),
    [((64, 40), 2, (32, 20)), ((64, 40), 8, (8, 5)), ((66, 40), 4, (33, 20)), ((65, 40), 2, (65, 40))],
)
def test_reduced_only_where_edges_coincide(tmp_path: Path, size, reduce: int, expected) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((size[1], size[0], 3), 90, np.uint8))
    assert images.read_image(tmp_path / "a.jpg", reduce).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_cut_off_files_are_errors_with_their_name(
    tmp_path: Path, picture: np.ndarray, suffix: str, share: float
) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (500, 600, 3), dtype=np.uint8)
    path = save(tmp_path / f"broken{suffix}", noisy)
    data = path.read_bytes()
    images.file_header(path)  # sound as it is, also with bytes behind it
    path.write_bytes(data + b"\0" * 5000)
    images.file_header(path)
    path.write_bytes(data[: int(share * len(data))])
    for read in (images.read_image, images.file_header):
        with pytest.raises(UserError, match=f"broken{suffix}.*cut off"):
            read(path)


def test_other_broken_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("hello")
    for name, what in (("empty.jpg", "empty"), ("text.png", "not a picture"), ("none.png", "can't be read")):
        with pytest.raises(UserError, match=f"{name}: .*{what}"):
            images.read_image(tmp_path / name)


def test_pictures_in_memory() -> None:
    grey, colour = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    pictures = images.ArrayImages([grey, colour])
    assert len(pictures) == 2
    assert pictures.read(0).shape == (3, 4, 3)
    assert (pictures.read(0)[..., 2] == grey).all()
    assert np.array_equal(pictures.read(1, reduce=2), colour)


def test_what_libraries_print_becomes_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], said: list[str]
) -> None:
    """libjpeg's own words on stderr: none, and one of ours for a JPEG with broken bits, each time that it is new."""
    image = np.random.default_rng(2).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    data = bytearray(cv2.imencode(".jpg", image)[1].tobytes())
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd9"
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", image)[1].tobytes()[:-30] + b"IEND")
    for _ in range(3):
        assert images.read_image(tmp_path / "a.jpg").shape == (64, 80, 3)
        with pytest.raises(UserError, match=r"b\.png"):
            images.read_image(tmp_path / "b.png")
    assert capfd.readouterr().err == ""
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / 'a.jpg'}: damaged inside, decoded as far as that goes (Corrupt JPEG data")


def test_what_others_print_while_an_image_is_decoded_comes_out(capfd: pytest.CaptureFixture[str]) -> None:
    with noise.taken("a.jpg"), noise.taken("b.jpg"):
        os.write(2, b"\nlibpng warning: iCCP\nours\n")
        child = os.fork()
        if child == 0:
            os.write(2, b"a child's\n")
            os._exit(0)
        os.waitpid(child, 0)
        assert capfd.readouterr().err == "a child's\n"
    assert capfd.readouterr().err == "ours\n"
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_python_has_the_limit_of_pixels_too(tmp_path: Path) -> None:
    """Without the command line, too, no image of 36 million pixels is decoded in this process; the environment is left
    alone."""
    (tmp_path / "a.png").write_bytes(pictures.png(12_000, 3000))
    program = """
import os, sys
from pathlib import Path
from fiducial.data import apart, images
apart.decode = lambda *_: print("apart", [name for name in os.environ if name.startswith("OPENCV")])
images.read_image(Path("a.png"))
"""
    environment = {name: value for name, value in os.environ.items() if name != decoding.LIMIT}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.stdout == "apart []\n", ended.stderr
