"""int8: crops of all poses, layers by their modules, what is rounded and what is not, and who decides."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from heard import heard
from torch import Tensor, nn

from fiducial.card import Card, DetectorSpec, Normalization
from fiducial.data import annotations, crops
from fiducial.data.images import ArrayImages
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.exporting import litert_export, onnx_export
from fiducial.exporting.int8 import calibration, decide, layers
from fiducial.exporting.int8.decide import Tried
from fiducial.exporting.int8.verdict import Candidate, Sensitivity
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.contracts import Backbone, Head, Level
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.export_card import ExportCard, Made
from fiducial.runtime.runtimes import executorch_runtime
from fiducial.types import Instances, Keypoints, Skeleton

SPEC = DetectorSpec("any", "any", {}, Size(32, 24), Skeleton("two", ("a", "b")))

# ------------------------------------------------------------------------------------------------- calibration


def test_those_furthest_apart_come_first() -> None:
    line = np.array([[3.0], [0.0], [10.0], [5.0], [4.0]])  # their mean is 4.4
    assert line[calibration.spread(line, 3), 0].tolist() == [4.0, 10.0, 0.0]
    assert sorted(calibration.spread(line, 99)) == [0, 1, 2, 3, 4]
    assert sorted(calibration.spread(np.zeros((3, 2)), 3)) == [0, 1, 2], "equal poses are different instances"


def test_the_spread_is_at_most_twice_the_best_possible() -> None:
    """Gonzalez' bound, against all choices of four among ten."""

    def radius(points: np.ndarray, chosen: Any) -> float:
        return np.linalg.norm(points[:, None] - points[list(chosen)], axis=-1).min(1).max()

    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(10, 3))
        best = min(radius(points, chosen) for chosen in itertools.combinations(range(10), 4))
        assert radius(points, calibration.spread(points, 4)) <= 2 * best


def instances(xy: list, box_xywh: list, visibility: list | None = None) -> Instances:
    """In pictures of 80x60 px, noise, one each."""
    count = len(xy)
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(count)]
    return Instances(
        SPEC.skeleton,
        ArrayImages(pictures),
        np.arange(count),
        np.tile(np.array([[80, 60]], np.int32), (count, 1)),
        np.arange(count),
        np.arange(count),
        np.array(xy, np.float32),
        np.array(visibility if visibility is not None else np.full((count, 2), 2), np.uint8),
        np.array(box_xywh, np.float32),
        np.ones(count, np.float32),
        np.zeros(count, bool),
    )


def test_a_pose_is_where_the_points_lie_in_the_crop_and_how_large_it_was() -> None:
    """The second is the first moved by (7, 3); the third is twice as large."""
    given = instances(
        [[[9.5, 9.5], [29.5, 19.5]], [[16.5, 12.5], [36.5, 22.5]], [[19.5, 19.5], [59.5, 39.5]]],
        [[0, 0, 40, 30], [7, 3, 40, 30], [0, 0, 80, 60]],
    )
    found = calibration.poses_of(given, replace(SPEC, padding=1.0))
    np.testing.assert_allclose(found[:, :4], [[10 / 40, 10 / 30, 30 / 40, 20 / 30]] * 3, atol=1e-6)
    assert found[0, 4] == pytest.approx(found[1, 4])
    assert found[0, 4] - found[2, 4] == pytest.approx(0.02 * 2), "a doubling: 0.02 of a side in each of 4 coordinates"


def test_points_that_are_not_labelled_tell_nothing_apart() -> None:
    given = instances(
        [[[10, 10], [30, 20]], [[14, 12], [0, 0]], [[18, 14], [34, 24]]], [[0, 0, 40, 30]] * 3, [[2, 2], [2, 0], [2, 1]]
    )
    found = calibration.poses_of(given, SPEC)
    np.testing.assert_allclose(found[1, 2:4], (found[0, 2:4] + found[2, 2:4]) / 2)


