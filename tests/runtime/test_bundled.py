"""Models that come with the package: found by name, unless something of that name lies here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fiducial.errors import UserError
from fiducial.runtime import bundled, runtime


@pytest.fixture
def some(blob_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a model `some`, seen from an empty folder."""
    package, here = tmp_path / "package", tmp_path / "here"
    package.mkdir()
    here.mkdir()
    shutil.copy(blob_onnx, package / "some.onnx")
    monkeypatch.setattr(bundled, "FOLDER", package)
    monkeypatch.chdir(here)
    bundled._tell.cache_clear()
    return package / "some.onnx"


def test_a_name_means_the_model_that_comes_along(some: Path) -> None:
    assert runtime.resolved(Path("some")) == some
    assert runtime.is_exported(Path("some"))
    assert runtime.load("some").network.path == some
    with pytest.raises(UserError, match=r"sme: no such file or folder; expected .* one that comes along \(`some`\)"):
        runtime.resolved(Path("sme"))
    with pytest.raises(UserError, match="no such file"):  # a path is no name
        runtime.resolved(Path("elsewhere/some"))


def test_a_finder_beside_a_model_is_no_model(some: Path) -> None:
    shutil.copy(some, some.with_name("some.finder.onnx"))
    assert bundled.names() == ["some"]
    assert bundled.file_of(Path("some.finder")) is None


def test_what_lies_here_comes_first_and_that_is_said_once(
    some: Path, blob_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(blob_model, "some")
    assert runtime.resolved(Path("some")) == Path("some")
    assert not runtime.is_exported(Path("some"))
    assert [record.message for record in caplog.records] == [
        "some: taken for what lies in this folder, not for the model of that name that comes with Fiducial"
    ]


def test_it_is_not_tried_apart(some: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came with the package is trusted: a process less for each call."""
    tried: list[object] = []
    monkeypatch.setattr(runtime.trial, "passes", lambda *asked: tried.append(asked))
    assert runtime.load("some").skeleton.points
    assert tried == []


def test_it_is_a_teacher_by_its_name(some: Path) -> None:
    from fiducial.distillation import point_teachers

    assert point_teachers.is_one(Path("some"))
    assert point_teachers.load(Path("some")).skeleton == runtime.load("some").skeleton
