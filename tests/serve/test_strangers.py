"""A server among strangers: hostile pictures and slow clients get their refusals, others their answers; nothing is left.

All of them, and how quick: `pytest -m long tests/serve/test_strangers.py -s` prints the table (minutes)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from hostile import pictures
from serve import strangers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
REFUSALS = {400, 413, 415, 422, 503}


def assert_unharmed(found: strangers.Visit, log: str) -> None:
    """Whatever came, what holds on a machine of any pace."""
    table = found.table()
    assert found.statuses(*strangers.POLITE) == {200: found.statuses(*strangers.POLITE).total()}, table
    assert set(found.statuses(*strangers.HOSTILE)) <= {200, *REFUSALS}, table
    assert set(found.statuses(*strangers.SLOW)) <= {0, 404, 408, *REFUSALS}, table
    assert found.processes[0] == found.processes[1], table
    assert found.sockets[0] == found.sockets[1], table
    assert found.memory_mib[2] - found.memory_mib[0] < 50, table
    assert "Traceback" not in log


def test_a_few_strangers(tmp_path: Path) -> None:
    slow, good = list(strangers.SLOW), pictures.whole("jpeg")
    with strangers.process_served(tmp_path / "log") as server:
        found = asyncio.run(strangers.visit(server, hostile=20, at_once=2, slow=slow, seconds=0.5, good=good))
    assert_unharmed(found, server.log.read_text())


@pytest.mark.long
def test_a_thousand_hostile_pictures_and_a_hundred_slow_clients(blob_onnx: Path, tmp_path: Path) -> None:
    slow = [list(strangers.SLOW)[i % len(strangers.SLOW)] for i in range(100)]
    with strangers.process_served(tmp_path / "log", str(blob_onnx), "--timeout", "10") as server:
        asking = strangers.visit(
            server, hostile=1000, at_once=1, slow=slow, seconds=6, good=strangers.load.photo(), rounds=8
        )
        found = asyncio.run(asking)
        print(found.table())
        # One after another, beside a polite client alone: what takes long steps back behind everybody else.
        alone = asyncio.run(
            strangers.visit(server, hostile=100, at_once=1, slow=[], seconds=0.5, good=strangers.load.photo())
        )
        print(alone.table())
    assert_unharmed(found, server.log.read_text())
    assert max(found.slower()) < 2, found.table()
    assert max(map(max, alone.told.refused.values())) < 1, alone.table()