def test_crops_are_those_of_use() -> None:
    given = instances([[[10, 10], [30, 20]], [[14, 12], [20, 20]]], [[0, 0, 40, 30], [5, 5, 30, 30]])
    found = calibration.crops_of(given, SPEC)
    expected = [crops.cut(given.images.read(i), given.box_xywh[i][None], SPEC.size, SPEC.padding)[0] for i in (0, 1)]
    assert sorted(map(bytes, found)) == sorted(bytes(each[0]) for each in expected)


# ------------------------------------------------------------------------------------------------------ layers

NAMES = [
    "normalisation/Sub_0",
    "backbone.stem/Conv_1",
    "backbone.act/Relu_2",
    "backbone.a.0.conv/Conv_3",
    "backbone.a.0.fc/Gemm_4",
    "backbone.a.0/Add_5",
    "backbone.a.1.conv/Conv_6/WithoutBiases",
    "head.final/Conv_7",
    "decode/MatMul_8",
]
WEIGHTED = [name for name in NAMES if any(kind in name for kind in ("Conv", "Gemm", "MatMul"))]


def test_groups_are_modules_with_weights_or_their_parents() -> None:
    each = layers.grouped(NAMES, WEIGHTED)
    assert each == {
        "backbone.stem": ("backbone.stem/Conv_1", "backbone.act/Relu_2"),
        "backbone.a.0.conv": ("backbone.a.0.conv/Conv_3",),
        "backbone.a.0.fc": ("backbone.a.0.fc/Gemm_4", "backbone.a.0/Add_5"),
        "backbone.a.1.conv": ("backbone.a.1.conv/Conv_6/WithoutBiases",),
        "head.final": ("head.final/Conv_7",),
    }
    assert list(layers.grouped(NAMES, WEIGHTED, 4)) == ["backbone.stem", "backbone.a.0", "backbone.a.1", "head.final"]
    assert list(layers.grouped(NAMES, WEIGHTED, 3)) == ["backbone.stem", "backbone.a", "head.final"]
    assert list(layers.grouped(NAMES, WEIGHTED, 1)) == ["backbone", "head"]


def test_operators_bear_the_names_of_their_modules(blob_model: Path) -> None:
    detector, card = detectors.load(blob_model)
    model = onnx_export.model_of(detector, card, crop="outside")
    modules = dict(detector.named_modules())
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    convolutions = [name for node, name in zip(model.graph.node, names, strict=True) if node.op_type == "Conv"]
    found = [modules[str(layers.module_of(name))] for name in convolutions]
    assert all(isinstance(module, nn.Conv2d) for module in found)
    assert len(set(map(id, found))) == sum(isinstance(module, nn.Conv2d) for module in modules.values())
    assert layers.module_of(names[0]) is None, "the normalisation is not in the network"


# ------------------------------------------------------------------------------------------------ what is rounded


# Where each file takes half a minute: what converts, and how it is installed.
PHONES = {
    "litert": ("litert_torch", None, litert_export.INSTALL),
    "executorch": ("executorch", None, executorch_runtime.INSTALL),
}


@pytest.fixture(params=["openvino", "onnx", *(pytest.param(to, marks=pytest.mark.long) for to in PHONES)])
def to(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino":
        pytest.importorskip("nncf")
    if request.param in PHONES:
        module, least, install = PHONES[request.param]
        pytest.importorskip(module, least, reason=install)
    return request.param


class Layers(Backbone):
    """Two convolutions."""

    levels = (Level(6, 2),)
    normalization = Normalization((120, 110, 100), (60, 50, 55))

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.second(self.first(image).relu()).relu()]


