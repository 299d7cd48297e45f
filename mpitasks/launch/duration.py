"""Lengths of time on the command line: in seconds, or as sbatch writes them."""

from __future__ import annotations

import re

from mpitasks.errors import ConfigurationError

__all__ = ["parse_duration"]

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+)(?::(\d+(?:\.\d+)?))?)?")
_SECONDS = re.compile(r"\d+(?:\.\d*)?|\.\d+")


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` stands for.

    A plain number is seconds; with colons or a dash it is what it is for sbatch:
    MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    Raises:
        ConfigurationError: It is none of those.
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    if clock := _CLOCK.fullmatch(text):
        days, (hours, minutes, seconds) = "0", clock.groups("0")
    elif dated := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = dated.groups("0")
    else:
        raise ConfigurationError(
            f"{text!r} is no length of time: give seconds, or as for sbatch MM:SS, "
            f"HH:MM:SS or D-HH:MM:SS"
        )
    whole = (int(days) * 24 + int(hours)) * 60 + int(minutes)
    return whole * 60 + float(seconds)
