"""What a user did wrong, in one line; the command line prints it and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: says what was wrong, what was expected and what to do. Never a bug of ours."""


def expect(fits: bool, setting: str, value: object, expected: str) -> None:
    """`head.top_k=0: expected ..` where a setting's value does not fit. Say what must hold, not what must not: a NaN is
    neither above nor below anything."""
    if not fits:
        raise UserError(f"{setting}={value}: expected {expected}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'? Known: a, b, c.` for messages about unknown names."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"{guess} Known: {', '.join(known)}."
