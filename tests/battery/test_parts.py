"""A part is one file: one of each kind is added to a copy of the package, and a head and a backbone of a user's own are
given by their file or module. They are trained, evaluated, exported, certified and profiled as ours are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import warmed
from quick import smallest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
'''Points by regression from the mean of the map.'''
from dataclasses import dataclass
import torch
from fiducial import geometry
from fiducial.models import contracts, flipping
from fiducial.types import Keypoints

@dataclass(frozen=True)
class Spec:
    gain: float = 1.0

class Head(contracts.Head):
    def __init__(self, spec, level, points, size):
        super().__init__()
        self.spec, self.size, self.points = spec, size, points
        self.linear = torch.nn.Linear(level.channels, 2 * points)
        torch.nn.init.constant_(self.linear.bias, 0.5)

    def forward(self, feature):
        return self.spec.gain * self.linear(feature.mean((-2, -1))).view(-1, self.points, 2)

    def encode(self, batch):
        return geometry.px_to_unit(batch.xy, self.size)

    def decode(self, raw):
        return Keypoints(geometry.unit_to_px(raw, self.size), torch.ones_like(raw[..., 0]))

    def loss(self, raw, batch):
        error = (raw - self.encode(batch)).abs().nan_to_num().mean(-1)
        labelled = batch.labelled
        return {"l1": torch.where(labelled > 0, error, 0).sum() / labelled.sum().clamp_min(1)}

    def unflip(self, raw, flip_order):
        return flipping.unflip_coordinates(raw, flip_order, self.size, "unit")

class Other(Head):
    pass
"""

BACKBONE = """
'''Two convolutions.'''
from torch import nn
from fiducial.models.backbones import _untrained
from fiducial.models.contracts import Backbone, Level

EXAMPLES = ("pebble_8", "pebble_12")

def names():
    return list(EXAMPLES)

def matches(name):
    return name.startswith("pebble_") and name[7:].isdigit()

def build(name, pretrained):
    _untrained.announce(name, pretrained)
    return Pebble(int(name[7:]))

class Pebble(Backbone):
    def __init__(self, channels):
        super().__init__()
        self.levels = (Level(channels, 8),)
        self.layers = nn.Sequential(nn.Conv2d(3, channels, 3, 4, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1))

    def forward(self, image):
        return [self.layers(image)]
"""

FORMAT = """
'''NAME.dots beside NAME.png: `x y` a line.'''
from fiducial.data.formats import one_instance_a_picture, parse_points, pictures_by_stem, split_in_name
from fiducial.text_files import read_text

TITLE = "dots: {train,val,test}/NAME.dots beside the images"

def find(path):
    found = {}
    for file in sorted(path.glob("*/*.dots")):
        found.setdefault(split_in_name(file.parent.name) or "train", []).append(file)
    return found

def read(root, files, images, category, findings):
    folder = images or files[0].parent
    names = pictures_by_stem(folder)
    return one_instance_a_picture(
        files, lambda file: folder / names[file.stem] if file.stem in names else None,
        lambda file: parse_points(read_text(file).strip().splitlines(), 2), root, "dots", findings,
    )
"""

