"""The one reader of crops: those of `Runtime` and of training's validation to the byte, each image read once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import augment, crops
from fiducial.data.images import FileImages
from fiducial.data.instance_crops import CropBatch, InstanceCrops, all_crops
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Images, Instances, Skeleton

SPEC = DetectorSpec("any", "any", {}, Size(32, 24), Skeleton("two", ("a", "b")), padding=1.1)


@dataclass
class Counted:
    """Images that count how often each is read."""

    images: Images
    read_rows: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        return self.images.name(row)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        self.read_rows.append(row)
        assert reduce == 1, "evaluation sees images in full"
        return self.images.read(row, reduce)


@pytest.fixture
def people(tmp_path: Path) -> Instances:
    """Five JPEGs of 300 x 200 px, which crops shrink by up to eight; instances of one image lie apart in the columns."""
    generator = np.random.default_rng(4)
    for i in range(5):
        coarse = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), cv2.resize(coarse, (300, 200), interpolation=cv2.INTER_CUBIC))
    count = 13
    corner, sides = generator.uniform(-10, 60, (count, 2)), generator.uniform(20, 240, (count, 2))
    return Instances(
        skeleton=SPEC.skeleton,
        images=FileImages(tmp_path, [f"{i}.jpg" for i in range(5)]),
        image_id=np.arange(5) + 70,
        image_size=np.tile([300, 200], (5, 1)).astype(np.int32),
        image_row=np.arange(count) * 3 % 5,
        annotation_id=np.arange(count) + 900,
        xy=generator.uniform(0, 200, (count, 2, 2)).astype(np.float32),
        visibility=np.full((count, 2), 2, np.uint8),
        box_xywh=np.concatenate([corner, sides], 1).astype(np.float32),
        area=sides.prod(1).astype(np.float32),
        crowd=np.zeros(count, bool),
        source="labels.json",
    )


def whole(instances: Instances, **options) -> tuple[CropBatch, InstanceCrops]:
    """All crops in the order of the instances."""
    reader = InstanceCrops(instances=instances, spec=SPEC, **options)
    batches = list(reader)
    rows, images, maps = (
        np.concatenate([getattr(batch, name) for batch in batches]) for name in ("row", "image", "image_to_crop")
    )
    order = np.argsort(rows)
    return CropBatch(rows[order], images[order], maps[order]), reader


def test_crops_are_those_of_a_runtime_and_each_image_is_read_once(people: Instances) -> None:
    counted = Counted(people.images)
    batch, reader = whole(replace(people, images=counted), batch_size=4)
    assert batch.row.tolist() == list(range(13))
    assert sorted(counted.read_rows) == [0, 1, 2, 3, 4]
    assert reader.problems == []
    for row in range(13):
        image = people.images.read(int(people.image_row[row]))
        # As JSON has the box: in double precision.
        alone, image_to_crop = crops.cut(
            image, people.box_xywh[row].astype(float)[None] + 1e-9, SPEC.size, SPEC.padding
        )
        np.testing.assert_array_equal(batch.image[row], alone[0])
        np.testing.assert_array_equal(batch.image_to_crop[row], image_to_crop[0])
    once = all_crops(people, SPEC)
    np.testing.assert_array_equal(once.row, batch.row)
    np.testing.assert_array_equal(once.image, batch.image)


def test_training_is_validated_on_the_same_crops(people: Instances) -> None:
    pytest.importorskip("torch")
    from fiducial.data import loading

    counted = Counted(people.images)
    loader = loading.loader(replace(people, images=counted), SPEC.size, 5, None, padding=SPEC.padding, cache_bytes=0)
    seen = np.concatenate([batch.image.numpy() for batch in loader])
    np.testing.assert_array_equal(seen, whole(people)[0].image)
    assert counted.read_rows


@pytest.mark.parametrize("size", [1, 2, 5, 13, 64])
def test_batches_have_the_length_asked_for(people: Instances, size: int) -> None:
    lengths = [len(batch) for batch in InstanceCrops(instances=people, spec=SPEC, batch_size=size)]
    assert sum(lengths) == 13
    assert all(length == size for length in lengths[:-1])
    assert 0 < lengths[-1] <= size


def test_jitter_is_of_the_row_alone(people: Instances) -> None:
    plain, first, again = (whole(people, box_jitter=jitter)[0] for jitter in (0.0, 0.2, 0.2))
    assert not np.allclose(plain.image_to_crop, first.image_to_crop)
    np.testing.assert_array_equal(first.image, again.image)
    box = geometry.jitter_box(people.box_xywh[7], 0.2, augment.generator_of(0, 0, 7)).astype(np.float32)
    expected = geometry.crop(geometry.fit_aspect(box, SPEC.size, SPEC.padding), SPEC.size)
    np.testing.assert_allclose(first.image_to_crop[7], expected, rtol=1e-12)


def test_what_can_not_be_looked_at_is_left_out_and_named_once(people: Instances, tmp_path: Path) -> None:
    (tmp_path / "3.jpg").write_bytes(b"no image")
    declared, boxes = people.image_size.copy(), people.box_xywh.copy()
    declared[1] = (310, 200)
    boxes[0, 2] = 0  # of image 0, whose other instances stay
    broken = replace(people, image_size=declared, box_xywh=boxes)
    batch, reader = whole(broken)
    expected = [row for row in range(1, 13) if people.image_row[row] not in (1, 3)]
    assert batch.row.tolist() == expected
    said = sorted(str(problem) for problem in reader.problems)
    assert len(said) == 3
    assert "1.jpg: image 71: the picture is 300x200, but the annotations say 310x200" in said[0]
    assert "3.jpg: image 73: not a picture" in said[1]
    assert "labels.json: annotation 900: its box" in said[2]
    assert whole(broken)[1].problems == reader.problems
    with pytest.raises(UserError, match="none of its pictures can be read"):
        all_crops(broken.select(np.array([0])), SPEC)


def test_a_reader_that_is_left_early_ends_its_threads(people: Instances) -> None:
    counted = Counted(people.images)
    batches = iter(InstanceCrops(instances=replace(people, images=counted), spec=SPEC, batch_size=1))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(counted.read_rows) <= 5
