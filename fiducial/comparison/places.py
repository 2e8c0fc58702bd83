"""Where runs are trained: some at a time on this machine, or on the machines of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fiducial import cluster, files
from fiducial.errors import Failure, of_json, one_line, to_json
from fiducial.worker import Worker

COMMAND = "fiducial.cli:obey"  # by name: this room is below the command line
STOP_SECONDS = 30  # for a run to end by itself after Ctrl-C
POLL_SECONDS = 0.5


class Process(Protocol):
    """A command at work somewhere, as `worker.Worker` is one here."""

    def has_answered(self) -> bool: ...
    def answer(self) -> Any: ...
    def interrupt(self) -> None: ...
    def wait(self, seconds: float) -> bool: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Places:
    """So many runs at a time, here or on a cluster."""

    jobs: int | None = None  # None: one, or one a GPU, or one a machine of the cluster
    ray: Any = None  # connected

    @staticmethod
    def of(jobs: int | None, ray: str | None) -> Places:
        """Connects with the cluster where one is named: local, auto, or HOST:PORT."""
        return Places(jobs, None if ray is None else cluster.connected(ray))

    @property
    def gpus(self) -> list[str]:
        """Names, for CUDA_VISIBLE_DEVICES, the GPUs of this machine that runs here may use."""
        import torch

        if self.ray is not None:  # Ray hands its own out
            return []
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = [name for name in chosen.split(",") if name] if chosen is not None else None
        count = torch.cuda.device_count()
        return (names if names is not None else [str(i) for i in range(count)])[:count]

    @property
    def at_once(self) -> int:
        """Counts the runs that are trained at a time."""
        return self.jobs or max(1, len(self.gpus) if self.ray is None else len(self._machines()))

    def start(self, arguments: Sequence[str], folder: Path, log: Path, device: str | None, jobs: int) -> Process:
        """Starts a command that trains into `folder`, one of `jobs` at once; what it says is appended to `log`."""
        threads, _ = shares(self._cores(), jobs)
        # OMP_NUM_THREADS is an upper limit where the user has set it, on machines that do other work too.
        limit = os.environ.get("OMP_NUM_THREADS", "")
        threads = min(threads, int(limit)) if limit.isdigit() and int(limit) else threads
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if self.ray is not None:
            gpus = min(1, int(self.ray.cluster_resources().get("GPU", 0)))
            threads = max(1, min(threads, *(int(cores) for cores in self._machines() if cores)))
            return _InRay(self.ray, threads, gpus, list(arguments), str(folder), str(log), environment, os.getcwd())
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        # Detached: Ctrl-C reaches this process alone, which passes it on once.
        return Worker(COMMAND, tuple(arguments), environment=environment, log=log, detached=True)

    def workers(self, jobs: int) -> int:
        """Counts the loader processes of each of `jobs` runs at once."""
        return shares(self._cores(), jobs)[1]

    def _cores(self) -> int:
        """Cores that all runs share."""
        return files.cores() if self.ray is None else int(sum(self._machines()))

    def _machines(self) -> list[float]:
        """The cores of each machine of the cluster."""
        return [node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]]


def shares(count: int, jobs: int) -> tuple[int, int]:
    """Shares `count` cores out: threads and loader processes of each of `jobs` runs at once, so that they don't fight."""
    threads = max(1, count // jobs)
    return threads, max(1, min(8, threads - 1))


class _InRay:
    """A command on a machine of the cluster. Ray begins it anew elsewhere where its machine is lost; it resumes then."""

    def __init__(self, ray: Any, cores: int, gpus: int, *task: Any) -> None:
        self._ray = ray
        self._ended = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=cluster.TRIES)(IN_RAY).remote(*task)

    def has_answered(self) -> bool:
        """Tells whether it has ended."""
        return self.wait(0)

    def answer(self) -> None:
        """Waits for its end. Raises what it raised, or Failure where Ray gave it up."""
        try:
            error = self._ray.get(self._ended)
        except self._ray.exceptions.RayError as given_up:
            last = str(given_up).strip().splitlines() or [type(given_up).__name__]
            raise Failure(f"Ray gave it up: {one_line(last[-1], 300)}") from given_up
        if error:
            raise of_json(error)

    def interrupt(self) -> None:
        """Sends Ctrl-C."""
        self._ray.cancel(self._ended)

    def wait(self, seconds: float) -> bool:
        """Waits for its end; False where it is still going after `seconds`."""
        return bool(self._ray.wait([self._ended], timeout=seconds)[0])

    def end(self) -> None:
        """Ends it if it is still there."""
        if not self.has_answered():
            self._ray.cancel(self._ended, force=True)


def obey(arguments: list[str], folder: str, log: str, environment: Mapping[str, str], here: str) -> dict[str, str]:
    """Is a task of Ray: the command in a process of its own, from the folder `here`, resumed where it was begun; what it
    raised, {} = nothing."""
    os.chdir(here)
    begun = (Path(folder) / "recipe.json").exists() and "--resume" not in arguments
    worker = Worker(
        COMMAND, (*arguments, *(["--resume"] if begun else [])), environment=environment, log=Path(log), detached=True
    )
    try:
        while not worker.has_answered():
            time.sleep(POLL_SECONDS)
        worker.answer()
    except KeyboardInterrupt:
        worker.interrupt()
        worker.wait(STOP_SECONDS)
        raise
    except (Failure, ImportError) as error:
        return to_json(error)
    finally:
        worker.end()
    return {}


IN_RAY = obey
