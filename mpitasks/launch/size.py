"""Amounts of memory on the command line: in bytes, or as sbatch writes them."""

from __future__ import annotations

import re

from mpitasks.errors import ConfigurationError

__all__ = ["parse_size"]

_SIZE = re.compile(r"(\d+(?:\.\d*)?)([KMGT]?)(?:i?B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` stands for: a number, or one with K, M, G or T.

    Raises:
        ConfigurationError: It is no such thing, or nothing at all.
    """
    size = _SIZE.fullmatch(text)
    nbytes = 0
    if size is not None:
        nbytes = int(float(size[1]) * 1024 ** " KMGT".index(size[2].upper() or " "))
    if nbytes < 1:
        raise ConfigurationError(
            f"{text!r} is no amount of memory: give bytes, or as for sbatch 500M or 2G"
        )
    return nbytes
