"""Where the time goes: counts by hand, sums that must hold, tables by name, and what is refused. No test asserts a time; those
that need one make it up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fiducial.cli import app
from fiducial.errors import UserError
from fiducial.exporting import node_names
from fiducial.models import detector as detectors
from fiducial.profiling import advice, counting, grouping, icicle, machine, page, timing, workflow
from fiducial.profiling import torch_modules as hooks
from fiducial.profiling.parts import Layer, Machine, Profile
from fiducial.runtime import cost

MACHINE = Machine("made up", 1, gflops=100.0, stream_gb_per_s=10.0)


def layer(path: str, kind: str = "Conv2d", ms: float = 1.0, **about: object) -> Layer:
    return replace(Layer(path, path, kind, ms), **about)


def profile_of(*layers: Layer, rest_ms: float = 0.0, runtime: str = "torch") -> Profile:
    whole = sum(each.ms for each in layers) + rest_ms
    return Profile("model", runtime, 1, "24x16", "fp32", whole, layers, MACHINE, "a clock that was made up")


# ------------------------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(6, 10, (3, 5), stride=2, bias=False), "Conv"),
        (nn.Conv2d(6, 12, 3, groups=3, bias=False), "Conv"),
        (nn.ConvTranspose2d(6, 10, 4, stride=2, bias=False), "ConvTranspose"),
        (nn.ConvTranspose2d(6, 12, 4, stride=2, groups=2, bias=False), "ConvTranspose"),
    ],
)
def test_multiply_adds_of_convolutions_as_torch_counts_them(module: nn.Module, kind: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    given = torch.zeros(1, 6, 11, 13)
    with torch.no_grad(), counter:
        output = tuple(module(given).shape)
    shapes = [tuple(given.shape), tuple(module.weight.shape)]  # type: ignore[arg-type]
    assert counting.macs_of(kind, shapes, output) == counter.get_total_flops() // 2 > 0


def test_multiply_adds_by_hand() -> None:
    assert counting.macs_of("MatMul", [(1, 7, 5), (5, 3)], (1, 7, 3)) == 7 * 5 * 3
    # OpenVINO keeps the groups of a weight apart: [groups, outputs, inputs, h, w].
    assert counting.macs_of("GroupConvolution", [(1, 6, 9, 9), (3, 4, 2, 3, 3)], (1, 12, 7, 7)) == 12 * 49 * 2 * 9
    assert counting.macs_of("Add", [(1, 6, 9, 9), (1, 6, 9, 9)], (1, 6, 9, 9)) == 0
    assert counting.macs_of("Conv", [(1, 6, 9, 9)], ()) == 0  # its weight is not known


def test_a_floor_by_hand() -> None:
    assert MACHINE.floor_ms(50_000_000) == pytest.approx(1.0)  # 1e8 operations at 1e11 a second


# ------------------------------------------------------------------------------------------------------ torch hooks


def test_a_tracer_gives_each_part_its_own() -> None:
    """a from 0 to 20; inside of it b from 1 to 4, in which c from 2 to 3, and b again from 7 to 12."""
    ticks = iter([0, 1, 2, 3, 4, 7, 12, 20])
    tracer = hooks.Tracer(lambda: float(next(ticks)))
    for step in ("+a", "+b", "+c", "-c", "-b", "+b", "-b", "-a"):
        (tracer.enter if step[0] == "+" else tracer.leave)(step[1])
    assert tracer.own == {"a": 20 - 3 - 5, "b": 3 - 1 + 5, "c": 1}
    assert (tracer.calls["b"], tracer.calls_inside["a"], tracer.calls_inside["b"]) == (2, 2, 1)


def test_counts_of_a_detector(blob_model: Path) -> None:
    detector, _ = detectors.load(blob_model)
    found = hooks.measure(detector, threads=1, seconds=0.1)
    static = cost.static_cost(detector)
    by_path = {each.path: each for each in found.layers}
    assert sum(each.parameters for each in found.layers) == static.parameters
    assert sum(each.macs for each in found.layers if each.path != "decode") == static.macs
    assert by_path["normalisation"].input == (1, 48, 64, 3)
    assert by_path["normalisation"].output == (1, 3, 48, 64)
    stem = by_path["backbone.encoder.network.conv_stem"]
    assert (stem.kind, stem.input, stem.weight) == ("Conv2d", (1, 3, 48, 64), (24, 3, 3, 3))
    assert stem.output == (1, 24, 24, 32)
    assert stem.macs == 24 * 24 * 32 * 9 * 3
    assert stem.output_bytes == 4 * 24 * 24 * 32
    assert "decode" in by_path


def test_measuring_leaves_the_detector_as_it_was(blob_model: Path) -> None:
    detector, _ = detectors.load(blob_model)
    threads = torch.get_num_threads()
    hooks.measure(detector, threads=1, seconds=0.0)
    assert torch.get_num_threads() == threads
    assert "decode" not in vars(detector.head)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in detector.modules())


def test_what_is_changed_in_place_is_no_new_memory() -> None:
    recorder = hooks.Recorder()
    value = torch.zeros(1, 4, 5)
    recorder.see("relu", (value,), value.relu_())
    recorder.see("view", (value,), value.flatten(1))
    recorder.see("sum", (value, value), value + value)
    assert [recorder.shapes[name].bytes for name in ("relu", "view", "sum")] == [0, 0, 80]
    assert recorder.shapes["view"].output == (1, 20)


# ---------------------------------------------------------------------------------------------------------- timing


def test_what_instruments_take_is_taken_off() -> None:
    """Three parts of 10, 4 and 1, each 2 slower for the instruments, which took 1 when measured alone."""
    corrected, factor = timing.without_instruments([12, 6, 3], [1, 1, 1], whole=15)
    assert corrected == pytest.approx([10, 4, 1], abs=1e-3)
    assert factor == pytest.approx(2, abs=1e-3)


def test_no_more_than_so_much_is_taken_off_and_no_less_than_was_measured() -> None:
    assert timing.without_instruments([100.0], [1.0], whole=10)[0] == pytest.approx([100 - timing.MOST], abs=1e-3)
    assert timing.without_instruments([10.0, 0.5], [1.0, 1.0], whole=100)[0] == [9.0, 0.0]


def test_a_midmean_minds_no_outlier() -> None:
    assert timing.midmean([3, 1, 2, 1000]) == 2.5
    assert timing.midmean([7.0]) == 7


# ------------------------------------------------------------------------------------------------------- grouping

PATHS = (
    "normalisation",
    "backbone",
    "backbone.net",
    "backbone.net.stem",
    "backbone.net.blocks.0.0",
    "backbone.net.blocks.0.0.se.conv",
    "backbone.net.blocks.1.0.conv",
    "head.up.0",
    "head.up.1",
    "head.final",
    "decode",
)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (
            "module",
            [
                "normalisation",
                "backbone.net",
                "backbone.net.stem",
                "backbone.net.blocks",
                "head.up",
                "head.final",
                "decode",
            ],
        ),
        # A numbered part without parts is a layer, and no block: head.up.0.
        (
            "block",
            [
                "normalisation",
                "backbone.net",
                "backbone.net.stem",
                "backbone.net.blocks.0.0",
                "backbone.net.blocks.1.0",
                "head.up",
                "head.final",
                "decode",
            ],
        ),
        ("layer", list(PATHS)),
        ("type", ["Conv2d"]),
    ],
)
def test_tables(by: str, names: list[str]) -> None:
    profile = profile_of(*(layer(path, macs=1000) for path in PATHS), rest_ms=0.5)
    rows = grouping.rows(profile, by)
    assert [row.name for row in rows] == [*names, grouping.REST]
    assert sum(row.ms for row in rows) == pytest.approx(profile.whole_ms)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert sum(row.macs for row in rows) == profile.macs == 11_000
    assert sum(row.layers for row in rows) == 11


def test_a_row_by_hand() -> None:
    first = layer(
        "head.up.0", ms=1.5, input=(1, 8, 4, 4), output=(1, 6, 4, 4), macs=50_000_000, parameters=7, output_bytes=10
    )
    second = layer("head.up.1", "ReLU", 0.5, input=(1, 6, 4, 4), output=(1, 6, 4, 4), output_bytes=20)
    row = grouping.rows(profile_of(first, second, layer("head.final", ms=2.0)), "module")[0]
    assert (row.name, row.layers, row.input, row.output) == ("head.up", 2, (1, 8, 4, 4), (1, 6, 4, 4))
    assert (row.parameters, row.macs, row.ms, row.share, row.output_bytes) == (7, 50_000_000, 2.0, 0.5, 30)
    assert (row.floor_ms, row.of_peak) == (pytest.approx(1.0), pytest.approx(0.5))


def test_types_come_slowest_first() -> None:
    rows = grouping.rows(profile_of(layer("a", "ReLU", 1), layer("b", "Conv2d", 2), layer("c", "ReLU", 3)), "type")
    assert [(row.name, row.ms) for row in rows[:2]] == [("ReLU", 4), ("Conv2d", 2)]


def test_a_table_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"--by 'blocks': no such table. Did you mean 'block'\?"):
        grouping.check("blocks")


def test_layers_without_modules_are_shown_by_layer() -> None:
    profile = profile_of(Layer("", "conv_0", "Convolution", 1.0, macs=10), runtime="ncnn")
    assert grouping.rows(profile)[0].name == "conv_0"
    with pytest.raises(UserError, match="--by block: the layers of ncnn don't say their modules"):
        grouping.rows(profile, "block")


# --------------------------------------------------------------------------------------------------------- advice


def test_dense_convolutions_are_named_with_what_separable_ones_need() -> None:
    conv = layer("down.4", "Conv", 6, macs=9 * 64 * 128 * 4, weight=(128, 64, 3, 3))
    (line,) = advice.advice(profile_of(conv, layer("relu", "ReLU", 4), runtime="onnxruntime"))
    # 9 x 64 x 128 a pixel against 9 x 64 + 64 x 128: 64 channels in are the fewer, so that 9 x 64 / (9 + 64).
    assert line == (
        "60% of the time is in one 3x3 convolution (down.4): depthwise-separable ones would need 7.9 times fewer "
        "multiply-adds there"
    )


@pytest.mark.parametrize("weight", [(64, 1, 3, 3), (64, 64, 1, 1), (64, 64)])
def test_convolutions_that_are_small_already_are_left_alone(weight: tuple[int, ...]) -> None:
    conv = layer("conv", ms=6, macs=1000, weight=weight)
    (line,) = advice.advice(profile_of(conv, layer("relu", "ReLU", 4), runtime="ncnn"))
    assert "separable" not in line
    assert "no part stands out: the slowest, conv, takes 60%" in line


def test_torch_far_from_the_peak_wants_another_runtime() -> None:
    small = profile_of(*(layer(str(i), "ReLU", 0.02) for i in range(50)))
    assert advice.wants_another_runtime(small)
    assert not advice.wants_another_runtime(replace(small, runtime="openvino"))
    assert not advice.wants_another_runtime(profile_of(layer("conv", ms=3.0, macs=100_000_000)))
    line = advice.advice(replace(small, elsewhere_ms=(("ONNX Runtime", 0.25),)))[0]
    assert line == (
        "torch takes 1.00 ms, 100% of it in 50 modules of less than 0.1 ms each, most of that the calling, at 0% of the peak: "
        "use ONNX Runtime, where it takes 0.25 ms"
    )
    large = profile_of(layer("conv", ms=4.0, macs=100_000_000))
    assert advice.advice(large)[0].startswith("torch takes 4.00 ms, at 50% of the peak: other runtimes")


def test_a_slow_decode_and_a_whole_near_the_peak() -> None:
    lines = advice.advice(
        profile_of(layer("conv", ms=8, macs=400_000_000), layer("decode", "decode", 2), runtime="ncnn")
    )
    assert "20% of the time is the decode" in lines[0]
    assert "the whole reaches 80% of this machine's fp32 peak of 100 GFLOP/s" in lines[1]


# ------------------------------------------------------------------------------------------------ machine, tiny ONNX


CONVOLUTION = """<ir_version: 9, opset_import: ["" : 17]>
convolution (float[1, 128, 64, 64] x) => (float[1, 128, 64, 64] y) {
  shape = Constant <value_ints = [128, 128, 3, 3]> ()
  weight = ConstantOfShape <value = float[1] {0.01}> (shape)
  y = Conv <pads = [1, 1, 1, 1]> (x, weight)
}"""
LINKS = ["x", *(f"v{i}" for i in range(machine.LINKS - 1)), "y"]
CHAIN = "\n".join(
    [
        '<ir_version: 9, opset_import: ["" : 17]>',
        "chain (float[1] x) => (float[1] y) {",
        *(f"[add{i}] {LINKS[i + 1]} = Add({LINKS[i]}, x)" for i in range(machine.LINKS)),
        "}",
    ]
)


@pytest.mark.parametrize(("file", "text"), [(machine.CONVOLUTION, CONVOLUTION), (machine.CHAIN, CHAIN)])
def test_the_known_loads_are_what_their_text_says(file: str, text: str) -> None:
    """Written anew by `Path(file).write_bytes(onnx.parser.parse_model(text).SerializeToString())`."""
    onnx = pytest.importorskip("onnx")
    assert onnx.load(file) == onnx.parser.parse_model(text)
    onnx.checker.check_model(onnx.load(file), full_check=True)


def test_the_known_loads_compute_what_they_should() -> None:
    x = np.ones((1, machine.CHANNELS, machine.SIDE, machine.SIDE), np.float32)
    (found,) = machine.session(machine.CONVOLUTION, 1).run(None, {"x": x})
    assert found.shape == x.shape
    assert found[0, 0, 2, 2] == pytest.approx(machine.CHANNELS * machine.KERNEL**2 * 0.01)  # inside, and in a corner:
    assert found[0, 2, 0, 0] == pytest.approx(machine.CHANNELS * 4 * 0.01)
    (sum_,) = machine.session(machine.CHAIN, 1).run(None, {"x": np.ones(1, np.float32)})
    assert sum_.tolist() == [machine.LINKS + 1]


def test_a_machine_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.0)
    found = machine.measure()
    assert 0.1 < found.gflops < 1e5
    assert 0.1 < found.stream_gb_per_s < 1e4


# ------------------------------------------------------------------------------------------------ other runtimes


def test_names_of_operators_say_their_modules() -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.parser.parse_graph(
        "g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] out) { a = Sub(x, x) b = Conv(a, w) c = Relu(b) "
        "out = Relu(c) }"
    )
    graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "detector.backbone.conv.weight")
    )
    graph.node[1].input[1] = "detector.backbone.conv.weight"
    scopes = (
        ["", "detector", "sub"],
        ["", "detector", "detector.backbone.bn", "bn"],
        ["", "detector", "detector.backbone.act", "relu"],
        ["", "relu"],
    )
    for node, names in zip(graph.node, scopes, strict=True):
        node.metadata_props.add(key=node_names.SCOPES, value=str(names))
    model = onnx.helper.make_model(graph)
    node_names.by_module(model)
    names = [node.name for node in model.graph.node]
    # The normalisation became part of the convolution, whose weight says who it is.
    assert names == ["normalisation/Sub", "backbone.conv/Conv", "backbone.act/Relu", "decode/Relu"]
    assert list(model.graph.node[2].input) == ["backbone.conv/Conv"]
    assert model.graph.node[3].output[0] == "out"
    assert [
        node_names.path_of(name) for name in ("network/backbone.act/Relu_nchwc", "fused head.final/Conv", "Reorder")
    ] == ["backbone.act", "head.final", ""]


def test_operators_inside_of_a_branch_count_once() -> None:
    from fiducial.profiling import onnxruntime_nodes as nodes

    events = [
        {"ts": ts, "dur": dur, "name": name}
        for name, ts, dur in (("a", 0, 5), ("if", 6, 10), ("in", 7, 3), ("in2", 12, 4), ("b", 16, 2))
    ]
    assert [event["name"] for event in nodes.without_nested(events)] == ["a", "if", "b"]


def check_whole(profile: Profile, static: cost.Cost) -> None:
    """What holds in every runtime: the model's multiply-adds, or up to a third more where channels are padded."""
    network = sum(each.macs for each in profile.layers if each.path != "decode")
    assert static.macs is not None
    assert static.macs <= network < 2 * static.macs
    assert profile.whole_ms > 0
    assert all(each.ms >= 0 for each in profile.layers)
    assert sum(each.ms for each in profile.layers) + profile.rest_ms == pytest.approx(profile.whole_ms)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "ncnn"])
