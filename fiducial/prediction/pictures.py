"""The pictures of a corpus, wherever they lie: files, objects of a store such as S3, rows of Parquet tables.

A store is given by its address, as Arrow reads it: `s3://bucket/folder`, `gs://..`, `abfs://..`, `hdfs://..`, `file:///..`;
who may read it is in the environment or the store's own settings. A table is a `.parquet` file or a folder of them, here
or in a store, with one column of pictures' files as bytes, or as the `image` that Hugging Face's data sets write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from fiducial.data import media
from fiducial.errors import Failure, UserError, first_line
from fiducial.log import logger
from fiducial.prediction import sources
from fiducial.prediction.sources import Source

TABLE = ".parquet"
BYTES = "bytes"  # the field of Hugging Face's images that holds the file
# A table may hold masks and thumbnails, too: of several columns it is the first of these.
COLUMNS = (
    "image",
    "images",
    "picture",
    "photo",
    "img",
    "image_bytes",
    "bytes",
    "content",
    "data",
    "jpg",
    "jpeg",
    "png",
)
AT_ONCE = 16  # objects of a store that are fetched while others are looked at
READING = 64  # rows of a table that are in memory at once


@dataclass(frozen=True)
class Picture:
    """Where one picture is. JSON holds it, so that it can be told to another process."""

    name: str  # in the results; unique in a corpus
    path: str  # of its file, or of the table that it is in: on this machine, or in the store
    store: str = ""  # the address that the store was given by; "" = files of this machine
    row: int | None = None  # in the table, from 0


def find(texts: Sequence[str]) -> list[Picture]:
    """Finds the pictures of files, folders, patterns, tables and addresses, in order, each once. A folder's tables are
    taken where it has no pictures. UserError for what does not exist, holds no pictures, or is a video."""
    found: dict[str, Picture] = {}
    plain: list[str] = []
    for text in texts:
        if "://" in text:
            _add_files(plain, found)
            _add_stored(text, found)
        elif tables := _tables_of(Path(text)):
            _add_files(plain, found)
            for table, name in tables:
                _add_rows(str(table.resolve()), "", name, found)
        else:
            plain.append(text)
    _add_files(plain, found)
    return list(found.values())


def open_each(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Source]]:
    """Gives each picture as what predict looks at, in order; what is elsewhere is fetched while others are looked at.

    What a picture alone is to blame for comes out when it is read (UserError); Failure where its store or table can't be
    read any more."""
    for (_, store), group in groupby(
        pictures, lambda picture: (picture.path if picture.row is not None else "", picture.store)
    ):
        some = list(group)
        if some[0].row is not None:
            yield from _of_table(some)
        elif store:
            yield from _of_store(some)
        else:
            yield from ((picture, Source(picture.name, Path(picture.path), "image")) for picture in some)


# ------------------------------------------------------------------------------------------------------------ finding


def _add_files(plain: list[str], found: dict[str, Picture]) -> None:
    """Adds the files of this machine, and forgets their texts."""
    known = {picture.path for picture in found.values()}
    for source in sources.find(plain) if plain else []:
        if source.kind != "image":
            raise UserError(source.path, "a corpus is of pictures; give videos and cameras another --out, a folder")
        if (path := str(source.path.resolve())) not in known:
            _add(Picture(source.name, path), path, found)
    plain.clear()


def _add(picture: Picture, longer: str, found: dict[str, Picture]) -> None:
    """Adds a picture, under a longer name where its own is another's."""
    name = picture.name if picture.name not in found else longer.lstrip("/")
    found.setdefault(name, Picture(name, picture.path, picture.store, picture.row))


def _tables_of(path: Path) -> list[tuple[Path, str]]:
    """The tables that a path means, with their names; none where it means pictures."""
    if path.suffix == TABLE and path.is_file():
        return [(path, path.name)]
    if not path.is_dir():
        return []
    tables: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        inside = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        if any(media.kind_by_name(file) for file in inside):
            return []
        tables += [file for file in inside if file.suffix == TABLE]
    return [(table, table.relative_to(path).as_posix()) for table in tables]


def _add_stored(address: str, found: dict[str, Picture]) -> None:
    """Adds what is at an address: an object, or all below a folder."""
    from pyarrow import fs  # pyright: ignore[reportMissingImports]

    store, root = _store(address)
    with _of(address):
        info = store.get_file_info(root)
        if info.type == fs.FileType.NotFound:
            raise UserError(_shown(address), "nothing is there")
        listed = [info] if info.type == fs.FileType.File else store.get_file_info(fs.FileSelector(root, recursive=True))
    paths = sorted(each.path for each in listed if each.type == fs.FileType.File)
    base = PurePosixPath(root) if info.type == fs.FileType.Directory else PurePosixPath(root).parent
    names = {path: PurePosixPath(path).relative_to(base).as_posix() for path in paths}
    images = [path for path in paths if media.kind_by_name(Path(path)) == "image"]
    tables = [path for path in paths if path.endswith(TABLE)] if not images else []
    if not images and not tables:
        raise UserError(_shown(address), f"no pictures or tables among its {len(paths)} objects")
    if others := len(paths) - len(images) - len(tables):
        logger.warning(f"{_shown(address)}: {others} of its {len(paths)} objects are by name no pictures, and left out")
    for path in images:
        _add(Picture(names[path], path, address), path, found)
    for path in tables:
        _add_rows(path, address, names[path], found)


