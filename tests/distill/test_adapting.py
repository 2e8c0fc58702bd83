"""Networks that are there with one's own points: where the points lie, what travels with the file, what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from heard import heard
from runtime import foreign_files as made

import fiducial
import fiducial.config
from fiducial import files, geometry, records
from fiducial.card import Card, DetectorSpec
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.runtime import point_map, runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.point_map import Linear, MapFile, MappedNetwork, PointMap
from fiducial.types import Keypoints, Skeleton

OURS = Skeleton("ours", ("a", "b", "c"), flip_pairs=((0, 1),))
THEIRS = Skeleton("theirs", ("w", "x", "y", "c"))


@dataclass
class Sees:
    """A network that finds the same four points on every crop."""

    card: Card
    xy: np.ndarray  # [n, 4, 2] px of the crops
    path: Path = Path("net.onnx")
    runtime: str = "onnxruntime"

    @property
    def export(self) -> ExportCard:
        return ExportCard(self.card, self.runtime, ("xy", "score"))

    def predict(self, crops: np.ndarray) -> Keypoints:
        return Keypoints(self.xy[: len(crops)], np.ones((len(crops), 4)))


def some_map(frame: Size, seed: int = 0) -> PointMap:
    random = np.random.default_rng(seed)
    linear = Linear(random.normal(size=8), random.normal(size=6), 0.3 * random.normal(size=(8, 6)), 1.0)
    return PointMap(places=np.array([-1, -1, 3]), frame=frame, linear=linear, labels=20)


@pytest.mark.parametrize(("size", "padding"), [(Size(64, 64), 1.0), (Size(48, 64), 1.25), (Size(96, 40), 1.7)])
def test_points_on_the_crop_are_mapped_as_on_the_image(size: Size, padding: float):
    boxes = np.array([[10.0, 20, 60, 30], [-5, 40, 20, 90], [100, 3, 50, 50]])
    crops = np.array([geometry.crop(geometry.fit_aspect(box, size, padding), size) for box in boxes])
    on_crop = np.random.default_rng(1).uniform(0, 40, (3, 4, 2))
    on_image = geometry.transform(geometry.invert(crops), on_crop)
    network = Sees(Card(DetectorSpec("net", "foreign", {}, size, THEIRS, padding=padding)), on_crop)
    learnt = some_map(size)
    mapped = MappedNetwork(network, point_map.file_of(learnt, OURS, THEIRS))
    found = mapped.predict(np.zeros((3, size.h, size.w, 3), np.uint8))
    expected = learnt(Keypoints(on_image, np.ones((3, 4))), boxes)
    np.testing.assert_allclose(geometry.transform(geometry.invert(crops), found.xy), expected.xy, atol=1e-3)
    np.testing.assert_allclose(found.score, expected.score)
    assert mapped.card.spec.skeleton == OURS


def test_what_is_written_is_what_is_read(tmp_path: Path):
    written = point_map.file_of(some_map(Size(48, 64)), OURS, THEIRS, learnt_from={"labels": "CC0"})
    files.write_json(tmp_path / "net.map.json", fiducial.config.to_dict(written))
    read = point_map.read(tmp_path / "net.map.json")
    assert read == written
    inputs = np.random.default_rng(2).uniform(0, 50, (5, 4, 2))
    boxes = np.tile([3.0, 4, 50, 60], (5, 1))
    found = Keypoints(inputs, np.ones((5, 4)))
    np.testing.assert_allclose(read.map(found, boxes).xy, some_map(Size(48, 64))(found, boxes).xy, atol=1e-4)


# ------------------------------------------------------------------------------------------------------ the whole way


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.blob_set(tmp_path_factory.mktemp("blobs"), ("nose", "tail", "ear"))


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of another project whose points lie four px of its input beside the blobs' middles."""
    file = made.centroids(tmp_path_factory.mktemp("teacher") / "net.onnx", offset=4.0)
    made.write_card(file, padding=1.2, licence="MIT")
    return file


