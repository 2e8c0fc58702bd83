"""Times files on this device, each in a process of its own, without torch: exported networks that lie in a folder with
their list (`networks.py` makes it where torch is), or any file of `fiducial export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiducial import config, files
from fiducial.errors import UserError
from fiducial.progress import progress
from fiducial.runtime import cost, runtime
from fiducial.searching import table as tables
from fiducial.searching.budget import Place
from fiducial.searching.table import Entry, Network, Table

LISTING = "networks.json"  # in a folder of networks
REPEATS = 20  # measurements by which a file keeps a budget
AT_ONCE = 4  # processes that hold a network; they run one at a time
RUNS, ROUNDS = 20, 5  # of each network in a table


@dataclass(frozen=True)
class Made:
    """A network that was exported to be timed."""

    network: Network
    file: str = ""  # in the folder
    error: str = ""  # why there is none


@dataclass(frozen=True)
class Listing:
    """What a folder of networks holds."""

    runtime: str
    networks: tuple[Made, ...]


def write_listing(folder: Path, listing: Listing) -> None:
    """Writes the list of a folder."""
    config.write_json(folder / LISTING, listing)


def read_listing(folder: Path) -> Listing:
    """Reads the list of a folder. UserError where there is none or files are missing."""
    path = folder / LISTING
    if not path.is_file():
        raise UserError(
            folder, f"no {LISTING}: expected a folder that `fiducial bench --make` wrote, or an exported file"
        )
    listing = config.from_dict(Listing, files.read_object(path, "runtime", "networks"), str(path))
    lacking = [made.file for made in listing.networks if made.file and not (folder / made.file).is_file()]
    if lacking:
        raise UserError(
            folder / lacking[0],
            f"is not there ({len(lacking)} of {len(listing.networks)} are missing); copy the whole folder",
        )
    return listing


def entries_of(folder: Path, networks: Sequence[Made], place: Place) -> Iterator[Entry]:
    """Times networks of a folder, a few processes at a time; an entry each, in their order."""
    for first in range(0, len(networks), AT_ONCE):
        some = networks[first : first + AT_ONCE]
        files_of = {str(i): folder / made.file for i, made in enumerate(some) if made.file}
        timed = cost.measure_many(files_of, (place.runtime,), threads=place.threads, repeats=RUNS, rounds=ROUNDS)
        for i, made in enumerate(some):
            if not made.file:
                yield Entry(made.network, error=made.error)
                continue
            size_bytes = cost.exported_cost(folder / made.file).weight_bytes
            yield Entry.of(made.network, timed[str(i)][place.runtime], size_bytes)


def table_of_folder(folder: Path, place: Place, out: Path, *, bar: bool = False) -> Table:
    """Times the networks of a folder and writes the table after each few; those that it holds already, measured on this
    device, are not timed again. UserError where the folder's files are for another runtime."""
    listing = read_listing(folder)
    if listing.runtime != place.runtime:
        raise UserError(folder, f"holds files for {listing.runtime}, not for {place.runtime}; make others for that")
    table = continued(out, place)
    waiting = [made for made in listing.networks if table.find(made.network) is None]
    with progress("time", len(waiting), "networks", bar=bar) as advance:
        for entry in entries_of(folder, waiting, place):
            table = table.with_entries([entry])
            tables.write(out, table)
            advance(1)
    return table


def continued(out: Path, place: Place) -> Table:
    """Gives the table that a file holds, to be added to, or a new one. UserError where it is of another device."""
    here = tables.this_device(place)
    if not out.exists():
        return Table(here)
    table = tables.read(out)
    differing = tables.unlike(table.device, here)
    if table.device.place != place:
        differing = [f"{table.device.place} against {place}", *differing]
    if differing:
        raise UserError(out, f"holds latencies of another device ({'; '.join(differing)}); give another --out")
    return table


def repeated_ms(
    file: Path, threads: int, repeats: int | None = None, said: Callable[[int], None] = lambda done: None
) -> list[float]:
    """Measures an exported file so many times [20], each in a process of its own: the median ms of each, of CPU time where it
    is one thread. UserError where it does not run."""
    found: list[float] = []
    name = runtime.family_of(file).NAME
    for _ in range(repeats or REPEATS):
        latency = cost.measure(file, (name,), threads=threads, repeats=50, rounds=1)[name]
        if latency.error or not latency.round_ms:
            raise UserError(file, latency.error or "was not timed")
        found.append(latency.round_ms[0])
        said(len(found))
    return found
