"""Text of users, made fit for a row of the journal.

Keys, arguments, labels and names of functions may hold anything that a str can, lone
surrogates too, which no UTF-8 has. And numbers may be too long to be written in
decimals. Nothing here raises. `mpitasks.text` makes text fit for a terminal.
"""

from __future__ import annotations

from typing import Any

__all__ = ["LENGTH", "call_text", "fit", "key_name"]

LENGTH = 200
"""Arguments and keys of the user stand in the journal as so much text."""

_PLAIN = frozenset({int, float, complex, bool, type(None), str, bytes})


def fit(text: str, length: int | None = None) -> str:
    """Return text as SQLite takes it: a plain str, lone surrogates as escapes."""
    # `str.encode` itself, whatever a class derived from str makes of it.
    return str.encode(text, "utf-8", "backslashreplace").decode()[:length]


def call_text(args: tuple[Any, ...]) -> str:
    """Return plain arguments as text."""
    try:
        text = f"({', '.join(map(repr, args))})"
    except ValueError:  # an integer that is too long for decimals
        text = f"({', '.join(map(_repr, args))})"
    return text[:LENGTH]


def key_name(given: Any) -> str:
    """Return a key of the user's as text."""
    if isinstance(given, str):
        return fit(given, LENGTH)
    return fit(_repr(given), LENGTH)


def _repr(value: Any) -> str:
    kind = type(value)
    if kind is tuple:
        parts = [_repr(part) for part in value[:LENGTH]]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    try:
        return repr(value) if kind in _PLAIN else str(value)
    except (Exception, SystemExit, GeneratorExit):  # a class of the user's has its own
        return hex(value) if kind is int else f"<{kind.__name__}>"
