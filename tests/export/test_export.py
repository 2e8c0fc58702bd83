"""`fiducial export`: the certificate is right about right and wrong files, and a file that is wrong is not written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fiducial import cli, config
from fiducial.errors import UserError
from fiducial.exporting import certificate, export, onnx_export
from fiducial.exporting.certificate import Certificate
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.types import Skeleton


@pytest.fixture(scope="module")
def exported(blob_model: Path, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate]:
    folder = tmp_path_factory.mktemp("exported")
    return export.export_model(blob_model, "onnx", folder / "out", data=blobs)


def test_a_certificate_of_a_right_file(exported: tuple[Path, Certificate]) -> None:
    file, proof = exported
    assert file.name == "model.onnx"
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.certificate.json", "model.onnx"]
    assert proof.max_px is not None
    assert proof.max_px < 0.05
    assert proof.without_torch
    assert {"real", "huge picture", "box half outside", "turned by EXIF", "picture of 1 px"} <= {
        c.case for c in proof.cases
    }
    assert proof.metric is not None
    assert abs(proof.metric["difference"]) < 1e-5
    written = json.loads((file.parent / "model.certificate.json").read_text())
    assert written["max_px"] == proof.max_px
    assert [path.name for path in file.parent.parent.iterdir()] == ["out"], "nothing is left beside it"


def test_the_limit_grows_where_a_px_of_the_crop_covers_many(exported: tuple[Path, Certificate]) -> None:
    """Float32 that is right to a thousandth of a px of the crop can't be nearer than that in a picture that fills it."""
    limits = {case.case: case.limit_px for case in exported[1].cases}
    long = limits.pop("long picture")
    assert long == pytest.approx(1e-3 * 20_000 / 64, rel=0.3)  # the crop of this model is 64 px wide
    assert long > 0.05
    assert limits["huge picture"] == pytest.approx(max(0.05, 1e-3 * 4000 / 64), rel=0.3)
    assert {limits[name] for name in ("real", "small picture", "grey")} == {0.05}


def test_a_file_whose_points_are_off_is_not_written(
    blob_model: Path, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph that is written has its head's bias moved, by about a third of a px of the crop."""
    own = onnx_export.model_of

    def off(*arguments, **options):
        model = own(*arguments, **options)
        bias = next(
            each
            for each in model.graph.initializer
            if each.name.endswith("linear.linear.bias") or (each.name.startswith("network/") and list(each.dims) == [6])
        )
        moved = numpy_helper.to_array(bias) + 0.005
        bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias.name))
        return model

    monkeypatch.setattr(onnx_export, "model_of", off)
    with pytest.raises(UserError, match=r"px from torch's .*Nothing was written"):
        export.export_model(blob_model, "onnx", tmp_path / "out", data=blobs)
    assert list(tmp_path.iterdir()) == []


def test_drawn_faces_stand_in_where_there_are_no_data(blob_model: Path, tmp_path: Path) -> None:
    _, proof = export.export_model(blob_model, "onnx", tmp_path / "out")
    assert proof.data == "drawn faces"
    assert proof.metric is None


def test_outside_takes_crops_and_has_no_loops(blob_model: Path, tmp_path: Path) -> None:
    detector, card = detectors.load(blob_model)
    made = onnx_export.write(detector, card, tmp_path, crop="outside", decode="matmul")
    graph = onnx.load(made.file).graph
    assert [each.name for each in graph.input] == ["crops"]
    assert not {node.op_type for node in graph.node} & onnx_export.NOT_DELEGATED
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    expected = runtime.load(blob_model)(picture, np.array([[5, 5, 40, 40]]))
    found = runtime.load(made.file)(picture, np.array([[5, 5, 40, 40]]))
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "onx"], "no such target. Did you mean 'onnx'"),
        (["--crop", "within"], "expected inside or outside"),
        (["--decode", "fast"], "expected own or matmul"),
    ],
)
def test_wrong_options(
    options: list[str],
    words: str,
    blob_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["fiducial", "export", str(blob_model), "--out", str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_written_or_is_exported_already(blob_model: Path, blob_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        export.export_model(blob_model, "onnx", tmp_path / "file")
    with pytest.raises(UserError, match="can't be written"):
        export.export_model(blob_model, "onnx", tmp_path / "file" / "out")
    with pytest.raises(UserError, match="is exported already"):
        export.export_model(blob_onnx, "onnx", tmp_path / "out")


def test_data_without_labels_of_the_points_are_not_taken_for_the_certificate(blobs: Path, tmp_path: Path) -> None:
    """As of a student whose labelled crops were of other points than its teacher's."""
    named, found = Skeleton("own", ("left", "right")), Skeleton("motion2", ("point_0", "point_1"), named=False)
    for metrics, skeleton, expected in (({"nme": 0.1}, named, blobs), ({}, named, None), ({}, found, blobs)):
        config.write_json(tmp_path / "metrics.json", {"data": str(blobs), "metrics": metrics})
        assert export.scored_on(tmp_path, skeleton) == expected


def test_the_table_has_every_case(exported: tuple[Path, Certificate]) -> None:
    _, proof = exported
    assert len(certificate.table(proof)) == len(proof.cases) == 15
    assert any("NME of" in line for line in certificate.lines(proof))
