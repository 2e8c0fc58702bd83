"""What a user did wrong, in one line; the command line prints it and exits with 2."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Failure(Exception):
    """A failure that the command line tells in one line: `where: what`; it ends with `exit_code`.

    `UserError("a.json", "not JSON; export it again")` or, where there is no place to name, `UserError("what")`. Both
    parts stay apart, so that whoever lists the place itself can leave it out. It keeps its kind on the way out of
    another process: pickled, or by `to_json` and `of_json`."""

    exit_code = 1

    def __init__(self, where: object, what: str = "") -> None:
        super().__init__(where, what)
        self.where, self.what = (one_line(str(where)), one_line(what)) if what else ("", one_line(str(where)))

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def about(self, where: object) -> str:
        """Gives the message for a list that names `where` itself: without it."""
        return self.what if self.where == str(where) else str(self)


class UserError(Failure, ValueError):
    """Bad input: says what was wrong, what was expected and what to do. Never a bug of ours."""

    exit_code = 2


class Interrupted(UserError):
    """What the machine did to a command: a disk is full, a process was killed, a network drive is gone. Once that is
    mended, what was running goes on as it does after Ctrl-C."""


class BadAnswer(UserError):
    """A model's answer that is no points: NaN or infinite. Of other images the same model may say better."""


def to_json(error: BaseException) -> dict[str, str]:
    """Describes an error for another process: {"kind", "where", "what"}, and "module" of a package that is missing."""
    if isinstance(error, Failure):
        kind = next(name for name, kind in _KINDS.items() if isinstance(error, kind))
        return {"kind": kind, "where": error.where, "what": error.what}
    first = next(iter(str(error).splitlines()), "")
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    return {"kind": "other", "where": "", "what": what, "module": missing}


def of_json(values: Mapping[str, str]) -> Exception:
    """Makes the error again that `to_json` described; what was no `Failure` becomes one, or ModuleNotFoundError."""
    if values.get("module"):
        return ModuleNotFoundError(values["what"].partition(": ")[2], name=values["module"])
    where, what = values["where"], values["what"]
    kind = _KINDS.get(values["kind"], Failure)
    return kind(where, what) if where else kind(what)


_KINDS: dict[str, type[Failure]] = {"interrupted": Interrupted, "user": UserError, "failure": Failure}


def expect(fits: bool, setting: str, value: object, expected: str) -> None:
    """`head.top_k=0: expected ..` where a setting's value does not fit. Say what must hold, not what must not: a NaN is
    neither above nor below anything."""
    if not fits:
        raise UserError(f"{setting}={value}: expected {expected}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'? Known: a, b, c.` for messages about unknown names.

    A name that the word is a part of, or one of whose parts it is nearly, is nearer than one that looks alike."""
    known, plain = sorted(known), word.lower().replace("-", "_")
    candidates = known if len(word) < 200 and len(known) < 2000 else []  # files of strangers have names of any length
    within = [name for name in candidates if plain and plain in name.lower().split("_")]
    within += [name for name in candidates if len(plain) > 2 and (plain in name.lower() or name.lower() in plain)]
    parts = {part: name for name in reversed(candidates) for part in name.lower().split("_")}

    def alike(names: Iterable[str], cutoff: float) -> list[str]:
        return difflib.get_close_matches(plain, names, n=1, cutoff=cutoff)

    nearest = [*alike(candidates, 0.8), *within, *(parts[part] for part in alike(parts, 0.7)), *alike(candidates, 0.5)]
    guess = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"{guess} Known: {', '.join(known)}."


def nothing_at(path: Path, expected: str = "") -> UserError:
    """Makes the error of a path that leads nowhere; it names what lies beside with nearly its name."""
    try:
        names = [item.name for item in itertools.islice(path.parent.iterdir(), 2000)]
    except OSError:
        names = []
    alike = difflib.get_close_matches(path.name[:200], names, n=1, cutoff=0.75)
    guess = f". Did you mean {str(path.with_name(alike[0]))!r}?" if alike else ""
    return UserError(path, f"no such file or folder{expected and f'; expected {expected}'}{guess}")


def counted(number: int, noun: str) -> str:
    """Counts things in words.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: BaseException) -> str:
    """Gives the first line of a message that says something; the error's kind where none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def one_line(text: str, longest: int = 1200) -> str:
    """Makes one line that any terminal shows, of what files and libraries say: no line ends, no control characters, the
    middle left out of what is too long."""
    if not text.isprintable():
        blanks = " ".join(text.split())
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in blanks)
    return text if len(text) <= longest else f"{text[: longest // 2]} .. {text[-longest // 3 :]}"


def shown(value: Any) -> str:
    """Shows a value of a file in a message, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}.."
