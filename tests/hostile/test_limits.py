"""The helper itself: each way to end is seen as what it is, and what follows goes on in a new process."""

from __future__ import annotations

import os
import sys
import time

import pytest
from hostile import limits

from fiducial.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")


def obey(word: str) -> str:
    if word == "refuse":
        raise UserError("a.json", "no")
    if word == "two lines":
        return "one\nand two"
    if word == "fail":
        raise KeyError("x")
    if word == "eat":
        return str(len(bytearray(2**30)))
    if word == "sleep":
        time.sleep(60)
    if word == "die":
        os.abort()
    print("printed")
    return word


def test_each_way_to_end() -> None:
    words = ["fine", "refuse", "two lines", "fail", "eat", "sleep", "die", "fine"]
    outcomes = limits.run("hostile.test_limits:obey", words, seconds=0.5, megabytes=200)
    kinds = ["answered", "refused", "answered", "exception", "memory", "hang", "died", "answered"]
    assert [outcome.kind for outcome in outcomes] == kinds
    assert [outcome.value for outcome in limits.faults(outcomes)] == ["two lines", "fail", "eat", "sleep", "die"]
    assert "8 inputs: " in limits.table(outcomes)
