"""ONNX Runtime Web: pages of `fiducial export --to web`, run in a browser without a window.

For certificates and figures: whoever wants points from Python takes another runtime. The card and the ONNX file lie in the
script `index.model.js` beside the page; the graph is the very one of `--to onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fiducial.errors import UserError
from fiducial.runtime import export_card
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.runtimes.onnx_runtime import OnnxNetwork
from fiducial.types import Keypoints
from fiducial.web import pages

if TYPE_CHECKING:
    from fiducial.runtime.browser import Browser

NAME, TITLE, TARGET = "onnxruntime-web", "a page in a browser", "web"
FILES = (".html", *pages.BESIDE)
EXPORT = "fiducial.exporting.onnx_export:write"
PACK = "fiducial.exporting.web_export:packed"
LACKS = "fiducial.runtime.browser:lacks"
LAYERS = None
INT8 = None
SANDBOXED = True  # what a browser runs can do no harm


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".html" and path.with_name(f"{path.stem}.model.js").exists()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> WebNetwork:
    """`threads`: None = the page's own choice. Opens the browser."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    card = export_card.of_metadata(
        pages.read_part(path.with_name(f"{path.stem}.model.js"), "model").get("metadata", {}), path, NAME
    )
    version = str(pages.read_part(path.with_name(f"{path.stem}.ort.js"), "ort").get("version"))
    from fiducial.runtime.browser import Browser  # with the standard library's web server, which others do without

    return WebNetwork(Browser(path, threads), card, path, version)


class WebNetwork(OnnxNetwork):
    """A page that is open in a browser, and its card; its session is the page's own."""

    runtime = NAME

    def __init__(self, browser: Browser, export: ExportCard, path: Path, version: str) -> None:
        super().__init__(browser, export, path, threads=1)
        self.version = version

    def _run(self, session: Any, feed: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
        return super()._run(session, feed, names or list(self.export.outputs))

    def look(self, picture: bytes, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        """The points of a picture's file, decoded by the browser, in px of the upright picture."""
        found = self.session.look(picture, boxes_xywh)
        return self._placed(found, len(found["xy"]), boxes_xywh is not None)

    def close(self) -> None:
        """Closes the browser; it closes with this process, too."""
        self.session.close()