def test_a_run_folder_in_another_runtime(blob_model: Path, name: str) -> None:
    pytest.importorskip(name)
    pytest.importorskip("onnxscript")
    profile = workflow.profile_model(blob_model, name, seconds=0.1)
    assert (profile.runtime, profile.precision, profile.size) == (name, "fp32", "64x48")
    check_whole(profile, cost.static_cost(detectors.load(blob_model)[0]))
    first = grouping.rows(profile)[-2 if name == "ncnn" else 1]
    assert first.name.startswith("decode" if name == "ncnn" else "backbone.encoder.network.")


def test_an_exported_file_in_its_runtime(blob_onnx: Path) -> None:
    profile = workflow.profile_model(blob_onnx, seconds=0.1)
    assert profile.runtime == "onnxruntime"
    assert {"Conv", "If"} <= {each.kind for each in profile.layers}  # the crop's branch, and not what is inside of it
    assert "Expand" not in {each.kind for each in profile.layers if each.path == "crop"}
    with pytest.raises(UserError, match="runs in onnxruntime alone"):
        workflow.profile_model(blob_onnx, "torch")


def test_a_runtime_that_is_not_known(blob_model: Path) -> None:
    with pytest.raises(UserError, match=r"--runtime 'onnx': no such name. Did you mean 'onnxruntime'\?"):
        workflow.profile_model(blob_model, "onnx")


