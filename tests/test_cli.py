"""The promises of the command line: exit codes, one line for each mistake, JSON that is JSON, and a quick start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import typer
from quick import smallest

from fiducial import cli

GROUP: Any = typer.main.get_command(cli.app)
GROUPS: dict[str, Any] = {"": GROUP, "data": GROUP.get_command(None, "data")}
ALL: dict[str, Any] = {  # what is typed: the command
    f"{group} {name}".strip(): commands.get_command(None, name)
    for group, commands in GROUPS.items()
    for name in commands.list_commands(None)
    if name not in GROUPS
}
FRAMEWORKS = ("torch", "lightning", "timm", "matplotlib", "tensorboard")


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Run:
    """`fiducial` in this process, for speed."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capfd, self.monkeypatch = capfd, monkeypatch

    def __call__(self, *arguments: object) -> Result:
        self.monkeypatch.setattr(sys, "argv", ["fiducial", *map(str, arguments)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        code = exit_.value.code
        captured = self.capfd.readouterr()
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(capfd, monkeypatch)


def process(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """`fiducial` as users start it; with `code`, Python code that starts it."""
    start = ["-m", "fiducial.cli"] if code is None else ["-c", code]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *start, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False
    )


def is_one_line(text: str) -> bool:
    return text.startswith("fiducial: ") and text.endswith("\n") and text.count("\n") == 1


def write_coco(folder: Path) -> tuple[Path, Path]:
    """Truth and results of two pictures with three points each."""
    generator = np.random.default_rng(4)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 80, "height": 60} for i in (3, 8)]
    truths, results = [], []
    for image in images:
        xy = generator.uniform(5, 50, (3, 2)).round(1)
        base = {"image_id": image["id"], "category_id": 1}
        points = np.column_stack([xy, np.full(3, 2)]).ravel().tolist()
        truths.append(
            {**base, "id": len(truths) + 1, "keypoints": points, "bbox": [2, 3, 60, 52], "area": 3120, "iscrowd": 0}
        )
        results.append({**base, "keypoints": (np.array(points) + 1).tolist(), "score": 0.7})
    category = {"id": 1, "name": "thing", "keypoints": ["a", "b", "c"], "skeleton": []}
    truth, found = folder / "truth.json", folder / "results.json"
    truth.write_text(json.dumps({"images": images, "annotations": truths, "categories": [category]}))
    found.write_text(json.dumps(results))
    return truth, found


# ------------------------------------------------------------------------------------------------------ help


def test_version_is_the_package_s(run: Run) -> None:
    import fiducial

    assert run("--version") == (0, f"{fiducial.__version__}\n", "")


@pytest.mark.parametrize("group", GROUPS)
def test_without_a_command_the_help_is_shown(run: Run, group: str) -> None:
    result = run(*group.split())
    assert (result.code, result.out) == (2, "")
    assert all(f"\n  {name} " in result.err for name in GROUPS[group].list_commands(None))


@pytest.mark.parametrize("group", GROUPS)
def test_help_names_every_command(run: Run, group: str) -> None:
    for flag in ("--help", "-h"):
        result = run(*group.split(), flag)
        assert (result.code, result.err) == (0, "")
        assert all(f"\n  {name} " in result.out for name in GROUPS[group].list_commands(None))


