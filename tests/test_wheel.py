"""The wheel and the sources that are published: what is in them, and that they are enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from import_direction import ROOT

SOURCES = (
    "fiducial",
    "benchmarks",
    "docs",
    "recipes",
    "tests",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
)
MOST_PACKAGES = 16  # besides Fiducial, in the base install
BUILD = "from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"


def files_of(folder: Path) -> set[str]:
    """What of a folder is ours, below the root of the project."""
    kept = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in kept}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the archive of sources, of a copy: setuptools leaves files of its own where it builds."""
    pytest.importorskip("setuptools", "77")
    source, out = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("dist")
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)  # with what lies about, such as __pycache__
        else:
            shutil.copy(ROOT / name, source)
    for kind in ("wheel", "sdist"):
        command = [sys.executable, "-c", f"import sys; {BUILD}", kind, str(out)]
        subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == files_of(ROOT / "fiducial")
    assert {Path(name).name for name in about} == {
        "LICENSE",
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "top_level.txt",
    }
    assert "fiducial/py.typed" in names
    assert sum(file.file_size for file in zipfile.ZipFile(built[0]).infolist()) < 8e6


def test_the_sources_can_be_built_and_tested(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    folders = [ROOT / name for name in SOURCES if (ROOT / name).is_dir()]
    expected = {name for name in SOURCES if (ROOT / name).is_file()}.union(*map(files_of, folders))
    made = {name for name in names if name.startswith("fiducial.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert names - made == expected


# --------------------------------------------------------------------------------------------- installed elsewhere


def installed(wheel: Path, folder: Path, extra: str = "") -> Path:
    """Installs the wheel into an environment of its own: that environment's folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [programs / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*command, f"{wheel}{extra}"], check=True, timeout=1200)
    return programs


def call(programs: Path, folder: Path, *words: object) -> str:
    """`fiducial WORDS` of that environment, away from the checkout: what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [programs / "fiducial", *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def packages(programs: Path) -> set[str]:
    command = [programs / "python", "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return {package["name"] for package in json.loads(listed.stdout)} - {"fiducial", "pip", "setuptools"}


@pytest.mark.long
def test_the_base_install_is_small_and_enough(
    built: tuple[Path, Path], blobs: Path, blob_onnx: Path, tmp_path: Path
) -> None:
    """In an environment without torch: predict, evaluate; with the extra `serve`, serve."""
    programs = installed(built[0], tmp_path / "environment")
    names = packages(programs)
    print(f"{len(names)} packages: {', '.join(sorted(names))}")
    assert "torch" not in names
    assert len(names) <= MOST_PACKAGES, sorted(names)
    call(programs, tmp_path, "predict", blob_onnx, blobs / "images" / "test_0.png", "--out", "out")
    call(programs, tmp_path, "evaluate", blob_onnx, blobs, "--json", "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())["count"] == 16
    serving = installed(built[0], tmp_path / "serving", "[serve]")
    assert "torch" not in packages(serving)
    image = (blobs / "images" / "test_0.png").read_bytes()
    command = [serving / "fiducial", "serve", str(blob_onnx), "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if "http://" in line)
            address = line[line.index("http://") :].split()[0].rstrip("/,;")
            time.sleep(1)
            with urllib.request.urlopen(f"{address}/predict", data=image, timeout=30) as answer:
                assert len(json.load(answer)["instances"][0]["points"]) == 3
        finally:
            server.terminate()


@pytest.mark.long
def test_with_the_extra_train_it_fits(built: tuple[Path, Path], blobs: Path, tmp_path: Path) -> None:
    programs = installed(built[0], tmp_path / "environment", "[train]")
    words = ["--epochs", "1", "--size", "64x64", "--batch-size", "8", "--pretrained", "no"]
    call(programs, tmp_path, "fit", blobs, "--out", "run", *words)
    assert (tmp_path / "run" / "report.html").exists()
    call(programs, tmp_path, "export", "run", "--to", "onnx", "--out", "shipped", "--data", blobs)
    assert (tmp_path / "shipped" / "model.onnx").exists()