class Regression(Head):
    """Two points, by a linear layer of the mean feature; read by a product that int8 would spoil."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, feature: Tensor) -> Tensor:
        return self.linear(feature.mean((-2, -1)))

    def decode(self, raw: Tensor) -> Keypoints:
        xy = raw.view(-1, 2, 2) @ torch.tensor([[20.0, 0.0], [0.0, 20.0]])
        return Keypoints(xy, raw[:, :2].sigmoid())


def small() -> tuple[Detector, np.ndarray]:
    """A detector, and its crops: one in three brightnesses."""
    torch.manual_seed(4)
    spec = DetectorSpec("hand-made", "regression", {}, SPEC.size, SPEC.skeleton)
    noise = np.random.default_rng(1).integers(0, 256, (1, 24, 32, 3), dtype=np.uint8)
    return Detector(spec, Layers(), Regression()).eval(), np.concatenate([noise, noise // 2, 255 - noise // 2])


def answers(made: Made, given: np.ndarray) -> np.ndarray:
    return runtime.load(made.file, threads=1).network.predict(given).xy


def new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_only_the_network_is_rounded_and_each_group_alone(to: str, tmp_path: Path) -> None:
    detector, given = small()
    quantizer = runtime.offered(runtime.targets()[to], "INT8")(
        detector, Card(detector.spec), given, crop="inside", decode="own"
    )
    assert list(quantizer.groups) == ["backbone.first", "backbone.second", "head.linear"]
    expected = detector.predict(torch.from_numpy(given)).numpy().xy
    np.testing.assert_allclose(answers(quantizer.write("fp32", new(tmp_path / "fp32")), given), expected, atol=1e-4)
    np.testing.assert_allclose(answers(quantizer.write("int8", new(tmp_path / "none")), given), expected, atol=1e-4)
    whole = quantizer.write("int8", new(tmp_path / "all"), quantizer.groups)
    assert whole.card.precision == "int8"
    assert rounded_outside(whole.file, to) == []
    off = {"all": answers(whole, given) - expected}
    for group in quantizer.groups:
        off[group] = answers(quantizer.write_alone(group, new(tmp_path / group)), given) - expected
        some = answers(quantizer.write("int8", new(tmp_path / f"{group} in int8"), [group]), given) - expected
        assert 0 < np.abs(some).max() < 1, "with biases corrected"
    assert all(0 < np.abs(each).max() < 1 for each in off.values())


def test_a_layer_alone_is_off_by_half_steps(to: str, tmp_path: Path) -> None:
    """Against arithmetic: a linear layer whose weights are rounded to 127 steps either way, those of an output together,
    and whose inputs to 127 or 255. All crops are one, so that no range is cut."""
    detector, given = small()
    given = np.repeat(given[:1], 4, 0)
    quantizer = runtime.offered(runtime.targets()[to], "INT8")(
        detector, Card(detector.spec), given, crop="inside", decode="own"
    )
    made = quantizer.write_alone("head.linear", new(tmp_path / "alone"))
    with torch.no_grad():
        inputs = detector.backbone((torch.from_numpy(given).permute(0, 3, 1, 2) - detector.mean) / detector.std)[0]
        inputs = inputs.mean((-2, -1)).numpy()[0]
    weight = detector.head.get_submodule("linear").weight.detach().numpy()  # type: ignore[union-attr]
    weight_step, input_step = np.abs(weight).max(1) / 127, inputs.max() / 127
    bound = 20 * (np.abs(inputs).sum() * weight_step + (np.abs(weight).sum(1) + 6 * weight_step) * input_step) / 2
    if to in PHONES:  # what such a layer gives is rounded, too, to 255 steps that have one for 0
        outputs = detector.predict(torch.from_numpy(given[:1])).numpy().xy / 20
        bound = bound + 20 * (max(outputs.max(), 0) - min(outputs.min(), 0)) / 255
    off = np.abs(answers(made, given) - detector.predict(torch.from_numpy(given)).numpy().xy).reshape(4, 4)
    assert (off <= bound + 1e-4).all()
    assert (off.max(1) > 1e-4).all()


def rounded_outside(file: Path, to: str) -> list[str]:
    """Operators of normalisation, crop and decode that see something rounded. A program of ExecuTorch does not tell."""
    if to == "executorch":
        return []
    if to == "onnx":
        graph = onnx.load(file).graph
        rounded = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
        assert rounded
        return [node.name for node in graph.node if rounded & set(node.input) and layers.module_of(node.name) is None]
    if to == "litert":
        return rounded_in_litert(file)
    import openvino

    ends = [
        target.get_node().friendly_name
        for operator in openvino.Core().read_model(file).get_ops()
        if operator.get_type_name() == "FakeQuantize"
        for target in operator.output(0).get_target_inputs()
    ]
    assert ends
    return [name for name in ends if layers.module_of(name) is None]


def rounded_in_litert(file: Path) -> list[str]:
    """The same of LiteRT's; what rounds, and what undoes it, is for those on its other side."""
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-not-found]
    from ai_edge_litert.tools import flatbuffer_utils  # type: ignore[import-not-found]

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(file.read_bytes()))
    codes = [code.builtinCode for code in model.operatorCodes]
    between = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
    ends = [
        graph.tensors[operator.outputs[0]].name.decode()
        for graph in model.subgraphs
        for operator in graph.operators
        if codes[operator.opcodeIndex] not in between
        and any(i >= 0 and graph.tensors[i].type == schema.TensorType.INT8 for i in operator.inputs)
    ]
    assert ends
    return [name for name in ends if layers.module_of(name) is None]


