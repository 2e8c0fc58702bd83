"""Annotation files and settings that are broken or hostile: an answer or a line, quickly and in little memory.

The sample of the default run is drawn by the same seeds: `pytest -m long tests/hostile/test_annotations.py` reads 2,000
variations of each kind of file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hostile import limits, mutations

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")
LONG, SAMPLE, FEW = 2000, 40, 15


class Kind(NamedTuple):
    """A kind of file that is varied: the format's writer in tests/battery/test_formats.py, the file, how it is read."""

    writer: str
    file: str
    reader: str = "fit"
    sample: int = SAMPLE  # variations in the default run


KINDS = {
    "coco": Kind("coco", "annotations/test.json"),
    "coco as truth": Kind("coco", "annotations/test.json", "truth"),
    "coco as boxes": Kind("coco", "annotations/test.json", "boxes"),
    "coco's results": Kind("coco", "results.json", "results"),
    "csv of names": Kind("csv", "test.csv"),
    "csv of pixels": Kind("csv_table", "test.csv"),
    "300-W": Kind("pts", "helen/testset/face_1.pts"),
    "wflw": Kind("wflw", "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt"),
    "lapa": Kind("lapa", "test/landmarks/face_1.txt"),
    "yolo's data.yaml": Kind("yolo", "data.yaml"),
    "yolo's labels": Kind("yolo", "labels/test/face_1.txt"),
    "yolo's list": Kind("yolo", "test.txt"),
    "deeplabcut's table": Kind("deeplabcut", "labeled-data/day/CollectedData_me.csv", sample=FEW),
    "deeplabcut's config.yaml": Kind("deeplabcut", "config.yaml", sample=FEW),
    "lightning pose's table": Kind("lightning_pose", "CollectedData_new.csv", sample=FEW),
    "cvat's xml": Kind("cvat", "test.xml", sample=FEW),
    "label studio's export": Kind("label_studio", "test.json", sample=FEW),
    "labelme's file": Kind("labelme", "test/face_1.json", sample=FEW),
    "apic's list": Kind("apic", "poses.json", sample=FEW),
    "mpii's list": Kind("mpii", "annot/test.json", sample=FEW),
    "alphatracker's list": Kind("alphatracker", "test.json", sample=FEW),
    "recipe.json": Kind("settings", "recipe.json", "recipe"),
    "model.json": Kind("settings", "model.json", "card"),
    "--set": Kind("settings", "set.txt", "set"),
    "--points": Kind("settings", "points.txt", "points"),
    "--recipe": Kind("settings", "recipe.py", "recipe file"),
    "--boxes": Kind("settings", "boxes.txt", "boxes' words"),
}

# Each of these files has a trial in a process of its own.
if find_spec("h5py") and find_spec("sleap_io"):
    KINDS["sleap's file"] = Kind("sleap", "test.slp", sample=4)
if find_spec("h5py"):
    KINDS["cofw's file"] = Kind("cofw", "COFW_test_color.mat", sample=4)
    KINDS["deeplabcut's h5"] = Kind("deeplabcut_h5", "labeled-data/day/CollectedData_me.h5", sample=4)
if find_spec("scipy"):
    KINDS["mpii's .mat"] = Kind("mpii_mat", "mpii_human_pose_v1_u12_1.mat", sample=4)


def write_sample(writer: str, root: Path) -> None:
    """Writes a sound sample, with what the battery of formats lacks."""
    from battery import test_formats as battery

    if writer == "settings":
        from fiducial import config
        from fiducial.card import Card, DetectorSpec
        from fiducial.data.skeletons import COCO17
        from fiducial.geometry import Size
        from fiducial.training.recipe import Recipe

        root.mkdir(parents=True)
        spec = DetectorSpec("test_efficientnet", "deeppose", {}, Size(64, 48), COCO17)
        config.write_json(root / "model.json", Card(spec))
        config.write_json(root / "recipe.json", {"recipe": Recipe()})
        (root / "points.txt").write_text("30,40,45,36-47")
        (root / "boxes.txt").write_text("[[10, 20, 30.5, 40], [1, 2, 3, 4]]")
        (root / "recipe.py").write_text(
            "from fiducial.training.recipe import Recipe\n\n\ndef mine():\n    return Recipe(epochs=3, size=(64, 48))\n"
        )
        (root / "set.txt").write_text("augment.flip=0\noptimizer.lr=0.001\nsize=[64,48]\nepochs=3\npretrained=no\n")
        return
    getattr(battery, f"write_{ {'csv': 'coco', 'yolo': 'yolo_pose'}.get(writer, writer) }")(root)
    if writer == "coco":
        truth = json.loads((root / "annotations/test.json").read_text())
        results = [
            {
                "image_id": item["image_id"],
                "category_id": 1,
                "keypoints": item["keypoints"],
                "score": 0.5,
                "bbox": [1, 2, 30, 31],
                "file_name": "face_0.png",
                "annotation_id": item["id"],
            }
            for item in truth["annotations"]
        ]
        (root / "results.json").write_text(json.dumps(results))
    if writer == "csv":
        shutil.rmtree(root / "annotations")
        rows = [
            "image,nose_x,nose_y,tip_x,tip_y,tip_v",
            *(f"face_{i}.png,{i + 1.5},{i + 3},9.25,8,1" for i in range(4)),
        ]
        (root / "test.csv").write_text("\n".join(rows) + "\n")
    if writer == "deeplabcut":
        settings = {"scorer": "me", "bodyparts": ["p0", "p1"], "skeleton": [["p0", "p1"]], "multianimalproject": False}
        (root / "config.yaml").write_text(json.dumps(settings))
    if writer == "yolo":
        (root / "test.txt").write_text("".join(f"images/test/face_{i}.png\n" for i in range(4)))
        settings = {
            "path": ".",
            "train": ["images/train"],
            "val": "images/val",
            "test": "images/test",
            "kpt_shape": [4, 3],
            "flip_idx": [0, 1, 3, 2],
            "names": {"0": "pen"},
            "kpt_names": {"0": ["a", "b", "c", "d"]},
        }
        (root / "data.yaml").write_text(json.dumps(settings))


