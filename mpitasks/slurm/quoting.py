"""Words of the user's in a job script: for bash, for sbatch, and in a comment.

A job script is read twice, by sbatch and by bash, and each has rules of its own. Here
any word becomes one that both take for nothing but that word, on one line. Which words
a script has is decided in `mpitasks.slurm.script`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

from mpitasks.errors import OptionError

__all__ = ["checked_words", "comment", "pattern_part", "sbatch_word", "shell_word"]

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "'": "\\'"}
_SPECIAL = re.compile(r'([\\"$`])')
_RENAMED = re.compile("(pack)(?=job)", re.IGNORECASE)
"""sbatch makes hetjob of packjob, wherever it stands."""


def checked_words(what: str, words: Iterable[str]) -> tuple[str, ...]:
    """Return words that can stand in a job script.

    Raises:
        OptionError: One holds what no script can: NUL, or half a character.
    """
    words = tuple(words)
    for word in words:
        try:
            usable = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise OptionError(f"{what} {word!r} cannot stand in a job script")
    return words


def shell_word(word: str) -> str:
    """Return what bash reads as that word, on one line."""
    return shlex.quote(word) if word.isprintable() else _escaped(word)


def pattern_part(text: str) -> str:
    """Return what bash, between double quotes, reads as that text."""
    return "".join(
        _SPECIAL.sub(r"\\\1", char) if char.isprintable() else f'"{_escaped(char)}"'
        for char in text
    )


def sbatch_word(word: str) -> str:
    """Return what sbatch reads as that word, in a line of the script's head.

    Its quotes are the shell's, but a backslash counts in all of them.

    Raises:
        OptionError: It does not fit on a line.
    """
    if not word.isprintable():
        raise OptionError(f"{word!r} is no word for sbatch: it must fit on one line")
    return _RENAMED.sub(r"\1\\", shlex.quote(word).replace("\\", "\\\\"))


def comment(text: str) -> str:
    """Return a text as one line that shows what it holds."""
    return "# " + "".join(c if c.isprintable() else _code(c) for c in text)


def _escaped(word: str) -> str:
    chars = (c if c.isprintable() and c not in _NAMED else _code(c) for c in word)
    return f"$'{''.join(chars)}'"


def _code(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