# ---------------------------------------------------------------------------------------------------- decisions


class Judged:
    """A trial whose files have the figures that a test gives them: (precision, kept groups) -> drop, speed."""

    def __init__(self, figures: dict[tuple[str, int], tuple[float, float]], others: tuple[str, ...] = ()) -> None:
        self.figures, self.log = figures, []
        self.quantizer = SimpleNamespace(runtime="made up", groups=dict.fromkeys("abcdef", ()), others=others)
        self.crops = self.val = range(3)
        self.plain = self.tried("fp32")

    def tried(self, precision: str, kept: tuple[str, ...] = ()) -> Tried:
        self.log.append((precision, kept))
        drop, _ = self.figures.get((precision, len(kept)), (0.0, 1.0))
        made = Made(Path(f"{precision}{len(kept)}"), ExportCard(Card(SPEC), "made up", ("xy", "score")))
        return Tried(made, Candidate(precision, kept, 0.1 * (1 + drop), drop, None, None, 1))  # type: ignore[arg-type]

    def timed(self, other: Tried) -> Tried:
        _, speed = self.figures[other.about.precision, len(other.about.kept)]
        return Tried(other.made, replace(other.about, speedup=speed))

    def sensitivity(self) -> tuple[Sensitivity, ...]:
        self.log.append("sensitivity")
        return tuple(Sensitivity(group, 1, px) for group, px in zip("cabfed", (6, 5, 4, 3, 2, 1), strict=True))


@pytest.mark.parametrize(
    ("figures", "others", "file", "words"),
    [
        (
            {("int8", 0): (0.004, 2.5)},
            (),
            "int80",
            r"^int8 is 2.50 times as fast as fp32, NME 0.10040 \(\+0.40%\), all",
        ),
        ({("int8", 0): (-0.1, 1.06)}, (), "int80", "allowed 1.00%$"),
        (
            {("int8", 0): (0.0, 0.92)},
            (),
            "fp320",
            r"^int8 refused: 0.92 times as fast as fp32, wanted 1.05; fp32 kept$",
        ),
        ({("int8", 0): (0.5, 0.92)}, (), "fp320", "refused: 0.92 times"),
        ({("int8", 0): (0.05, 3), ("int8", 1): (0.02, 2), ("int8", 2): (0.01, 1.8)}, (), "int82", "stays in c, a$"),
        (
            {("int8", 0): (0.05, 3), ("int8", 1): (0.01, 1.01)},
            (),
            "fp320",
            r"1.01 times as fast as fp32 with 1 of 6 groups",
        ),
        (
            {("int8", kept): (0.05, 3) for kept in (0, 1, 2, 4)},
            (),
            "fp320",
            r"NME rises by 5.00% with 4 of 6 .*, allowed 1.00%",
        ),
        (
            {("int8", 0): (0.0, 0.9), ("bf16", 0): (0.001, 1.4)},
            ("bf16",),
            "bf160",
            "^int8 refused: .*; taken instead: bf16 is 1.40",
        ),
        ({("int8", 0): (0.0, 0.9), ("bf16", 0): (0.02, 1.4)}, ("bf16",), "fp320", "fp32 kept$"),
        ({("int8", 0): (0.0, 0.9), ("bf16", 0): (0.0, 1.0)}, ("bf16",), "fp320", "fp32 kept$"),
    ],
)
def test_what_is_taken_and_why(figures: Any, others: Any, file: str, words: str) -> None:
    made, verdict = decide.decide(Judged(figures, others), "data", 0.01)  # type: ignore[arg-type]
    assert str(made.file) == file
    assert f"{verdict.precision}{len(verdict.candidates[-1].kept) if verdict.accepted else 0}" == file
    assert verdict.accepted == (verdict.precision == "int8")
    assert "\n" not in verdict.reason
    assert re.search(words, verdict.reason), verdict.reason


