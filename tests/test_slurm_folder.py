"""The job scripts in ``slurm/`` are what the code behind ``submit`` writes today."""

from __future__ import annotations

import runpy
import stat
import subprocess
from pathlib import Path

import pytest

from mpitasks.slurm.script import Plan, job_script

FOLDER = Path(__file__).parents[1] / "slurm"
PLANS: dict[str, Plan] = runpy.run_path(str(FOLDER / "generate.py"))["plans"]()


def test_all_are_there_and_no_others() -> None:
    assert {path.name for path in FOLDER.glob("*.sh")} == PLANS.keys()


@pytest.mark.parametrize("name", PLANS)
def test_script_is_what_the_code_writes(name: str) -> None:
    path = FOLDER / name
    assert path.read_text() == job_script(PLANS[name]), "type: make scripts"
    assert path.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", path], check=True)


def test_readme_names_every_script() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [name for name in PLANS if f"]({name})" not in text] == []
