"""Answers kept on disk are those that the teacher gives, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distill.small import SIZE, crops, detector_of, saved

from fiducial.distillation import cache
from fiducial.distillation.cache import Index
from fiducial.distillation.teacher import Asked, Teacher
from fiducial.errors import UserError
from fiducial.types import Batch

ALL = ("xy_unit", "jacobian", "maps", "feature")


def index(teacher: Teacher, held: tuple[str, ...] = ALL) -> Index:
    return Index(teacher.fingerprint, "data", SIZE, 1.0, 7, held, 1)


def seven() -> list[Batch]:
    """In two batches, their rows not from 0 on."""
    whole = crops(7)._replace(row=torch.tensor([2, 3, 5, 8, 9, 20, 21]))
    return [Batch(*(column[part] for column in whole)) for part in (slice(0, 4), slice(4, 7))]


def test_kept_answers_are_the_teachers(motion_teacher: Teacher, tmp_path: Path):
    asked = Asked(motion_teacher.detector, 1)
    kept = cache.kept_answers(tmp_path / "teacher", asked, index(motion_teacher), seven)
    whole = Batch(*(torch.cat(columns) for columns in zip(*seven(), strict=True)))
    shuffled = Batch(*(column[[6, 0, 3]] for column in whole))
    found, expected = kept(shuffled), asked(shuffled)
    torch.testing.assert_close(found.xy_unit, expected.xy_unit, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.jacobian, expected.jacobian, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.maps, expected.maps, atol=1e-6, rtol=2e-3)  # float16
    torch.testing.assert_close(found.feature, expected.feature, atol=1e-3, rtol=1e-3)
    assert found.maps is not None
    torch.testing.assert_close(found.maps.sum((-2, -1)), torch.ones(3, 3))


def test_they_are_made_once(motion_teacher: Teacher, tmp_path: Path):
    def none() -> list[Batch]:
        raise AssertionError("asked again")

    asked = Asked(motion_teacher.detector, 1)
    first = cache.kept_answers(tmp_path / "teacher", asked, index(motion_teacher), seven)
    for held in (ALL, ("xy_unit",)):  # more may be there than is wanted
        again = cache.kept_answers(tmp_path / "teacher", asked, index(motion_teacher, held), none)
        assert torch.equal(again(seven()[0]).xy_unit, first(seven()[0]).xy_unit)


def test_answers_of_others_are_refused(motion_teacher: Teacher, tmp_path: Path):
    folder, asked = tmp_path / "teacher", Asked(motion_teacher.detector, 1)
    mine = index(motion_teacher, ("xy_unit",))
    cache.kept_answers(folder, asked, mine, seven)
    other = saved(detector_of(seed=4), tmp_path / "other")
    for wanted, words in (
        (replace(mine, teacher=other.fingerprint), "teacher's weights"),
        (replace(mine, data="others"), "data were data"),
        (replace(mine, padding=1.5), "padding"),
        (replace(mine, held=("xy_unit", "maps")), "has no maps, which this loss needs"),
    ):
        with pytest.raises(UserError, match=words):
            cache.kept_answers(folder, asked, wanted, seven)


def test_damaged_answers_are_refused(motion_teacher: Teacher, tmp_path: Path):
    folder, wanted = tmp_path / "teacher", index(motion_teacher, ("xy_unit",))
    asked = Asked(motion_teacher.detector, 1)
    cache.kept_answers(folder, asked, wanted, seven)
    whole = (folder / "xy_unit.npy").read_bytes()
    others = (whole[:-8], b"", b"no array", whole.replace(b"<f4", b"|O8"), whole.replace(b"(7, ", b"(9999999, "))
    for damaged in others:
        assert damaged != whole
        (folder / "xy_unit.npy").write_bytes(damaged)
        with pytest.raises(UserError, match=r"xy_unit\.npy: .*remove the folder"):
            cache.kept_answers(folder, asked, wanted, seven)


def test_nothing_half_written_stays(motion_teacher: Teacher, tmp_path: Path):
    def broken():
        yield seven()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.kept_answers(
            tmp_path / "run" / "teacher", Asked(motion_teacher.detector, 1), index(motion_teacher), broken
        )
    assert list((tmp_path / "run").iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_it_is_full(
    motion_teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"distillation\.cache=false"):
        cache.kept_answers(tmp_path / "teacher", Asked(motion_teacher.detector, 1), index(motion_teacher), seven)
    assert list(tmp_path.iterdir()) == []
