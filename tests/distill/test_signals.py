"""What detectors say in frames that do not depend on their size, and which losses a pair can have."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from distill.small import SIZE, crops, detector_of

from fiducial import geometry
from fiducial.distillation.signals import Offer, decided, offer_of, signals_of, terms_of
from fiducial.distillation.spec import DistillationSpec
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.heads import motion

METHODS = {"motion": {}, "heatmap": {}, "integral": {}, "rounding": {}, "simcc": {}, "deeppose": {}, "rle": {}}


def spec(loss: str, **more: object) -> DistillationSpec:
    return DistillationSpec(loss=loss, **more)  # type: ignore[arg-type]


def offer(method: str, **head: object) -> Offer:
    return offer_of(detector_of(method, **head))


@pytest.mark.parametrize("method", METHODS)
def test_signals_are_what_the_detector_predicts(method: str):
    detector, batch = detector_of(method), crops(3)
    found, keypoints = signals_of(detector, batch.image, 0), detector.predict(batch.image)
    torch.testing.assert_close(geometry.unit_to_px(found.xy_unit, SIZE), keypoints.xy)
    assert found.feature is not None
    assert found.feature.shape[1] == detector.backbone.levels[0].channels
    assert (found.jacobian is None) == (keypoints.jacobian is None)


def test_jacobians_are_the_motion_heads_own_in_the_corner_frame():
    """On a picture that is not square px and corner differ."""
    detector, batch = detector_of(), crops(3)
    head = detector.head
    assert isinstance(head, motion.Head)
    frames = head.frames(detector(batch.image))
    found = signals_of(detector, batch.image)
    torch.testing.assert_close(found.jacobian, frames.jacobian)
    corner = geometry.px_to_corner(geometry.unit_to_px(found.xy_unit, SIZE), SIZE)
    torch.testing.assert_close(corner, frames.xy_corner)


def test_an_offer_leaves_the_detector_as_it_was():
    detector = detector_of().train()
    before = copy.deepcopy(detector.state_dict())
    offer_of(detector)
    assert detector.training
    assert all(parameter.grad is None for parameter in detector.parameters())
    for name, value in detector.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_each_method_offers():
    have = {method: offer(method) for method in METHODS}
    assert [method for method, own in have.items() if own.jacobians] == ["motion"]
    assert [method for method, own in have.items() if own.cells is None] == ["deeppose", "rle"]
    assert all(own.teachable for own in have.values())
    assert [method for method, own in have.items() if own.sigmas] == ["rle"]
    assert not offer("heatmap", decoder="argmax").teachable


# --------------------------------------------------------------------------------------------- which losses a pair has


def test_a_pair_of_motion_has_all_terms():
    own = offer("motion")
    terms = terms_of(own, own, spec("L3"))
    assert (terms.keypoints, terms.jacobians, terms.heatmaps, terms.attention) == (True,) * 4
    assert [word.partition(":")[0] for word in terms.words] == ["attention"]
    assert terms_of(own, own, spec("L2")).words == ()
    assert not terms_of(own, own, spec("L1")).heatmaps
    assert not terms_of(own, own, spec("L2")).attention


def test_a_student_without_jacobians_is_told_so():
    terms = terms_of(offer("heatmap"), offer("motion"), spec("L2"))
    assert (terms.keypoints, terms.jacobians, terms.heatmaps) == (True, False, True)
    assert terms.words == ("the student has no Jacobians: L1 is of points alone",)


@pytest.mark.parametrize(
    ("student", "teacher", "loss", "words"),
    [
        (
            "deeppose",
            "motion",
            "L2",
            ["--loss L2", "student's method 'deeppose' has none", "Possible for this pair: L1"],
        ),
        (
            "heatmap",
            "deeppose",
            "L3",
            ["--loss L3", "teacher's method 'deeppose' has none", "Possible for this pair: L1"],
        ),
    ],
)
def test_an_impossible_loss_names_the_possible_ones(student: str, teacher: str, loss: str, words: list[str]):
    with pytest.raises(UserError) as error:
        terms_of(offer(student), offer(teacher), spec(loss))
    assert all(word in str(error.value) for word in words), error.value
    assert str(error.value).endswith("L1")


def test_a_loss_that_is_left_open_is_of_maps_where_both_have_them():
    heatmap, deeppose = offer("heatmap"), offer("deeppose")
    assert decided(heatmap, offer("motion"), DistillationSpec()).loss == "KL"
    assert decided(deeppose, heatmap, DistillationSpec(keypoints=2.0)) == spec("L1", keypoints=2.0)
    assert decided(heatmap, deeppose, spec("L2")).loss == "L2", "what was asked for stays, for its own message"


def test_a_decoder_without_a_gradient_learns_by_maps_alone():
    own, teacher = offer("heatmap", decoder="argmax"), offer("motion")
    with pytest.raises(UserError, match=r"lets no gradient pass.*Possible for this pair: L2, L3"):
        terms_of(own, teacher, spec("L1"))
    terms = terms_of(own, teacher, spec("L2"))
    assert not terms.keypoints
    assert "it learns by maps" in " ".join(terms.words)


def test_attention_is_of_the_coarsest_levels_that_fit():
    teacher = offer("motion")  # 16 x 12 main, 8 x 6 .. deepest
    deep = offer_of(detector_of(backbone="hourglass_w8_b4_m16_s2"))  # one coarser than the teacher's
    terms = terms_of(deep, teacher, spec("L3"))
    grid = teacher.levels[-1].grid
    assert terms.teacher_level == len(teacher.levels) - 1
    assert terms.student_level == 0, "its coarsest has too few cells"
    assert deep.levels[1].grid.w < grid.w
    with pytest.raises(UserError, match=r"distillation.student_level=1.*is coarser.*Possible for this pair: L1, L2"):
        terms_of(deep, teacher, spec("L3", student_level=1))
    with pytest.raises(UserError, match=r"distillation.teacher_level=7: the backbone has 2 levels"):
        terms_of(deep, teacher, spec("L3", teacher_level=7))


def test_a_teacher_coarser_in_size_is_compared_too():
    large, small = offer_of(detector_of(size=Size(128, 96))), offer("motion")
    assert replace(small, size=large.size, cells=large.cells, levels=large.levels) == large
    assert terms_of(small, large, spec("L2")).cells == large.cells


@pytest.mark.parametrize("values", [{"keypoints": -1.0}, {"heatmaps": -0.1}, {"power": 0.5}])
def test_weights_that_make_no_sense_are_refused(values: dict[str, float]):
    with pytest.raises(UserError, match=f"distillation.{next(iter(values))}"):
        DistillationSpec(**values)  # type: ignore[arg-type]