def read_one(value: dict[str, Any]) -> str:
    """Writes a variation of a file into its copy of the sample and reads it; in a process of `limits.run`."""
    kind, base, folder = KINDS[value["kind"]], Path(value["base"]), Path(value["folder"])
    if not folder.exists():
        shutil.copytree(base, folder)
        if kind.file == "test.txt":
            (folder / "data.yaml").write_text((base / "data.yaml").read_text().replace('"images/test"', '"test.txt"'))
    data = (base / kind.file).read_bytes()
    structured = json.loads(data) if kind.file.endswith((".json", ".yaml")) else None
    file = folder / kind.file
    if file.is_dir():
        file.rmdir()
    if value["seed"] is None:
        file.write_bytes(data)
    else:
        mutations.write(file, data, structured, value["seed"])
    said = _read(kind.reader, folder, file)
    for line in said:
        if not limits.is_line(line):
            raise AssertionError(f"not one line: {line!r}")
    return f"{len(said)} said"


def _read(reader: str, folder: Path, file: Path) -> list[str]:
    from fiducial.types import Findings

    findings = Findings(str(file))
    if reader == "fit":
        from fiducial.data import annotations

        split = "test" if "test" in annotations.own_splits(folder) else "all"
        instances, problems = annotations.load(folder, split)
        assert len(instances) > 0
        return [str(problem) for problem in problems]
    if reader in ("truth", "results"):
        from fiducial.evaluation import predictions

        truth = folder / "annotations/test.json"
        results = predictions.evaluate_results(folder / "results.json", truth, sigmas=[0.05] * 5)
        json.dumps(results, allow_nan=False)
        return results["problems"] + results["notes"]
    if reader == "boxes":
        from fiducial.prediction import boxes

        found = boxes.read(file)
        return [*found.problems, *found.notes]
    if reader == "recipe":
        from fiducial import config
        from fiducial.training import recipes

        json.dumps(config.to_dict(recipes.of_run(folder)), allow_nan=False)
    elif reader == "card":
        from fiducial import config
        from fiducial.models import detector

        json.dumps(config.to_dict(detector.load_card(folder)), allow_nan=False)
    elif reader == "recipe file":
        from fiducial.training import recipes

        recipes.load(f"{file}:mine")
    elif file.is_file():  # words of a command line
        words = file.read_text(errors="surrogateescape").replace("\0", "")[:100_000]
        if reader == "boxes' words":
            from fiducial.prediction import boxes

            boxes.given(Path(words))
        else:
            from fiducial.training import recipes
            from fiducial.training.recipe import Recipe

            options = {"points": words} if reader == "points" else {}
            recipes.changed(Recipe(), options, words.split("\n") if reader == "set" else [])
    return [str(line) for line in findings.problems]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, each written once."""
    root = tmp_path_factory.mktemp("samples")
    for writer in sorted({kind.writer for kind in KINDS.values()}):
        if writer == "settings":
            pytest.importorskip("torch")
        write_sample(writer, root / writer)
    return root


def outcomes_of(names: Sequence[str], samples: Path, folder: Path, seeds: range) -> list[limits.Outcome]:
    """Reads variations of kinds of files, all in one process."""
    sets = [
        {"kind": name, "base": str(samples / KINDS[name].writer), "folder": str(folder / f"set {place}")}
        for place, name in enumerate(names)
    ]
    values = [{**common, "seed": seed} for common in sets for seed in seeds]
    warm = [{**common, "seed": None} for common in sets]
    return limits.run("hostile.test_annotations:read_one", values, warm=warm)


def test_a_sample_of_hostile_files(samples: Path, tmp_path: Path) -> None:
    outcomes: list[limits.Outcome] = []
    for count in sorted({kind.sample for kind in KINDS.values()}):
        names = [name for name, kind in KINDS.items() if kind.sample == count]
        outcomes += outcomes_of(names, samples, tmp_path / str(count), range(count))
    assert len(outcomes) == sum(kind.sample for kind in KINDS.values())
    assert not limits.faults(outcomes), limits.table(outcomes)
    assert {outcome.kind for outcome in outcomes} == {"answered", "refused"}


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_hostile_files(name: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = outcomes_of([name], samples, tmp_path, range(LONG))
    with capsys.disabled():
        print(f"\n{name}: {limits.table(outcomes, 0)}")
    assert not limits.faults(outcomes), limits.table(outcomes)
