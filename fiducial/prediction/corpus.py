"""`fiducial predict .. --out FILE.parquet`: pictures in any number, in shards, by processes here or by Ray's anywhere.

A shard is so many pictures that follow each other; whoever takes it writes its file whole or not at all, so that a shard is
done when its file is there, however often it was begun. When all are there they become one file. A worker that is killed,
or runs out of memory, takes nothing with it but the shard that it had, which another one begins anew; a command that was
stopped goes on with the shards that lack. Points do not depend on who finds them: the file has the same bytes.

    FILE.parquet.parts/plan.json, 00000.parquet, ..    until all is there"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fiducial import cluster, config, files, folders
from fiducial.cluster import TRIES
from fiducial.errors import Failure, UserError, one_line
from fiducial.log import logger, muted
from fiducial.prediction import boxes as boxes_files
from fiducial.prediction import outputs, parquet, pictures
from fiducial.prediction.pictures import Picture
from fiducial.prediction.pipeline import PLAIN, Pipeline
from fiducial.progress import progress
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.worker import Worker

SHARD = 256  # pictures
POLL_SECONDS = 0.02
MOST_SAID = 10  # pictures that can't be read; the file has them all


@dataclass(frozen=True)
class Task:
    """What all shards have in common."""

    model: str
    parts: str  # the folder of their files
    boxes: str | None = None
    finder: str | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class Shard:
    """Pictures that are looked at in one go."""

    number: int
    first: int  # number of the first picture in the corpus, from 1
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class CorpusPrediction:
    """What came out."""

    file: Path
    images: int
    instances: int
    problems: list[str]  # of pictures that could not be read, or that the model has no points for
    seconds: float  # of this command
    shards: int  # that it has made; others were there


Done = Callable[[Shard, dict[str, Any]], None]  # takes what a shard came to


def predict_corpus(
    model: Path,
    names: Sequence[str],
    out: Path,
    *,
    boxes: Path | None = None,
    finder: Path | None = None,
    min_score: float | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    bar: bool = False,
) -> CorpusPrediction:
    """Finds points on all pictures and writes them into one Parquet file; goes on where it was stopped.

    jobs: processes [one a core]. ray: "local", or the address of a cluster, whose machines see the same files under the same
    paths. `boxes`, `finder` and `min_score` as `predict_sources` has them. UserError before anything is looked at for what
    is wrong with the arguments."""
    import pyarrow  # pyright: ignore[reportMissingImports]  # noqa: F401  said before anything is looked at

    began = time.monotonic()
    files.refuse_unwritable("--out", out.parent)
    found = pictures.find(names)
    machines = None if ray is None else cluster.connected(ray, jobs)
    runtime.load(model, finder=finder, min_score=min_score)  # what is wrong with it is said once, here
    parts = out.with_name(f"{out.name}.parts")
    task = Task(
        model=str(model),
        parts=str(parts.resolve()),
        boxes=None if boxes is None else str(boxes),
        finder=None if finder is None else str(finder),
        min_score=min_score,
    )
    shards = list(_shards(found))
    with folders.alone(parts):
        _keep_plan(parts, task, found, out)
        waiting = [shard for shard in shards if not _file(parts, shard).exists()]
        if len(waiting) < len(shards):
            logger.info(f"going on: {len(shards) - len(waiting)} of {len(shards)} shards are there")
        with progress("predict", sum(len(shard.pictures) for shard in waiting), "pictures", bar=bar) as advance:

            def done(shard: Shard, _: dict[str, Any]) -> None:
                advance(len(shard.pictures))

            if machines is None:
                _by_processes(task, waiting, jobs or files.cores(), done)
            else:
                _by_ray(machines, task, waiting, done)
        counts = _counted(parts, shards)
        parquet.join([_file(parts, shard) for shard in shards], out)
    shutil.rmtree(parts, ignore_errors=True)
    problems = counts["problems"]
    for line in problems[:MOST_SAID]:
        logger.warning(line)
    if len(problems) > MOST_SAID:
        logger.warning(f".. and {len(problems) - MOST_SAID} more; the file has them all (column problem)")
    seconds = time.monotonic() - began
    return CorpusPrediction(
        file=out,
        images=len(found),
        instances=counts["instances"],
        problems=problems,
        seconds=seconds,
        shards=len(waiting),
    )


# ------------------------------------------------------------------------------------------------------ one shard


def look_at(run: Runtime, task: Task, shard: Shard) -> dict[str, Any]:
    """Finds the points of a shard and writes its file; says how many instances there are and what could not be read."""
    rows: list[dict[str, Any]] = []
    said: list[str] = []
    given = None if task.boxes is None else boxes_files.given(Path(task.boxes))
    for number, (picture, source) in enumerate(pictures.open_each(shard.pictures), shard.first):
        lines: list[str] = []
        pipeline = Pipeline(run, PLAIN, given, lines.append, itertools.count(number))
        entries: list[outputs.Entry] = []
        with muted():
            for item in pipeline.look_at([source]):
                entries += outputs.entries(item.frame, item.boxes, item.points)
        problem = one_line("; ".join(lines))
        said += [problem] if problem else []
        rows += [parquet.row_of(number, picture.name, {**entry, "instance": i}) for i, entry in enumerate(entries)]
        if not entries:
            rows.append(parquet.row_of(number, picture.name, None, problem))
    parquet.write_rows(_file(Path(task.parts), shard), rows)
    return {"instances": sum(row["instance"] is not None for row in rows), "problems": said}


def serve(values: dict[str, Any]) -> Generator[Any, dict[str, Any], None]:
    """Is a process that takes shard after shard: for `worker.Worker`."""
    task = Task(**values)
    run = _loaded(task)
    question = yield {"ready": True}
    while True:
        question = yield look_at(run, task, _shard_of(question))


def _loaded(task: Task) -> Runtime:
    finder = None if task.finder is None else Path(task.finder)
    return runtime.load(Path(task.model), threads=1, finder=finder, min_score=task.min_score)


def _shard_of(values: dict[str, Any]) -> Shard:
    return Shard(values["number"], values["first"], tuple(Picture(**each) for each in values["pictures"]))


# ------------------------------------------------------------------------------------------------------- who does it


def _by_processes(task: Task, waiting: Sequence[Shard], jobs: int, done: Done) -> None:
    """Hands shards out to processes; one that died is replaced, and its shard handed out again."""
    queue = list(waiting)
    tries: dict[int, int] = {}
    limits = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    workers: dict[int, tuple[Worker, Shard | None]] = {}
    try:
        while queue or any(shard is not None for _, shard in workers.values()):
            for slot in range(min(jobs, len(queue) + len(workers))):
                if slot not in workers and queue:
                    workers[slot] = (Worker(f"{__name__}:serve", asdict(task), environment=limits).__enter__(), None)
                if slot in workers and workers[slot][1] is None and queue:
                    worker, shard = workers[slot][0], queue.pop(0)
                    worker.send(asdict(shard))
                    workers[slot] = (worker, shard)
            for slot, (worker, shard) in list(workers.items()):
                if shard is None or not worker.has_answered():
                    continue
                try:
                    answer = worker.answer()
                    workers[slot] = (worker, None)
                    done(shard, answer)
                except UserError:
                    raise
                except Failure as error:
                    worker.end()
                    del workers[slot]
                    queue.insert(0, _again(shard, str(error), tries))
            time.sleep(POLL_SECONDS)
    finally:
        for worker, _ in workers.values():
            worker.end()


def _again(shard: Shard, why: str, tries: dict[int, int]) -> Shard:
    """Notes that a shard was lost; Failure where that has happened too often."""
    tries[shard.number] = tries.get(shard.number, 0) + 1
    if tries[shard.number] >= TRIES:
        raise Failure(
            f"pictures {shard.first} to {shard.first + len(shard.pictures) - 1} ({shard.pictures[0].name}, ..)",
            f"lost {TRIES} times: {why}; the others are kept, the same command goes on",
        )
    logger.warning(f"a worker was lost ({why}); its {len(shard.pictures)} pictures are looked at anew")
    return shard


def _by_ray(ray: Any, task: Task, waiting: Sequence[Shard], done: Done) -> None:
    """Hands shards out to Ray's workers, which take one core each; it begins a shard anew whose worker was lost."""
    remote = ray.remote(num_cpus=1, max_retries=TRIES, retry_exceptions=[Failure])(IN_RAY)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # at work or waiting for a worker
    queue, running = list(waiting), dict[Any, Shard]()
    while queue or running:
        while queue and len(running) < most:
            shard = queue.pop(0)
            running[remote.remote(asdict(task), asdict(shard))] = shard
        ready, _ = ray.wait(list(running), num_returns=1)
        for reference in ready:
            shard = running.pop(reference)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayError as error:
                what = one_line(str(error).strip().splitlines()[-1], 300)
                raise Failure(
                    f"pictures {shard.first} to {shard.first + len(shard.pictures) - 1}",
                    f"Ray gave them up: {what}; the others are kept, the same command goes on",
                ) from error
            done(shard, answer)


