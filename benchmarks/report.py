"""All results of a folder in one page, README.md, and as pictures.

    python benchmarks/report.py benchmarks/results

The page holds the tables as they are, losses included; the pictures need matplotlib.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import results

Record = Mapping[str, Any]


def load(folder: Path) -> list[Record]:
    """Return what the programs left, in the order of their names and ranks."""
    records = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(records, key=lambda r: (r["benchmark"], r["ranks"]))


def write(folder: Path) -> None:
    """Write the page and the pictures."""
    records = load(folder)
    if not records:
        return
    (folder / "README.md").write_text("\n".join(page(records)) + "\n")
    try:
        import pictures
    except ModuleNotFoundError as error:
        print(f"no pictures: {error.name} is not installed")
        return
    pictures.draw(records, folder)


def page(records: list[Record]) -> list[str]:
    """Return the page, line by line."""
    lines = [
        "# Results",
        "",
        "Medians of the rounds. In brackets, our value divided by the other's, median",
        "of the ratios within the rounds. What each line means stands at the head of",
        "its program.",
        "",
    ]
    for words in dict.fromkeys(describe(record) for record in records):
        lines += [words, ""]
    for record in records:
        ranks = f", {record['ranks']} ranks" if record["ranks"] > 1 else ""
        quick = ", quick: no figures" if record["quick"] else ""
        lines += [f"## {record['benchmark']}{ranks}{quick}", ""]
        lines += [*results.table(record), ""]
        lines += [f"- skipped: {line}" for line in record["skipped"]]
        if record["skipped"]:
            lines.append("")
    return lines[:-1]


def describe(record: Record) -> str:
    """Return when and on what a launch ran, in a sentence."""
    machine = record["machine"]
    words = [
        machine["date"],
        *(["virtual machine"] if machine["virtual"] else []),
        machine["processor"],
        f"{machine['cores']} cores",
        f"{machine['memory (GiB)']} GiB",
        f"Linux {machine['kernel']}",
        f"Python {machine['python']} ({machine['compiler']})",
        machine["mpi"],
        *(f"{name} {version}" for name, version in machine["versions"].items()),
        f"commit {machine['commit']}",
    ]
    return ", ".join(words) + "."


if __name__ == "__main__":
    write(Path(sys.argv[1]))
