"""Data as a user names them: the same three words for every command and function that reads some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fiducial.errors import UserError, nothing_at


@dataclass(frozen=True)
class Source:
    """Where data are, and what of them is meant."""

    path: Path  # a folder or a file of any format in `formats/`; videos, frames and images for what needs no labels
    images: Path | None = None  # folder of the images, where it is not beside an annotation file
    category: str | None = None  # which one, where there are several with points; several, A,B, are read as one
    also: tuple[Path, ...] = ()  # further sets that are learnt together with it (`together`)
    # A field of the images or a pattern on their names: images of one value are in one split, where splits are carved.
    group: str | None = None

    @classmethod
    def of(cls, data: Source | Path | str) -> Source:
        """Gives a path as a source that is read as it is."""
        return data if isinstance(data, Source) else cls(Path(data))

    def here(self) -> Source:
        """Gives itself; UserError where there is nothing at its path, or a set is given twice, before anything heavy is imported to read it."""
        seen: set[Path] = set()
        for path in (self.path, *self.also):
            if not path.exists():
                raise nothing_at(path)
            if path.resolve() in seen:
                raise UserError(path, "is given twice; expected other sets with --also, so that no label counts double")
            seen.add(path.resolve())
        return self

    @property
    def parts(self) -> list[Source]:
        """Lists the sets and categories that it is made of, each as a source of its own."""
        names = [name.strip() for name in (self.category or "").split(",") if name.strip()]
        own = [replace(self, category=name, also=()) for name in names] if len(names) > 1 else [replace(self, also=())]
        return own + [Source(path, group=self.group) for path in self.also]

    def __str__(self) -> str:
        return " + ".join(map(str, (self.path, *self.also)))

    def options(self) -> list[str]:
        """Gives the options of a command that say it, without the path."""
        return [
            *(["--images", str(self.images)] if self.images is not None else []),
            *(["--category", self.category] if self.category is not None else []),
            *(["--group", self.group] if self.group is not None else []),
            *(word for path in self.also for word in ("--also", str(path))),
        ]