RUNTIME = """
'''The ONNX graph in an archive of NumPy's.'''
from pathlib import Path
import numpy as np
from fiducial.errors import UserError
from fiducial.runtime import export_card
from fiducial.types import Keypoints

NAME, TITLE, TARGET = "numpy", "Archive", "archive"
FILES = (".npz",)
EXPORT, LAYERS = f"{__name__}:write", f"{__name__}:layers"

def matches(path):
    return path.suffix == ".npz"

def load(path, threads=None, flip_test=False):
    if flip_test:
        raise UserError(path, "--flip-test needs the run folder")
    try:
        parts = dict(np.load(path))
    except Exception as error:
        raise UserError(path, f"no archive: {type(error).__name__}") from error
    block = {name: str(parts[name]) for name in (export_card.KEY, export_card.DIGEST) if name in parts}
    return Network(parts["graph"].tobytes(), export_card.of_metadata(block, path, NAME), path)

class Network:
    runtime = NAME

    def __init__(self, graph, export, path):
        import onnxruntime
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.export, self.card, self.path = export, export.card, path

    def predict(self, crops):
        if len(crops) == 0:
            return export_card.no_points(self.export)
        return Keypoints(**dict(zip(self.export.outputs, self.session.run(None, {"crops": crops}))))

    def full(self, image, boxes_xywh=None):
        return None

def write(detector, card, folder, *, crop, decode):
    from fiducial.exporting import onnx_export
    model = onnx_export.model_of(detector, card, crop="outside", decode=decode, runtime=NAME)
    block = {entry.key: entry.value for entry in model.metadata_props}
    np.savez(folder / "model.npz", graph=np.frombuffer(model.SerializeToString(), np.uint8), **block)
    return export_card.Made(folder / "model.npz", export_card.of_metadata(block, Path("model.npz"), NAME))

def layers(network, threads, seconds):
    from fiducial.profiling.parts import Layer, Measured
    return Measured(2.0, (Layer("backbone", "all", "Whole", 2.0),), "told")
"""

COMMAND = """
'''`fiducial greet`.'''
import typer
from fiducial.errors import UserError

ORDER = 15
AFTER_STOP = "greet again"

def greet(name: str = typer.Option("you", help="Who.")) -> None:
    '''Greet somebody.

    fiducial greet --name world'''
    if name == "stop":
        raise KeyboardInterrupt
    if name == "nobody":
        raise UserError("--name nobody", "expected somebody")
    typer.echo(f"hello {name}")
"""

# Commands one after the other in one process: each line of stdin is one's words; its exit code follows.
LOOP = """
import json, sys
from fiducial import cli
for line in sys.stdin:
    sys.argv = ["fiducial", *json.loads(line)]
    try:
        cli.main()
    except SystemExit as end:
        print(f"<{end.code or 0}>", flush=True)
"""


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in the new format: three bright dots on grey."""
    root, generator = tmp_path_factory.mktemp("dots"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        (root / split).mkdir()
        for i in range(count):
            image, xy = np.full((48, 64, 3), 80, np.uint8), generator.integers(8, 40, (3, 2))
            for x, y in xy:
                cv2.circle(image, (int(x), int(y)), 3, (255, 255, 255), -1)
            cv2.imwrite(str(root / split / f"{split}_{i}.png"), image)
            (root / split / f"{split}_{i}.dots").write_text("\n".join(f"{x} {y}" for x, y in xy))
    return root


def fiducial(
    commands: Sequence[Sequence[object]],
    path: Sequence[Path] = (),
    cwd: Path | None = None,
    package: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Runs commands in a process of their own, where `package` and the folders of `path` are the Python path."""
    lines = "".join(json.dumps([str(word) for word in command]) + "\n" for command in commands)
    return warmed.run(LOOP, text=lines, cwd=cwd, path=[package, *path], environment={"FIDUCIAL_PARTS": ""})


def fit(data: Path, out: Path, method: object, backbone: object, *more: object) -> list[object]:
    return ["fit", data, "--out", out, *smallest(method=method, backbone=backbone, epochs=1), *more]


def codes(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("<") and line.endswith(">")]


