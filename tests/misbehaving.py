"""Tasks that do what no task should, for the tests of isolation. Imports little."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

kept: list[Any] = []


def identity(x: Any) -> Any:
    """The one that behaves."""
    return x


def pid() -> int:
    """Say where it runs."""
    return os.getpid()


def pid_of(_: object) -> int:
    """Say where an item runs."""
    return os.getpid()


def write_at_exit(path: str) -> None:
    """Leave a word when the process ends by itself."""
    atexit.register(Path(path).write_text, "left")


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def signal_self(number: int) -> None:
    """Send this process a signal, and wait for it to work."""
    os.kill(os.getpid(), number)
    threading.Event().wait()


def leave(code: int) -> NoReturn:
    """End the process without a word."""
    os._exit(code)


def kill_parent() -> None:
    """Kill the server that this process was forked from."""
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()


def signal_parent(number: int) -> int:
    """Send a signal to the server that this process was forked from."""
    os.kill(os.getppid(), number)
    return number


def close_files() -> None:
    """Close what is not the task's own, as daemons do, and go on."""
    os.closerange(3, 1000)
    threading.Event().wait()


def hang(path: str | None = None) -> None:
    """Wait for ever, deaf to signals that can be ignored; say so in a file."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if path is not None:
        say(path, os.getpid())
    while True:
        time.sleep(3600)


def say(path: str, number: int) -> None:
    """Write a number into a file, at once."""
    part = Path(f"{path}.part")
    part.write_text(str(number))
    part.rename(path)


def start_orphans(path: str, then: int) -> None:
    """Start processes that outlive their parent, in their own sessions; then crash."""
    code = "import os, sys, time; os.fork(); print(os.getpid(), flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert child.stdout is not None
    pids = [int(child.stdout.readline()) for _ in range(2)]
    forked = os.fork()
    if not forked:
        os.setsid()
        while True:
            time.sleep(3600)
    Path(path).write_text(" ".join(map(str, [*pids, forked])))
    if then:
        os.kill(os.getpid(), then)


def square_or(x: int, bad: dict[int, str]) -> int:
    """Return the square, but for numbers with which something else happens."""
    what = bad.get(x)
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        segfault()
    if what == "raise":
        raise ValueError(x)
    if what == "stop":
        raise StopIteration
    if what == "hang":
        hang()
    return x * x


class Squares:
    """`square_or`, as a function of one argument."""

    def __init__(self, **bad: str) -> None:
        self.bad = {int(key[1:]): what for key, what in bad.items()}

    def __call__(self, x: int) -> int:
        return square_or(x, self.bad)


def hog(step: int) -> None:
    """Take memory, and touch it, without an end."""
    while True:
        kept.append(bytearray(os.urandom(4096)) * (step // 4096))


def keep_and_return(nbytes: int) -> int:
    """Leave memory behind."""
    kept.append(b"\1" * nbytes)
    return os.getpid()


def keep_slowly(nbytes: int) -> int:
    """Leave memory behind, at leisure."""
    time.sleep(0.01)
    return keep_and_return(nbytes)


def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def count(path: str, x: Any) -> Any:
    """Note each run in a file."""
    with Path(path).open("a") as file:
        file.write(f"{x}\n")
    if x == "crash":
        os._exit(1)
    return x


def count_or_hang(path: str, x: int) -> int:
    """Note each run in a file; the one with 4 hangs."""
    count(path, x)
    if x == 4:
        hang()
    return x


class CrashesWhenLoaded:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (5,)

    def __call__(self) -> None:
        """Never run."""


def who() -> tuple[Any, ...]:
    """Say which task this is."""
    from mpitasks import current_task

    task = current_task()
    return task.id, task.attempt, task.label, task.rank


def load_elsewhere(home: int) -> Any:
    """Return a function, but not in this process."""
    if os.getpid() == home:
        raise RuntimeError("not here")
    return loaded_elsewhere


def loaded_elsewhere() -> str:
    """The function."""
    return "loaded elsewhere"


class LoadsSlowly:
    """Takes its time to be unpickled: until there is a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return load_slowly, (self.path,)

    def __call__(self) -> str:
        """The function."""
        return "loaded"


def load_slowly(path: str) -> LoadsSlowly:
    """Stand for imports from a slow file system."""
    while not Path(path).exists():
        time.sleep(0.01)
    return LoadsSlowly(path)


class CannotBePickled:
    """As a result."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not me")


def unpicklable() -> CannotBePickled:
    """Return what cannot be sent."""
    return CannotBePickled()


def exit_politely() -> NoReturn:
    """As a script does."""
    sys.exit(4)


def tidy_up_later(path: str) -> None:
    """Leave something for the end of the process."""
    import atexit

    atexit.register(say, path, 1)


def process_facts() -> dict[str, Any]:
    """Say what this process looks like from inside."""
    return {
        "argv": sys.argv,
        "path": sys.path,
        "cwd": str(Path.cwd()),
        "environ": dict(os.environ),
        "stdin": sys.stdin.read(),
        "group": os.getpgid(0) == os.getpid(),
        "oom": int(Path("/proc/self/oom_score_adj").read_text()),
        "mpi": "mpi4py.MPI" in sys.modules,
    }


def random_numbers() -> list[float]:
    """Draw from NumPy's global generator."""
    import numpy as np

    return [float(x) for x in np.random.random(3)]


def run_for_ever(path: str) -> None:
    """As a program: hang in a sandbox; the pid of who hangs goes into a file."""
    from sandboxes import Sandboxed

    Sandboxed().call(hang, path)
