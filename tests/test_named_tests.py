"""The pages about failures name a test for each row of their tables: it must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests").rglob("*.py"))

TABLE = re.compile(r"^\|.*\| test \|\n\|[-|]+\n((?:\|.*\|\n)+)", re.MULTILINE)
LETTER = re.compile(r"`(tests/\S+\.py)`\s\(([A-Z])\)")
NAME = re.compile(r"\b([A-Z]) (?=`)|`([\w/]+\.py)?(?:::)?(\w+)?`")


def files_called(name: str) -> list[Path]:
    """Return the files that a page may mean."""
    return [path for path in FILES if str(path).endswith(f"/{name}")]


def defines(path: Path, name: str) -> bool:
    """Whether a file has a function of that name."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == name
        for node in ast.walk(ast.parse(path.read_text()))
    )


def missing(cell: str, letters: dict[str, str]) -> list[str]:
    """Return what a cell names that is not there."""
    files: list[Path] = []
    wrong = []
    for letter, file, function in NAME.findall(cell):
        if letter or file:
            files = files_called(letters.get(letter, file))
        if not files or (
            function and not any(defines(path, function) for path in files)
        ):
            wrong.append(f"{letter}{file} {function}")
    return wrong


@pytest.mark.parametrize(("page", "tables"), [("failures.md", 3), ("isolation.md", 1)])
def test_each_row_names_tests_that_exist(page: str, tables: int) -> None:
    text = (ROOT / "docs" / page).read_text()
    letters = {letter: file for file, letter in LETTER.findall(text)}
    found = TABLE.findall(text)
    assert len(found) == tables
    for row in "".join(found).splitlines():
        cell = row.split(" | ")[-1].strip(" |")
        assert NAME.search(cell), row
        assert missing(cell, letters) == []
