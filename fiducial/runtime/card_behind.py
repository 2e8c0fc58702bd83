"""A card in a zip file behind a network's bytes: other programs see the network alone, and `unzip -p FILE fiducial.json`
shows the card. For files whose libraries may crash on damaged ones, the network's digest lies beside it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from fiducial import files
from fiducial.errors import UserError
from fiducial.runtime import export_card
from fiducial.runtime.export_card import ExportCard

CARD, NETWORK_DIGEST = "fiducial.json", "network_sha256"


def is_there(path: Path) -> bool:
    """Tells whether a file has a card of ours behind its network; other projects' have none, nor have broken ones."""
    try:
        with zipfile.ZipFile(path) as behind:
            return CARD in behind.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def append(path: Path, card: ExportCard) -> None:
    """Puts a card, and the digest of what is in the file so far, behind it."""
    block = {**export_card.to_metadata(card), NETWORK_DIGEST: hashlib.sha256(path.read_bytes()).hexdigest()}
    with zipfile.ZipFile(path, "a") as behind:
        behind.writestr(zipfile.ZipInfo(CARD), json.dumps(block))


def read(path: Path, runtime: str) -> ExportCard:
    """Reads the card of a file of `runtime`. Raises UserError where there is none, or where the network is not the one that
    was exported."""
    files.refuse_strange(path, "an exported network")
    try:
        with zipfile.ZipFile(path) as behind:
            first = min((entry.header_offset for entry in behind.infolist()), default=0)
            block = json.loads(behind.read(CARD))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, OSError) as error:
        raise UserError(path, f"has no card that can be read: {error}. Export it anew") from error
    if not isinstance(block, dict):
        raise UserError(path, "its card is no object of JSON. Export it anew")
    if _digest_of_first(path, first) != block.get(NETWORK_DIGEST):
        raise UserError(path, "was altered after the export (the network's digest differs). Export it anew")
    return export_card.of_metadata(block, path, runtime)


def _digest_of_first(path: Path, count: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(count)).hexdigest()
