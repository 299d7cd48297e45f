"""A benchmark's report: a table for people, CSV and JSON for programs.

Times are in seconds in CSV and JSON; the table shows them in a unit that fits. Each row
is a dict by column; None stands for what was not measured: "-" in the table, nothing in
CSV, null in JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.launch.bench.machine import Machine

__all__ = [
    "Column",
    "Report",
    "Value",
    "format_head",
    "format_table",
    "write_csv",
    "write_json",
]

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
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.key for column in report.columns)
        for row in report.rows:
            writer.writerow(row[column.key] for column in report.columns)


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
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
