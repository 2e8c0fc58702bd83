"""`animate`: how points are carried over from one picture to another, and the video that comes out."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Run
from heard import warned

av = pytest.importorskip("av")
torch = pytest.importorskip("torch")
from motion.discs import disc_frames, write_pictures, write_video  # noqa: E402

from fiducial.card import Card, DetectorSpec  # noqa: E402
from fiducial.data import skeletons  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import detector as detectors  # noqa: E402
from fiducial.models.heads.motion import Frames  # noqa: E402
from fiducial.motion import animation, clip_sources, puppet  # noqa: E402
from fiducial.motion import system as systems  # noqa: E402
from fiducial.motion.dense_motion import DenseMotionSpec  # noqa: E402
from fiducial.motion.generator import Generator, GeneratorSpec  # noqa: E402
from fiducial.motion.puppet import Puppet  # noqa: E402
from fiducial.motion.system import System  # noqa: E402
from fiducial.prediction import sources  # noqa: E402
from fiducial.types import Skeleton  # noqa: E402

POINTS, SIZE = 5, Size(64, 48)


def system_of(jacobian: str = "own") -> System:
    """Untrained, but its points depend on the picture."""
    torch.manual_seed(3)
    spec = DetectorSpec(
        "hourglass_w8_b3_m32_s2",
        "motion",
        {"jacobian": jacobian},
        SIZE,
        Skeleton(f"motion{POINTS}", skeletons.numbered(POINTS)),
        padding=1.0,
    )
    detector = detectors.build(spec).eval()
    for name, parameter in detector.head.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    dense_motion = DenseMotionSpec(width=4, blocks=2, widest=16)
    return System(detector, Generator(GeneratorSpec(4, 8, residuals=1, dense_motion=dense_motion), POINTS).eval())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, system = tmp_path_factory.mktemp("runs") / "motion", system_of()
    folder.mkdir()
    systems.save(system.generator, POINTS, folder)
    detectors.save(system.detector, folder, Card(system.detector.spec))
    return folder


@pytest.fixture(scope="session")
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "driving.mp4", disc_frames(11))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), {"source.png": disc_frames(1, 4)[0]}) / "source.png"


def random_frames(seed: int, jacobian: bool = True) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.eye(2) + 0.3 * torch.randn(1, POINTS, 2, 2, generator=generator)
    return Frames(torch.rand(1, POINTS, 2, generator=generator) * 1.4 - 0.7, matrices if jacobian else None)


def cuts(count: int, seed: int = 0) -> np.ndarray:
    return np.stack([cv2.resize(frame, SIZE) for frame in disc_frames(count, seed)])


# ---------------------------------------------------------------------------------------------------------- points


def test_a_driving_picture_that_has_not_moved_leaves_the_source_s_own_points() -> None:
    source, first = random_frames(1), random_frames(2)
    found = puppet.relative(source, first, first, 1.7)
    torch.testing.assert_close(found.xy_corner, source.xy_corner)
    torch.testing.assert_close(found.jacobian, source.jacobian)


def test_a_translation_moves_the_source_by_the_same_times_the_scale() -> None:
    source, first = random_frames(1), random_frames(2)
    shift = torch.tensor([0.2, -0.1])
    found = puppet.relative(source, first, Frames(first.xy_corner + shift, first.jacobian), 1.5)
    torch.testing.assert_close(found.xy_corner, source.xy_corner + 1.5 * shift)
    torch.testing.assert_close(found.jacobian, source.jacobian)


def test_the_source_turns_as_the_driving_picture_has_turned() -> None:
    """J_d = R J_d0 for a turn R, so that the source's frames become R J_s, whatever J_d0 is."""
    source, first = random_frames(1), random_frames(2)
    assert source.jacobian is not None
    assert first.jacobian is not None
    angle = 0.4
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    found = puppet.relative(source, first, Frames(first.xy_corner, turn @ first.jacobian), 1.0)
    torch.testing.assert_close(found.jacobian, turn @ source.jacobian)
    without = puppet.relative(*(random_frames(seed, jacobian=False) for seed in (1, 2, 3)), 1.0)
    assert without.jacobian is None


def test_area_of_the_hull() -> None:
    """A rectangle with points inside of it; a triangle; what has no area."""
    rectangle = np.array([[1, 2], [5, 2], [5, 9], [1, 9], [3, 4], [2, 8], [1, 5]])
    assert puppet.hull_area(rectangle) == pytest.approx(28)
    assert puppet.hull_area(np.array([[0.0, 0], [4, 0], [1, 3]])) == pytest.approx(6)
    for none in ([[1, 1]], [[1, 1], [2, 5]], [[0, 0], [1, 1], [3, 3]], [[2, 2]] * 4):
        assert puppet.hull_area(np.array(none)) == pytest.approx(0, abs=1e-6)


