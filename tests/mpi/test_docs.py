"""The documentation keeps its word: its scripts run and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "slurm" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]

# A script, and what it prints if the next block says so.
COMPLETE = re.compile(
    r"^```python complete\n(.*?)^```\n(?:```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
# The same, for a package that need not be there.
NEEDS = re.compile(
    r"^```python needs (\w+)\n(.*?)^```\n(?:```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
# A script that starts its workers itself, and so is started without mpiexec.
OUTSIDE = re.compile(
    r"^```python outside\n(.*?)^```\n(?:```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def blocks(kind: re.Pattern[str]) -> list[object]:
    return [
        pytest.param(*block.groups(), id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(kind.finditer(page.read_text()), start=1)
    ]


def blocks_with_needs() -> list[object]:
    return [
        pytest.param(*block.groups(), id=f"{page.stem}-{block[1]}")
        for page in PAGES
        for block in NEEDS.finditer(page.read_text())
    ]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = (match[1].lower() for match in HEADING.finditer(page.read_text()))
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in headings}


@pytest.mark.parametrize(("text", "prints"), blocks(COMPLETE))
def test_script_runs_alone(launch: Launch, text: str, prints: str | None) -> None:
    outcome = launch([sys.executable, launch.script(text)])
    assert outcome.code == 0, outcome
    assert prints is None or outcome.out == prints


@pytest.mark.parametrize(("text", "prints"), blocks(COMPLETE))
def test_script_runs_on_ranks(
    any_mpi: Mpi, launch: Launch, text: str, prints: str | None
) -> None:
    script = launch.script(text)
    outcome = launch(any_mpi.runner(3, script))
    assert outcome.code == 0, outcome
    assert prints is None or outcome.out == prints


@pytest.mark.parametrize(("text", "prints"), blocks(OUTSIDE))
def test_script_that_starts_its_workers(
    any_mpi: Mpi, launch: Launch, text: str, prints: str | None
) -> None:
    outcome = launch([any_mpi.python, launch.script(text)])
    assert outcome.code == 0, outcome
    assert prints is None or outcome.out == prints


@pytest.mark.parametrize(("package", "text", "prints"), blocks_with_needs())
def test_script_that_needs_a_package_runs_on_ranks(
    any_mpi: Mpi, launch: Launch, package: str, text: str, prints: str | None
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not there")
    outcome = launch(any_mpi.runner(3, launch.script(text)))
    assert outcome.code == 0, outcome
    assert prints is None or outcome.out == prints


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(page.read_text()):
        target, _, anchor = match[1].partition("#")
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(match[1])
    assert broken == []
