"""A client of Jupyter: it runs cells in a real kernel and looks at what they show.

The kernel is the one that ``mpitasks jupyter install`` writes. At the end one is shut
down as Jupyter does it, and one is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

PRINTED = """\
import sys, threading
came, write = threading.Event(), sys.stdout.write
def tee(text):
    write(text)
    came.set()
sys.stdout.write = tee
ex.submit(print, "by a worker").result()
came.wait()
del sys.stdout.write
"""
"""It comes by way of mpiexec, and so perhaps behind the result."""

ANSWERS = [
    ("import os, time\nimport numpy as np\nex.num_workers", "2"),
    ("def f(x): return x + 1\nlist(ex.map(f, range(3)))", "[1, 2, 3]"),
    # Names are defined again; what refers to them follows.
    ("scale = 3\ndef g(x): return f(x) * scale\nex.submit(g, 2).result()", "9"),
    ("def f(x): return x * 10\nex.submit(g, 2).result()", "60"),
    ("scale = 5\nex.submit(g, 2).result()", "100"),
    ("class P:\n    a = 1\np = ex.submit(P).result()\ntype(p) is P, p.a", "(True, 1)"),
    ("class P:\n    a = 2\np = ex.submit(P).result()\ntype(p) is P, p.a", "(True, 2)"),
    ("float(ex.submit(np.sum, np.arange(1e6)).result())", "499999500000.0"),
    (PRINTED, "by a worker\n"),
    ("mpitasks.start(1)", "ConfigurationError"),
    ("ex.submit(lambda: 1 / 0).result()", "ZeroDivisionError"),
    ("!echo $OMP_NUM_THREADS", "\n"),
    ("ex.submit(lambda: os.kill(os.getpid(), 9)).result()", "WorkerLost"),
    ("ex = mpitasks.start(1)\nex.submit(g, 2).result()", "100"),
]

INTERRUPTED = """\
import signal
isolated = ex.with_options(isolate=True)
futures = [isolated.submit(time.sleep, 600.0) for _ in range(3)]
def interrupt():  # as the button does it, once the cell waits
    while not ex._handle.event_loop.driven:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
futures[0].result()
"""
AFTERWARDS = "all(f.cancelled() for f in futures), list(ex.map(f, range(3)))"
STUCK = """\
ex.submit(time.sleep, 600.0)
ex.with_options(isolate=True).submit(time.sleep, 600.0)
"""


def shown(cell: Any) -> str:
    """Return what a cell shows."""
    return "".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        if output.output_type != "error"
        else f"{output.ename}: {output.evalue}"
        for output in cell.outputs
    )


class Kernel(NotebookClient):
    """One kernel; its cells are run one after the other."""

    def __init__(self) -> None:
        super().__init__(
            new_notebook(), kernel_name="mpitasks", timeout=60, allow_errors=True
        )

    def run(self, source: str) -> str:
        cell = new_code_cell(source)
        self.nb.cells.append(cell)
        self.execute_cell(cell, len(self.nb.cells) - 1)
        return shown(cell)

    @property
    def pid(self) -> int:
        process = self.km.provisioner.process
        return process.pid


def ranks() -> list[str]:
    """Return the ranks that run below this process's kernels."""
    marker = os.environ["TEST_JOB_OF_MPITASKS"].encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "environ").read_bytes():
                    line = (entry / "cmdline").read_bytes().decode()
                    if "mpitasks.launch.relay" in line:
                        found.append(line)
            except OSError:
                continue
    return found


def until_gone() -> None:
    while ranks():  # or this ends by its limit
        time.sleep(0.01)


def main() -> None:
    verb = [sys.executable, "-m", "mpitasks", "jupyter", "install", "--workers", "2"]
    subprocess.run(verb, check=True)
    kernel = Kernel()
    with kernel.setup_kernel():
        assert ranks() == []  # none before the first cell
        for source, part in ANSWERS:
            told = kernel.run(source)
            assert part in told, f"{source}\n{told}"
        told = kernel.run(INTERRUPTED)
        assert "KeyboardInterrupt" in told, told
        assert kernel.run(AFTERWARDS) == "(True, [0, 10, 20])"
        kernel.run(STUCK)
        assert len(ranks()) > 1
        run_sync(kernel.km.restart_kernel)()
        until_gone()
    kernel = Kernel()
    with kernel.setup_kernel():
        kernel.run(f"import time\n{STUCK}")
        assert len(ranks()) > 1
        os.kill(kernel.pid, signal.SIGKILL)
        until_gone()
    print("all cells ran")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JUPYTER_DATA_DIR"] = os.environ["HOME"] = folder
        main()
