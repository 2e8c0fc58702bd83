"""Pictures from strangers: mutated, lying, huge, endless: read, or one line; at most 10 s and 1 GB.

All of them: `pytest -m long tests/hostile/test_pictures.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostile import limits, pictures

from fiducial.data import decoding

READ = "hostile.pictures:read_one"


def test_mutated_pictures_of_each_kind(capfd: pytest.CaptureFixture[str]) -> None:
    values = [(kind, seed) for kind in pictures.KINDS for seed in range(12)]
    outcomes = limits.run(READ, values, warm=("jpeg", 0))
    assert not limits.faults(outcomes), limits.table(outcomes)
    assert {outcome.kind for outcome in outcomes} == {"answered", "refused"}
    assert [line for line in capfd.readouterr().err.splitlines() if ": damaged inside, " not in line] == []


@pytest.mark.long
@pytest.mark.parametrize("kind", pictures.KINDS)
def test_five_hundred_mutated_pictures(kind: str) -> None:
    outcomes = limits.run(READ, [(kind, seed) for seed in range(500)], warm=("jpeg", 0))
    assert not limits.faults(outcomes), limits.table(outcomes)


def test_every_kind_is_read_whole() -> None:
    for kind in pictures.KINDS:
        shape = (160, 120, 3) if kind == "exif" else (120, 160, 3)
        assert decoding.decode(pictures.whole(kind), kind).shape == shape


def test_sizes_and_scans_that_would_take_all(tmp_path: Path) -> None:
    """What says little and takes much: the decoder's own size and time decide."""
    files = {
        "hidden.jpg": pictures.large_jpeg(32_760),
        "scans.jpg": pictures.many_scans(scans=50_000),
        "black.png": pictures.png(30_000, 30_000),
        "deep.png": pictures.png(8000, 8000, 16, 6),
        "long.png": pictures.png(2_000_000, 1),
    }
    for name, data in files.items():
        assert len(data) < 4_000_000
        (tmp_path / name).write_bytes(data)
    outcomes = limits.run("hostile.pictures:read_file", [str(tmp_path / name) for name in files])
    assert not limits.faults(outcomes), limits.table(outcomes)
    kinds = {Path(outcome.value).name: outcome.kind for outcome in outcomes}
    assert {name for name, kind in kinds.items() if kind == "refused"} >= {*files} - {"deep.png"}, limits.table(
        outcomes
    )


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "nothing.jpg").touch()
    (tmp_path / "none.jpg").symlink_to(tmp_path / "gone.jpg")
    outcomes = limits.run("hostile.pictures:read_file", sorted(map(str, tmp_path.iterdir())), seconds=3)
    assert not limits.faults(outcomes), limits.table(outcomes)
    assert {outcome.kind for outcome in outcomes} == {"refused"}


def test_the_command_line_sets_the_limit() -> None:
    from fiducial import cli

    source = Path(cli.__file__).read_text(encoding="utf-8")
    assert f'"{decoding.LIMIT}", str(2**25)' in source
    assert decoding.MOST_PIXELS == 2**25