def _add_rows(path: str, store: str, name: str, found: dict[str, Picture]) -> None:
    with _table(path, store) as table:
        _column(table, name)
        rows = table.metadata.num_rows
    for row in range(rows):
        _add(Picture(f"{name}#{row:06d}", path, store, row), f"{path}#{row:06d}", found)


# ------------------------------------------------------------------------------------------------------------ reading


def _of_store(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Source]]:
    """Objects of one store, some of them fetched ahead."""
    store, _ = _store(pictures[0].store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(_fetched, store, picture) for picture in pictures[:AT_ONCE]]
        try:
            for place, picture in enumerate(pictures):
                data = waiting.pop(0).result()
                if (ahead := place + AT_ONCE) < len(pictures):
                    waiting.append(pool.submit(_fetched, store, pictures[ahead]))
                yield picture, _source(picture, data)
        finally:
            for each in waiting:
                each.cancel()


def _fetched(store: Any, picture: Picture) -> bytes | UserError:
    """The bytes of an object, or why there are none; Failure where that is not the object's fault."""
    try:
        with store.open_input_stream(picture.path) as stream:
            return stream.read()
    except (FileNotFoundError, PermissionError) as error:
        return UserError(picture.name, f"can't be read: {first_line(error)}")
    except OSError as error:
        raise Failure(picture.name, f"the store does not answer: {first_line(error)}") from error


def _of_table(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Source]]:
    """Rows of one table that follow each other."""
    import pyarrow  # pyright: ignore[reportMissingImports]

    path, name = pictures[0].path, pictures[0].name.rpartition("#")[0]
    wanted = {picture.row or 0: picture for picture in pictures}
    with _table(path, pictures[0].store) as table:
        column = _column(table, name)
        first = 0
        for group in range(table.num_row_groups):
            rows = range(first, first := first + table.metadata.row_group(group).num_rows)
            if rows.start > max(wanted) or rows.stop <= min(wanted):
                continue
            batches = table.iter_batches(READING, row_groups=[group], columns=[column])
            row = rows.start
            try:
                for batch in batches:
                    for value in batch.column(0):
                        if (picture := wanted.get(row)) is not None:
                            yield picture, _source(picture, _bytes(value, picture.name))
                        row += 1
            except (OSError, pyarrow.ArrowException) as error:
                raise Failure(name, f"can't be read: {first_line(error)}") from error


def _bytes(value: Any, name: str) -> bytes | UserError:
    held = value.as_py()
    data = held.get(BYTES) if isinstance(held, dict) else held
    return data or UserError(name, "the row holds no picture")


def _source(picture: Picture, data: bytes | UserError) -> Source:
    return Source(picture.name, Path(picture.name), "image", read=partial(_given, data))


def _given(data: bytes | UserError) -> bytes:
    if isinstance(data, UserError):
        raise data
    return data


@contextmanager
def _table(path: str, store: str) -> Iterator[Any]:
    """A Parquet file, opened."""
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    try:
        held = parquet.ParquetFile(path, filesystem=_store(store)[0] if store else None)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(path, f"can't be read as a Parquet table: {first_line(error)}") from error
    with held:
        yield held


def _column(table: Any, name: str) -> str:
    """Names the column that holds pictures."""
    import pyarrow as pa  # pyright: ignore[reportMissingImports]

    def holds_files(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(field.name == BYTES and holds_files(field.type) for field in kind)
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    schema = table.schema_arrow
    held = [field.name for field in schema if holds_files(field.type)]
    usual = [column for column in COLUMNS if column in held]
    if len(held) == 1 or usual:
        return usual[0] if usual else held[0]
    if held:
        raise UserError(name, f"several columns hold bytes ({', '.join(held)}); name that of the pictures image")
    raise UserError(name, f"no column holds pictures' files as bytes; it has {', '.join(schema.names) or 'none'}")


# ------------------------------------------------------------------------------------------------------------- stores


@lru_cache(maxsize=8)
def _store(address: str) -> tuple[Any, str]:
    """The store that an address is of, and the path in it. UserError where Arrow knows none of that kind."""
    from pyarrow import fs  # pyright: ignore[reportMissingImports]

    with _of(address):
        return fs.FileSystem.from_uri(address)


@contextmanager
def _of(address: str) -> Iterator[None]:
    """Tells what goes wrong at an address."""
    import pyarrow  # pyright: ignore[reportMissingImports]

    try:
        yield
    except UserError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, ImportError) as error:
        kinds = "s3://, gs://, abfs://, hdfs:// or file:///"
        if "Unrecognized filesystem type" in str(error):
            raise UserError(_shown(address), f"not a store that is read ({kinds}); download it first") from error
        raise UserError(_shown(address), f"can't be read: {first_line(error)}") from error


def _shown(address: str) -> str:
    """The address without the secrets that it may hold."""
    kind, _, rest = address.partition("://")
    return f"{kind}://{rest.partition('?')[0].rpartition('@')[2]}"