@pytest.mark.parametrize("name", ALL)
def test_help_holds_an_example_and_explains_every_option(run: Run, name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.code == 0
    assert f"\n  fiducial {name} " in result.out
    for parameter in ALL[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help text"


# -------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evalute", ["evalute", "Did you mean 'evaluate'"]),
        ("fit DATA --epohs 3 --out NEW", ["--epohs", "--epochs"]),
        ("fit DATA", ["--out"]),
        ("fit DATA --out NEW --epochs 0", ["--epochs", "0", "1"]),
        ("fit DATA --out NEW --epochs many", ["--epochs", "many", "int"]),
        ("fit DATA --out NEW --devices 0", ["--devices"]),
        ("fit DATA --out FILE", ["--out", "file"]),
        ("fit NOWHERE --out NEW", ["nowhere", "no such file or folder"]),
        ("fit DATA --out NEW --method heatmp", ["heatmp", "Did you mean 'heatmap'"]),
        ("fit DATA --out NEW --backbone mobilenetv3_smal_100", ["mobilenetv3_smal_100", "'mobilenetv3_small_100'"]),
        ("fit DATA --out NEW --set augment.flp=0", ["flp", "Did you mean 'flip'"]),
        ("fit DATA --out NEW --set augment.flip", ["expected NAME=VALUE"]),
        ("fit DATA --out NEW --set epochs=three", ["epochs", "'three'", "int"]),
        ("fit DATA --out NEW --set head.sigma=3", ["sigma", "sigma_cells"]),
        ("fit DATA --out NEW --size 12by9", ["12by9", "192x256"]),
        ("fit DATA --out NEW --lr fast", ["--lr", "fast", "auto"]),
        ("fit DATA --out NEW --points 1,x", ["no point 'x'", "Known:"]),
        ("fit DATA --out NEW --points 1234567", ["--points", "30,40,45", "names"]),
        ("fit DATA --out NEW --set augment.rotation=45", ["Did you mean 'rotation_degrees'"]),
        ("fit DATA --out NEW --points 0,7", ["points", "7", "from 0 to 2"]),
        ("fit DATA --out NEW --pretrained maybe", ["maybe", "auto, yes"]),
        ("fit DATA --out NEW --recipe nowhere.py:f", ["nowhere.py:f", "FILE.py:FUNCTION"]),
        ("fit DATA --out NEW --init NOWHERE", ["nowhere"]),
        ("fit DATA --out NEW --resume", ["--resume"]),
        ("fit DATA --out NEW --category dogs", ["dogs"]),
        ("evaluate", ["MODEL DATA", "--predictions"]),
        ("evaluate DATA DATA", ["no trained model here"]),
        ("evaluate MODEL DATA --split tst", ["tst", "Did you mean 'test'"]),
        ("evaluate MODEL DATA --box-jitter 3", ["--box-jitter", "0.5"]),
        ("evaluate MODEL DATA --sigmas 1,x", ["--sigmas", "numbers"]),
        ("evaluate MODEL DATA --flip-test", ["flip pairs are unknown"]),
        ("evaluate --predictions NOWHERE TRUTH", ["nowhere", "can't be read"]),
        ("evaluate --predictions TRUTH TRUTH", ["truth.json", "expected COCO results"]),
        ("evaluate --predictions RESULTS RESULTS", ["results.json", "expected COCO"]),
        ("evaluate --predictions RESULTS MODEL TRUTH", ["exactly one truth file"]),
        ("evaluate --predictions RESULTS TRUTH --sigmas 1,2", ["got 2, expected 3", "one for all"]),
        ("predict MODEL NOWHERE --out NEW", ["nowhere", "no such file or folder"]),
        ("predict MODEL nowhere/*.jpg --out NEW", ["nowhere/*.jpg", "no file's name is like this pattern"]),
        ("predict MODEL http://a.org/b.jpg --out NEW", ["http://a.org/b.jpg", "download it"]),
        ("predict DATA PICTURE --out NEW", ["no trained model here", "fiducial fit"]),
        ("predict MODEL FILE --out NEW", ["file.txt", "not a picture"]),
        ("predict MODEL PICTURE --out FILE", ["--out", "file"]),
        ("predict MODEL PICTURE --out NEW --boxes TRUTH", ["no image named 'picture.png'", "'3.jpg'"]),
        ("predict MODEL PICTURE --out NEW --boxes FILE", ["file.txt", "not JSON"]),
        ("predict MODEL camera:front --out NEW", ["camera:front", "camera:0"]),
        ("demo --epochs 0", ["--epochs"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    run: Run,
    arguments: str,
    words: list[str],
    blobs: Path,
    blob_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    truth, results = write_coco(tmp_path)
    (tmp_path / "file.txt").write_text("no picture")
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((30, 41, 3), 99, np.uint8))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    places = {
        "DATA": blobs,
        "MODEL": blob_model,
        "NEW": tmp_path / "new",
        "NOWHERE": tmp_path / "nowhere",
        "FILE": tmp_path / "file.txt",
        "TRUTH": truth,
        "RESULTS": results,
        "PICTURE": tmp_path / "picture.png",
    }
    result = run(*(places.get(word, word) for word in arguments.split()))
    assert result.code == 2, result.err
    assert is_one_line(result.err), result.err
    assert result.out == ""
    assert all(word in result.err for word in words), result.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_failure_is_one_line_with_code_1(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fiducial.evaluation import predictions

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr(predictions, "evaluate_results", fail)
    result = run("evaluate", "--predictions", tmp_path / "a", tmp_path / "b")
    assert result == (1, "", "fiducial: ZeroDivisionError: no luck (--debug shows where)\n")
    monkeypatch.setattr(sys, "argv", ["fiducial", "evaluate", "--debug", "--predictions", "a", "b"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_control_c_is_one_line_with_code_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiducial.evaluation import predictions

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predictions, "evaluate_results", stop)
    assert run("evaluate", "--predictions", "a", "b") == (130, "", "fiducial: stopped\n")


def test_resuming_is_offered_where_there_is_something_to_resume(
    run: Run, monkeypatch: pytest.MonkeyPatch, blobs: Path, tmp_path: Path
) -> None:
    from fiducial.api import fit

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit", stop)
    monkeypatch.setattr("fiducial.fit", stop)
    out = tmp_path / "run"
    assert run("fit", blobs, "--out", out) == (130, "", "fiducial: stopped\n")
    out.mkdir()
    (out / "recipe.json").write_text("{}")
    for words in (["--out", out], [f"--out={out}"]):
        assert "continues exactly with --resume" in run("fit", blobs, *words)[2]


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, blob_model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    result = run("predict", blob_model, tmp_path / "clip.mp4", "--out", tmp_path / "new")
    assert (result.code, is_one_line(result.err)) == (2, True)
    assert "pip install 'fiducial[video]'" in result.err
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------------------------------- output


def test_json_on_stdout_is_one_object(run: Run, blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    truth, results = write_coco(tmp_path)
    for arguments in (("--predictions", results, truth), (blob_model, blobs)):
        result = run("evaluate", *arguments, "--json", "-", "--per-point")
        assert result.code == 0, result.err
        assert result.out.count("\n") == 1
        assert {"model", "data", "split", "count", "normalizer", "metrics"} <= json.loads(result.out).keys()


def test_predict_prints_its_results_as_json(run: Run, blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    picture = next((blobs / "images").iterdir())
    result = run("predict", blob_model, picture, "--out", tmp_path / "new", "--json", "-")
    assert (result.code, result.err) == (0, "")
    assert [entry["file_name"] for entry in json.loads(result.out)] == [picture.name]
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".jpg"]
    assert not Path("-").exists()


def test_a_fit_prints_one_json_object_and_no_bar(run: Run, blobs: Path, tmp_path: Path) -> None:
    result = run("fit", blobs, "--out", tmp_path / "run", *smallest(epochs=1), "--json", "-")
    assert result.code == 0, result.err
    assert json.loads(result.out)["split"] == "val"
    assert result.out.count("\n") == 1
    assert not re.search("\x1b|\r|━", result.out + result.err)


def test_json_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    truth, results = write_coco(tmp_path)
    result = run("evaluate", "--predictions", results, truth, "--json", tmp_path / "deep" / "figures.json")
    assert result.code == 0
    assert "nme" in result.out
    assert json.loads((tmp_path / "deep" / "figures.json").read_text())["count"] == 2


# -------------------------------------------------------------------------------------------------- start-up

PRINT_MODULES = """
import atexit, sys
atexit.register(lambda: print("modules:", *sorted({name.partition(".")[0] for name in sys.modules})))
from fiducial.cli import main
main()
"""

FORBID = f"""
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FRAMEWORKS!r}:
            raise AssertionError("imported " + name)
sys.meta_path.insert(0, Forbid())
from fiducial.cli import main
main()
"""


def modules_of(*arguments: str) -> set[str]:
    done = process(*arguments, code=PRINT_MODULES)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    heavy = {*FRAMEWORKS, "cv2", "numpy", "rich", "scipy", "pandas", "onnxruntime"}
    assert not modules_of(*arguments) & heavy


def test_help_says_what_each_command_does_in_a_whole_sentence() -> None:
    listed = process("--help").stdout.partition("Commands:")[2]
    assert "..." not in listed
    assert " ".join(listed.split()).count(".") >= 10


def test_a_command_imports_no_other_command() -> None:
    code = "import sys; sys.argv = ['fiducial', 'fit', '--help']\nfrom fiducial.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    modules = process(code=code).stdout.split()
    assert [name for name in modules if name.startswith("fiducial.cli.commands.")] == ["fiducial.cli.commands.fit"]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("fiducial ev", ["evaluate"]),
        ("fiducial fit --ba", ["--backbone", "--batch-size"]),
        ("fiducial nothing --ba", []),
    ],
)
def test_shells_complete_commands_and_options(
    words: str, completed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_FIDUCIAL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert process().stdout.split() == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FIDUCIAL_COMPLETE", f"source_{shell}")
    done = process()
    assert (done.returncode, done.stderr) == (0, "")
    assert "_FIDUCIAL_COMPLETE=complete_" in done.stdout


def test_evaluating_results_imports_no_framework(tmp_path: Path) -> None:
    """By what was imported, and where importing one fails."""
    truth, results = write_coco(tmp_path)
    arguments = ("evaluate", "--predictions", str(results), str(truth))
    assert not modules_of(*arguments) & {*FRAMEWORKS, "cv2", "pandas", "onnxruntime", "rich"}
    done = process(*arguments, code=FORBID)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "no AP: no sigmas for its 3 points" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "fit nowhere --out new",
        "fit nowhere --out new --method motion",
        "fit nowhere --out new --method heatmp",
        "fit data --out new --method heatmp",
        "fit data --out new --epochs 2 --set optimizer.lrr=2",
        "compare nowhere --out new --methods heatmap",
        "distill nowhere --teacher data --student squeeze_unet --out new",
        "distill nowhere --teacher data --student squeeze_unet --out new --study",
        "evaluate data nowhere",
        "evaluate nomodel data",
        "evaluate data nowhere --linear-map",
        "profile nomodel",
        "serve nomodel",
        "export nomodel --out new",
        "distill data --teacher nomodel --student squeeze_unet --out new",
    ],
)
def test_mistyped_names_are_told_before_a_framework_is_imported(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second, where torch alone takes several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    (tmp_path / "data").mkdir()
    done = process(*words.split(), code=FORBID)
    assert done.returncode == 2
    assert is_one_line(done.stderr), done.stderr
    assert not (tmp_path / "new").exists()


def test_mistakes_of_predict_are_found_without_a_framework(tmp_path: Path) -> None:
    """Seconds of waiting for torch, then "no such file", annoy."""
    done = process("predict", str(tmp_path), str(tmp_path / "nowhere.jpg"), "--out", str(tmp_path / "new"), code=FORBID)
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    assert "no such file" in done.stderr
