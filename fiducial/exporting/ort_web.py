"""ONNX Runtime Web, the program that runs a model in a browser: one pinned version of the npm package `onnxruntime-web`,
fetched once by npm as the user has set it up (a mirror's address included), or given as a file or folder.

Only the files that a page needs are kept, each known by its digest, wherever it came from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fiducial import files, trial
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.web import pages

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
GIVEN = "FIDUCIAL_ORT_WEB"  # in the environment: the package's .tgz, or its folder unpacked
SECONDS = 600  # for npm to fetch 33 MB
# The smallest build that runs whole models on the CPU: WebAssembly with SIMD, one thread or several; and the smallest one
# that runs on a GPU, too (WebGPU), for browsers whose WebAssembly can wait for it (JSPI).
FILES = {
    "script": ("ort.wasm.min.js", "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81"),
    "module": ("ort-wasm-simd-threaded.mjs", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"),
    "wasm": ("ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"),
    "gpu_script": ("ort.jspi.min.js", "e0f5c81dc6c6bc6d368288c76278783510dcd20d8ef6b39f1670928ce8ea80d9"),
    "gpu_module": (
        "ort-wasm-simd-threaded.jspi.mjs",
        "270e2c6da9f297239d301d329782b6446641cb1e16a77967690adcfca35f3268",
    ),
    "gpu_wasm": (
        "ort-wasm-simd-threaded.jspi.wasm",
        "a54c76f86b0f0d9572380cf1c6292a7b3903716ffcbcd6b0e5c7050bf430eb93",
    ),
}


def parts() -> tuple[dict[str, str], dict[str, str]]:
    """Gives {"version", "script", "module": texts, "wasm": packed} for the CPU, and for CPU and GPU. Raises UserError where
    the package can't be had."""
    given = os.environ.get(GIVEN)
    found = _given(Path(given)) if given else _kept() or _fetched()
    return _of("", found), _of("gpu_", found)


def _of(kind: str, found: dict[str, bytes]) -> dict[str, str]:
    return {
        "version": VERSION,
        "script": found[f"{kind}script"].decode(),
        "module": found[f"{kind}module"].decode(),
        "wasm": _packed(found[f"{kind}wasm"]),
    }


_packed = lru_cache(maxsize=2)(pages.packed)  # a process that makes several pages packs the runtimes once


def _given(place: Path) -> dict[str, bytes]:
    if place.is_dir():
        folders = (place, place / "dist", place / "package" / "dist")
        holds = next(
            (folder for folder in folders if all((folder / name).is_file() for name, _ in FILES.values())), None
        )
        if holds is None:
            raise UserError(place, f"({GIVEN}) does not hold {', '.join(name for name, _ in FILES.values())}; {_how()}")
        return _checked({what: _read(holds / name) for what, (name, _) in FILES.items()}, place)
    if not place.is_file():
        raise UserError(place, f"({GIVEN}) is not there; {_how()}")
    return _of_archive(place)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise files.unreadable(file, error) from error


def _of_archive(archive: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    wanted = {f"package/dist/{name}": what for what, (name, _) in FILES.items()}
    try:
        with tarfile.open(archive, "r:*") as package:
            for member in package:
                if member.isfile() and (what := wanted.get(member.name)) and (content := package.extractfile(member)):
                    found[what] = content.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(archive, f"can't be read as an npm package: {error}; {_how()}") from error
    return _checked(found, archive)


def _checked(found: dict[str, bytes], place: Path) -> dict[str, bytes]:
    for what, (name, digest) in FILES.items():
        if what not in found:
            raise UserError(place, f"has no {name}: not the npm package onnxruntime-web; {_how()}")
        if hashlib.sha256(found[what]).hexdigest() != digest:
            raise UserError(place, f"{name} is not that of {PACKAGE}: of another version, or altered; {_how()}")
    return found


def _folder() -> Path | None:
    """Where the files are kept between exports; None without a home."""
    tried = trial.folder()
    return None if tried is None else tried.parent / f"onnxruntime-web-{VERSION}"


def _kept() -> dict[str, bytes] | None:
    folder = _folder()
    if folder is None or not all((folder / name).is_file() for name, _ in FILES.values()):
        return None
    with suppress(UserError):  # altered: fetched anew
        return _checked({what: _read(folder / name) for what, (name, _) in FILES.items()}, folder)
    return None


def _fetched() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--to web needs {PACKAGE}, which npm fetches, and npm is not installed; {_how()}")
    logger.info(f"fetching {PACKAGE} by npm, 33 MB, once")
    with tempfile.TemporaryDirectory() as work:
        command = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", work]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"--to web: `npm pack {PACKAGE}` failed: {error}; {_how()}") from error
        archive = next(Path(work).glob("*.tgz"), None)
        if done.returncode or archive is None:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
            why = said[0].strip() if said else f"it ended with {done.returncode}"
            raise UserError(f"--to web: `npm pack {PACKAGE}` failed: {why}; {_how()}")
        found = _of_archive(archive)
    folder = _folder()
    with suppress(OSError):  # a cache that can't be written costs time alone
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for what, (name, _) in FILES.items():
                files.write_bytes(folder / name, found[what])
    return found


def _how() -> str:
    return (
        f"run `npm pack {PACKAGE}` on a machine with npm and a network, copy the .tgz here and set {GIVEN} to its path"
    )
