"""Starting programs of this folder under mpiexec, with a hard end and nothing left.

The caller adopts all orphans below it, so that whatever a program leaves behind,
daemons of a peer as well, is found and killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mpitasks.launch.mpiexec import find_mpiexec, is_open_mpi
from peers import adopt_orphans, bury, descendants, send_signal

HERE = Path(__file__).parent
GRACE_SECONDS = 5.0


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
    adopt_orphans()
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
        clean_up(process)


def clean_up(process: subprocess.Popen[bytes]) -> None:
    """End what is left; the guards of peers get a moment to do it themselves."""
    process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    while descendants(os.getpid()):
        if time.monotonic() > end:
            send_signal(descendants(os.getpid()), signal.SIGKILL)
            bury()
        elif os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is None:
            time.sleep(0.01)
