"""Pictures: what is drawn lies where the point is, to a fraction of a pixel, at every scale; nothing else crashes."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.types import Keypoints, Skeleton

ONE = Skeleton("dot", ("tip",))
THREE = Skeleton("bird", ("beak", "wing", "tail"), edges=((0, 1), (1, 2)), groups={"head": (0,), "body": (2,)})
GREY = 128


def canvas(size: Size) -> np.ndarray:
    return np.full((size.h, size.w, 3), GREY, np.uint8)


def centre_of_mass(drawn: np.ndarray, bare: np.ndarray) -> np.ndarray:
    """px of what changed; the picture's own pixel centres are at integers."""
    weight = np.abs(drawn.astype(float) - bare).sum(-1)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("size", [Size(61, 47), Size(96, 72), Size(811, 640), Size(4000, 2999)])
@pytest.mark.parametrize("fraction", [(0.0, 0.0), (0.5, 0.25), (0.3, 0.8)])
def test_a_dot_is_centred_on_its_point(size: Size, fraction: tuple[float, float]) -> None:
    xy = np.array([[size.w // 3 + fraction[0], size.h // 2 + fraction[1]]])
    bare = canvas(size)
    bare[:] = pictures.OUTLINE  # so that only the dot itself is seen
    drawn = pictures.draw_points(bare, xy, ONE, colour=(255, 255, 255))
    np.testing.assert_allclose(centre_of_mass(drawn, bare), xy[0], atol=0.03)


@pytest.mark.parametrize("to", [Size(90, 140), Size(37, 29), Size(222, 174)])
def test_a_point_mapped_by_resize_lies_on_the_resized_picture(to: Size) -> None:
    """A bright blob of an image, enlarged or shrunk by OpenCV, and the dot drawn on the result, coincide."""
    size, blob = Size(74, 58), np.array([20.0, 31.0])
    image = np.zeros((size.h, size.w, 3), np.uint8)
    image[28:35, 17:24] = 255  # centred on (20, 31)
    resized = cv2.resize(image, to, interpolation=cv2.INTER_AREA if to.w < size.w else cv2.INTER_LINEAR)
    mapped = geometry.transform(geometry.resize(size, to), blob[None])
    bare = canvas(to)
    bare[:] = pictures.OUTLINE
    expected = centre_of_mass(resized, np.zeros_like(resized))
    drawn = pictures.draw_points(bare, mapped, ONE)
    np.testing.assert_allclose(centre_of_mass(drawn, bare), expected, atol=0.05)


@pytest.mark.parametrize("size", [Size(64, 48), Size(300, 417)])
def test_points_of_a_crop_lie_where_its_picture_is(size: Size) -> None:
    """A bright block of a dark crop, and the dot drawn at its middle, in shares of the crop."""
    crop = np.zeros((size.h, size.w, 3), np.uint8)
    crop[size.h // 4 : size.h // 2, size.w // 4 : size.w // 2] = 255
    unit = np.array([[(size.w // 4 + size.w // 2) / 2 / size.w, (size.h // 4 + size.h // 2) / 2 / size.h]])
    bare = pictures.crop_with_points(crop, unit + 9, ONE)
    dark = np.zeros_like(crop)
    drawn = pictures.crop_with_points(dark, unit, replace(ONE, groups={"one": (0,)}))
    assert max(drawn.shape[:2]) == 208
    ground = pictures.crop_with_points(dark, unit + 9, ONE)
    np.testing.assert_allclose(centre_of_mass(drawn, ground), centre_of_mass(bare, ground), atol=0.3)


@pytest.mark.parametrize("count", [5, 32])
def test_points_of_a_crop_that_share_a_place_are_seen(count: int) -> None:
    skeleton = Skeleton("many", tuple(f"point_{i}" for i in range(count)))
    drawn = pictures.crop_with_points(np.zeros((64, 48, 3), np.uint8), np.full((count, 2), 0.5), skeleton)
    assert (drawn.max(-1) > 128).sum() > math.pi * 1.5**2


def test_the_dot_has_the_size_of_its_disc() -> None:
    white = pictures.draw_points(canvas(Size(2501, 1300)), np.array([[600.4, 700.7]]), ONE, colour=(255, 255, 255))
    assert (white == 255).all(-1).sum() == pytest.approx(np.pi * (np.sqrt(2501) / 4) ** 2, rel=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -40.0, 900.0, -0.7])
def test_points_that_are_not_on_the_image_are_not_drawn(bad: float) -> None:
    bare = canvas(Size(64, 48))
    xy = np.array([[bad, 20.0], [20.0, bad], [bad, bad]])
    loose = replace(THREE, edges=())
    np.testing.assert_array_equal(pictures.draw_points(bare, xy, loose), bare)
    everything = np.ones(3, bool)
    for truth, predicted in ((xy, xy), (xy, np.full((3, 2), 9.0)), (np.full((3, 2), 9.0), xy)):
        assert pictures.truth_and_prediction(bare, truth, everything, predicted, THREE).shape == bare.shape


def test_points_on_the_border_are_drawn_cut() -> None:
    bare = canvas(Size(64, 48))
    for corner in geometry.box_corners(geometry.whole_image_box(Size(64, 48))):
        assert (pictures.draw_points(bare, corner[None], ONE) != bare).any()


def test_unlabelled_points_are_left_out_and_the_image_stays_as_it_was() -> None:
    bare, xy = canvas(Size(120, 90)), np.array([[20.0, 30.0], [60.0, 40.0], [90.0, 70.0]])
    labelled = np.array([True, False, True])
    drawn = pictures.draw_points(bare, xy, THREE, labelled=labelled)
    assert (bare == GREY).all()
    assert (drawn[30, 20] != GREY).any()
    assert (drawn[35:45, 55:65] == GREY).all(), "no dot, and no edge to a point without a place"
    both = pictures.truth_and_prediction(bare, xy, labelled, xy + 3, THREE)
    assert (both[35:48, 55:68] == GREY).all()
    assert (bare == GREY).all()


def test_truth_and_prediction_have_their_colours_and_a_line_between() -> None:
    truth, predicted = np.array([[30.0, 40.0]]), np.array([[70.0, 40.0]])
    drawn = pictures.truth_and_prediction(canvas(Size(100, 80)), truth, np.ones(1, bool), predicted, ONE)
    assert tuple(drawn[40, 30]) == pictures.TRUTH
    assert tuple(drawn[40, 70]) == pictures.PREDICTION
    np.testing.assert_allclose(drawn[40, 50], pictures.ERROR, atol=20)


def test_groups_have_one_colour_and_low_scores_are_darker() -> None:
    colours = pictures.point_colours(THREE)
    assert tuple(colours[0]) == pictures.GROUP_COLOURS[0]
    assert tuple(colours[2]) == pictures.GROUP_COLOURS[1]
    assert tuple(colours[1]) == (255, 255, 255), "in no group"
    assert len(np.unique(pictures.hues(17), axis=0)) == 17
    xy = np.array([[10.0, 10], [30, 10], [50, 10]])
    drawn = pictures.draw_points(canvas(Size(60, 20)), xy, replace(THREE, edges=()), score=np.array([1, np.nan, 0.5]))
    assert tuple(drawn[10, 10]) == pictures.GROUP_COLOURS[0]
    assert drawn[10, 30].max() < 100


def blob_map(grid: Size, x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[: grid.h, : grid.w]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / 1.5**2)


@pytest.mark.parametrize("crop", [Size(96, 128), Size(40, 52)])
def test_a_heatmap_is_seen_where_its_cells_are(crop: Size) -> None:
    grid, cell = Size(24, 32), np.array([[9.0, 20.0]])
    shown = pictures.overlay_heatmaps(canvas(crop), blob_map(grid, *cell[0])[None])
    bare = pictures.overlay_heatmaps(canvas(crop), np.zeros((1, grid.h, grid.w)))
    expected = geometry.grid_to_px(cell, crop, grid)[0]
    np.testing.assert_allclose(centre_of_mass(shown, bare), expected, atol=0.15)


def test_overlapping_heatmaps_keep_their_colours_and_bad_values_show_nothing() -> None:
    grid, crop = Size(24, 32), Size(96, 128)
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    maps = np.stack([blob_map(grid, 5, 6), blob_map(grid, 18, 25)])
    shown = pictures.overlay_heatmaps(canvas(crop), maps, colours=colours)
    (left, right) = geometry.grid_to_px(np.array([[5.0, 6], [18, 25]]), crop, grid).round().astype(int)
    assert shown[left[1], left[0]].argmax() == 0
    assert shown[right[1], right[0]].argmax() == 2
    nothing = pictures.overlay_heatmaps(canvas(crop), np.full((2, 32, 24), np.nan))
    np.testing.assert_array_equal(nothing, pictures.overlay_heatmaps(canvas(crop), np.full((2, 32, 24), -3.0)))


@pytest.mark.parametrize("count", [1, 5, 68])
def test_panels_hold_any_number_of_points(count: int) -> None:
    maps = np.random.default_rng(0).random((count, 24, 18)).astype(np.float32)
    names = [f"point_{i}" for i in range(count)]
    bare = canvas(Size(72, 96))
    panel = pictures.heatmap_panel(bare, maps, maps, names, width=480)
    assert panel.dtype == np.uint8
    assert 480 <= panel.shape[1] < 560
    assert panel.shape[0] < 2 * panel.shape[1], "of many points the first few alone"
    grid = pictures.separate_heatmaps(bare, maps, names, 3, tile_width=60)
    assert grid.shape[1] < 3 * 60 + 20
    last = pictures.heatmap_panel(bare, maps, maps, names, width=480, chosen=[count - 1])
    assert (last.shape == panel.shape) == (count == 1)


def test_points_of_a_low_score_can_be_left_out() -> None:
    xy = np.array([[[20.0, 20.0], [70.0, 60.0], [20.0, 70.0]]])
    points = Keypoints(xy, np.array([[0.2, 0.9, np.nan]]))
    pair = Skeleton("pair", ("a", "b", "c"), edges=((0, 1),))
    whole, strict = (pictures.draw_keypoints(canvas(Size(90, 90)), points, pair, limit) for limit in (0.0, 0.5))
    assert (whole[20, 20] != GREY).any()
    assert (strict[:50, :50] == GREY).all(), "neither the point nor its line"
    assert (strict[60, 70] != GREY).any()
    assert (strict[70, 20] != GREY).any(), "what has no score is not hidden for it"


def test_of_many_points_the_farthest_off_have_lines_and_numbers() -> None:
    """Points far apart from each other on a line; one is far off, so that its line and its number are drawn."""
    count = 2 * pictures.FEW
    truth = np.stack([np.full(count, 60.0), np.linspace(20, 380, count)], axis=-1)
    row = Skeleton("row", tuple(f"point_{i}" for i in range(count)))
    predicted = truth + np.array([0.0, 0.5])
    predicted[7] += (100.0, 0.0)
    everything = np.ones(count, bool)
    assert pictures.farthest(truth, everything, predicted)[0] == 7
    assert 7 not in pictures.farthest(truth, np.arange(count) != 7, predicted)
    drawn = pictures.truth_and_prediction(canvas(Size(400, 400)), truth, everything, predicted, row)
    middle = np.rint((truth[7] + predicted[7]) / 2).astype(int)
    np.testing.assert_allclose(drawn[middle[1], middle[0]], pictures.ERROR, atol=20)
    number = (np.abs(drawn.astype(int) - pictures.ERROR).max(-1) < 20)[:, 163:]
    assert number.any(), "a number right of the prediction"
    rows = np.flatnonzero(number.any(1))
    assert rows.max() <= predicted[7, 1], "the first stands above its point"
    assert len(rows) >= 12, "px: it is seen on a phone, where the image is half as large"
    for xy in ((399.0, 2.0), (2.0, 399.0)):
        predicted[7] = xy
        cornered = pictures.truth_and_prediction(canvas(Size(400, 400)), truth, everything, predicted, row)
        inside = (np.abs(cornered.astype(int) - pictures.ERROR).max(-1) < 20)[2:-2, 2:-2]
        assert inside.sum() > 20, "it stays inside the image"


def test_contact_sheets_take_tiles_of_all_sizes_and_none() -> None:
    tiles = [canvas(Size(30, 50)), canvas(Size(80, 20)), canvas(Size(11, 13))]
    sheet = pictures.contact_sheet(tiles, ["a", "a name far too long for its place", "眼 é"], 2)
    assert sheet.shape[1] >= 160
    assert (sheet == GREY).all(-1).sum() >= sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    assert pictures.contact_sheet([], [], 4).shape == (1, 1, 3)
    with pytest.raises(ValueError, match="a caption a tile"):
        pictures.contact_sheet(tiles, ["a"], 2)


def test_cutting_out_keeps_places_and_does_not_alias() -> None:
    """A fine pattern of mean 127 shrunk twelve times is an even grey; a blob stays where its matrix puts it."""
    size, tile = Size(720, 600), Size(60, 50)
    pattern = np.zeros((size.h, size.w, 3), np.uint8)
    pattern[:, ::2] = 255
    matrix = geometry.crop(geometry.whole_image_box(size), tile)
    inner = pictures.cut_out(pattern, matrix, tile)[2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() < 20
    image = np.zeros((size.h, size.w, 3), np.uint8)
    image[340:361, 140:161] = 255  # centred on (150, 350)
    found = pictures.cut_out(image, matrix, tile)
    expected = geometry.transform(matrix, np.array([[150.0, 350.0]]))[0]
    np.testing.assert_allclose(centre_of_mass(found, np.zeros_like(found)), expected, atol=0.06)
