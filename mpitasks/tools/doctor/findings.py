"""What the doctor finds: the record of one finding, the table, the exit code.

What is looked at stands elsewhere (`checks_*.py`); nothing here knows of MPI.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from mpitasks import exit_codes

__all__ = [
    "Finding",
    "Level",
    "error",
    "exit_code",
    "lines",
    "ok",
    "summary",
    "warning",
]


NAME_COLUMNS = 14
WIDTH = 88


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # a run starts, but may be slow or end differently
    ERROR = "error"  # a run does not start, or not as one world


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at, in a word or two.
        level: How bad it is.
        why: What there is, or what is wrong, in one line.
        cure: What mends it: a command, or what to change; empty if it is ok.
    """

    check: str
    level: Level
    why: str
    cure: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON takes it."""
        return {
            "check": self.check,
            "level": self.level.value,
            "why": self.why,
            "cure": self.cure,
        }


def ok(check: str, why: str) -> Finding:
    """Return a finding of what is as it should be."""
    return Finding(check, Level.OK, _one_line(why))


def warning(check: str, why: str, cure: str) -> Finding:
    """Return a finding of what lets a run start, but not be as good as it could."""
    return Finding(check, Level.WARNING, _one_line(why), _one_line(cure))


def error(check: str, why: str, cure: str) -> Finding:
    """Return a finding of what keeps a run from starting."""
    return Finding(check, Level.ERROR, _one_line(why), _one_line(cure))


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if all is ok, 1 if there are warnings, 78 if there are errors."""
    levels = {finding.level for finding in findings}
    if Level.ERROR in levels:
        return exit_codes.SET_UP
    return exit_codes.WARNINGS if Level.WARNING in levels else 0


def lines(finding: Finding) -> list[str]:
    """Return the finding's lines of the table, cut to no width that hides a path."""
    head = f"{finding.level.value:<8} {finding.check:<{NAME_COLUMNS}} "
    indent = " " * len(head)
    shown = _wrap(finding.why, head, indent)
    if finding.cure:
        shown += _wrap(finding.cure, f"{indent}-> ", f"{indent}   ")
    return shown


def summary(findings: Iterable[Finding]) -> str:
    """Return the last line of the table."""
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARNING)
    if errors:
        also = f", and {_many(warnings, 'warning')}" if warnings else ""
        return f"{_many(errors, 'error')}{also}: a run would not start as it should"
    if warnings:
        return f"{_many(warnings, 'warning')}: a run starts"
    return "all is well"


def _wrap(text: str, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
