"""Puts the page together: one HTML for both backends, with style and scripts inside, so that it needs nothing else; for
the one without a server the files beside it, too.

A site's files all begin with `index`. What is large, the runtime and the model, lies in scripts (`part`): browsers let a
page that was opened as a file load scripts from beside it, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiducial import files
from fiducial.errors import UserError

SOURCE = Path(__file__).parent / "source"
SHARED = ("drawing.js", "coco.js")
UI = ("tracks.js", "follow.js", "moving.js", "page.js")
SERVED_FOOTER = '<a href="model">the model\'s card</a> · <a href="docs">for people who write clients</a>'
PREFIX = "fiducialParts"
BESIDE = (".ort.js", ".gpu.js", ".model.js", ".webmanifest", ".offline.js", ".icon.svg")  # behind `index`, of a site
# Nothing is loaded from elsewhere, and a browser is told so; a page that was opened as a file counts as `file:`.
POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'unsafe-inline'; img-src 'self' file: data: blob:; media-src blob:; connect-src 'self' blob: data:; "
    "manifest-src 'self'"
)


def served() -> bytes:
    """Makes the page of `fiducial serve`."""
    return _page([*SHARED, "server.js", *UI], SERVED_FOOTER)


def site(
    model: Mapping[str, Any], ort: Mapping[str, str], gpu: Mapping[str, str] | None, title: str
) -> dict[str, bytes]:
    """Makes the files of a page that needs no server, by name.

    model: {"about", "metadata", "defaults", "empty", "chain"}, which `local.js` reads; ort, gpu: {"version", "script",
    "module", "wasm"} of the runtime on the CPU, and on CPU and GPU (None: it never asks for a GPU). What is large is
    `packed`."""
    import html  # 5 ms, which reading a site does not need

    footer = (
        f"{html.escape(title)}. Pictures stay on this device: all is computed by ONNX Runtime Web {ort['version']} (MIT) "
        "in this browser."
    )
    before = [
        '<link rel="preload" as="script" href="index.ort.js">',  # beside the model
        f"<script>const {PREFIX} = {{}};</script>",
        '<script src="index.model.js"></script>',
        _script(f"{PREFIX}.worker = {_json(_read('worker.js'))};"),
    ]
    page = _page([*SHARED, "answer.js", "local.js", *UI, "install.js"], footer, before)
    page = page.replace(
        b'<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'.encode(),
        1,
    )
    manifest = {
        "name": f"Fiducial: {title}",
        "short_name": "Fiducial",
        "start_url": "index.html",
        "scope": "./",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#0060a8",
        "icons": [{"src": "index.icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    made = {
        "index.html": page,
        "index.ort.js": part("ort", ort),
        **({} if gpu is None else {"index.gpu.js": part("gpu", gpu)}),
        "index.model.js": part("model", model),
        "index.webmanifest": json.dumps(manifest, indent=1).encode(),
        "index.icon.svg": _read("icon.svg").encode(),
    }
    keeper = _read("offline.js").replace("@digest@", files.digest(made.values()))
    return {**made, "index.offline.js": keeper.replace("@files@", json.dumps(sorted(made))).encode()}


def packed(data: bytes) -> str:
    """Packs bytes for a script: gzip, which notices damage, in base64."""
    import gzip  # reading a site does not need it

    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def part(name: str, value: Mapping[str, Any]) -> bytes:
    """Writes a script that gives the page a part."""
    return f"{PREFIX}.{name} = {_json(value)};\n".encode()


def read_part(path: Path, name: str) -> dict[str, Any]:
    """Reads the part in a script of a site. Raises UserError where the file is missing or damaged."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise files.unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(path, "damaged: it is no text. Export the model anew") from error
    start, end = f"{PREFIX}.{name} = ", ";\n"
    try:
        assert text.startswith(start)
        assert text.endswith(end)
        value = json.loads(text[len(start) : -len(end)])
        assert isinstance(value, dict)
    except (AssertionError, ValueError, RecursionError) as error:
        raise UserError(path, "damaged, or none of `fiducial export --to web`. Export the model anew") from error
    return value


def _page(scripts: list[str], footer: str, before: list[str] | None = None) -> bytes:
    import urllib.parse

    icon = "data:image/svg+xml," + urllib.parse.quote(_read("icon.svg").strip(), safe=":=' ")
    values = {
        "icon": icon,
        "style": _read("page.css"),
        "footer": footer,
        "scripts": "\n".join([*(before or []), *(_script(_read(name)) for name in scripts)]),
    }
    page = _read("page.html")
    for name, value in values.items():
        page = page.replace(f"@{name}@", value, 1)
    return page.encode()


def _script(text: str) -> str:
    return f"<script>\n{text.rstrip()}\n</script>"


def _json(value: Any) -> str:
    """JSON that may stand in a script of a page."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _read(name: str) -> str:
    return (SOURCE / name).read_text(encoding="utf-8")
