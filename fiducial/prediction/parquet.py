"""Points of a corpus as Parquet: a row an instance; a picture without any, or that can't be read, has one row too, so that
every picture that was given is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fiducial import files
from fiducial.prediction.outputs import Entry

COMPRESSION = "zstd"


def row_of(number: int, name: str, entry: Entry | None, problem: str = "") -> dict[str, Any]:
    """Makes a row; `number` is the picture's place in the corpus, from 1. Without an entry nothing was found, or `problem`
    says why there is nothing."""
    values = entry or {}
    return {
        "image_id": number,
        "file_name": name,
        "instance": values.get("instance"),
        "score": values.get("score"),
        "keypoints": values.get("keypoints"),  # x, y in px of the image, and score of each point
        "bbox": values.get("bbox"),
        "keypoint_sigmas": values.get("keypoint_sigmas"),
        "problem": problem or None,
    }


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows, the file whole or not at all; equal rows give equal bytes."""
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    table = pyarrow.Table.from_pylist(list(rows), schema=_schema())
    with files.replacing(path) as partial:
        parquet.write_table(table, partial, compression=COMPRESSION)


def join(parts: Iterable[Path], path: Path) -> None:
    """Writes files one after the other into one, a row group each."""
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    with files.replacing(path) as partial, parquet.ParquetWriter(partial, _schema(), compression=COMPRESSION) as writer:
        for part in parts:
            writer.write_table(parquet.read_table(part, schema=_schema()))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads all rows."""
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    return parquet.read_table(path, schema=_schema()).to_pylist()


def _schema() -> Any:
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    numbers = pa.list_(pa.float64())
    return pa.schema(
        [
            ("image_id", pa.int64()),
            ("file_name", pa.string()),
            ("instance", pa.int32()),
            ("score", pa.float64()),
            ("keypoints", numbers),
            ("bbox", numbers),
            ("keypoint_sigmas", numbers),
            ("problem", pa.string()),
        ]
    )
