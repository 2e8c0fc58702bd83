"""The machines and processes that train one run together. Needs no torch."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fiducial.errors import UserError
from fiducial.log import logger

FORM = re.compile(r"(\d+)/(\d+)@(.+):(\d+)")
OURS = "FIDUCIAL_NODE"  # in the environment of a run's processes: a cluster may have set the others for something else
PATIENCE_SECONDS = 600.0  # for the first machine, which looks at the data and plans before it begins


@dataclass(frozen=True)
class Devices:
    """Says how many processes train, and where this one is among them."""

    each: int = 1  # devices of a machine
    nodes: int = 1  # machines
    node: int = 0  # which of them this is; the first one writes
    host: str = ""  # of the first one
    port: int = 0

    @classmethod
    def of(cls, each: int, node: str | None) -> Devices:
        """Reads `K/N@HOST:PORT`: this is machine K, from 0, of N, the first of which is at HOST. UserError for another
        form."""
        if node is None:
            return cls(each)
        found = FORM.fullmatch(node.strip())
        values = [int(found[i]) for i in (1, 2, 4)] if found else []
        if not found or not values[0] < values[1] or not 0 < values[2] < 65536:
            raise UserError(
                "node", f"{node!r}: expected K/N@HOST:PORT, K from 0 and below N, such as 1/2@10.0.0.5:29500"
            )
        return cls(each, values[1], values[0], found[3], values[2])

    @property
    def world(self) -> int:
        """Counts all processes."""
        return self.each * self.nodes

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Tells torch's and Lightning's launchers where the first machine is, by their variables of the environment; they
        are as before afterwards. Waits on further machines until the first has begun."""
        if self.nodes == 1:
            yield
            return
        wanted = {
            "NODE_RANK": str(self.node),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
            OURS: str(self.node),
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            if not is_first():
                self._wait()
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _wait(self) -> None:
        """Until the first machine listens, which it does when the run's recipe is settled and written."""
        logger.info(f"machine {self.node} of {self.nodes}: waits for the first one at {self.host}:{self.port}")
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with socket.create_connection((self.host, self.port), timeout=5):
                    return
            except socket.gaierror as error:
                raise UserError("node", f"{self.host}: no such machine: {error.strerror}") from error
            except OSError as error:
                if time.monotonic() > end:
                    raise UserError(
                        "node",
                        f"nothing listens at {self.host}:{self.port} after {PATIENCE_SECONDS / 60:.0f} min "
                        f"({error.strerror or error}). Start the first machine: --node 0/{self.nodes}@{self.host}:{self.port}",
                    ) from error
                time.sleep(0.5)


def is_first() -> bool:
    """Tells the first machine's processes."""
    return int(os.environ.get(OURS, "0")) == 0


def is_main() -> bool:
    """Tells the process that writes from the further ones that a run on several devices starts by the same command."""
    return is_first() and int(os.environ.get("LOCAL_RANK", "0")) == 0
