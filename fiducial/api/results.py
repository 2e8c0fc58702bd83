"""What the functions of the API give: the figures that a command prints, and where its files are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiducial.errors import UserError, did_you_mean
from fiducial.log import logger

if TYPE_CHECKING:
    from fiducial.exporting.certificate import Certificate
    from fiducial.runtime.runtime import Runtime


MOST_SAID = 20  # lines about what was assumed and left out


def say(notes: Sequence[str]) -> None:
    """Says what was assumed and left out, the first of it, as warnings."""
    for line in notes[:MOST_SAID]:
        logger.warning(line)
    if len(notes) > MOST_SAID:
        logger.warning(f".. and {len(notes) - MOST_SAID} more; --json FILE has them all")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Holds the figures of a run, an evaluation or a comparison."""

    figures: Mapping[str, Any]  # what `--json` writes, and `files`: name -> path
    table: Sequence[Mapping[str, Any]] = field(default=(), repr=False)  # where the answer is a table
    lines: Sequence[str] = ()  # the answer in sentences

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Gives the figures by their names: fractions, not percent; None where there was nothing to measure."""
        return self.figures.get("metrics", {})

    def __getitem__(self, name: str) -> Any:
        """Gives a metric by its name, `result["nme"]`. Raises UserError for one that is not there."""
        if name not in self.metrics:
            raise UserError(f"metric {name!r}: is not there.{did_you_mean(name, self.metrics)}")
        return self.metrics[name]

    @property
    def files(self) -> Mapping[str, str]:
        """Gives what was written: name -> path."""
        return self.figures.get("files", {})

    @property
    def notes(self) -> Sequence[str]:
        """Gives what was assumed, and what was left out."""
        return [*self.figures.get("notes", ()), *self.figures.get("problems", ())]


@dataclass(frozen=True, kw_only=True)
class Run(Result):
    """Holds what a training came to. It stands for its folder wherever a path of a model is taken."""

    folder: Path

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def model(self) -> Runtime:
        """Loads the best weights: `run.model()(image)`."""
        from fiducial.runtime import runtime

        return runtime.load(self.folder)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Holds an exported file and its certificate. It stands for its file wherever a path of a model is taken."""

    file: Path
    certificate: Certificate

    def __fspath__(self) -> str:
        return os.fspath(self.file)

    def model(self) -> Runtime:
        """Loads the file in its runtime, which needs no torch."""
        from fiducial.runtime import runtime

        return runtime.load(self.file)
