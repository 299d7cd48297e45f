"""Random trees of tasks that have tasks give what the same plain calls give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_trees_of_tasks_give_what_plain_calls_give() -> None:
    script = Path(__file__).with_name("nested_trees.py")
    # A process of its own: a run in one process lasts until Python ends.
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1:] == ["ok"]
