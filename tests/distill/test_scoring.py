"""Distances in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from distill.small import SIZE, crops, detector_of, twin

from fiducial import geometry
from fiducial.distillation import scoring
from fiducial.distillation.scoring import DISTANCE, Distances
from fiducial.distillation.signals import Signals, jacobian_error, offer_of, signals_of
from fiducial.distillation.teacher import Asked, Teacher
from fiducial.geometry import Size
from fiducial.training.objective import Supervised


def moved(signals: Signals, dx: float, dy: float, size: Size = SIZE) -> Signals:
    return signals._replace(
        xy_unit=geometry.px_to_unit(geometry.unit_to_px(signals.xy_unit, size) + torch.tensor([dx, dy]), size)
    )


def test_points_moved_by_3_and_4_px_are_5_px_away(motion_teacher: Teacher):
    own = signals_of(motion_teacher.detector, crops(3).image)
    cells = motion_teacher.offer.cells
    parts = scoring.parts_of(moved(own, 3, -4), own, SIZE, cells, cells)
    torch.testing.assert_close(parts[DISTANCE], torch.full((3,), 5.0))
    assert parts["heatmap_divergence"].abs().max() < 1e-6
    assert parts["jacobian_error"].abs().max() < 1e-5
    expected = ((3 * 2 / 63) ** 2 + (4 * 2 / 47) ** 2) / 2
    torch.testing.assert_close(parts["l1"], torch.full((3,), expected), rtol=1e-4, atol=0)


def test_jacobian_errors_do_not_depend_on_what_the_frame_is():
    generator = torch.Generator().manual_seed(0)
    frame = torch.eye(2) + 0.3 * torch.randn(4, 3, 2, 2, generator=generator)
    turn = torch.tensor([[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]])
    error = jacobian_error(frame @ turn, frame)
    expected = (2 * (1 - math.cos(0.2)) + 2 * math.sin(0.2)) / 4
    torch.testing.assert_close(error, torch.full((4, 3), expected), rtol=1e-3, atol=1e-5)
    assert jacobian_error(frame, frame).abs().max() < 1e-5


def test_divergence_of_maps_with_nothing_in_common_is_the_logarithm_of_two(motion_teacher: Teacher):
    own = signals_of(motion_teacher.detector, crops(1).image)
    maps = torch.zeros_like(own.maps)
    left, right = maps.clone(), maps.clone()
    left[..., 2, 1] = right[..., 2, 9] = 1
    cells = motion_teacher.offer.cells
    parts = scoring.parts_of(own._replace(maps=left), own._replace(maps=right), SIZE, cells, cells)
    assert float(parts["heatmap_divergence"]) == pytest.approx(math.log(2), abs=1e-5)


def test_scores_are_means_over_all_crops_and_a_twin_has_none(motion_teacher: Teacher):
    answers, offer = Asked(motion_teacher.detector), motion_teacher.offer
    distances = Distances(answers, offer, offer, None)
    batches = [crops(3), crops(5, seed=1)]
    student = detector_of(seed=3)
    for batch in batches:
        distances.observe(Supervised(student), batch)
    found = distances.scores()
    px = torch.cat(
        [
            (student.predict(batch.image).xy - motion_teacher.detector.predict(batch.image).xy).norm(dim=-1).mean(1)
            for batch in batches
        ]
    )
    assert found[DISTANCE] == pytest.approx(float(px.mean()), rel=1e-5)
    assert found["student_teacher_distance_share"] == pytest.approx(float(px.mean()) / 64, rel=1e-5)
    assert set(found) <= set(scoring.MEANINGS)
    distances.observe(Supervised(twin(motion_teacher.detector).eval()), batches[0])
    assert all(abs(value) < 1e-5 for value in distances.scores().values()), "and the batches before are forgotten"


def test_quantities_that_one_has_not_are_left_out(motion_teacher: Teacher):
    student = detector_of("deeppose")
    distances = Distances(Asked(motion_teacher.detector), offer_of(student), motion_teacher.offer, None)
    distances.observe(Supervised(student), crops(2))
    assert set(distances.scores()) == {DISTANCE, "student_teacher_distance_share", "l1"}


def test_points_that_do_not_look_at_the_picture_break_equivariance_by_the_warp_itself():
    """Their error is how far the warp moves them; a detector's can't be told without one, so this is the law to hold."""
    detector = detector_of("deeppose")
    torch.nn.init.zeros_(detector.head.get_submodule("linear").weight)
    error = scoring.equivariance_px(detector, crops(64).image)
    # A shift of sigma 0.05 along each axis, of half sides of 31.5 and 23.5 px, and what the linear part adds.
    assert 1 < float(error.mean()) < 5
