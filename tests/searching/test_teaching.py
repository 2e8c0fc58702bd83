"""Which network teaches: a larger one, with an input of exactly the student's shape, and only where there is time."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from fiducial.geometry import Size
from fiducial.models import packaged_weights
from fiducial.searching import teaching
from fiducial.searching.state import Candidate, State
from fiducial.training.recipe import Recipe

LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]


def teacher_of(backbone: str, size: Size, pretrained: str = "here") -> Recipe:
    recipe = Recipe(backbone=backbone, size=size, pretrained=pretrained)  # type: ignore[arg-type]
    return teaching._teacher_of(Candidate("name", "label", recipe, 1.0, 1.0))


@pytest.mark.parametrize(
    ("backbone", "size", "teacher", "of_size"),
    [
        ("mobilenetv3_small_100", Size(128, 128), LITE[0], Size(160, 160)),
        ("tf_efficientnet_lite0", Size(64, 64), LITE[1], Size(160, 160)),
        ("tf_efficientnet_lite0_stride16", Size(80, 80), LITE[0], Size(160, 160)),
        ("tf_efficientnet_lite0_stride16", Size(48, 96), LITE[0], Size(96, 192)),
        ("lcnet_050", Size(64, 96), LITE[0], Size(128, 192)),
    ],
)
def test_the_teacher_is_larger_and_of_the_students_shape(
    backbone: str, size: Size, teacher: str, of_size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged_weights, "here", lambda: LITE)
    recipe = teacher_of(backbone, size)
    assert (recipe.backbone, recipe.size) == (teacher, of_size)
    assert recipe.size.w * size.h == recipe.size.h * size.w


def test_without_weights_a_larger_one_from_random_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_weights, "here", lambda: LITE)
    assert teacher_of("lcnet_050", Size(64, 64), "no").backbone == teaching.TEACHERS[-1]


def test_there_is_a_teacher_where_there_is_time() -> None:
    enough = 60 * teaching.FEWEST_MINUTES / teaching.SHARE
    wanted, unwanted = State({"distill": True}), State({"distill": False})
    assert teaching.seconds_for(wanted, enough) == pytest.approx(60 * teaching.FEWEST_MINUTES)
    assert teaching.seconds_for(wanted, 0.99 * enough) == 0
    assert teaching.seconds_for(unwanted, 10 * enough) == 0