def _in_ray(task: dict[str, Any], shard: dict[str, Any]) -> dict[str, Any]:
    """Is a task of Ray: its process keeps the model for the next one."""
    os.environ["OMP_NUM_THREADS"] = "1"
    known = Task(**task)
    if known not in _models:
        _models.clear()
        _models[known] = _loaded(known)
    return look_at(_models[known], known, _shard_of(shard))


_models: dict[Task, Runtime] = {}
IN_RAY = _in_ray


# ------------------------------------------------------------------------------------------------------------ parts


def _shards(found: Sequence[Picture]) -> Iterator[Shard]:
    for number, first in enumerate(range(0, len(found), SHARD)):
        yield Shard(number, first + 1, tuple(found[first : first + SHARD]))


def _file(parts: Path, shard: Shard) -> Path:
    return parts / f"{shard.number:06d}.parquet"


def _keep_plan(parts: Path, task: Task, found: Sequence[Picture], out: Path) -> None:
    """Writes what the parts are of; UserError where they are of something else."""
    model = runtime.resolved(Path(task.model))
    files_of = (
        runtime.files_of(model) if runtime.is_exported(model) else [model / "model.json", model / "model.safetensors"]
    )
    plan = {
        **{name: value for name, value in asdict(task).items() if name != "parts"},
        "digest": files.digest(path.read_bytes() for path in files_of if path.is_file()),
        "pictures": files.digest(picture.name for picture in found),
        "count": len(found),
        "shard": SHARD,
    }
    path = parts / "plan.json"
    if path.exists():
        then = files.read_object(path)
        differing = [
            f"{name} was {then.get(name)} and is now {value}" for name, value in plan.items() if then.get(name) != value
        ]
        if differing:
            raise UserError(
                parts,
                f"holds parts of another corpus: {'; '.join(differing[:3])}. Remove it, or give another --out than {out}",
            )
    config.write_json(path, plan)


def _counted(parts: Path, shards: Sequence[Shard]) -> dict[str, Any]:
    """Counts what all parts hold."""
    instances, problems = 0, []
    for shard in shards:
        for row in parquet.read_rows(_file(parts, shard)):
            instances += row["instance"] is not None
            problems += [row["problem"]] if row["problem"] else []
    return {"instances": instances, "problems": problems}