# ------------------------------------------------------------------------------------------------ one file each


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of package and tests with one more part of each kind, and no other file changed."""
    root = tmp_path_factory.mktemp("house")
    for folder in ("fiducial", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "test_parts.py"))
    shutil.copy(ROOT / "pyproject.toml", root)
    parts = {
        "models/heads/centre.py": HEAD,
        "models/backbones/pebble.py": BACKBONE,
        "data/formats/dots.py": FORMAT,
        "runtime/runtimes/archive.py": RUNTIME,
        "cli/commands/greet.py": COMMAND,
    }
    for name, text in parts.items():
        (root / "fiducial" / name).write_text(text)
    return root


def test_one_file_each_is_all_that_a_part_needs(house: Path, dots: Path, tmp_path: Path) -> None:
    run, shipped = tmp_path / "run", tmp_path / "shipped"
    done = fiducial(
        [
            ["--help"],
            ["greet", "--name", "world"],
            ["greet", "--name", "nobody"],
            ["greet", "--name", "stop"],
            fit(dots, run, "centre", "pebble_8"),
            ["evaluate", run, dots],
            ["export", run, "--to", "archive", "--data", dots, "--out", shipped],
            ["evaluate", shipped / "model.npz", dots, "--json", tmp_path / "figures.json"],
            ["profile", run, "--runtime", "numpy", "--by", "layer"],
            ["export", run, "--to", "archiv", "--out", shipped],
            ["export", run, "--to", "archive", "--int8", dots, "--out", shipped],
        ],
        package=house,
    )
    assert codes(done) == ["<0>", "<0>", "<2>", "<130>", "<0>", "<0>", "<0>", "<0>", "<0>", "<2>", "<2>"], done.stderr
    assert done.stdout.index("  demo ") < done.stdout.index("  greet ") < done.stdout.index("  fit ")
    assert "hello world" in done.stdout
    assert "fiducial: --name nobody: expected somebody\n" in done.stderr
    assert "fiducial: stopped; greet again\n" in done.stderr
    proof = json.loads((shipped / "model.certificate.json").read_text())
    assert (proof["runtime"], proof["without_torch"]) == ("numpy", True)
    assert proof["max_px"] < 0.05
    assert proof["bytes"] == (shipped / "model.npz").stat().st_size
    assert json.loads((tmp_path / "figures.json").read_text())["count"] == 4
    assert "--to 'archiv': no such target. Did you mean 'archive'?" in done.stderr
    assert "--int8 --to archive: int8 is made for" in done.stderr
    assert json.loads((run / "model.json").read_text())["sources"] == {}


# What each battery tests of the new parts: words of `pytest -k`, and how many tests there are at least.
BATTERIES = {
    "heads": ("centre", 9),
    "backbones": ("pebble", 8),
    "runtimes": ("numpy and (deeppose or centre or box or card or short)", 5),
}


def test_the_batteries_test_a_new_file_at_once(house: Path) -> None:
    files = {battery: f"tests/battery/test_{battery}.py" for battery in BATTERIES}
    chosen = " or ".join(f"(test_{battery} and {words})" for battery, (words, _) in BATTERIES.items())
    words = ["-v", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", *files.values(), "-k", chosen]
    done = warmed.run("import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))", *words, cwd=house, path=[house])
    assert done.returncode == 0, done.stdout[-3000:]
    for battery, (_, fewest) in BATTERIES.items():
        assert len(re.findall(rf"^{files[battery]}::.* PASSED", done.stdout, re.MULTILINE)) >= fewest, battery


# ------------------------------------------------------------------------------------------------ a user's own


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a head, a backbone and a package that holds the head once more."""
    root = tmp_path_factory.mktemp("mine")
    (root / "my_package").mkdir()
    (root / "my_package" / "__init__.py").write_text("")
    for name, text in {"my_head.py": HEAD, "my_net.py": BACKBONE, "my_package/regressor.py": HEAD}.items():
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def own_run(mine: Path, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with both."""
    run = tmp_path_factory.mktemp("own") / "run"
    done = fiducial([fit(blobs, run, mine / "my_head.py", f"{mine / 'my_net.py'}:pebble_12", "--set", "head.gain=1.5")])
    assert codes(done) == ["<0>"], done.stderr
    return run


def test_a_users_own_file_is_trained_and_recorded(own_run: Path, mine: Path) -> None:
    card = json.loads((own_run / "model.json").read_text())
    assert (card["spec"]["method"], card["spec"]["backbone"]) == ("my_head.py", "my_net.py:pebble_12")
    assert card["spec"]["head"] == {"gain": 1.5}
    assert card["sources"].keys() == {"my_head.py", "my_net.py:pebble_12"}
    assert card["sources"]["my_head.py"].startswith(f"{mine / 'my_head.py'}, digest ")
    assert json.loads((own_run / "recipe.json").read_text())["recipe"]["method"] == "my_head.py"


def test_it_is_evaluated_exported_and_certified_where_its_files_are_known(
    own_run: Path, mine: Path, blobs: Path, tmp_path: Path
) -> None:
    """By naming the files again, or on the Python path; the exported file needs neither."""
    parts = ["--part", mine / "my_head.py", "--part", mine / "my_net.py"]
    shipped = tmp_path / "shipped"
    named = fiducial([["evaluate", own_run, blobs, *parts], ["export", own_run, "--data", blobs, "--out", shipped]])
    assert codes(named) == ["<0>", "<0>"], named.stderr
    assert json.loads((shipped / "model.certificate.json").read_text())["max_px"] < 0.05
    on_path = fiducial([["evaluate", own_run, blobs], ["profile", own_run, "--by", "layer"]], path=[mine])
    assert codes(on_path) == ["<0>", "<0>"], on_path.stderr
    alone = fiducial([["evaluate", shipped / "model.onnx", blobs]])
    assert codes(alone) == ["<0>"], alone.stderr


def test_a_run_whose_files_are_missing_says_so_and_runs_nothing(own_run: Path, blobs: Path, tmp_path: Path) -> None:
    """Also where files of these names lie beside the weights and in the current folder."""
    stray = tmp_path / "run"
    shutil.copytree(own_run, stray)
    for name in ("my_head.py", "my_net.py"):
        (stray / name).write_text("raise SystemExit('code of a run folder was run')")
    done = fiducial([["evaluate", stray, blobs]], cwd=stray)
    assert codes(done) == ["<2>"], done.stderr
    assert done.stderr.count("\n") == 1
    for words in (f"{stray}: ", "'my_head.py'", "on the Python path", "--part", "was ", "digest"):
        assert words in done.stderr


def test_a_module_on_the_python_path_and_a_changed_file(mine: Path, blobs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = fiducial(
        [fit(blobs, run, "my_package.regressor:Other", "my_net:pebble_8"), ["evaluate", run, blobs]], path=[mine]
    )
    assert codes(done) == ["<0>", "<0>"], done.stderr
    assert json.loads((run / "model.json").read_text())["spec"]["method"] == "my_package.regressor:Other"
    other = tmp_path / "other"
    shutil.copytree(mine, other)
    (other / "my_package" / "regressor.py").write_text(HEAD + "\n# changed\n")
    changed = fiducial([["evaluate", run, blobs]], path=[other])
    assert codes(changed) == ["<0>"], changed.stderr
    assert "my_package.regressor:Other has changed since this was trained" in changed.stderr


# What is given for a head -> its code and what the line says.
NO_HEADS: dict[str, tuple[int, list[str]]] = {
    "nowhere.py": (2, ["nowhere.py", "no such file"]),
    "no_such.module": (2, ["no module no_such.module on the Python path"]),
    "MINE/my_net.py": (2, ["my_net.py", "no class Head of fiducial.models.contracts.Head"]),
    "MINE/my_head.py:Nothing": (2, ["no class Nothing"]),
    "MINE/broken.py": (2, ["broken.py", "can't be imported", "ZeroDivisionError"]),
    "MINE/lacking.py": (2, ["Head lacks decode, loss, unflip, encode"]),
    "MINE/needs.py": (1, ["no_such_package"]),
}


def test_what_is_no_head_is_refused_in_a_line(mine: Path, blobs: Path, tmp_path: Path) -> None:
    (mine / "broken.py").write_text("1 / 0")
    (mine / "needs.py").write_text("import no_such_package")
    (mine / "lacking.py").write_text(
        "from fiducial.models import contracts\nclass Head(contracts.Head):\n    def forward(self, feature): ...\n"
    )
    done = fiducial(
        [fit(blobs, tmp_path / "run", method.replace("MINE", str(mine)), "test_efficientnet") for method in NO_HEADS]
    )
    assert codes(done) == [f"<{code}>" for code, _ in NO_HEADS.values()], done.stderr
    for line, (_, words) in zip(done.stderr.splitlines(), NO_HEADS.values(), strict=True):
        assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()
