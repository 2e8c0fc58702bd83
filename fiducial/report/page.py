"""A page: one HTML file that holds everything it shows, to be read on a phone, on a desk and on paper.

A page is a title, what must be known first, and a list of sections; a section is a heading and blocks: sentences,
tables, charts, galleries, settings, lists, commands. Blocks take plain values, so that whatever was measured can be
shown. Which command wrote the page, when, with which version and on what is added here, once for all pages."""

from __future__ import annotations

import datetime
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from fiducial import config, files
from fiducial.errors import counted
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.charts import number_text
from fiducial.report.plot import Chart
from fiducial.version import __version__

MOST_OPEN = 40  # rows and settings; longer blocks are folded
LONGEST_SIDE = 1600  # px; larger images are shrunk to it
WIDE_MIN = 600  # px; images wider than this are not shrunk below it on a phone, where they scroll: text stays legible


# --------------------------------------------------------------------------------------------------------- blocks
# `kind` is the block's macro in the template; an empty block has length 0 and is left out.


@dataclass(frozen=True)
class Figure:
    """A number in a table that is written in its own way (`1.52 M`, `4.3 ± 0.1`). A `tint` in 0..1 colours its cell."""

    text: str
    tint: float = 0.0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; the first cell names its row."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    note: str = ""
    last_below: bool = False  # on a phone the last cell, a sentence, stands below the others of its row
    kind: ClassVar[str] = "table"

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Charts:
    """Charts side by side as far as the page is wide."""

    charts: Sequence[Chart]
    kind: ClassVar[str] = "charts"

    def __len__(self) -> int:
        return len(self.charts)


@dataclass(frozen=True)
class Picture:
    """An RGB uint8 image [h, w, 3]. `alt` says what is seen to those who don't see it; default: the caption."""

    image: np.ndarray
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid of tiles, or one below the other over the whole width where they are `wide`."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    legend: Mapping[str, pictures.Colour] = field(default_factory=dict)
    wide: bool = False
    kind: ClassVar[str] = "gallery"

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Settings:
    """Names with one value each, in columns."""

    values: Mapping[str, Any]
    kind: ClassVar[str] = "settings"

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Listing:
    """Lines one below the other; those after the first `most` are counted."""

    title: str
    lines: Sequence[str]
    most: int = 50
    kind: ClassVar[str] = "listing"

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class Commands:
    """Commands as they can be typed."""

    lines: Sequence[str]
    kind: ClassVar[str] = "commands"

    def __len__(self) -> int:
        return len(self.lines)


Block = str | Table | Charts | Gallery | Settings | Listing | Commands  # text is a sentence or more


# ----------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class Section:
    """Blocks under a heading, which the page's contents link to. A section of empty blocks is left out."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Fact:
    """One figure of the summary: a float is shown with four digits, text as it is."""

    name: str
    value: Any
    meaning: str = ""  # what it means, in a sentence


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is shown, in this order; what is empty is left out."""

    title: str
    answer: Sequence[str] = ()  # in words, the most important first
    facts: Sequence[Fact] = ()
    notes: Sequence[str] = ()  # what a reader must know before believing the figures
    sections: Sequence[Section] = ()
    device: str = ""  # what it was computed on, for the last line
    shows_command: bool = True


def write_page(path: Path, page: Page) -> Path:
    """Writes the page, whole or not at all, and gives `path` back."""
    # A file name that is not UTF-8 reaches us with lone surrogates, which no page can hold.
    files.write_text(path, render(page).encode("utf-8", "replace").decode("utf-8"))
    return path


def write_images(folder: Path, galleries: Sequence[Gallery], ending: str = ".jpg") -> None:
    """Writes each gallery that has pictures as one image, GALLERY_TITLE.jpg: what the page shows, to be passed on."""
    for gallery in galleries:
        if gallery.pictures:
            pictures.write(folder / f"{gallery.title.lower().replace(' ', '_')}{ending}", sheet_of(gallery))


def sheet_of(gallery: Gallery, columns: int = 4) -> np.ndarray:
    """Lays a gallery's pictures out as one image; a sheet with its own captions is that already."""
    if gallery.wide and len(gallery.pictures) == 1:
        return gallery.pictures[0].image
    tiles = [picture.image for picture in gallery.pictures]
    captions = [picture.caption for picture in gallery.pictures]
    return pictures.contact_sheet(tiles, captions, 1 if gallery.wide else columns)