def test_what_is_not_faster_anyway_is_not_looked_into() -> None:
    trial = Judged({("int8", 0): (0.5, 0.9)})
    _, verdict = decide.decide(trial, "data", 0.01)  # type: ignore[arg-type]
    assert trial.log == [("fp32", ()), ("int8", ())]
    assert verdict.sensitivity == ()


# --------------------------------------------------------------------------------------------------- altogether


def test_a_model_with_its_verdict(blob_model: Path, blobs: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    detector, card = detectors.load(blob_model)
    with heard() as lines:
        made, verdict = decide.export(detector, card, "openvino", tmp_path, data=blobs, max_drop=0.5)
    assert made.file == tmp_path / "model.xml"
    assert {"model.xml", "model.bin", "model.int8.json"} == {path.name for path in tmp_path.iterdir()}
    assert lines[-2].startswith(f"int8 is judged on 16 instances of {blobs}: ")
    assert lines[-1] == verdict.reason
    run = runtime.load(made.file)
    assert run.network.export.precision == verdict.precision == made.card.precision  # type: ignore[attr-defined]
    written = json.loads((tmp_path / "model.int8.json").read_text())
    assert written["reason"] == verdict.reason
    assert verdict.scored == 16
    assert verdict.calibration_crops == 48
    fp32, int8 = verdict.candidates[:2]
    assert (fp32.precision, fp32.drop, int8.precision) == ("fp32", 0.0, "int8")
    assert int8.bytes < fp32.bytes
    assert int8.speedup is not None
    val, _ = annotations.load(blobs, "val")
    chosen = next(each for each in verdict.candidates if each.precision == verdict.precision)
    assert evaluate.evaluate_network(runtime.load(made.file).network, val).metrics.nme == pytest.approx(
        chosen.nme, rel=1e-4
    )


def test_wrong_input_is_said_in_a_line(
    blob_model: Path, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, card = detectors.load(blob_model)
    for wrong in (-0.1, float("nan")):
        with pytest.raises(UserError, match=r"--max-drop .*expected a share of NME"):
            decide.export(detector, card, "openvino", tmp_path, data=blobs, max_drop=wrong)
    with pytest.raises(UserError, match=r"int8 is made for onnx, .*openvino"):
        decide.export(detector, card, "coreml", tmp_path, data=blobs, max_drop=0.1)
    with pytest.raises(UserError, match="no such file or folder"):
        decide.export(detector, card, "onnx", tmp_path, data=tmp_path / "no", max_drop=0.1)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(UserError, match=r"pip install 'fiducial\[openvino\]'"):
        decide.export(detector, card, "openvino", tmp_path, data=blobs, max_drop=0.1)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_in_ncnn_rounds_a_little_and_stays_what_it_is(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    from fiducial.exporting.int8.ncnn_half import NcnnHalf

    torch.manual_seed(0)
    spec = DetectorSpec("mobilenetv3_small_100", "deeppose", {}, Size(64, 64), Skeleton("two", ("a", "b")))
    detector = detectors.build(spec).eval()
    given = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    quantizer = NcnnHalf(detector, Card(detector.spec), given)
    assert quantizer.groups == {}, "no layer is tried in int8"
    assert "bf16" in quantizer.others
    expected = detector.predict(torch.from_numpy(given)).numpy().xy
    off = {}
    for precision in ("fp32", "bf16"):
        made = quantizer.write(precision, new(tmp_path / precision))
        assert runtime.load(made.file, threads=1).network.export.precision == made.card.precision == precision  # type: ignore[attr-defined]
        off[precision] = np.abs(answers(made, given) - expected).max()
    assert off["fp32"] < 1e-3 < off["bf16"] < 2, off
