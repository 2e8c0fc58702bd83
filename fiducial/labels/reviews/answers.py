"""The answers of a person to findings: written to a log one by one before anything else happens, so that none is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from fiducial.errors import UserError

KEEP, TAKE, MOVED, SKIP = (
    "keep",
    "take",
    "moved",
    "skip",
)  # the label, the proposal, the points where they were dragged, later


class Answer(msgspec.Struct, frozen=True):
    """Holds one answer, as a line of the log has it."""

    finding: str  # `key` of the finding
    answer: str  # of KEEP, TAKE, MOVED, SKIP
    xy: dict[str, tuple[float, float]] = {}  # of MOVED: px by the points' names
    at: str = ""  # local time


@dataclass(frozen=True)
class Log:
    """Keeps answers in a file of one JSON object a line; the last one to a finding counts."""

    path: Path

    def read(self) -> dict[str, Answer]:
        """Gives the answers by finding. A last line that was cut by a crash is left out; UserError for another that is no
        answer."""
        if not self.path.exists():
            return {}
        lines = self.path.read_bytes().splitlines()
        answers = {}
        for number, line in enumerate(lines, 1):
            try:
                answer = msgspec.json.decode(line, type=Answer)
            except msgspec.MsgspecError as error:
                if number == len(lines):
                    break
                raise UserError(self.path, f"line {number} is no answer: {error}; remove it") from error
            answers[answer.finding] = answer
        return answers

    def add(self, finding: str, answer: str, xy: Mapping[str, tuple[float, float]]) -> Answer:
        """Writes an answer to the disk before it is given back."""
        given = Answer(finding, answer, dict(xy), f"{datetime.now():%Y-%m-%d %H:%M:%S}")
        with open(self.path, "ab") as file:
            file.truncate(self._whole())
            file.write(msgspec.json.encode(given) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return given

    def _whole(self) -> int:
        """Counts the bytes of the lines that are whole: a crash may have cut the last one."""
        return self.path.read_bytes().rfind(b"\n") + 1


def key_of(finding: Mapping[str, Any]) -> str:
    """Names a finding of a check's JSON, so that its answer is found again in another run of the check."""
    about = [finding.get(name) for name in ("kind", "split", "image", "annotation_id", "points")]
    return json.dumps(about, ensure_ascii=False)
