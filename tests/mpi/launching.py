"""Starting real MPI jobs from tests, with a hard end, and nothing left behind.

Every job gets a marker in its environment. When it is over, /proc is searched for
processes that carry the marker: whatever is still there is killed, and fails the
test. The output goes to files, so that a process that is left over cannot keep the
test waiting, and so that a test can wait for a line while the job runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
MPIS = ("mpich", "openmpi")
MARKER = "TEST_JOB_OF_MPITASKS"  # not MPITASKS_, which programs do not inherit

NO_START = "The PMIx server's listener thread failed to start"
"""What Open MPI's mpiexec says in one of some hundred starts, if several start at the
same time; nothing of ours has run then, and the job is started once more."""

GRACE_SECONDS = 60.0
"""How long the launcher's helpers may take to be gone after it has ended."""

SLOW = 4
"""A busy machine may take so many times as long as the tests say."""

_LAUNCHER_PREFIXES = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "SLURM_", "PALS_", "MPI_")


@dataclass(frozen=True)
class Mpi:
    """An MPI that lives in a virtual environment of its own.

    Attributes:
        name: "mpich" or "openmpi".
        python: The environment's interpreter.
    """

    name: str
    python: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.python.parent

    def mpiexec(self, ranks: int) -> list[str]:
        """Return the words that start so many ranks on this host."""
        words = [str(self.bin / "mpiexec"), "-n", str(ranks)]
        if self.name == "openmpi":
            words.append("--oversubscribe")
        return words

    def runner(self, ranks: int, *words: str | Path) -> list[str]:
        """Return the words that run ``python -m mpitasks`` on so many ranks."""
        command = [*self.mpiexec(ranks), str(self.python), "-m", "mpitasks"]
        return [*command, *map(str, words)]


def find_mpi(name: str) -> Mpi | None:
    """Return the MPI of that name, if this machine has it."""
    here = Path(sys.executable).parent
    own = "openmpi" if (here / "ompi_info").exists() else "mpich"
    if name == own and (here / "mpiexec").exists():
        return Mpi(name, Path(sys.executable))
    told = os.environ.get(f"MPITASKS_TEST_{name.upper()}")
    if told and (Path(told).parent / "mpiexec").exists():
        return Mpi(name, Path(told))
    return None


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what a launcher left in it."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_LAUNCHER_PREFIXES) and name != "PYTHONUNBUFFERED"
    }
    environ["OMPI_ALLOW_RUN_AS_ROOT"] = environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return environ


@dataclass
class Outcome:
    """What came of a job.

    Attributes:
        code: The exit code of what was started.
        out: Its standard output.
        err: Its standard error.
        left: Command lines of processes that outlived it.
    """

    code: int
    out: str
    err: str
    left: list[str] = field(default_factory=list)

    @property
    def said(self) -> list[str]:
        """The lines on standard error that are from mpitasks itself."""
        return [line for line in self.err.splitlines() if line.startswith("mpitasks:")]

    @property
    def unforeseen(self) -> str:
        """Standard error without the warning that a small machine has few cores."""
        lines = self.err.splitlines(keepends=True)
        return "".join(line for line in lines if " take turns on " not in line)

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Job:
    """A running command and all it has started.

    Args:
        command: What to run.
        folder: Where output files go, and the current folder of the job.
        environ: Additions to the environment; None takes a variable away.
        seconds: The hard limit from the start on, on a machine that is not busy.
    """

    def __init__(
        self,
        command: Sequence[object],
        folder: Path,
        environ: Mapping[str, str | None],
        seconds: float,
    ) -> None:
        self._marker = uuid.uuid4().hex
        self._seconds = SLOW * seconds
        self._end = time.monotonic() + self._seconds
        self._command = list(map(str, command))
        self._folder = folder
        full = {**clean_environment(), **environ, MARKER: self._marker}
        self._environ = {name: word for name, word in full.items() if word is not None}
        self._out = folder / f"{self._marker}.out"
        self._err = folder / f"{self._marker}.err"
        self._restarted = False
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._folder,
                env=self._environ,
                start_new_session=True,
            )

    def _start_again(self) -> bool:
        """Start a job that has ended once more, if it never was under way."""
        if self._restarted or NO_START not in self.output()[1]:
            return False
        self._restarted = True
        self.process = self._start()
        return True

    def output(self) -> tuple[str, str]:
        """Return what it wrote to stdout and stderr so far."""
        return (
            self._out.read_text(errors="replace"),
            self._err.read_text(errors="replace"),
        )

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process group, as a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, number)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is the case; fail if the job ends or time is up."""
        while not condition():
            ended = self.process.poll() is not None
            if ended and self._start_again():
                continue
            if time.monotonic() > self._end or (ended and not condition()):
                self.stop()
                why = "the job ended" if ended else "time was up"
                raise AssertionError(f"{why} before {what}\n{self._told()}")
            time.sleep(0.01)

    def finish(self) -> Outcome:
        """Wait for the end; kill what is left then, and say what it was.

        Raises:
            AssertionError: It did not end in time.
        """
        try:
            code = self.process.wait(max(self._end - time.monotonic(), 0.0))
            if self._start_again():
                return self.finish()
        except subprocess.TimeoutExpired:
            running = self.stop()
            listing = "\n".join(running)
            raise AssertionError(
                f"no end after {self._seconds} s; running were\n{listing}\n"
                f"{self._told()}"
            ) from None
        grace = time.monotonic() + GRACE_SECONDS
        while self._processes() and time.monotonic() < grace:
            time.sleep(0.01)
        left = self.stop()
        return Outcome(code, *self.output(), left)

    def stop(self) -> list[str]:
        """Kill whatever is running; return the command lines of it."""
        killed = {}
        while processes := self._processes():
            for pid, line in processes.items():
                killed[pid] = line
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            if self.process.pid in killed:
                self.process.wait()
        return list(killed.values())

    def _told(self) -> str:
        out, err = self.output()
        return f"--- stdout\n{out}\n--- stderr\n{err}"

    def _processes(self) -> dict[int, str]:
        """Return the command lines of the processes that carry the marker."""
        needle = f"{MARKER}={self._marker}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environ = (entry / "environ").read_bytes()
                if needle in environ.split(b"\0"):
                    line = (entry / "cmdline").read_bytes()
                    text = line.replace(b"\0", b" ").decode(errors="replace").strip()
                    found[int(entry.name)] = text or f"pid {entry.name}"
            except OSError:  # it has ended meanwhile
                continue
        return found


class Launch:
    """Starts jobs for one test, and sees to it that all of them are over.

    Args:
        folder: Where the jobs run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: list[Job] = []

    def start(
        self,
        command: Sequence[object],
        *,
        seconds: float = 30.0,
        environ: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
    ) -> Job:
        """Start a command, and return while it runs."""
        job = Job(command, folder or self.folder, environ or {}, seconds)
        self._jobs.append(job)
        return job

    def __call__(
        self,
        command: Sequence[object],
        *,
        seconds: float = 30.0,
        environ: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
    ) -> Outcome:
        """Run a command to its end, which must leave nothing behind."""
        job = self.start(command, seconds=seconds, environ=environ, folder=folder)
        outcome = job.finish()
        assert not outcome.left, f"left running: {outcome.left}\n{outcome}"
        return outcome

    def script(self, text: str, name: str = "script.py") -> Path:
        """Write a script into the folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def close(self) -> None:
        """Kill what a failed test has left running."""
        for job in self._jobs:
            job.stop()
