"""Values that users give for options: integers, lengths of time, amounts of memory.

One function for each kind, so that every option of the library takes the same: what can
serve as an index is an integer, NumPy's too, and no bool is a number. Which options
there are, is in `mpitasks.options`. What the command line alone takes (MM:SS), is in
`mpitasks.launch.duration`.
"""

from __future__ import annotations

import contextlib
import math
import operator
from typing import Any

from mpitasks.errors import ConfigurationError, OptionError

__all__ = ["integer", "parse_size", "seconds", "size", "wait_seconds"]


def integer(
    name: str,
    value: Any,
    least: int | None = None,
    *,
    wrong: type[Exception] = OptionError,
    or_none: bool = False,
) -> int:
    """Return the int that an option was given.

    Args:
        name: The option.
        value: What it was given.
        least: The least that it may be; None for any integer.
        wrong: What is raised for what is no integer.
        or_none: Whether the option may be None, which messages then say.

    Raises:
        OptionError: The number is too small.
        Exception: `wrong`, for what is no integer. A bool is none.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        kind = "an integer or None" if or_none else "an integer"
        raise wrong(f"{name} must be {kind}, not {value!r}")
    if least is not None and number < least:
        bound = f"None or > {least - 1}" if least else f"None or >= {least}"
        raise OptionError(
            f"{name} must be {bound if or_none else f'at least {least}'}, not {number}"
        )
    return number


def seconds(name: str, value: Any, *, above_zero: bool = False) -> float:
    """Return the seconds that an option was given.

    Args:
        name: The option.
        value: What it was given.
        above_zero: Whether 0 is too little.

    Raises:
        OptionError: It is no number, not finite, or too small.
    """
    number = math.nan
    if not (isinstance(value, (bool, str, bytes, bytearray)) or _is_truth(value)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number) or number < 0:
        raise OptionError(f"{name} must be a number of seconds, not {value!r}")
    if above_zero and not number:
        raise OptionError(f"{name} must be more than 0 seconds; None is no limit")
    return number


def wait_seconds(timeout: Any) -> float:
    """Return how long to wait at most; below 0 it is no time, as in the stdlib.

    Raises:
        TypeError: It is no number.
    """
    if isinstance(timeout, (str, bytes, bytearray)):
        raise TypeError(f"a timeout must be a number of seconds, not {timeout!r}")
    return float(timeout)


def size(name: str, value: Any) -> int:
    """Return the bytes that an option was given: a number, or text such as "2G".

    Raises:
        OptionError: It is no amount of memory.
    """
    if not isinstance(value, str):
        return integer(name, value, 1)
    try:
        return parse_size(value)
    except ConfigurationError as error:
        raise OptionError(f"{name}: {error}") from error


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` stands for: a number, or one with K, M, G or T.

    Raises:
        ConfigurationError: It is no such thing, or nothing at all.
    """
    import re  # late: every rank 0 loads this module

    found = re.fullmatch(r"(\d+(?:\.\d*)?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    nbytes = 0
    if found is not None:
        nbytes = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))
    if nbytes < 1:
        raise ConfigurationError(
            f"{text!r} is no amount of memory: give bytes, or as for sbatch 500M or 2G"
        )
    return nbytes


def _is_truth(value: Any) -> bool:
    """Whether a value is NumPy's bool, which this does not import."""
    return getattr(getattr(value, "dtype", None), "kind", None) == "b"
