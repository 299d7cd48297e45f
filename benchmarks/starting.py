"""Starting programs of this folder under mpiexec, with a hard end and nothing left.

The caller becomes the reaper of all orphans below it, so that whatever a program
leaves behind, daemons of a peer as well, is found and killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mpitasks.launch.mpiexec import find_mpiexec, is_open_mpi
from peers import PR_SET_CHILD_SUBREAPER, descendants, send_signal

HERE = Path(__file__).parent


def mpiexec(ranks: int) -> list[str]:
    """Return the words that start so many ranks on this host."""
    program = find_mpiexec()
    words = [str(program), "-n", str(ranks)]
    if is_open_mpi(program):
        words.append("--oversubscribe")
        for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
            os.environ[name] = "1"
    return words


def launch(program: str, ranks: int, words: Sequence[str], seconds: float) -> str:
    """Run a program of this folder; return what went wrong, or nothing.

    Args:
        program: Its name, without ``.py``.
        ranks: How many; none for a program that does not run under mpiexec.
        words: Its options.
        seconds: When to kill it.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    command = [sys.executable, str(HERE / f"{program}.py"), *words]
    if ranks:
        command = [*mpiexec(ranks), *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        code = process.wait(seconds)
        return f"exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    finally:
        while left := descendants(os.getpid()):
            send_signal(left, signal.SIGKILL)
            reap()


def reap() -> None:
    """Bury the dead; wait for one if all still live."""
    try:
        os.waitpid(-1, 0)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
