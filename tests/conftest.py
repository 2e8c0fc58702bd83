"""Fixtures for all tests: the optional folder of real data and goldens beside the checkout; a tiny set and its model."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Run
from heard import heard

# What is imported is compiled once, not in each of the processes that tests start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Networks this small run slower on more threads, and processes side by side have a core each. Before torch and the
# runtimes are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("jaxtyping") and importlib.util.find_spec("beartype"):
    # Before any of these files is imported: the shapes in their signatures are checked at every call of a test. Only
    # files with shapes: elsewhere beartype would refuse what our own checks of a user's values are tested with.
    from jaxtyping import install_import_hook

    WITH_SHAPES = (
        "models.contracts",
        "models.detector",
        "models.heads",
        "models.heatmaps",
        "models.losses",
        "models.flipping",
        "models.axes",
        "models.flow",
        "models.regression",
        "models.rounding",
        "training.module",
        "training.objective",
        "training.preflight",
        "motion",
    )
    # The numeric tower: an int where a float is asked for is right.
    CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
    install_import_hook([f"fiducial.{module}" for module in WITH_SHAPES], CHECKER)

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent


def shared_folder(*parts: str) -> Path | None:
    """A folder of the shared data, where it is there. `FIDUCIAL_SHARED` names another place than ../shared."""
    folder = Path(os.environ.get("FIDUCIAL_SHARED", ROOT.parent / "shared")).joinpath(*parts)
    return folder if folder.exists() else None


def pytest_addoption(parser: pytest.Parser) -> None:
    default = Path(os.environ.get("FIDUCIAL_SHARED", ROOT.parent / "shared")) / "golden"
    text = f"folder of goldens to hold our numbers against (default: {default})"
    parser.addoption("--goldens", metavar="DIR", default=str(default), help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Goldens that were asked for must be there; the default ones may be missing, and their tests are skipped."""
    if not any(argument.startswith("--goldens") for argument in config.invocation_params.args):
        return
    folder = Path(str(config.getoption("goldens")))
    if not folder.is_dir():
        raise pytest.UsageError(f"--goldens {folder}: no such folder")
    from parity.golden import folders

    if not folders(folder):
        raise pytest.UsageError(f"--goldens {folder}: expected folders with case.json or *.safetensors; found none")


# Files that take a core more than a quarter of a minute, the longest first: one that began last would leave a core idle.
LONGEST = (
    "battery/test_runtimes.py",
    "export/test_ncnn.py",
    "motion/test_motion_fit.py",
    "battery/test_parts.py",
    "comparison/test_whole.py",
    "training/test_resume.py",
    "hostile/test_models.py",
    "distill/test_distill.py",
    "comparison/test_compare.py",
    "battery/test_backbones.py",
    "battery/test_heads.py",
    "runtime/test_cost.py",
    "export/test_int8.py",
    "api/test_batch.py",
    "api/test_side_effects.py",
    "distill/test_study.py",
    "api/test_docs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first (`make test` hands files out in this order)."""
    rank = {TESTS / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before any fixture of a test: a graph that was traced before is given again. Tracing takes the seconds of most
    exports, and most are of `blob_model` or `settled`."""
    if (exporter := sys.modules.get("fiducial.exporting.onnx_export")) is not None:
        from traced import remember

        remember(exporter)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real labelled data."""
    folder = shared_folder("data")
    return folder if folder is not None else pytest.skip("no real data beside the checkout (../shared/data)")


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Path:
    """Inputs and outputs of the reference implementations."""
    folder = Path(str(pytestconfig.getoption("goldens")))
    return folder if folder.is_dir() else pytest.skip(f"no goldens at {folder} (name others with --goldens DIR)")


COLOURS = [(255, 60, 40), (40, 255, 60), (60, 40, 255)]


def write_blobs(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """A tiny data set, so that training is seconds: annotations/{split}.json beside images/; three coloured discs on grey
    noise, 72x56 px."""
    generator = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, count in counts.items():
        images, annotations = [], []
        for i in range(count):
            picture = generator.integers(60, 120, (56, 72, 3), dtype=np.uint8)
            xy = generator.uniform((14, 14), (58, 42), (3, 2))
            for point, colour in zip(xy, COLOURS, strict=True):
                centre = tuple(round(float(v) * 16) for v in point)
                cv2.circle(picture, centre, 4 * 16, colour, -1, cv2.LINE_AA, shift=4)
            name = f"{split}_{i}.png"
            cv2.imwrite(str(root / "images" / name), picture[:, :, ::-1])
            images.append({"id": i + 1, "file_name": name, "width": 72, "height": 56})
            keypoints = [value for x, y in xy.round(2).tolist() for value in (x, y, 2)]
            annotations.append(
                {
                    "id": i + 1,
                    "image_id": i + 1,
                    "category_id": 1,
                    "keypoints": keypoints,
                    "num_keypoints": 3,
                    "bbox": [6, 4, 60, 48],
                    "area": 2880,
                    "iscrowd": 0,
                }
            )
        category = {"id": 1, "name": "blobs", "keypoints": ["red", "green", "blue"], "skeleton": []}
        file = {"images": images, "annotations": annotations, "categories": [category]}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(file))
    return root


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs", {"train": 48, "val": 16, "test": 16})


@pytest.fixture(scope="session")
def blob_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder for `blobs`: untrained, but its points depend on the picture."""
    torch = pytest.importorskip("torch")
    from fiducial.card import Card, DetectorSpec
    from fiducial.geometry import Size
    from fiducial.models import detector as detectors
    from fiducial.types import Skeleton

    skeleton = Skeleton("blobs", ("red", "green", "blue"), edges=((0, 1), (1, 2)))
    torch.manual_seed(3)
    detector = detectors.build(DetectorSpec("test_efficientnet", "deeppose", {}, Size(64, 48), skeleton)).eval()
    linear = detector.head.get_submodule("linear")
    assert isinstance(linear, torch.nn.Linear)
    torch.nn.init.normal_(linear.weight, std=0.05)
    linear.bias.data = torch.tensor([0.3, 0.4, 0.65, 0.3, 0.5, 0.75])
    folder = tmp_path_factory.mktemp("runs") / "blobs"
    detectors.save(detector, folder, Card(detector.spec))
    return folder


@pytest.fixture(scope="session")
def blob_onnx(blob_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`blob_model` as `fiducial export --to onnx` writes it, without its certificate."""
    pytest.importorskip("onnxscript")
    from fiducial.exporting import onnx_export
    from fiducial.models import detector as detectors

    folder = tmp_path_factory.mktemp("shipped") / "blobs"
    folder.mkdir()
    return onnx_export.write(*detectors.load(blob_model), folder, crop="inside", decode="own").file


@pytest.fixture(autouse=True)
def no_command_line() -> Iterator[None]:
    """The command line of a test is not that of the tests that follow."""
    from fiducial.files import command_line

    before = command_line.set("")
    yield
    command_line.reset(before)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that `fiducial` says in this test, as they come."""
    with heard() as lines:
        yield lines


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line: exit code, stdout, stderr."""
    from fiducial import cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fiducial", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="session", autouse=True)
def known_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files that have been tried are written down in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