def test_scale_of_hulls() -> None:
    """Of points that are the others, three times as far apart, turned and elsewhere; 1 where one has no area."""
    points = np.random.default_rng(0).uniform(0, 20, (8, 2))
    turned = points @ np.array([[0.8, -0.6], [0.6, 0.8]]) * 3 + [7, -2]
    assert puppet.hull_scale(turned, points) == pytest.approx(3, rel=1e-4)
    assert puppet.hull_scale(points, turned) == pytest.approx(1 / 3, rel=1e-4)
    assert puppet.hull_scale(points, np.ones((8, 2))) == 1
    assert puppet.hull_scale(np.ones((8, 2)), points) == 1


@pytest.mark.parametrize("jacobian", ["own", "shared", "none"])
def test_relative_motion_begins_with_the_source(jacobian: str) -> None:
    """Its first frame is what the generator makes of the source with its own points."""
    system, source, driving = system_of(jacobian), cuts(1, 4)[0], cuts(5)
    moving = Puppet(system, source, absolute=False)
    moved = moving(driving)
    own = system.px(moving.of_source)
    np.testing.assert_allclose(moved.xy[0], own[0], atol=1e-4)
    np.testing.assert_allclose(
        moved.generated[0].astype(int), system.generate(source, moving.of_source, moving.of_source)[0], atol=1
    )
    assert np.abs(moved.xy[2] - moved.xy[0]).max() > 0.1
    assert moving.scale is not None
    expected = own[0] + moving.scale * (moved.driving_xy[2] - moved.driving_xy[0])
    np.testing.assert_allclose(moved.xy[2], expected, atol=1e-3)
    assert moving.scale == pytest.approx(puppet.hull_scale(own[0], moved.driving_xy[0]))


def test_absolute_takes_the_driving_points() -> None:
    system, driving = system_of(), cuts(3)
    moving = Puppet(system, cuts(1, 4)[0], absolute=True)
    moved = moving(driving)
    np.testing.assert_array_equal(moved.xy, moved.driving_xy)
    np.testing.assert_allclose(moved.xy, system.detector.predict(torch.from_numpy(driving)).xy.numpy(), atol=1e-4)
    assert moving.scale is None


@pytest.mark.parametrize("absolute", [False, True])
def test_batches_change_nothing(absolute: bool) -> None:
    """The first frame of all is what motion is measured against, not the first of a batch."""
    source, driving = cuts(1, 4)[0], cuts(5)
    whole = Puppet(system_of(), source, absolute)(driving)
    moving = Puppet(system_of(), source, absolute)
    parts = [moving(driving[:2]), moving(driving[2:])]
    np.testing.assert_allclose(np.concatenate([part.xy for part in parts]), whole.xy, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([part.generated for part in parts]).astype(int), whole.generated, atol=1)


# ------------------------------------------------------------------------------------------------------- the command