def render(page: Page) -> str:
    """Makes the page's HTML. All text in it is escaped; it refers to nothing outside itself and holds no scripts."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number_text, jpeg=jpeg_uri, breakable=breakable, command=command)
    environment.tests["numeric"] = lambda value: isinstance(value, (int, float, np.number, Figure)) or value is None
    environment.tests["tinted"] = lambda value: isinstance(value, Figure) and value.tint > 0
    sections = [(section.heading, [block for block in section.blocks if block]) for section in page.sections]
    return environment.get_template("page.html.j2").render(
        page=page,
        notes=[note for note in page.notes if note not in page.answer],
        sections=[(heading, blocks) for heading, blocks in sections if blocks],
        wide_min=WIDE_MIN,
        most_open=MOST_OPEN,
        command=files.command_line.get() if page.shows_command else "",
        made_by=", ".join(
            filter(None, (f"Fiducial {__version__}", f"{datetime.datetime.now():%Y-%m-%d %H:%M}", page.device))
        ),
    )


def breakable(value: Any) -> Any:
    """Writes a value as HTML in which long names break after `_`, `-` and `/`, not inside of a word or an ending."""
    from markupsafe import Markup, escape

    def broken(word: re.Match[str]) -> str:
        return re.sub(r"([_/-])(?=\w)", r"\1<wbr>", word[0])

    return Markup(re.sub(r"[\w./-]{24,}", broken, str(escape(number_text(value)))))


def command(line: str) -> Any:
    """Writes a command as HTML whose words with `-` stay whole: browsers break them behind it, `--` from its name."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"\S*-\S*", lambda word: f"<span>{word[0]}</span>", str(escape(line))))


def sentence(text: str) -> str:
    """Begins a line as a sentence, where it begins with a plain word, and ends it as one."""
    begun = text[:1].upper() + text[1:] if re.match(r"[a-z]+[ ,:]", text) else text
    return begun if begun.endswith((".", "!", "?", ":")) else f"{begun}."


def torch_device() -> str:
    """Names what torch computes on here."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {counted(threads, 'thread')}"


def jpeg_uri(image: np.ndarray, quality: int = 80) -> str:
    """Makes a data URI of an image, shrunk to `LONGEST_SIDE` where it is larger."""
    shrink = max(image.shape[:2]) / LONGEST_SIDE
    if shrink > 1:
        size = Size(max(1, round(image.shape[1] / shrink)), max(1, round(image.shape[0] / shrink)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return "data:image/jpeg;base64," + b64encode(pictures.jpeg_bytes(image, quality)).decode()


# ------------------------------------------------------------------------------------ sections that many pages have


def metric_table(rows: Sequence[tuple[str, Any, str]], title: str, note: str) -> Table:
    """Makes the table of figures: (name, value, what it is)."""
    return Table(("metric", "value", "what it is"), rows, title, note, last_below=True)


def gallery_sections(shown: Sequence[Gallery]) -> list[Section]:
    """Makes a section of each gallery, under its title."""
    return [Section(gallery.title, [gallery]) for gallery in shown]


def data_section(values: Mapping[str, Any], problems: Sequence[str]) -> Section:
    """Says what was used and what was left out of it, and why."""
    title = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} met in the data"
    return Section("Data", [Settings(values), Listing(title, problems)])


def recipe_section(recipe: Mapping[str, Any], of: str = "") -> Section:
    """Lists a recipe's settings by the names that --set takes; `of` says whose they are where there are several."""
    settings = Settings(flat(recipe))
    whose = f"The recipe is that of {of}. " if of else ""
    return Section("Recipe", [f"{whose}Each name can be changed with --set NAME=VALUE.", settings] if settings else [])


def failed_section(failures: Mapping[str, str]) -> Section:
    """Lists runs that did not finish, each with the last line that it said."""
    line = "These runs did not finish and are in no figure above. The same command tries them again."
    table = Table(("run", "its last line"), list(failures.items()))
    return Section("Failed runs", [line, table] if failures else [])


def flat(nested: Mapping[str, Any]) -> dict[str, str]:
    """Makes `a.b.c` -> text of nested settings, the names that `--set` takes."""
    settings = config.flat(nested)
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in settings.items()
    }
