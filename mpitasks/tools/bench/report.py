"""A benchmark's report: a table for people, CSV and JSON for programs.

Times are in seconds in CSV and JSON; the table shows them in a unit that fits. Each row
is a dict by column; None stands for what was not measured: "-" in the table, nothing in
CSV, null in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpitasks.files import replacing

if TYPE_CHECKING:
    from mpitasks.tools.bench.machine import Machine

__all__ = [
    "PICTURE",
    "Column",
    "Report",
    "Value",
    "format_head",
    "format_table",
    "is_of_report",
    "write",
    "write_csv",
    "write_json",
]

PICTURE = "mpitasks bench"
"""The title that stands in a picture's file."""

_BEGINNINGS = (
    b'{\n "benchmark": ',
    b"workers,submit_per_second,",
    b"workers,seconds,",
    b"what,median_seconds,",
    b"bytes,size,seconds,",
)

Value = str | int | float | None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Its name in CSV and JSON, with the unit.
        title: What stands above it in the table, with the unit; empty: not shown.
        form: How the table formats its values.
        scale: What the table multiplies them by.
    """

    key: str
    title: str = ""
    form: str = ""
    scale: float = 1.0

    def cell(self, value: Value) -> str:
        """Return a value as the table shows it."""
        if value is None:
            return "-"
        if isinstance(value, str):
            return value
        return format(value * self.scale if self.scale != 1 else value, self.form)


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        benchmark: Its name.
        machine: Where.
        work: One sentence: what was done, how often, which run counts.
        options: What it was told, by name.
        columns: The columns.
        rows: The figures.
        samples: What the figures were made from.
        notes: What a reader has to know besides.
    """

    benchmark: str
    machine: Machine
    work: str
    options: Mapping[str, Any]
    columns: Sequence[Column]
    rows: list[dict[str, Value]]
    samples: Any
    notes: list[str] = field(default_factory=list)


def format_head(benchmark: str, machine: Machine) -> str:
    """Return the lines above the table: what was measured on."""
    lines = [f"  {name:8} {text}" for name, text in machine.lines()]
    return "\n".join([f"mpitasks bench {benchmark}", *lines])


def format_table(report: Report) -> str:
    """Return what was done, the figures below each other, and the notes."""
    shown = [column for column in report.columns if column.title]
    lines = [[column.title for column in shown]]
    lines += [[column.cell(row[column.key]) for column in shown] for row in report.rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    table = [
        "   ".join(
            cell.rjust(width) if column.form else cell.ljust(width)
            for cell, width, column in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in lines
    ]
    parts = [f"  {'work':8} {report.work}", "", *table]
    if report.notes:
        parts += ["", *(f"note: {note}" for note in report.notes)]
    return "\n".join(parts)


def write_csv(report: Report, path: Path) -> None:
    """Write the figures, one line a row, below one line of column names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in report.columns)
    for row in report.rows:
        writer.writerow(row[column.key] for column in report.columns)
    write(path, text.getvalue().encode())


def write_json(report: Report, path: Path) -> None:
    """Write everything: machine, options, figures and what they were made from."""
    everything = {
        "benchmark": report.benchmark,
        "machine": report.machine.as_dict(),
        "work": report.work,
        "options": dict(report.options),
        "rows": report.rows,
        "notes": report.notes,
        "samples": report.samples,
    }
    write(path, json.dumps(everything, indent=1).encode() + b"\n")


def write(path: Path, content: bytes) -> None:
    """Write one of the files of a report, in the place of one of an earlier report.

    Raises:
        OSError: It cannot be written, or something else is there.
    """
    with replacing(str(path), is_of_report, mode=0o644) as file:
        file.write(content)


def is_of_report(head: bytes) -> bool:
    """Whether a file that begins like that is one of a report."""
    return head.startswith(_BEGINNINGS) or b"Title\0" + PICTURE.encode() in head
