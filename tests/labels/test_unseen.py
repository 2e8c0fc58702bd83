"""Models of thirds of a set look at what they have not seen, once for all who ask."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_blobs
from quick import WORDS as QUICK

pytest.importorskip("torch")

import fiducial
from fiducial.checks.finding import Labelled
from fiducial.data.source import Source
from fiducial.data.together import together
from fiducial.errors import UserError
from fiducial.labels import reading, unseen

PARTS = (
    ("train", 48, 0),
    ("val", 12, 12),
)  # split, images, the number of its first cat, of which it has four images each


@pytest.fixture(scope="module")
def looked(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, unseen.Unseen]:
    folder = tmp_path_factory.mktemp("unseen") / "models"
    return folder, unseen.look(reading.read(Source(blobs))[0], folder, **QUICK)


def test_all_splits_are_looked_at_by_two_models_each(looked: tuple[Path, unseen.Unseen]) -> None:
    folder, found = looked
    assert len(found.instances) == 80
    assert found.row.tolist() == list(range(80))
    assert np.bincount(found.part).tolist() == [27, 27, 26]
    assert found.xy.shape == (2, 80, 3, 2)
    assert np.isfinite(found.xy).all()
    assert sorted(path.name for path in folder.iterdir()) == ["part_0", "part_1", "part_2", "parts.json"]


def test_no_model_has_seen_what_it_is_asked(looked: tuple[Path, unseen.Unseen]) -> None:
    """What the first of an instance's two models says is what that model's folder says."""
    folder, found = looked
    for part, models in enumerate([(1, 2), (0, 2), (0, 1)]):
        rows = np.flatnonzero(found.part == part)
        for place, model in enumerate(models):
            points = fiducial.load(folder / f"part_{model}")(
                found.instances.images.read(int(found.instances.image_row[rows[0]])),
                found.instances.box_xywh[rows[:1]],
            )
            np.testing.assert_allclose(points.xy[0], found.xy[place, rows[0]], atol=1e-3)


def test_asked_again_nothing_is_trained(
    looked: tuple[Path, unseen.Unseen], blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = looked
    monkeypatch.setattr(unseen, "fit", lambda *_, **__: pytest.fail("trained"))
    labelled, _ = reading.read(Source(blobs))
    np.testing.assert_array_equal(unseen.look(labelled, folder, **QUICK).xy, found.xy)
    with pytest.raises(UserError, match="models of other choices; give a new folder"):
        unseen.look(labelled, folder, **{**QUICK, "epochs": 2})


def test_sigmas_of_the_command(looked: tuple[Path, unseen.Unseen], blobs: Path) -> None:
    """Untrained models err far more than these exact labels, which is said."""
    folder, _ = looked
    result = fiducial.labels.sigmas(blobs, folder, **QUICK)
    assert len(result.figures["sigmas"]) == 3
    assert any("upper bound" in note for note in result.notes)
    assert "they know too little; give them more time (--minutes)" in result.notes[0]
    assert [row["labels"] for row in result.figures["per_point"]] == [80, 80, 80]
    assert "sigma" in (folder / "report.html").read_text()


def test_copies_and_images_of_one_series_are_in_one_part(tmp_path: Path) -> None:
    root = write_blobs(tmp_path / "blobs", {"train": 48, "val": 12})
    names = {split: [f"cat{i // 4 + first}_{i % 4}.png" for i in range(count)] for split, count, first in PARTS}
    for split, own in names.items():
        file = root / f"annotations/{split}.json"
        content = json.loads(file.read_text())
        for image, name in zip(content["images"], own, strict=True):
            (root / "images" / image["file_name"]).rename(root / "images" / name)
            image["file_name"] = name
        file.write_text(json.dumps(content))
    for place in range(3):  # cats 12 to 14 of val are cats 0 to 2 of train
        shutil.copyfile(root / f"images/cat{place}_1.png", root / f"images/cat{12 + place}_2.png")
    labelled, _ = reading.read(Source(root))
    instances = together([part for _, part in labelled.instances])
    part = unseen._parts(labelled, instances, [], 0)
    of_cat = part.reshape(15, 4)
    assert (of_cat == of_cat[:, :1]).all()
    assert (of_cat[12:] == of_cat[:3]).all()
    assert np.bincount(part).tolist() == [20, 20, 20]


def test_too_few_images_are_refused(blobs: Path, tmp_path: Path) -> None:
    few = Labelled({"val": fiducial.Instances.read(blobs, "val")})
    with pytest.raises(UserError, match="16 images with labels; models of thirds of them need 30 or more"):
        unseen.look(few, tmp_path / "models", **QUICK)