def read(path: Path) -> np.ndarray:
    """[n, h, w, 3] of a video."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_video_beside_its_sources(run: Run, model: Path, source: Path, driving: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "moved.mp4"
    code, said, err = run("animate", source, driving, "--model", model, "--out", out)
    assert (code, err) == (0, "")
    assert said.startswith("11 frames, ")
    assert f": {out}, sheet: {out.with_suffix('.png')}" in said
    assert sorted(path.name for path in out.parent.iterdir()) == ["moved.mp4", "moved.png"]
    frames = read(out)
    assert frames.shape == (11, 48, 3 * 64, 3)
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == 10
    # Pictures of 64x64 px, whole, in 64x48: black bars at the sides.
    assert frames[:, :, :6].max() < 40
    assert np.abs(frames[5, :, 64:128].astype(int) - frames[0, :, 64:128]).mean() > 2, "the driving picture moves"
    assert np.abs(frames[5, :, :64].astype(int) - frames[0, :, :64]).mean() < 2, "the source does not"
    system = System.open(model)
    from fiducial.data import crops

    pictures = [crops.cut(image, None, SIZE, 1.0)[0][0] for image in (disc_frames(1, 4)[0], *read(driving))]
    moved = Puppet(system, pictures[0], absolute=False)(np.stack(pictures[1:]))
    assert np.abs(frames[:, :, 128:].astype(int) - moved.generated).mean() < 4, "x264 at its quality"


def test_generated_alone_and_larger(run: Run, model: Path, source: Path, driving: Path, tmp_path: Path) -> None:
    out = tmp_path / "moved.mp4"
    code, _, err = run(
        "animate", source, driving, "--model", model, "--out", out, "--only", "--absolute", "--size", "128x96"
    )
    assert (code, err) == (0, "")
    assert read(out).shape == (11, 96, 128, 3)


def test_one_frame_a_folder_and_the_first_frame_of_a_video(
    run: Run, model: Path, source: Path, driving: Path, tmp_path: Path
) -> None:
    single = write_video(tmp_path / "single.mp4", disc_frames(1))
    code, _, err = run("animate", driving, single, "--model", model, "--out", tmp_path / "one.mp4")
    assert (code, err) == (0, "")
    assert len(read(tmp_path / "one.mp4")) == 1
    frames = {f"f{number}.png": frame for number, frame in zip([10, 2, 1], disc_frames(3), strict=True)}
    folder = write_pictures(tmp_path / "frames", frames)
    assert run("animate", source, folder, "--model", model, "--out", tmp_path / "three.mp4")[0] == 0
    found = read(tmp_path / "three.mp4")[:, :, 64:128].astype(int)
    expected = [cv2.resize(frame, (48, 48), interpolation=cv2.INTER_AREA) for frame in reversed(disc_frames(3))]
    assert np.abs(found[:, :, 8:56] - expected).mean() < 6, "by their numbers: f1, f2, f10"
    picture = folder / "f1.png"
    assert run("animate", source, picture, "--model", model, "--out", tmp_path / "still.mp4", "--absolute")[0] == 0


def test_the_order_of_a_folder_s_frames(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "frames", {f"f{number}.png": disc_frames(1)[0] for number in (10, 9, 1, 100)})
    given = animation._driving(folder)
    assert [file.name for file in given] == ["f1.png", "f9.png", "f10.png", "f100.png"]
    assert [frame.name for frame in clip_sources.frames_of(given)] == ["f1.png", "f9.png", "f10.png", "f100.png"]
    assert sources.count(given) == 4


def test_a_video_that_ends_early(run: Run, model: Path, source: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    cut = write_video(tmp_path / "cut.mp4", noise, options={"movflags": "+faststart"})
    os.truncate(cut, cut.stat().st_size // 2)
    code, said, err = run("animate", source, cut, "--model", model, "--out", tmp_path / "moved.mp4")
    assert code == 0
    count = len(read(tmp_path / "moved.mp4"))
    assert 3 < count < 17
    assert said.startswith(f"{count} frames")
    assert f"ends after {count} frames" in err


def test_boxes(run: Run, model: Path, source: Path, driving: Path, tmp_path: Path) -> None:
    """The left upper quarter of the driving video, of all its frames; the source is whole."""
    boxes = tmp_path / "boxes.json"

    def write(names: list[str]) -> None:
        images = [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)]
        annotations = [
            {"id": i, "image_id": i % len(names), "bbox": [0, 0, 32, 24], "area": 768} for i in range(len(names))
        ]
        boxes.write_text(json.dumps({"images": images, "annotations": annotations}))

    write(["driving.mp4"])
    code, _, err = run("animate", source, driving, "--model", model, "--out", tmp_path / "a.mp4", "--boxes", boxes)
    assert (code, err) == (0, "")
    frames = read(tmp_path / "a.mp4")
    expected = cv2.resize(read(driving)[3][:24, :32], (64, 48))
    assert np.abs(frames[3, :, 64:128].astype(int) - expected).mean() < 6
    assert frames[:, :, :6].max() < 40, "bars beside the whole source"
    write(["source.png"])
    boxes.write_text(boxes.read_text().replace('"height": 64', '"height": 60'))
    code, _, err = run("animate", source, driving, "--model", model, "--out", tmp_path / "b.mp4", "--boxes", boxes)
    assert (code, "the image is 64x64, but the boxes file says 64x60" in err) == (2, True)
    write(["other.mp4"])
    code, _, err = run("animate", source, driving, "--model", model, "--out", tmp_path / "b.mp4", "--boxes", boxes)
    assert code == 2
    assert "has no image named 'source.png' or 'driving.mp4'" in err


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("missing.png: no such file; expected the image that is to move", {"source": "missing.png"}),
        ("notes.txt", {"source": "notes.txt"}),
        ("missing: no such file or folder; expected the video to move by", {"driving": "missing"}),
        (
            "notes.txt: no frame could be read: .*expected a video, a folder of frames or an image",
            {"driving": "notes.txt"},
        ),
        ("bad.mp4: no frame could be read: .*bad.mp4: ends after 0 frames", {"driving": "bad.mp4"}),
        ("bad.mp4: ends after 0 frames.*; expected an image, or a video with a frame", {"source": "bad.mp4"}),
        ("holds 2 videos and images; give one video, such as", {"driving": "videos"}),
        ("missing: no such file or folder; expected a run folder with a generator", {"model": "missing"}),
        ("has no generator .no generator.json., so nothing can be animated", {"model": "blob_model"}),
        ("an exported detector, which has no generator", {"model": "blob_onnx"}),
        ("notes.txt: not a model", {"model": "notes.txt"}),
        ("out.avi: expected a name that ends in .mp4", {"out": "out.avi"}),
        ("is one of the sources and would be overwritten", {"driving": "videos/a.mp4", "out": "videos/a.mp4"}),
        ("the model makes images of 64x48; expected the same shape, such as 128x96", {"size": "64"}),
        ("--size 'x': expected WIDTHxHEIGHT", {"size": "x"}),
    ],
)
def test_what_is_refused(
    run: Run,
    model: Path,
    blob_model: Path,
    blob_onnx: Path,
    source: Path,
    driving: Path,
    tmp_path: Path,
    words: str,
    options: dict[str, str],
) -> None:
    """Exit code 2, one line, and nothing is left behind."""
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 50)
    for name in "ab":
        write_video(tmp_path / "videos" / f"{name}.mp4", disc_frames(2))
    known = {"blob_model": blob_model, "blob_onnx": blob_onnx}
    given = {"source": source, "driving": driving, "model": model, "out": tmp_path / "out" / "x.mp4"}
    given |= {name: known.get(value, tmp_path / value) for name, value in options.items() if name != "size"}
    size = ["--size", options["size"]] if "size" in options else []
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(
        "animate", given["source"], given["driving"], "--model", given["model"], "--out", given["out"], *size
    )
    assert code == 2, err
    assert re.search(words, err), err
    assert err.splitlines()[-1].startswith("fiducial: ")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()] == []


def test_a_failure_on_the_way_leaves_nothing(
    model: Path, source: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(animation, "_resized", stop)
    with pytest.raises(KeyboardInterrupt):
        animation.animate(model, source, driving, tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_sheet_shows_frames_evenly_over_videos_of_any_length() -> None:
    for count in (1, 2, 5, 24, 25, 200, 1000):
        sampled = animation._Sampled()
        for number in range(count):
            sampled.add(animation._Sample(number, *[np.zeros(1)] * 4))
        numbers = [sample.number for sample in sampled.chosen()]
        assert len(numbers) == min(count, animation.SHOWN)
        assert numbers[0] == 0
        assert numbers[-1] == count - 1
        assert len(sampled.samples) <= 4 * animation.SHOWN
        if count > 1:
            gaps = np.diff(numbers)
            assert gaps.max() <= 1.6 * (count - 1) / (len(numbers) - 1) + 1


def test_a_published_checkpoint(run: Run, source: Path, driving: Path, tmp_path: Path) -> None:
    from motion import test_official

    detector, generator = test_official.detector_of(), test_official.generator_of(test_official.SMALL)
    states = test_official.their_detector(detector, 2), test_official.their_generator(generator)
    path = test_official.written(tmp_path / "vox-cpk.pth.tar", *states)
    code, said, err = run("animate", source, driving, "--model", path, "--out", tmp_path / "moved.mp4")
    assert code == 0, err
    assert said.startswith("11 frames")
    assert read(tmp_path / "moved.mp4").shape == (11, 128, 3 * 128, 3)
    with warned("First-Order-Motion model: motion on hourglass_w4_b3_m16_s2"):
        System.open(path)
    torch.save({"kp_detector": states[0]}, path)
    code, _, err = run("animate", source, driving, "--model", path, "--out", tmp_path / "again.mp4")
    assert code == 2
    assert "has no generator" in err


def test_too_many_boxes(tmp_path: Path) -> None:
    from fiducial.prediction import boxes

    file = tmp_path / "boxes.json"
    images = [{"id": 1, "file_name": "a.png"}]
    annotations = [{"id": i, "image_id": 1, "bbox": [0, 0, 9, 9]} for i in (1, 2)]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(UserError, match=r"2 boxes for 'a.png'; expected one, of what moves"):
        animation._one_box(boxes.read(file), ["a.png"])
