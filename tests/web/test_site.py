"""Pages of `fiducial export --to web`: they answer as torch does in a real browser, load nothing from elsewhere, and what is
damaged or missing is said."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serve.served import encoded
from settled import SPREAD, settled
from web import browsing

from fiducial import config
from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.exporting import certificate, export, ort_web, web_export
from fiducial.geometry import Size
from fiducial.models.detector import Detector
from fiducial.prediction import outputs
from fiducial.runtime import browser, export_card, runtime
from fiducial.runtime.export_card import Made
from fiducial.runtime.runtime import Runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.serve import answers
from fiducial.types import Found, Keypoints, Sight
from fiducial.web import pages

PARTS = {"version": "0.0.0", "script": "</script>", "module": "", "wasm": ""}
BOXES = np.array([[60.5, 40.25, 90, 120], [-30, 100, 100, 90], [200, 10, 30, 30]], np.float32)


def detector() -> Detector:
    return settled("rle", backbone="mobilenetv3_small_050")


def picture() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a usual detector."""
    folder = tmp_path_factory.mktemp("site")
    own = detector()
    with pytest.MonkeyPatch.context() as patch:
        browsing.need_ort(patch)
        return export.write(own, Card(own.spec, "CC0"), "web", folder, crop="inside", decode="own").file


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page without a runtime: of what is not run."""
    monkeypatch.setattr(ort_web, "parts", lambda: (PARTS, PARTS))
    own = settled("deeppose")
    return export.write(own, Card(own.spec), "web", tmp_path, crop="inside", decode="own").file


@pytest.fixture
def none_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "PROGRAMS", ("nobrowser",))
    monkeypatch.setattr(browser, "ELSEWHERE", ())
    monkeypatch.delenv(browser.CHOSEN, raising=False)


def test_a_page_answers_as_torch_does(site: Path) -> None:
    """Crops, boxes in whole pictures, and files that the browser decodes, of a thread and of several."""
    browsing.need_browser()
    run = runtime.load(site, threads=2)
    network: Any = run.network
    expected = Runtime(TorchNetwork(detector(), run.card, site))(picture(), BOXES)
    png = encoded(picture())
    for found in (run(picture(), BOXES), network.full(picture(), BOXES), network.look(png, BOXES)):
        np.testing.assert_allclose(found.xy, expected.xy, atol=0.05)
        np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
        np.testing.assert_allclose(found.sigma, expected.sigma, atol=0.05)
    whole = run(picture())
    np.testing.assert_allclose(network.look(png).xy, whole.xy, atol=0.05)
    assert runtime.version_of(network) == ort_web.VERSION
    with pytest.raises(UserError, match=r"could not be decoded|decode"):
        network.look(b"no picture")
    np.testing.assert_allclose(network.look(png).xy, whole.xy, atol=0.05)  # it goes on
    network.close()


def test_a_browser_decodes_as_the_package_does(site: Path, tmp_path: Path) -> None:
    """JPEGs of odd sizes with thinned colours, grey ones, transparent PNGs, WebP: points by pixels that are equal."""
    browsing.need_browser()
    run = runtime.load(site, threads=1)
    network: Any = run.network
    odd = picture()[:173, :211]
    grey = cv2.cvtColor(odd, cv2.COLOR_RGB2GRAY)
    clear = np.dstack([odd[:, :, ::-1], np.where(np.arange(211) < 100, 255, 0)[None].repeat(173, 0).astype(np.uint8)])
    made = {
        "thinned.jpg": encoded(odd, ".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        "full.jpg": encoded(odd, ".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        "progressive.jpg": encoded(odd, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "grey.jpg": cv2.imencode(".jpg", grey)[1].tobytes(),
        "clear.png": cv2.imencode(".png", clear)[1].tobytes(),
        "lossless.webp": encoded(odd, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
        expected = run.batch([tmp_path / name])[0]
        np.testing.assert_allclose(network.look(data).xy, expected.xy, atol=0.05, err_msg=name)
    network.close()


def test_it_loads_nothing_from_elsewhere(fake: Path) -> None:
    """All that the page names lies beside it; a script inside can't end the page's."""
    text = fake.read_text()
    named = set(re.findall(r"""(?:src=|href=|register\()["']([^"'$\n]+)["']""", text))
    named = {name for name in named if not name.startswith("data:")}
    assert named == {"index.ort.js", "index.model.js", "index.webmanifest", "index.offline.js"}
    assert "`index.${name}.js`" in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert all((fake.parent / name).is_file() for name in (*named, "index.ort.js", "index.gpu.js"))
    assert len(list(fake.parent.iterdir())) == len(runtime.files_of(fake)) == 7
    assert b"</script>" not in (fake.parent / "index.ort.js").read_bytes()
    keeper = (fake.parent / "index.offline.js").read_text()
    assert json.loads(re.search(r"FILES = (\[.*?\])", keeper)[1]) == [  # type: ignore[index]
        "index.gpu.js", "index.html", "index.icon.svg", "index.model.js", "index.ort.js", "index.webmanifest",
    ]  # fmt: skip


def test_a_folder_of_a_page_is_its_model(fake: Path) -> None:
    assert runtime.resolved(fake.parent) == fake
    assert runtime.family_of(fake.parent).NAME == "onnxruntime-web"
    assert runtime.is_exported(fake)


def test_without_a_browser_the_certificate_is_not_run(
    blob_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    none_here: None,
) -> None:
    monkeypatch.setattr(ort_web, "parts", lambda: (PARTS, PARTS))
    file, proof = export.export_model(blob_model, "web", tmp_path / "out")
    assert proof.not_run is not None
    assert (proof.max_px, proof.cases, proof.metric) == (None, (), None)
    assert f"fiducial export {blob_model} --to web" in proof.not_run
    written = json.loads((file.parent / "model.certificate.json").read_text())
    assert written["not_run"] == proof.not_run
    assert "NOT RUN" in certificate.lines(proof)[0]
    with pytest.raises(UserError, match="no Chromium here: install it, or set FIDUCIAL_BROWSER"):
        runtime.load(file)


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_damaged_site_is_refused_in_python(fake: Path, damage: str) -> None:
    part = fake.parent / "index.ort.js"
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-9] if damage == "cut" else b"\xff\xfe")
    with pytest.raises(UserError, match=r"index\.ort\.js"):
        runtime.load(fake)


def test_a_damaged_model_is_said_by_the_page(site: Path, tmp_path: Path) -> None:
    browsing.need_browser()
    broken = shutil.copytree(site.parent, tmp_path / "site")
    model = pages.read_part(broken / "index.model.js", "model")
    middle = len(model["chain"][1]) // 2
    model["chain"][1] = (
        model["chain"][1][:middle]
        + ("A" if model["chain"][1][middle] != "A" else "B")
        + model["chain"][1][middle + 1 :]
    )
    (broken / "index.model.js").write_bytes(pages.part("model", model))
    with pytest.raises(UserError, match=r"can't load its model: index\.model\.js is damaged"):
        runtime.load(broken / "index.html")


def test_an_exported_file_is_packed(
    blob_onnx: Path, blob_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, none_here: None
) -> None:
    monkeypatch.setattr(ort_web, "parts", lambda: (PARTS, PARTS))
    before = blob_onnx.read_bytes()
    _, proof = export.export_model(blob_onnx, "web", tmp_path / "a")
    assert proof.reference == "onnxruntime"
    assert blob_onnx.read_bytes() == before
    export.export_model(blob_model, "web", tmp_path / "b")
    one, other = (pages.read_part(tmp_path / name / "index.model.js", "model") for name in "ab")
    assert one["defaults"] == other["defaults"] == {"crops": {"type": "uint8", "dims": [0, 48, 64, 3], "data": []}}
    with pytest.raises(UserError, match="for run folders"):
        export.export_model(blob_onnx, "web", tmp_path / "c", decode="matmul")
    with pytest.raises(UserError, match="leave --crop outside out"):
        export.export_model(blob_model, "web", tmp_path / "c", crop="outside")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_model_that_is_too_large_is_refused(blob_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_web, "parts", lambda: (PARTS, PARTS))
    card = export_card.ExportCard(Card(detector().spec), "onnxruntime", ("xy", "score"))
    monkeypatch.setattr(web_export, "LARGE_BYTES", 1000)
    made = web_export.packed(Made(blob_onnx, card), tmp_path)
    assert any("on slow networks" in note for note in made.notes)
    monkeypatch.setattr(web_export, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="of which a browser can load"):
        web_export.packed(Made(blob_onnx, card), tmp_path)


def test_npm_that_is_missing_or_fails_is_a_line(
    blob_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ort_web.GIVEN, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fail = tmp_path / "npm"
    fail.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    fail.chmod(0o755)
    for which, words in ((None, "npm is not installed"), (str(fail), "failed: npm error code ENOTFOUND")):
        monkeypatch.setattr(ort_web.shutil, "which", lambda name, which=which: which)
        with pytest.raises(UserError, match=words) as caught:
            ort_web.parts()
        assert "npm pack onnxruntime-web@1.30.0" in str(caught.value)
        assert "FIDUCIAL_ORT_WEB" in str(caught.value)


def test_a_package_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(place: Path, words: str) -> None:
        monkeypatch.setenv(ort_web.GIVEN, str(place))
        with pytest.raises(UserError, match=words):
            ort_web.parts()

    given(tmp_path / "missing.tgz", "is not there")
    given(tmp_path, r"does not hold ort\.wasm\.min\.js")
    (tmp_path / "text.tgz").write_text("no package")
    given(tmp_path / "text.tgz", "can't be read as an npm package")
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name, _ in ort_web.FILES.values():
        (dist / name).write_text("another version's")
    given(tmp_path, "of another version, or altered")
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as package:
        package.add(dist / "ort.wasm.min.js", "package/dist/ort.wasm.min.js")
    given(tmp_path / "other.tgz", "has no ort-wasm|of another version")


def test_its_answers_are_those_of_the_server() -> None:
    """`answer.js` against `serve/answers.py`, and `coco.js` against what `predict` writes."""
    random = np.random.default_rng(5)
    xy, score = random.uniform(-20, 300, (2, 5, 2)), random.uniform(0, 1, (2, 5))
    boxes, sure = np.array([[1.125, 2, 30, 40], [5, 6, 70.5, 80]]), np.array([0.9, 0.4])
    spec = replace(detector().spec, spread=SPREAD)
    sigma, correlation = random.uniform(0.1, 9, (2, 5, 2)), random.uniform(-1, 1, (2, 5))
    points = Keypoints(xy, score, sigma, correlation=correlation, spread=SPREAD)
    found = Found(boxes, sure, np.zeros(2, np.int64))
    columns = {
        name: {"dims": list(value.shape), "data": value.ravel().tolist()}
        for name, value in {
            "xy": xy, "score": score, "sigma": sigma, "correlation": correlation, "box": boxes, "box_score": sure,
            "box_kind": np.array([0, 1]),
        }.items()
    }  # fmt: skip
    sight = Sight(
        states=("visible", "hidden"), slopes=(1.0, -0.5), offsets=tuple((0.1 * k, 0.5 - 0.2 * k) for k in range(5))
    )
    seen = replace(SPREAD, sight=sight)
    for finder, kinds, spread in (
        (found, {}, SPREAD),
        (None, {}, seen),
        (found, {"pear": (0, 1, 2), "apple": (3, 4)}, seen),
    ):
        skeleton = replace(spec.skeleton, kinds=kinds)
        named = replace(points, spread=spread, skeleton=skeleton, kind=np.array([0, 1]) if kinds else None)
        about = {
            "title": "T",
            "spec": {"skeleton": config.to_dict(skeleton), "spread": config.to_dict(spread)},
            "finder": {"skeleton": {"points": list(kinds)}},
        }
        expected = json.loads(
            json.dumps(dataclasses.asdict(answers.answer("T", skeleton.points, Size(320, 240), named, 3.0, finder)))
        )
        made = browsing.javascript(
            "answer.js", "coco.js",
            expression="(answer => ({answer, entries: cocoEntries(answer, {image_id: 7, file_name: 'a.jpg'})}))(answerOf(columns, about, [320, 240], 3, found))",
            columns=columns, about=about, found=finder is not None,
        )  # fmt: skip
        assert _close(made["answer"], expected)
        own = replace(named, box_xywh=None if finder is None else boxes, box_score=None if finder is None else sure)
        entries = outputs.of_keypoints(own, 7, "a.jpg", None)
        assert _close(made["entries"], entries)


def _close(made: Any, expected: Any) -> bool:
    """Equal but for rounding: the server sends 1/1000 px, scores to 1/100,000."""
    if isinstance(expected, dict):
        assert list(made) == list(expected)
        return all(_close(made[name], expected[name]) for name in expected)
    if isinstance(expected, (list, tuple)):
        assert len(made) == len(expected)
        return all(_close(a, b) for a, b in zip(made, expected, strict=True))
    if isinstance(expected, float):
        assert abs(made - expected) < 1.1e-3, (made, expected)
        return True
    assert made == expected
    return True
