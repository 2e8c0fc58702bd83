"""What training for a search has at hand: what was decided, the data, the folder, the time that is left, and places to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiducial import card, files
from fiducial.comparison import train
from fiducial.comparison.cells import Cell
from fiducial.comparison.methods import fit_command
from fiducial.comparison.places import Places
from fiducial.data.source import Source
from fiducial.searching import state as states
from fiducial.searching.state import Clock, State
from fiducial.training.recipe import Recipe


@dataclass(frozen=True)
class Training:
    """A search that trains."""

    state: State
    source: Source
    out: Path
    clock: Clock
    reserve_s: float  # at the end, for what is not training
    places: Places = Places()
    progress: bool = False

    @property
    def left_s(self) -> float:
        """Seconds that are left for training; below 0 where they are over."""
        return self.clock.left_s - self.reserve_s

    def keep(self) -> None:
        """Writes the state down."""
        states.keep(self.out, self.state)

    def run(
        self,
        cells: Sequence[Cell],
        *,
        finished: Callable[[Path], bool],
        begins: Callable[[Cell], bool] = lambda cell: True,
    ) -> dict[str, str]:
        """Trains what is not finished; run -> why it failed."""
        return train.train(
            cells,
            self.out,
            lambda val: f"val NME {100 * val['nme']:.2f} %",
            places=self.places,
            progress=self.progress,
            finished=finished,
            begins=begins,
        )

    def nme(self, cell: Cell) -> float:
        """Reads what a run has come to on val."""
        path = self.out / cell.folder / "model.json"
        with files.ours(path):
            return float(card.read(path).metrics["val"]["nme"])


def run_of(label: str, recipe: Recipe, name: str, source: Source) -> Cell:
    """Makes a run of `fiducial fit` in OUT/runs/NAME."""
    return Cell(label=label, recipe=recipe, folder=f"runs/{name}", command=fit_command(source, recipe))


def is_finished(folder: Path) -> bool:
    """Whether a run has come to its end: what it writes last says so."""
    return train.is_finished(folder) and (folder / "metrics.json").is_file()
