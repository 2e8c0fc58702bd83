"""Networks of other projects: points where the image has them, and one line for whatever is wrong."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from runtime import foreign_files as made

from fiducial.errors import UserError
from fiducial.runtime import runtime
from fiducial.runtime.foreign import network_card

XY = np.array([[40.0, 30.0], [62.5, 41.25], [51.0, 55.0]])
BOX = np.array([[25.5, 15.5, 52.0, 52.0]])  # of edges: shares of px, so that nothing falls on the crop's own grid


def found(path):
    return runtime.opened(path)(made.blobs(XY), BOX)


@pytest.mark.parametrize(
    ("frame", "scale", "offset"),
    [("px", 1, 0), ("edge", 1, 0.5), ("unit", 1 / made.SIDE, 0.5 / made.SIDE), ("corner", 2 / (made.SIDE - 1), -1)],
)
def test_numbers_in_each_frame_are_the_points_of_the_image(tmp_path, frame, scale, offset):
    file = made.centroids(tmp_path / "net.onnx", scale, offset)
    made.write_card(file, points={"frame": frame}, padding=1.2)
    points = found(file)
    assert points.skeleton.points == ("red", "green", "blue")
    np.testing.assert_allclose(points.xy[0], XY, atol=0.06)
    np.testing.assert_array_equal(points.score, 1)


def test_columns_and_colours_are_as_the_card_says(tmp_path):
    file = made.centroids(tmp_path / "net.onnx")
    made.write_card(file, points={"columns": "yx"}, names=["blue", "green", "red"])
    side = BOX[0, 2] * 1.25 / made.SIDE
    swapped = (found(file).xy[0] - BOX[0, :2] - BOX[0, 2:] / 2)[:, ::-1] + BOX[0, :2] + BOX[0, 2:] / 2
    np.testing.assert_allclose(swapped, XY, atol=side)
    made.write_card(file, input={"size": [made.SIDE] * 2, "colours": "bgr"}, names=["blue", "green", "red"])
    np.testing.assert_allclose(found(file)["red"][0], XY[0], atol=0.06)


@pytest.mark.parametrize(
    "points",
    [
        {"kind": "heatmaps", "output": "maps"},
        {"kind": "simcc", "output": "bins_x", "output_y": "bins_y"},
    ],
)
def test_maps_and_bins_are_decoded(tmp_path, points):
    file = made.colours_as_maps(tmp_path / "net.onnx")
    made.write_card(file, points=points, padding=1.0)
    cell = BOX[0, 2] / made.SIDE
    answer = found(file)
    np.testing.assert_allclose(answer.xy[0], XY, atol=0.51 * cell)
    assert (answer.score > 0.8).all()


def test_a_tflite_file_alone_and_in_a_bundle(tmp_path):
    pytest.importorskip("openvino")
    file = made.tflite(tmp_path / "net.tflite")
    card = made.write_card(file, points={"kind": "heatmaps", "layout": "nhwc"}, padding=1.0)
    alone = found(file)
    np.testing.assert_allclose(alone.xy[0], XY, atol=0.51 * BOX[0, 2] / made.SIDE)
    with zipfile.ZipFile(tmp_path / "bundle.task", "w") as bundle:
        bundle.write(file, "inner/network.tflite")
    card.rename(tmp_path / "bundle.card.json")
    np.testing.assert_array_equal(found(tmp_path / "bundle.task").xy, alone.xy)


def test_bundled_cards_are_sound_and_told_apart():
    cards = network_card.bundled()
    assert {card.name for card in cards} >= {
        "mediapipe_face468",
        "mediapipe_hand",
        "mediapipe_pose",
        "movenet_lightning",
    }
    for card in cards:
        assert len(card.skeleton(card.count).points) == card.count
        tensor = network_card.Tensor
        shape = (1, card.count * len(card.points.columns))
        names = [card.points.output or "out", *([card.presence.output] if card.presence else [])]
        outputs = [tensor(names[0], shape, "float32"), *(tensor(name, (1, 1), "float32") for name in names[1:])]
        signature = network_card.Signature((tensor("in", (1, *card.input.shape), "float32"),), tuple(outputs))
        assert [other.name for other in cards if other.fits(signature)] == [card.name]


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "Write net.card.json beside it"),
        ({"names": ["red", "green"]}, "the card names 2 points, and the network gives 3"),
        (
            {"input": {"size": [64, 64]}},
            "takes crop [1, 32, 32, 3] float32, and its card (net.card.json) says nhwc of 64x64",
        ),
        ({"points": {"output": "landmarks"}}, "has no output 'landmarks'; it has points"),
        ({"points": {"columns": "xyzv"}}, "points.columns=xyzv: expected letters x and y"),
        ({"points": {"columns": "xy.s."}}, "output points has 6 numbers a crop, expected 5 a point"),
        ({"points": {"frames": "px"}}, "points.frames: unknown. Did you mean 'frame'?"),
        ({"presence": {"output": "points"}}, "output points has 6 numbers a crop, expected one"),
        ({"named": {"nose": 7}}, "named.nose=7: expected the number of a point, 0 to 2"),
        ({"padding": 0}, "net.card.json: padding=0"),
        ({"input": {"size": [100000, 100000]}}, "net.card.json: input.size=100000x100000: expected sides of 1 to"),
    ],
)
def test_wrong_cards_are_told_in_a_line(tmp_path, card, said):
    file = made.centroids(tmp_path / "net.onnx")
    if card is not None:
        made.write_card(file, **card)
    with pytest.raises(UserError) as raised:
        runtime.opened(file)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("ending", "data"),
    [
        (".onnx", b""),
        (".tflite", b""),
        (".tflite", b"\x18\x00\x00\x00TFL3" + b"\xff" * 200),
        (".task", b"PK\x03\x04" + b"\0" * 60),
    ],
)
def test_broken_files_are_told_in_a_line(tmp_path, ending, data):
    pytest.importorskip("openvino")
    file = tmp_path / f"net{ending}"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"net\.") as raised:
        runtime.load(file)
    assert "\n" not in str(raised.value)


STRANGE = {
    "an empty file": (b"", "empty file, not an? .* network; download or copy it again"),
    "a pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 114\n",
        "a Git LFS pointer in place of .*git lfs pull",
    ),
    "a page": (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page, not an? "),
    "a zip file": (b"PK\x03\x04" + bytes(60), "a zip file, not an? .* network; unpack it"),
    "a picture": (b"\xff\xd8\xff\xe0" + bytes(60), "a picture, not an? "),
    "text": ("Modell für Gesichter\n".encode(), "a text file, not an? "),
}


@pytest.mark.parametrize("ending", [".onnx", ".tflite"])
@pytest.mark.parametrize("kind", STRANGE)
def test_files_that_are_no_networks_are_told_by_what_they_are(tmp_path, ending, kind):
    if ending == ".tflite":
        pytest.importorskip("openvino")
    content, said = STRANGE[kind]
    (tmp_path / f"net{ending}").write_bytes(content)
    with pytest.raises(UserError, match=rf"net\{ending}: {said}") as raised:
        runtime.opened(tmp_path / f"net{ending}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", [".onnx", ".xml", ".pte"])
def test_a_folder_in_a_files_place_is_told(tmp_path, ending):
    (tmp_path / f"net{ending}").mkdir()
    for look in (runtime.load, runtime.is_exported):
        with pytest.raises(UserError, match=rf"net\{ending}: is a folder, expected a file"):
            look(tmp_path / f"net{ending}")


def test_a_file_that_wants_all_memory_is_refused_in_a_process_of_its_own(tmp_path):
    made.write_card(made.glutton(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match=r"net\.onnx: needs more than \d+ MB"):
        runtime.load(tmp_path / "net.onnx")


def test_a_bundle_that_unpacks_to_too_much(tmp_path, monkeypatch):
    from fiducial.runtime.runtimes import tflite_runtime

    monkeypatch.setattr(tflite_runtime, "MOST_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "net.task", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("net.tflite", bytes(2 << 20))
    with pytest.raises(UserError, match="more than 1 MB"):
        tflite_runtime.load(tmp_path / "net.task")


def test_without_the_reader_the_line_says_what_to_install(tmp_path, monkeypatch):
    import sys

    from fiducial.runtime.runtimes import tflite_runtime

    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "net.tflite").write_bytes(b"TFL3")
    with pytest.raises(UserError, match=r"pip install 'fiducial\[openvino\]'"):
        tflite_runtime.load(tmp_path / "net.tflite")


def test_a_card_is_plain_json_to_a_size(tmp_path):
    path = tmp_path / "net.card.json"
    path.write_text(json.dumps({"name": "x"}))
    with pytest.raises(UserError, match="input: missing"):
        network_card.read(path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["profile", "net.onnx"], "is another project's network, whose layers are not profiled"),
        (["export", "net.onnx", "--to", "openvino", "--out", "shipped"], "is exported already, or another project's"),
    ],
)
def test_commands_that_need_a_run_say_so(tmp_path, monkeypatch, run, words, said):
    made.write_card(made.centroids(tmp_path / "net.onnx"))
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run(*words)
    assert (code, said in stderr) == (2, True)
