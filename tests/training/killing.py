"""Commands that end before their end: each in a process of its own, which gets a real signal at a place that is named.

The processes are forked from one that has imported everything, so that a stage takes as long as its training."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import warmed

TESTS = Path(__file__).parent.parent


class Stage(NamedTuple):
    """One process: its command line, and the place at which it gets a signal."""

    arguments: list[str]
    place: str = ""  # a name of PLACES; "" = it comes to its end
    count: int = 0  # which step, or which time that the place is come to, from 1
    how: str = "SIGKILL"


class Ended(NamedTuple):
    """How a stage ended."""

    code: int  # -9 where it was killed
    errors: str


def in_processes(stages: list[Stage], folder: Path, environment: dict[str, str] | None = None) -> list[Ended]:
    """Runs the stages one after the other; `folder` takes what they say."""
    folder.mkdir(parents=True, exist_ok=True)
    plan, results = folder / "stages.json", folder / "results.json"
    plan.write_text(json.dumps(stages))
    code = "import sys; from training import killing; killing.main(*sys.argv[1:])"
    done = warmed.run(code, plan, results, path=[TESTS], environment=environment)
    assert done.returncode == 0, done.stderr
    return [Ended(*entry) for entry in json.loads(results.read_text())]


# ------------------------------------------------------------------------------- inside the process that forks


def main(plan_file: str, results_file: str) -> None:
    import fiducial.distillation.workflow
    import fiducial.training.engine  # noqa: F401

    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that were started in the background ignore it
    plan, results, ended = Path(plan_file), Path(results_file), []
    for number, entry in enumerate(json.loads(plan.read_text())):
        errors = plan.parent / f"{number}.stderr"
        ended.append(Ended(_forked(Stage(*entry), errors), errors.read_text()))
    results.write_text(json.dumps(ended))


def _forked(stage: Stage, errors: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            for stream, target in ((1, os.devnull), (2, str(errors))):
                os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644), stream)
            code = _obey(stage)
        finally:
            sys.stderr.flush()
            os._exit(code if "code" in locals() else 99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if stage.place == "gone":
        (data := Path(stage.arguments[1])).joinpath("gone").rename(data / "images")
    return code


def _obey(stage: Stage) -> int:
    from fiducial import cli

    if stage.place:
        PLACES[stage.place](stage)
    sys.argv = ["fiducial", *stage.arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _patched(owner: Any, name: str, stage: Stage, before: Callable[..., None] | None = None) -> None:
    """Sends the signal as a function is called for the `count`th time; `before` does what is half done by then."""
    original, calls = getattr(owner, name), 0

    def wrapper(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stage.count:
            if before is not None and stage.how == "SIGKILL":
                before(original, *arguments)
            os.kill(os.getpid(), signal.Signals[stage.how])
        return original(*arguments, **options)

    setattr(owner, name, wrapper)


def _at_step(stage: Stage) -> None:
    _before_step(stage, lambda: os.kill(os.getpid(), signal.Signals[stage.how]))


def _before_step(stage: Stage, happens: Callable[[], object]) -> None:
    from fiducial.training.module import Training

    original = Training.training_step

    def training_step(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == stage.count:
            happens()
        return original(self, batch, index)

    Training.training_step = training_step  # type: ignore[method-assign]


def _a_loader_process(stage: Stage) -> None:
    """It is one of those that load, and not the run itself, that gets the signal: as where memory runs out."""

    def kill() -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.Signals[stage.how])

    _before_step(stage, kill)


def _without_images(stage: Stage) -> None:
    """The drive of the images is gone, from a step on."""
    images = Path(stage.arguments[1]) / "images"
    _before_step(stage, lambda: images.rename(images.with_name("gone")))


def _while_writing(stage: Stage) -> None:
    """Half of a checkpoint is on disk."""
    import torch

    def half(save: Callable[..., None], checkpoint: Any, file: Any) -> None:
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()

    _patched(torch, "save", stage, half)


def _between_last_and_best(stage: Stage) -> None:
    from fiducial.training.checkpoints import Checkpoints

    _patched(Checkpoints, "_name_the_best", stage)


def _before_training(stage: Stage) -> None:
    from fiducial.training import engine

    _patched(engine, "run", stage)


def _before_saving(stage: Stage) -> None:
    from fiducial.models import detector

    _patched(detector, "save", stage)


def _in_validation(stage: Stage) -> None:
    from fiducial.training.module import Training

    _patched(Training, "on_validation_epoch_end", stage)


PLACES: dict[str, Callable[[Stage], None]] = {
    "step": _at_step,
    "loader": _a_loader_process,
    "gone": _without_images,
    "writing": _while_writing,
    "between": _between_last_and_best,
    "begun": _before_training,
    "trained": _before_saving,
    "validation": _in_validation,
}