# ------------------------------------------------------------------------------------------------------- outputs


def test_the_picture_holds_every_layer_in_its_height() -> None:
    profile = profile_of(
        *(layer(path, ms=i + 1.0) for i, path in enumerate(PATHS)), Layer("", "Reorder<1>", "Reorder", 2.0)
    )
    svg = icicle.icicle(profile)
    for each in profile.layers:
        assert f": {each.ms:.3f} ms" in svg
    assert "Reorder&lt;1&gt;" not in svg  # a layer alone in its part is that part
    assert svg.count("<rect") == svg.count("<title>") + 2  # two kinds in the legend

    def leaves(part: icicle.Part) -> float:
        return part.ms if not part.inside else sum(map(leaves, part.inside.values()))

    assert leaves(icicle.shortened(icicle.tree(profile.layers))) == pytest.approx(profile.whole_ms)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the processes and exports that other tests have."""
    monkeypatch.setattr(workflow, "_in_onnxruntime", lambda *_: (("ONNX Runtime", 0.5),))
    monkeypatch.setattr(workflow, "memory_bytes", lambda *_: 2**20)


def test_the_command_writes_table_json_and_page(
    blob_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    figures, html = tmp_path / "p.json", tmp_path / "p.html"
    done = CliRunner().invoke(
        app, ["profile", str(blob_model), "--by", "module", "--json", str(figures), "--out", str(html)]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())
    assert {
        "model",
        "runtime",
        "threads",
        "whole_ms",
        "rest_ms",
        "floor_ms",
        "of_peak",
        "machine",
        "advice",
        "rows",
        "layers",
    } <= set(found)
    assert sum(row["ms"] for row in found["rows"]) == pytest.approx(found["whole_ms"])
    assert abs(found["rest_ms"]) < 0.25 * found["whole_ms"]  # 5 % where other programs leave the machine alone
    text = html.read_text().replace("<wbr>", "")
    for row in found["rows"]:
        assert row["name"] in text
        assert row["name"] in done.output
    assert "http" not in text.replace("http-equiv", "")


def test_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    profile = workflow.profile_random("test_efficientnet", "deeppose", "64x32", 5, seconds=0.0)
    assert (profile.size, profile.model) == ("64x32", "deeppose on test_efficientnet, random weights")
    assert profile.layers[-2].output == (1, 5, 2)
    assert page.table(profile, "type")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected `fiducial profile MODEL`"),
        (["RUN", "--size", "64x64"], "MODEL has its own network"),
        (["RUN", "--by", "modul"], r"Did you mean 'module'"),
        (["--backbone", "resnet19", "--method", "heatmap"], "backbone 'resnet19': no such name"),
        (["--method", "heatmaps"], "Did you mean 'heatmap'"),
    ],
)
def test_wrong_input_is_one_line(blob_model: Path, arguments: list[str], message: str) -> None:
    given = [str(blob_model) if each == "RUN" else each for each in arguments]
    done = CliRunner().invoke(app, ["profile", *given])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
