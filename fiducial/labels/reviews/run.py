"""`fiducial data review`: reads what a check found, shows it on a page of this machine and writes the mended labels."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from fiducial import files, folders, text_files
from fiducial.api.arguments import optional_path, path_of, source_of
from fiducial.api.results import Result
from fiducial.checks.finding import KINDS, Finding
from fiducial.data.formats import coco
from fiducial.data.placing import Placing
from fiducial.errors import UserError
from fiducial.labels import reading
from fiducial.labels.reviews.reviewing import Review
from fiducial.labels.reviews.server import serving
from fiducial.log import logger

CHANGES = "changes.txt"


class _Entry(msgspec.Struct):
    kind: str
    split: str
    what: str
    confidence: float = 1.0
    image: str = ""
    annotation_id: int | str | float | None = None
    points: list[str] = []
    proposal: dict[str, Any] | None = None


class _File(msgspec.Struct):
    findings: list[_Entry]
    data: str | None = None
    category: str | None = None


def review(
    findings: Any,
    out: Any,
    *,
    data: Any = None,
    images: Any = None,
    category: str | None = None,
    port: int = 0,
    opens: bool = True,
) -> Result:
    """Shows findings one after the other on a local page until Ctrl-C, and writes the mended set.

    findings: the JSON of `fiducial data check`; data: the set that they are about [as the JSON says]. `out` gets
    `annotations/SPLIT.json` (COCO, images where they are), `answers.jsonl`, every answer as it was given, and changes.txt;
    asked again with the same folder the review goes on. port: of this machine [a free one]; opens: the page in the
    browser. UserError where the findings or the set can't be read."""
    folder = path_of(out, "out")
    with folders.alone(folder):
        found = read_review(path_of(findings, "findings"), folder, data, images, category)
        with running(found, port) as server:
            address = f"http://127.0.0.1:{server.server_port}/"
            logger.info(f"{len(found)} findings, {found.open} to answer: {address} (Ctrl-C ends; nothing is lost)")
            if opens:
                webbrowser.open(address)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                logger.info(f"{len(found) - found.open} of {len(found)} are answered")
    return result_of(found)


def read_review(file: Path, folder: Path, data: Any = None, images: Any = None, category: str | None = None) -> Review:
    """Reads findings and the set that they are about, with the answers that are in the folder already."""
    try:
        content = msgspec.convert(text_files.read_json(file), _File)
    except msgspec.ValidationError as error:
        raise UserError(file, f"is not what `fiducial data check --json` writes: {error}") from error
    named = optional_path(data, "data") or (Path(content.data) if content.data else None)
    if named is None:
        raise UserError(file, "does not say of which data it is; name them with --data")
    labelled, said = reading.read(source_of(named, images, category or content.category))
    for line in said[:5]:
        logger.warning(line)
    return Review(labelled, [_finding(entry, number, file) for number, entry in enumerate(content.findings)], folder)


@contextmanager
def running(review: Review, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """Serves a review; the mended labels are written after each answer, and once more at the end."""
    server, changed, ended = serving(review, port), threading.Event(), threading.Event()
    review.on_answer = changed.set
    changed.set()  # what was answered before is written even if nothing is answered now

    def write() -> None:
        while not ended.is_set():
            if changed.wait(0.2):
                changed.clear()
                write_mended(review)

    threads = [threading.Thread(target=target, daemon=True) for target in (server.serve_forever, write)]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        ended.set()
        for thread in threads:
            thread.join()
        write_mended(review)


def write_mended(review: Review) -> list[str]:
    """Writes the set with the answers put into effect, each file whole, and the list of changes."""
    labelled, changes = review.mended()
    for split, instances in labelled.instances:
        file = review.folder / "annotations" / f"{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(file) as partial:
            coco.write_file(instances, partial, Placing(review.folder))
    files.write_text(review.folder / CHANGES, "".join(f"{line}\n" for line in changes))
    return changes


def result_of(review: Review) -> Result:
    """Counts the answers, and says where the files are."""
    counts: dict[str, int] = {}
    for given in review.answers.values():
        counts[given.answer] = counts.get(given.answer, 0) + 1
    figures = {
        "findings": len(review),
        "answered": len(review) - review.open,
        "answers": counts,
        "files": {
            **{split: str(review.folder / "annotations" / f"{split}.json") for split, _ in review.labelled.instances},
            "answers": str(review.log.path),
            "changes": str(review.folder / CHANGES),
        },
    }
    words = ", ".join(f"{count} {answer}" for answer, count in counts.items()) or "none"
    return Result(figures=figures, lines=[f"{figures['answered']} of {len(review)} findings answered: {words}"])


def _finding(entry: _Entry, number: int, file: Path) -> Finding:
    if entry.kind not in KINDS:
        raise UserError(file, f"findings[{number}]: kind {entry.kind!r}: expected {', '.join(KINDS)}")
    return Finding(
        kind=entry.kind,
        split=entry.split,
        image=entry.image,
        annotation_id=entry.annotation_id,
        points=tuple(entry.points),
        confidence=entry.confidence,
        what=entry.what,
        proposal=entry.proposal,
    )
