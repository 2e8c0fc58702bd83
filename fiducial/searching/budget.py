"""What an answer may take: `3ms@onnxruntime:1`, milliseconds of one crop in a runtime on so many threads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fiducial.errors import UserError, did_you_mean
from fiducial.runtime import runtime

FORM = "MILLISECONDSms@RUNTIME:THREADS, such as 3ms@onnxruntime:1"


@dataclass(frozen=True)
class Place:
    """Where latencies are measured: in a runtime, on so many threads."""

    runtime: str
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.runtime}:{self.threads}"


@dataclass(frozen=True)
class Budget:
    """What an answer may take, and where."""

    ms: float
    place: Place

    def __str__(self) -> str:
        return f"{self.ms:g}ms@{self.place}"


def budget_of(text: str) -> Budget:
    """Reads `3ms@onnxruntime:1`; without `:1` one thread is meant. UserError says what is wrong."""
    time, at, where = text.strip().partition("@")
    match = re.fullmatch(r"\s*([-+]?\d*\.?\d+(?:e[-+]?\d+)?)\s*ms\s*", time, re.IGNORECASE)
    if match is None or not at:
        missing = "no @RUNTIME" if match is not None else "no number of ms before @" if at else "no number of ms"
        raise UserError(f"--budget {text!r}", f"{missing}; expected {FORM}")
    ms = float(match[1])
    if not 0 < ms < float("inf"):
        raise UserError(f"--budget {text!r}", f"{ms:g} ms: expected a number above 0")
    return Budget(ms, place_of(where, f"--budget {text!r}"))


def place_of(text: str, option: str) -> Place:
    """Reads `onnxruntime:1`; `option`: what it was given as, for messages."""
    name, colon, threads = text.strip().partition(":")
    known = {family.NAME: family for family in runtime.targets().values()}
    if name not in known:
        raise UserError(option, f"runtime {name!r}: no files are exported for it.{did_you_mean(name, known)}")
    if colon and not (threads.isdecimal() and 0 < int(threads) <= 1024):
        raise UserError(option, f"{threads!r} threads: expected a whole number above 0 behind the colon")
    return Place(name, int(threads) if colon else 1)
