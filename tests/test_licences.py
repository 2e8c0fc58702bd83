"""docs/licences.md says of every installed dependency what the dependency says of itself."""

from __future__ import annotations

import re
import sys

import pytest

pytest.importorskip("tomllib")
import licences
from licences import BASE, COPYLEFT, DOCUMENT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the table is that of Linux")


def test_the_table_is_what_is_installed() -> None:
    """A dependency that comes, goes, or changes its version or licence fails here: look at it, then
    `python tests/licences.py`."""
    rows = licences.table()
    here = {row[0] for row in rows}
    extras = {BASE, *licences.requirements()}
    said = {row for row in licences.documented() if len(row) == 4 and row[3] in extras}
    installed = {row for row in said if licences._is_installed(row[0])}
    assert {row[0] for row in installed} == here
    assert set(rows) - said == set()


def test_the_table_and_the_constraints_name_the_same_versions() -> None:
    text = (licences.ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {
        licences.canonicalize_name(name): version for name, version in re.findall(r"^([\w-]+)==([\w.]+)", text, re.M)
    }
    said = {row[0]: row[1] for row in licences.documented() if len(row) == 4 and row[0] in pinned}
    assert said == {name: pinned[name] for name in said}
    unpinned = {row[0] for row in licences.table() if row[0] not in pinned}
    assert unpinned <= {"setuptools"}, "installed in whatever version there is: not in constraints.txt"


def test_the_base_has_nothing_copyleft() -> None:
    base = [row for row in licences.table() if row[3] == BASE]
    assert len(base) > 10
    assert [row for row in base if any(word in row[2] for word in (*COPYLEFT, "not said"))] == []


def test_what_is_copyleft_is_said_in_words() -> None:
    words = DOCUMENT.read_text(encoding="utf-8").partition("## ")[0]
    rows = [row for row in licences.table() if any(word in row[2] for word in (*COPYLEFT, "not said"))]
    assert rows
    assert [row[0] for row in rows if row[0] not in words] == []


def test_the_libraries_inside_wheels_are_listed() -> None:
    said: dict[str, set[str]] = {}
    for row in licences.documented():
        if len(row) == 3:
            said.setdefault(row[0], set()).update(row[1].split(", "))
    found = licences.bundled(row[0] for row in licences.table())
    assert {name: set(libraries) - said.get(name, set()) for name, libraries in found.items()} == {
        name: set() for name in found
    }


def test_ffmpeg_s_own_words() -> None:
    """The GPL comes by x264 and x265 alone, and the document says so."""
    core = pytest.importorskip("av._core")
    about = core.library_meta["libavcodec"]
    words = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    assert f'"{about["license"]}"' in words
    assert "--enable-gpl" not in about["configuration"]
    flags = re.findall(r"--enable-libx26\d", about["configuration"])
    assert all(flag in words for flag in flags)
