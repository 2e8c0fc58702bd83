"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import csv
import errno
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from fiducial import cli, files
from fiducial.errors import Interrupted, UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.json", "old")

    def fail() -> None:
        with files.replacing(tmp_path / "a.json") as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_the_temporary_file_lies_beside_and_ends_alike(tmp_path: Path) -> None:
    """A rename is one step on one file system alone; libraries choose a format by the ending."""
    with files.replacing(tmp_path / "new" / "a.png") as partial:
        assert (partial.parent, partial.suffix) == (tmp_path / "new", ".png")
        partial.write_bytes(b"x")
    assert names(tmp_path / "new") == ["a.png"]
    assert (tmp_path / "new" / "a.png").stat().st_mode & 0o777 == 0o644


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match=r"b\.txt: can't be written"):
        files.write_text(tmp_path / "a" / "b.txt", "x")


def test_pipes_and_devices_are_written_to_not_replaced() -> None:
    files.write_text(Path(os.devnull), "x")
    assert not Path(os.devnull).is_file()


def test_csv_has_every_column_once() -> None:
    rows = [{"a": 1, "b": "x,\n"}, {"c": None, "a": 2}]
    back = list(csv.DictReader(io.StringIO(files.csv_text(rows))))
    assert back == [{"a": "1", "b": "x,\n", "c": ""}, {"a": "2", "b": "", "c": ""}]


def test_json_that_json_has_not_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []
    for text in ("{", "[" * 100_000, "\udcff"):
        (tmp_path / "b.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match=r"b\.json: not "):
            files.read_json(tmp_path / "b.json")


def test_a_digest_sees_every_part() -> None:
    parts = [np.arange(6), "x", b"y"]
    assert files.digest(parts) == files.digest(parts)
    assert len({files.digest(parts), files.digest(parts[::-1]), files.digest([np.arange(7), "x", b"y"])}) == 3


def test_finite() -> None:
    assert [files.finite(value) for value in (1.5, float("nan"), float("inf"), None)] == [1.5, None, None, None]


def test_names_that_are_no_text_are_written_all_the_same(tmp_path: Path) -> None:
    """Python gives the bytes of such a name as lone surrogates, which UTF-8 can't hold."""
    files.write_text(tmp_path / "a.csv", "caf\udce9.png,1")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "caf\\udce9.png,1"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Error while serializing: I/O error: No space left on device (os error 28) at path "x"', "No space left"),
        ("I/O error (os error 122)", "Disk quota exceeded; make room or choose another place"),
        ("[E1] Too many open files", "Too many open files; allow more open files"),
        ("write failed: Read-only file system", "Read-only file system; choose another place"),
        ("shapes (28, 3) and (122,) don't fit", None),
    ],
)
def test_a_library_s_own_words_for_a_fault_of_the_disk(tmp_path: Path, said: str, told: str | None) -> None:
    """Also where there are bytes, but no more files (inodes) or no more of one's quota. Other faults stay themselves."""
    with pytest.raises(RuntimeError if told is None else Interrupted) as raised, files.replacing(tmp_path / "a.bin"):
        raise RuntimeError(said)
    assert told is None or f"a.bin: can't be written: {told}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_while_a_file_is_written(tmp_path: Path) -> None:
    def fails() -> None:
        with files.replacing(tmp_path / "run" / "a.bin") as partial:
            partial.unlink()
            partial.parent.rmdir()
            raise RuntimeError("open failed: No such file or directory")

    with pytest.raises(Interrupted, match=r"a\.bin: can't be written: No such file or directory; choose another place"):
        fails()


@pytest.mark.parametrize(
    ("number", "folder", "kind"),
    [
        (errno.ENOENT, True, UserError),
        (errno.EACCES, True, UserError),
        (errno.ENOENT, False, Interrupted),
        (errno.EIO, False, Interrupted),
        (errno.EMFILE, True, Interrupted),
        (errno.ESTALE, True, Interrupted),
    ],
)
def test_whose_fault_it_is_that_a_file_can_t_be_read(tmp_path: Path, number: int, folder: bool, kind: type) -> None:
    path = (tmp_path if folder else tmp_path / "gone") / "a.png"
    error = files.unreadable(path, OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert os.strerror(number) in str(error)


@pytest.mark.parametrize("text", ["[]", "3", '"recipe"', "null", "{}", '{"data": 1}', "[" * 5000, "NaN"])
def test_an_object_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(UserError, match=r"recipe\.json: (expected an object with a field 'recipe'|not JSON)"):
        files.read_object(tmp_path / "recipe.json", "recipe")


def test_whatever_a_library_makes_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's writer ends with a RuntimeError of positions; with room on the disk such an error is itself."""
    path = tmp_path / "last.ckpt"
    path.write_text("before")

    def fails() -> None:
        with files.replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("unexpected pos 64 vs 32")

    with pytest.raises(RuntimeError, match="unexpected pos"):
        fails()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: type("usage", (), {"free": 0}))
    with pytest.raises(Interrupted, match=r"last.ckpt: can't be written: No space left on device; make room"):
        fails()
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_text() == "before"


def test_a_full_disk_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fiducial", "fit"])
    assert cli._say(Interrupted("r/last.ckpt", "can't be written")) == 2
    assert (
        capsys.readouterr().err
        == "fiducial: r/last.ckpt: can't be written; then `fiducial fit` continues exactly with --resume\n"
    )
    assert cli._say(OSError(errno.ENOSPC, "No space left on device", "r/log")) == 2
    assert "r/log: No space left on device; mend that; then `fiducial fit` continues" in capsys.readouterr().err
    assert cli._say(OSError(errno.EPIPE, "Broken pipe")) == 1, "no matter of the disk"
