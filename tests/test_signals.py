"""Signals around a fork. Those of whole runs are in `tests/mpi/test_signals.py`."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, time
from mpitasks.launch import signals

# Hooks before a fork run in reverse order, so this one comes when signals are held.
os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGINT))
signals.expect(leads=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    if os.fork() == 0:
        os._exit(0)
    time.sleep(10)
    print("nothing came")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_during_a_fork_is_not_lost() -> None:
    """Python prints and drops what is raised in a hook of `os.register_at_fork`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
