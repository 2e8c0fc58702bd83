"""A profile for people and for scripts: table, JSON, and one HTML page that holds all of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from fiducial.errors import counted
from fiducial.profiling import grouping, icicle
from fiducial.profiling.advice import advice
from fiducial.profiling.grouping import REST, Row
from fiducial.profiling.parts import Profile, Shape
from fiducial.report.page import Charts, Fact, Figure, Page, Section, Table, sentence
from fiducial.report.plot import Chart

COLUMNS = ("", "ms", "share", "of peak", "floor ms", "layers", "in", "out", "parameters", "MACs", "out KiB")
NOTE = (
    "MACs: multiply-adds of convolutions and products. Floor: these at the machine's measured fp32 peak; of peak: floor / ms. "
    "Out: bytes that are written anew. A row named as a part with others inside is that part's own code."
)
PICTURE_NOTE = (
    "From left to right parts and what is inside of them, from top to bottom as the data goes; as high as it takes time. "
    "The tooltip has the figures."
)


def lines(profile: Profile) -> list[str]:
    """The whole in words, the advice first."""
    machine = profile.machine
    memory = "" if profile.memory_bytes is None else f", {profile.memory_bytes / 2**20:.0f} MiB of memory"
    return [
        *advice(profile),
        f"{profile.whole_ms:.3f} ms a crop of {profile.size} px, uint8 in and points out, in {profile.runtime} "
        f"({profile.precision}, {_threads(profile)}); "
        f"{profile.parameters:,} parameters, {profile.macs / 1e6:,.1f} M multiply-adds{memory}",
        f"floor {machine.floor_ms(profile.macs):.3f} ms: {machine.gflops:.0f} GFLOP/s in fp32, measured; the whole reaches "
        f"{profile.of_peak:.0%} of it; memory stream {machine.stream_gb_per_s:.0f} GB/s",
        f"timed by {profile.how}; layers sum to {1 - profile.rest_ms / profile.whole_ms:.1%} of the whole"
        + (
            ": more than 5 % apart, the machine was busy, run it again"
            if profile.rest_ms < -0.05 * profile.whole_ms
            else ""
        ),
    ]


def table(profile: Profile, by: str | None) -> list[dict[str, Any]]:
    """Rows for `print_table`."""
    return [
        {
            "part": row.name,
            "layers": row.layers,
            "in": _shape(row.input),
            "out": _shape(row.output),
            "parameters": f"{row.parameters:,}",
            "MACs M": f"{row.macs / 1e6:,.2f}",
            "ms": _ms(row),
            "share": _share(row),
            "floor ms": f"{row.floor_ms:.3f}",
            "of peak": f"{row.of_peak:.0%}" if row.macs else "-",
            "out KiB": f"{row.output_bytes / 1024:,.0f}",
        }
        for row in grouping.rows(profile, by)
    ]


def summary(profile: Profile, by: str | None) -> dict[str, Any]:
    """Plain values for JSON: the figures of the whole, the rows that were asked for, and all layers."""
    whole = {
        item.name: getattr(profile, item.name)
        for item in dataclasses.fields(profile)
        if item.name not in ("layers", "machine")
    }
    return {
        **whole,
        "elsewhere_ms": dict(profile.elsewhere_ms),
        "rest_ms": profile.rest_ms,
        "parameters": profile.parameters,
        "macs": profile.macs,
        "floor_ms": profile.machine.floor_ms(profile.macs),
        "of_peak": profile.of_peak,
        "machine": dataclasses.asdict(profile.machine),
        "advice": advice(profile),
        "rows": [dataclasses.asdict(row) for row in grouping.rows(profile, by)],
        "layers": [dataclasses.asdict(layer) for layer in profile.layers],
    }


def page_of(profile: Profile, by: str | None) -> Page:
    """Makes the page: advice, rows `by` what was asked for, the picture, the other ways to group, how it was measured."""
    said = lines(profile)
    count = len(advice(profile))
    floor = profile.machine.floor_ms(profile.macs)
    return Page(
        title=f"Where the time goes: {profile.model} in {profile.runtime}",
        answer=said[:count],
        facts=[
            Fact(
                "a crop", f"{profile.whole_ms:.4g} ms", f"{profile.size} px, {_threads(profile)}, {profile.precision}"
            ),
            Fact("floor", f"{floor:.2g} ms", "its multiply-adds at the machine's peak"),
            Fact("of peak", f"{profile.of_peak:.0%}", f"{profile.machine.gflops:.0f} GFLOP/s in fp32, measured"),
            Fact("parameters", f"{profile.parameters:,}", f"{profile.macs / 1e6:,.1f} M multiply-adds"),
        ],
        sections=[
            Section("Parts", [_table(grouping.rows(profile, by), NOTE)]),
            Section("Charts", [Charts([Chart("Time by part", icicle.icicle(profile), PICTURE_NOTE)])]),
            *(
                Section(f"By {grouped}", [_table(grouping.rows(profile, grouped))])
                for grouped in ("type", "layer")
                if grouped != by
            ),
            Section("How it was measured", list(map(sentence, said[count:]))),
        ],
        device=profile.machine.processor,
    )


def _threads(profile: Profile) -> str:
    return counted(profile.threads, "thread")


def _table(rows: list[Row], note: str = "") -> Table:
    """Makes a table of the columns that tell something: rows of layers of many shapes have none in common."""
    cells = [_cells(row) for row in rows]
    told = [i for i, column in enumerate(zip(*cells, strict=True)) if any(cell != "–" for cell in column)]
    return Table(tuple(COLUMNS[i] for i in told), [[row[i] for i in told] for row in cells], note=note)


def _ms(row: Row) -> str:
    """Writes a row's milliseconds; next to nothing has no sign."""
    return f"{round(row.ms, 3) + 0.0:.3f}"


def _share(row: Row) -> str:
    return f"{100 * round(row.share, 3) + 0.0:.1f}%"


def _cells(row: Row) -> tuple[object, ...]:
    """Shares are tinted, so that the eye finds the large ones."""
    return (
        row.name,
        Figure(_ms(row)),
        Figure(_share(row), min(max(row.share, 0.0), 1.0)),
        Figure(f"{row.of_peak:.0%}" if row.macs else "–"),
        Figure(f"{row.floor_ms:.3f}"),
        Figure(str(row.layers) if row.name != REST else "–"),
        _shape(row.input),
        _shape(row.output),
        Figure(f"{row.parameters:,}"),
        Figure(f"{row.macs:,}"),
        Figure(f"{row.output_bytes / 1024:,.0f}"),
    )


def _shape(shape: Shape) -> str:
    """Without the batch of one."""
    return "x".join(map(str, shape[1:])) or "–"
