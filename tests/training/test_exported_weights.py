"""Weights that are taken out of exported files: the network answers as the file does, and learns from there."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from fiducial.card import Card, DetectorSpec
from fiducial.data.facts import facts_of
from fiducial.drawnfaces import procedural_faces
from fiducial.errors import UserError
from fiducial.exporting import onnx_export, stored
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.training import exported_weights, fit, plan
from fiducial.training.recipe import Recipe
from fiducial.types import Skeleton

SIZE = Size(64, 64)
SKELETON = Skeleton("five", tuple("abcde"))


def learnt(method: str, backbone: str, skeleton: Skeleton = SKELETON) -> Detector:
    """A detector whose normalisations have statistics and factors as after training."""
    torch.manual_seed(0)
    detector = detectors.build(DetectorSpec(backbone, method, {}, SIZE, skeleton), "no")
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            module.weight.data.uniform_(0.6, 1.4)
            module.bias.data.normal_(0, 0.2)
    return detector.eval()


def exported(detector: Detector, folder: Path) -> Path:
    return onnx_export.write(detector, Card(detector.spec), folder, crop="inside", decode="own").file


@pytest.mark.parametrize("method", ["heatmap", "simcc", "deeppose", "rle"])
def test_the_network_answers_as_the_one_that_was_exported(method: str, tmp_path: Path) -> None:
    theirs = learnt(method, "test_efficientnet")
    file = exported(theirs, tmp_path)
    weights = exported_weights.plan_of(file)
    own = detectors.build(theirs.spec, "no").eval()
    line = detectors.initialise_from(own, tmp_path, weights)
    assert "random as before" not in line.replace("random as before: head.likelihood", ""), "what training alone has"
    crops = torch.randint(0, 255, (3, SIZE.h, SIZE.w, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(own.predict(crops).xy, theirs.predict(crops).xy, rtol=0, atol=1e-3)


def test_weights_that_are_stored_in_halves_are_found(tmp_path: Path) -> None:
    theirs = learnt("heatmap", "test_efficientnet")
    file = exported(theirs, tmp_path)
    onnx.save(stored.in_halves(onnx.load(file)), file)
    own = detectors.build(theirs.spec, "no")
    assert "random as before" not in detectors.initialise_from(own, file, exported_weights.plan_of(file))


def test_statistics_are_those_of_crops_and_change_no_answer(tmp_path: Path) -> None:
    """Oracle: of a batch whose statistics are a network's own, training and evaluation mode answer alike."""
    detector = learnt("heatmap", "resnet18")
    crops = torch.randint(0, 255, (4, SIZE.h, SIZE.w, 3), dtype=torch.uint8)
    with torch.no_grad():
        before = detector(crops)
        size = before.abs().max()
        other = (copy.deepcopy(detector).train()(crops) - before).abs().max()
        assert other > 0.1 * size, "statistics of a batch make another network of it"
        exported_weights.renormalise(detector, crops)
        assert (detector(crops) - before).abs().max() < 1e-4 * size
        assert (detector.train()(crops) - before).abs().max() < 1e-2 * size


def test_a_run_starts_from_a_file_and_is_planned_as_its_network(blobs: Path, tmp_path: Path, said: list[str]) -> None:
    data = fit.load_data(blobs, Recipe())
    theirs = learnt("simcc", "test_efficientnet", data.train.skeleton)
    recipe = Recipe(init=str(exported(theirs, tmp_path)), pretrained="no")
    start = fit.starting_network(recipe)
    planned, choices = plan.plan_of(fit.facts_of(data.train), recipe, (), start=start)
    assert (planned.backbone, planned.method, planned.size) == ("test_efficientnet", "simcc", SIZE)
    assert any(choice.setting == "backbone" and "--init" in choice.reason for choice in choices)
    detector, initialization = fit.build_detector(planned, data)
    assert initialization == recipe.init
    assert "random as before" not in said[-1]
    crops = next(iter(fit.train_loader(data, replace(planned, batch_size=8), 0, 1))).image
    with torch.no_grad():
        torch.testing.assert_close(detector.eval().predict(crops).xy, theirs.predict(crops).xy, rtol=0, atol=1e-2)
    fewer = replace(planned, points=(0, 1))
    fit.build_detector(fewer, fit.load_data(blobs, fewer))
    assert "its points are others, so the head starts at random" in said[-1]


def test_what_is_given_wins_over_the_network_of_the_weights() -> None:
    start = DetectorSpec("resnet18", "heatmap", {"sigma_cells": 3.0}, Size(96, 64), SKELETON)
    given = plan._as_begun(start, Recipe(method="simcc"), {"method"})
    assert {choice.setting for choice in given} == {"backbone", "size", "padding"}
    without_labels = DetectorSpec("resnet18", "motion", {}, Size(96, 64), SKELETON)
    assert "method" not in {choice.setting for choice in plan._as_begun(without_labels, Recipe(), ())}
    whole = {choice.setting: choice.value for choice in plan._as_begun(start, Recipe(), ())}
    assert (whole["method"], whole["head.sigma_cells"]) == ("heatmap", 3.0)


def test_the_face_that_comes_along_is_a_start(tmp_path: Path) -> None:
    weights = exported_weights.plan_of(Path("face"))
    assert (weights.backbone, weights.method) == ("tf_efficientnet_lite0_stride16", "heatmap")
    assert weights.skeleton is not None
    assert len(weights.skeleton.points) == 68
    assert "Apache-2.0" in exported_weights.origins_of(Path("face")).values()


def test_few_labels_of_its_points_start_from_the_face_where_nobody_chose() -> None:
    few, many = (facts_of(procedural_faces(count, 0, Size(96, 96))) for count in (8, plan.FEW_ALONG))
    face = exported_weights.along(procedural_faces(1, 0, SIZE).skeleton)
    assert face == "face"
    assert exported_weights.along(SKELETON) is None
    assert plan.may_start_along(few, Recipe(), ())
    assert not plan.may_start_along(many, Recipe(), ())
    for given in ({"backbone"}, {"init"}, {"head.sigma_cells"}):
        assert not plan.may_start_along(few, Recipe(), given)
    assert not plan.may_start_along(few, Recipe(pretrained="no"), ())
    start = fit.starting_network(Recipe(init=face))
    planned, choices = plan.plan_of(few, Recipe(), (), start=start, along=face)
    assert (planned.init, planned.backbone, planned.size) == ("face", "tf_efficientnet_lite0_stride16", Size(96, 96))
    assert choices[0].setting == "init"


def test_files_that_hold_other_weights_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), other)
    with pytest.raises(UserError):
        exported_weights.plan_of(other)


def test_a_file_of_another_kind_is_told_with_what_a_run_starts_from(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(UserError, match=r"--init .*weights\.npz: is no kind .* expected a run folder, weights \(\.pth"):
        exported_weights.is_exported(tmp_path / "weights.npz")
