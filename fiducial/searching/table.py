"""A table of latencies: which network takes how many ms in which runtime, and on what it was measured. One JSON file,
made by `fiducial bench` on the device that is meant, read by `fiducial search`. Nothing here imports torch."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.errors import UserError, counted
from fiducial.geometry import Size
from fiducial.profiling.machine import processor
from fiducial.runtime.cost import Latency
from fiducial.runtime.export_card import Precision
from fiducial.searching.budget import Place
from fiducial.version import __version__

VERSION = 1


@dataclass(frozen=True)
class Network:
    """What a latency is of: its weights play no part."""

    backbone: str
    method: str
    head: dict[str, Any]  # settings of the method's head; defaults where absent
    size: Size
    points: int
    precision: Precision = "fp32"

    @property
    def key(self) -> str:
        """Tells networks apart."""
        head = "".join(f":{name}={config.as_setting(value)}" for name, value in sorted(self.head.items()))
        precision = "" if self.precision == "fp32" else f" {self.precision}"
        return f"{self.method}{head} {self.backbone} {self.size} {self.points}{precision}"


@dataclass(frozen=True)
class Device:
    """What latencies depend on besides the network."""

    processor: str
    cores: int
    system: str
    runtime: str
    runtime_version: str
    threads: int
    fiducial: str

    @property
    def place(self) -> Place:
        return Place(self.runtime, self.threads)

    def __str__(self) -> str:
        threads = counted(self.threads, "thread")
        return f"{self.processor}, {self.cores} cores, {self.runtime} {self.runtime_version}, {threads}"


@dataclass(frozen=True)
class Entry:
    """One network's latency: one uint8 crop in, points out. With one thread CPU time, which other programs hardly
    lengthen; else by the clock."""

    network: Network
    ms: float | None = None  # median of the rounds
    low_ms: float | None = None  # of the rounds
    high_ms: float | None = None
    wall_ms: float | None = None  # median of all runs by the clock
    memory_bytes: int | None = None
    bytes: int | None = None  # of the files
    error: str = ""  # why there are no figures

    @classmethod
    def of(cls, network: Network, latency: Latency, size_bytes: int) -> Entry:
        """Makes an entry of what was timed."""
        if latency.error or not latency.round_ms:
            return cls(network, error=latency.error or "was not timed")
        rounds = latency.round_ms
        return cls(
            network,
            round(statistics.median(rounds), 4),
            round(min(rounds), 4),
            round(max(rounds), 4),
            None if latency.median_ms is None else round(latency.median_ms, 4),
            latency.model_memory_bytes,
            size_bytes,
        )


@dataclass(frozen=True)
class Table:
    """Latencies that were measured on one device."""

    device: Device
    entries: tuple[Entry, ...] = ()
    table_version: int = VERSION
    note: str = field(default="ms: one crop of uint8 pixels in, points out, in the runtime that ships; random weights")

    def find(self, network: Network) -> Entry | None:
        """Gives a network's entry, None where it was not measured."""
        return self._by_key().get(network.key)

    def with_entries(self, entries: Sequence[Entry]) -> Table:
        """Adds entries; those of the same networks are replaced."""
        joined = {**self._by_key(), **{entry.network.key: entry for entry in entries}}
        return replace(self, entries=tuple(joined.values()))

    def _by_key(self) -> Mapping[str, Entry]:
        return {entry.network.key: entry for entry in self.entries}


def this_device(place: Place) -> Device:
    """Describes this machine with a runtime. ModuleNotFoundError where that is not installed."""
    try:
        version = metadata.version(place.runtime)
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(f"No module named {place.runtime!r}", name=place.runtime) from None
    return Device(
        processor=processor(),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        runtime=place.runtime,
        runtime_version=version,
        threads=place.threads,
        fiducial=__version__,
    )


def unlike(device: Device, other: Device) -> list[str]:
    """Says in what two devices differ, in words; [] where figures of one hold for the other."""
    names = {"processor": "processor", "cores": "cores", "system": "system", "runtime_version": f"{device.runtime}"}
    pairs = [(word, getattr(device, name), getattr(other, name)) for name, word in names.items()]
    return [f"{word} {one} against {two}" for word, one, two in pairs if one != two]


def is_elsewhere(device: Device, here: Device) -> bool:
    """Whether figures are of another machine, not only of another version."""
    return (device.processor, device.cores, device.system) != (here.processor, here.cores, here.system)


def write(path: Path, table: Table) -> None:
    """Writes the file, whole or not at all."""
    config.write_json(path, table)


def read(path: Path) -> Table:
    """Reads a table. UserError where it is none, is damaged, or a newer version wrote it."""
    values = files.read_object(path, "device", "entries")
    version = values.get("table_version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(path, f"table version {version}; this Fiducial reads up to {VERSION}. Update it")
    table = config.from_dict(Table, values, str(path))
    for entry in table.entries:
        if not entry.error and not (entry.ms is not None and 0 < entry.ms < float("inf")):
            raise UserError(path, f"{entry.network.key}: {entry.ms} ms, expected a number above 0; make the table anew")
    if not table.entries:
        raise UserError(path, "holds no latency; make it anew by `fiducial bench --out`")
    return table
