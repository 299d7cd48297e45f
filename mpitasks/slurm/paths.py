"""Names of a job's files: sbatch's patterns, as shell words and as paths.

A job's files lie beside its log, under the log's name: ``fit-12.out`` is the log,
``fit-12.status`` tells how far it is, ``fit-12.sh`` is the job script. Where the log's
name has no job id, theirs have one all the same: they replace no file of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mpitasks.errors import OptionError
from mpitasks.slurm.quoting import pattern_part

__all__ = [
    "beside",
    "beside_log",
    "check_log",
    "companion",
    "default_log",
    "fill",
    "shell_word",
    "sweep",
]

VARIABLES = {
    "%": "%",
    "A": "$SLURM_ARRAY_JOB_ID",
    "a": "$SLURM_ARRAY_TASK_ID",
    "j": "$SLURM_JOB_ID",
    "u": "$USER",
    "x": "$SLURM_JOB_NAME",
}
"""What a job's shell knows of sbatch's patterns, by letter."""

_PATTERN = re.compile(r"%(\d*)(.)")


def default_log(name: str, *, array: bool) -> str:
    """Return the pattern of the log of a job of that name."""
    plain = re.sub(r"[^\w.+-]", "_", name)
    return f"{plain}-%A_%a.out" if array else f"{plain}-%j.out"


def beside(log: str, suffix: str) -> str:
    """Return the pattern of a file beside the log; the log may have no suffix."""
    path = Path(log)
    return str(path.with_suffix(suffix) if path.suffix != suffix else f"{log}{suffix}")


def companion(log: str, suffix: str, *, array: bool) -> str:
    """Return the pattern of a job's other file, which always has the job's id."""
    path = Path(log)
    letters = _letters(path.name)
    if letters & {"j", "A"} and (not array or letters & {"j", "a"}):
        return beside(log, suffix)
    return str(path.with_name(f"{path.stem}-{'%A_%a' if array else '%j'}{suffix}"))


def beside_log(log: str, id: str, number: str | None) -> list[Path]:
    """Return where the status file of a job may be, by its log: the likeliest first.

    Args:
        log: The log.
        id: The job's id, as squeue shows it.
        number: Its own number, if that is known.
    """
    path = Path(log)
    names = [path.with_name(f"{path.stem}-{id}.status")]
    if number is not None and number != id:
        names.append(path.with_name(f"{path.stem}-{number}.status"))
    return [*names, Path(beside(log, ".status"))]


def check_log(log: str, *, array: bool) -> None:
    """Look whether sbatch makes of a pattern what is meant.

    Raises:
        OptionError: It does not.
    """
    if "\\" in log:
        raise OptionError(
            f"output {log!r} has a backslash, with which sbatch fills no pattern in"
        )
    if array and not log.startswith("/dev/") and not _letters(log) & {"j", "a"}:
        path = Path(log)
        stem = path.stem if "A" in _letters(path.stem) else f"{path.stem}-%A"
        better = path.with_name(f"{stem}_%a{path.suffix}")
        raise OptionError(
            f"all jobs of the array would write over each other's log {log!r}; "
            f"put %a, the index, into its name: --output={better}"
        )


def sweep(pattern: str, *, array: bool) -> str:
    """Return a pattern that gives each job of an array a file of its own."""
    if not array or "%a" in pattern:
        return pattern
    path = Path(pattern)
    return str(path.with_name(f"{path.stem}-%a{path.suffix}"))


def shell_word(pattern: str) -> str:
    """Return a word for a shell in the job that becomes what sbatch makes of it.

    Raises:
        OptionError: Part of the pattern is known to sbatch only.
    """
    if pattern.startswith("-"):  # which would be an option
        pattern = f"./{pattern}"
    parts = []
    place = 0
    for match in _PATTERN.finditer(pattern):
        width, letter = match.groups()
        if letter not in VARIABLES or width:
            raise OptionError(
                f"{match[0]} in {pattern!r} is not known in the job; use "
                f"{', '.join('%' + known for known in VARIABLES if known != '%')}"
            )
        parts += [pattern_part(pattern[place : match.start()])]
        parts += [_braced(VARIABLES[letter], pattern[match.end() : match.end() + 1])]
        place = match.end()
    parts.append(pattern_part(pattern[place:]))
    return f'"{"".join(parts)}"'


def _letters(pattern: str) -> set[str]:
    """Return the letters of what sbatch fills in."""
    return {match[2] for match in _PATTERN.finditer(pattern)}


def _braced(variable: str, following: str) -> str:
    """Put braces around a variable's name where it would run into what follows."""
    if variable.startswith("$") and (following.isalnum() or following == "_"):
        return "${" + variable[1:] + "}"
    return variable


def fill(pattern: str, values: Mapping[str, str]) -> Path:
    """Return the path that sbatch makes of a pattern; what is unknown stays."""
    return Path(
        _PATTERN.sub(
            lambda match: values.get(match[2], match[0]).rjust(int(match[1] or 0), "0"),
            pattern,
        )
    )