@pytest.fixture(scope="module")
def adapted(shifted: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> fiducial.api.results.Run:
    return fiducial.adapt(shifted, data, tmp_path_factory.mktemp("adapted") / "mine")


def test_a_network_is_told_of_once(shifted, data, tmp_path):
    with heard() as lines:
        fiducial.adapt(shifted, data, tmp_path / "mine")
    assert sum("card from" in line for line in lines) == 1


def test_the_file_finds_the_points_of_the_labels(adapted, data, shifted):
    assert adapted["nme"] < 0.01
    assert adapted.figures["floor"]["nme"] > 0.05
    assert "linear map from 24 labelled instances" in adapted.lines[0]
    content = json.loads((data / "annotations/val.json").read_text())
    entry = content["annotations"][0]
    image = cv2.imread(str(data / "images" / content["images"][0]["file_name"]))[..., ::-1]
    loaded = fiducial.load(adapted.folder)
    found = loaded(np.ascontiguousarray(image), np.array([entry["bbox"]]))
    np.testing.assert_allclose(found.xy[0], np.reshape(entry["keypoints"], (3, 3))[:, :2], atol=0.3)
    assert found.skeleton.points == ("nose", "tail", "ear")
    assert found.radius(0.8).max() < 0.3  # they were measured on val
    beside = runtime.load(shifted)(np.ascontiguousarray(image), np.array([entry["bbox"]]))
    assert np.linalg.norm(beside.xy - found.xy, axis=-1).min() > 1


def test_what_travels_with_it(adapted, data):
    folder = adapted.folder
    assert {"net.onnx", "net.card.json", "net.map.json", "metrics.json", "report.html"} <= {
        file.name for file in folder.iterdir()
    }
    assert runtime.load(folder).card.derived_from["net.onnx"] == "MIT"
    again = fiducial.evaluate(folder, data, "val")
    assert again["nme"] == adapted["nme"]
    (run,) = records.read(folder.parent).runs
    assert (run.kind, run.split, run.figure) == ("adapt", "val", "nme")
    assert run.value == adapted["nme"]


def test_several_views_are_asked_for_whenever_it_runs(shifted, data, tmp_path):
    several = fiducial.adapt(shifted, data, tmp_path / "mine", views=5)
    assert several["nme"] < 0.02
    content = json.loads((tmp_path / "mine/net.map.json").read_text())
    assert content["views"] == 5
    crop = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    loaded = runtime.load(tmp_path / "mine").network
    one, both = loaded.predict(crop[1:]), loaded.predict(crop)
    np.testing.assert_allclose(both.xy[1:], one.xy, atol=1e-4)  # views don't depend on what else is asked
    assert len(loaded.predict(crop[:0])) == 0


def test_instances_of_a_program(adapted, shifted, data, tmp_path):
    train, val = (fiducial.Instances.read(data, split) for split in ("train", "val"))
    of_arrays = fiducial.adapt(shifted, train, tmp_path / "mine", val=val)
    assert of_arrays["nme"] == pytest.approx(adapted["nme"])
    with pytest.raises(UserError, match="val"):
        fiducial.adapt(shifted, data, tmp_path / "other", val=val)


def test_an_adapted_one_is_adapted_from_its_own_network(adapted, data, tmp_path):
    again = fiducial.adapt(adapted.folder, data, tmp_path / "again")
    assert again["nme"] == adapted["nme"]


def test_a_model_that_comes_along_keeps_its_finder(data, tmp_path):
    made_of_face = fiducial.adapt("face", data, tmp_path / "mine")
    loaded = fiducial.load(tmp_path / "mine")
    assert loaded.finder is not None
    assert loaded.skeleton.points == ("nose", "tail", "ear")
    assert made_of_face.figures["metrics"]["nme"] > 0
    crop = np.random.default_rng(0).integers(0, 255, (1, 96, 96, 3), dtype=np.uint8)
    scores = fiducial.load("face").network.predict(crop).score.mean()
    np.testing.assert_allclose(
        loaded.network.predict(crop).score, scores, atol=1e-6
    )  # points of other names have the mean


def test_one_that_looks_at_nothing_is_about_the_mean_shape(data, tmp_path):
    file = made.centroids(tmp_path / "net.onnx", scale=0.0)
    made.write_card(file, padding=1.2)
    blind = fiducial.adapt(file, data, tmp_path / "mine")
    assert blind["nme"] > 0.9 * blind.figures["floor"]["nme"]


# -------------------------------------------------------------------------------------------------------- bad input


def test_refused(adapted, shifted, data, tmp_path):
    with pytest.raises(UserError, match="not empty"):
        fiducial.adapt(shifted, data, adapted.folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").touch()
    with pytest.raises(UserError, match="export"):
        fiducial.adapt(tmp_path / "run", data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def broken(name: str, value: object):
    return lambda content: {**content, name: value}


@pytest.mark.parametrize(
    ("mend", "told"),
    [
        (broken("network_points", 7), "weights"),
        (broken("places", [0, 9, 1]), "places"),
        (broken("offset", [1.0]), "weights"),
        (broken("weights", [[1.0]]), "weights"),
        (broken("frame", [0, 4]), "frame"),
        (broken("views", 10**9), "views"),
        (broken("centre", [float("nan")] * 6), "centre|NaN"),
        (broken("skeleton", None), "skeleton"),
        (lambda content: [], "expected"),
    ],
)
def test_a_damaged_map_is_told_in_a_line(adapted, tmp_path, mend, told):
    for file in runtime.files_of(adapted.folder):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "net.map.json"
    path.write_text(json.dumps(mend(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=told):
        runtime.opened(tmp_path / "net.onnx")


def test_a_map_of_another_network_is_refused(adapted, tmp_path):
    for file in runtime.files_of(adapted.folder):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    written = point_map.file_of(replace(some_map(Size(64, 64))), OURS, THEIRS)
    assert isinstance(written, MapFile)
    fiducial.config.write_json(tmp_path / "net.map.json", written)
    with pytest.raises(UserError, match=r"maps 4 points, and net\.onnx finds 3"):
        runtime.opened(tmp_path / "net.onnx")
