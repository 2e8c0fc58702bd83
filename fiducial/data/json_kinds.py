"""Which tool wrote a file of JSON, by its beginning: several formats have files of that ending."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

HEAD_BYTES = 2**16
Kind = Literal["coco", "label_studio", "labelme", "apic", "mpii", "alphatracker", ""]


def kind_of(file: Path) -> Kind:
    """Tells the tool; "" for unknown ones, and for what can't be read, of which its reader will tell."""
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as opened:
            data = opened.read(HEAD_BYTES)
    except (OSError, ValueError):
        return ""
    head = data.decode(json.detect_encoding(data), "ignore").lstrip("\ufeff \r\n\t")

    def has(*names: str) -> bool:
        return all(f'"{name}"' in head for name in names)

    if head.startswith("["):
        if has("joints_vis"):
            return "mpii"
        if has("filename", "class", "annotations") and not has("data"):
            return "alphatracker"
        if has("keypointlabels") or has("data", "annotations") or has("data", "completions"):
            return "label_studio"
        return "apic" if has("path", "keypoints") else ""
    if has("shapes", "version") and not has("annotations"):
        return "labelme"
    return "coco" if head.startswith("{") and (has("images") or has("annotations")) else ""
