"""Signals at any moment of a run, to any of its processes; and what strangers can do.

The run ends within seconds, says so, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from launching import Job, Launch, Mpi

END_SECONDS = 10.0
"""A run that was told to end has ended by then."""

SHORT = """
import mpitasks as mt
if __name__ == "__main__":
    with mt.Executor() as ex:
        print(sum(ex.map(abs, range(100))))
"""

CALLS_RUN = """
import mpitasks as mt
def main(executor):
    print(sum(executor.map(abs, range(100))))
if __name__ == "__main__":
    mt.run(main)
"""

TARGETS = ("launcher", "mpiexec", "0", "1", "2")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def commands(mpi: Mpi, *words: str) -> dict[str, list[str]]:
    """Return the ways to start a script on three ranks."""
    ours = [str(mpi.python), "-m", "mpitasks", "-n", "3"]
    ways = {"mpiexec": mpi.runner(3, *words), "mpitasks": [*ours, *words]}
    ways["run"] = [*mpi.mpiexec(3), str(mpi.python), "calls_run.py"]
    if mpi.name == "openmpi":
        ways["survive"] = [*ours, "--survive", *words]
        program = [str(mpi.python), "-m", "mpitasks", *words]
        ways["ulfm"] = [*mpi.mpiexec(3), "--with-ft", "ulfm", *program]
    return ways


WAYS = [
    *(f"mpich {how}" for how in ("mpiexec", "mpitasks", "run")),
    *(f"openmpi {how}" for how in ("mpiexec", "mpitasks", "run", "survive", "ulfm")),
]


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; nothing if it is gone."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return {}
    return dict(word.partition("=")[::2] for word in words)


def find(job: Job, target: str) -> int | None:
    """Return the process id of the launcher, the mpiexec, or a rank, if it is there."""
    if target == "launcher":
        return job.process.pid
    for pid, line in sorted(job._processes().items()):
        if target == "mpiexec":
            if line.split()[0].endswith(("/mpiexec", "/prterun")):
                return pid
            continue
        told = environment(pid)
        rank = told.get("PMI_RANK", told.get("OMPI_COMM_WORLD_RANK"))
        if rank == target and (" -m mpitasks " in line or "calls_run" in line):
            return pid
    return None


def shared_memory() -> set[str]:
    """Return the files of ours in /dev/shm."""
    mine = set()
    for path in Path("/dev/shm").iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid():
                mine.add(path.name)
    return mine


_lives: dict[str, float] = {}


class Strikes:
    """Sends signals at random moments, and says what went wrong."""

    def __init__(self, request: pytest.FixtureRequest, launch: Launch) -> None:
        self._request = request
        self._launch = launch
        launch.script(SHORT)
        launch.script(CALLS_RUN, "calls_run.py")
        self._files = launch.folder / "tmp"
        self._files.mkdir()

    def _start(self, way: str) -> Job:
        name, _, how = way.partition(" ")
        mpi: Mpi = self._request.getfixturevalue(name)
        command = commands(mpi, "script.py")[how]
        return self._launch.start(
            command, seconds=60, environ={"TMPDIR": str(self._files)}
        )

    def _life(self, way: str) -> float:
        """Return how long a run takes that nobody disturbs."""
        if way not in _lives:
            began = time.monotonic()
            outcome = self._start(way).finish()
            assert outcome.code == 0, outcome
            _lives[way] = time.monotonic() - began
        return _lives[way]

    def strike(self, seed: int) -> str:
        """Send one signal to one process of one run; return what is wrong, or ""."""
        luck = random.Random(seed)
        way, target = luck.choice(WAYS), luck.choice(TARGETS)
        number, moment = luck.choice(SIGNALS), luck.random() * 1.05
        seconds = self._life(way) * moment
        job = self._start(way)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.process.wait(seconds)
        while (pid := find(job, target)) is None and job.process.poll() is None:
            time.sleep(0.005)
        sent = time.monotonic()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        what = f"seed {seed}: {way}, {number.name} to {target} at {seconds:.2f} s"
        try:
            outcome = job.finish()
        except AssertionError as error:
            return f"{what}: {error}"
        took = time.monotonic() - sent
        wrong = []
        if took > END_SECONDS:
            wrong.append(f"ended after {took:.1f} s")
        if outcome.left:
            wrong.append(f"left {outcome.left}")
        if outcome.code == 0 and "4950\n" not in outcome.out:
            wrong.append("a success that is none")
        if len([line for line in outcome.said if "stopped by" in line]) > 1:
            wrong.append("more than one line")
        silent = outcome.code > 0 and not outcome.said
        if silent and way.endswith("survive") and target != "mpiexec":
            wrong.append("not a word")
        ours = "Traceback" in outcome.err and "mpitasks/launch" in outcome.err
        if ours and not way.endswith("run"):  # where a script is Python's own
            wrong.append("a traceback")
        if files := list(self._files.rglob("*")):
            wrong.append(f"left {files}")
        return f"{what}: {wrong}\n{outcome}" if wrong else ""


@pytest.fixture
def strikes(request: pytest.FixtureRequest, launch: Launch) -> Strikes:
    return Strikes(request, launch)


@pytest.mark.parametrize("first", [0, 8, 16])
def test_a_signal_at_any_moment(strikes: Strikes, first: int) -> None:
    wrong = [strikes.strike(seed) for seed in range(first, first + 8)]
    assert not any(wrong), "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_signals_at_three_hundred_moments(strikes: Strikes) -> None:
    before = shared_memory()
    wrong = [strikes.strike(seed) for seed in range(1000, 1300)]
    assert not any(wrong), "\n".join(filter(None, wrong))
    left = [name for name in shared_memory() - before if name.startswith("mpich_shm_")]
    assert left == []


CATCHES = """
import os, pathlib, time
import mpitasks as mt
def work(n):
    pathlib.Path(f"busy-{n}").touch()
    time.sleep(600)
if __name__ == "__main__":
    ex = mt.Executor()
    futures = [ex.submit(work, n) for n in range(ex.num_workers - 1)]
    while len(list(pathlib.Path().glob("busy-*"))) < len(futures):
        time.sleep(0.01)
    try:
        print("ready", os.getpid(), flush=True)
        futures[0].result()
    except KeyboardInterrupt:
        print("caught", ex.submit(abs, -7).result(), flush=True)
        raise
    finally:
        print("finally", flush=True)
"""


class TerminalJob(Job):
    """A job in the foreground of a terminal of its own."""

    def _start(self) -> subprocess.Popen[bytes]:
        self.terminal, inner = os.openpty()
        try:
            with self._out.open("wb") as out, self._err.open("wb") as err:
                return subprocess.Popen(
                    self._command,
                    stdin=inner,
                    stdout=out,
                    stderr=err,
                    cwd=self._folder,
                    env=self._environ,
                    start_new_session=True,
                    preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                )
        finally:
            os.close(inner)


@pytest.fixture
def at_terminal(launch: Launch) -> Iterator[type[TerminalJob]]:
    jobs: list[TerminalJob] = []

    class Kept(TerminalJob):
        def __init__(self, command: list[str], environ: Mapping[str, str]) -> None:
            jobs.append(self)
            super().__init__(command, launch.folder, environ, 60.0)

    yield Kept
    for job in jobs:
        job.stop()
        os.close(job.terminal)


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way.endswith(("mpitasks", "survive"))]
)
def test_ctrl_c_reaches_the_script(
    request: pytest.FixtureRequest,
    launch: Launch,
    at_terminal: type[TerminalJob],
    way: str,
) -> None:
    name, _, how = way.partition(" ")
    launch.script(CATCHES)
    mpi: Mpi = request.getfixturevalue(name)
    job = at_terminal(commands(mpi, "script.py")[how], {})
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    os.write(job.terminal, b"\x03")
    outcome = job.finish()
    assert outcome.out.splitlines()[-2:] == ["caught 7", "finally"], outcome
    assert outcome.said == ["mpitasks: stopped by SIGINT"], outcome
    assert outcome.code == 128 + signal.SIGINT, outcome
    assert not outcome.left


@pytest.mark.parametrize("target", ["launcher", "mpiexec"])
def test_an_interrupt_of_one_process_reaches_the_script(
    openmpi: Mpi, launch: Launch, target: str
) -> None:
    launch.script(CATCHES)
    job = launch.start(commands(openmpi, "script.py")["mpitasks"])
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    pid = find(job, target)
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    outcome = job.finish()
    assert outcome.out.splitlines()[1:] == ["caught 7", "finally"], outcome
    assert outcome.code == 128 + signal.SIGINT, outcome
    assert not outcome.left


def test_a_second_interrupt_means_it(openmpi: Mpi, launch: Launch) -> None:
    launch.script(CATCHES.replace("raise", "time.sleep(600)"))
    job = launch.start(commands(openmpi, "script.py")["mpitasks"], seconds=60)
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    os.kill(job.process.pid, signal.SIGINT)
    job.until(lambda: "caught" in job.output()[0], "the script has caught it")
    job.until(lambda: _seconds_since(job) > 1.5, "the second counts")
    os.kill(job.process.pid, signal.SIGINT)
    outcome = job.finish()
    assert outcome.out.splitlines()[2:] == ["finally"], outcome
    assert outcome.code == 128 + signal.SIGINT, outcome


def test_terminate_lets_tasks_finish(openmpi: Mpi, launch: Launch) -> None:
    """As MPICH's mpiexec does, which passes SIGTERM on and waits."""
    launch.script(
        "import pathlib, time\n"
        "import mpitasks as mt\n"
        "def work(n):\n"
        "    pathlib.Path('busy').touch()\n"
        "    while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "    pathlib.Path('done').touch()\n"
        "with mt.Executor() as ex:\n"
        "    ex.submit(work, 1).result()\n"
    )
    job = launch.start(commands(openmpi, "--grace", "20", "script.py")["mpitasks"])
    job.until((launch.folder / "busy").exists, "the task runs")
    job.process.terminate()
    job.until(lambda: "stopping: SIGTERM came" in job.output()[1], "rank 0 knows")
    (launch.folder / "go").touch()
    outcome = job.finish()
    assert outcome.code == 0, outcome  # nothing was left to do
    assert (launch.folder / "done").exists()
    assert not outcome.left


def test_an_ignored_hangup_stays_ignored(any_mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import os, signal\n"
        "import mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print(ex.submit(abs, -1).result())\n"
    )
    command = any_mpi.runner(2, "script.py")
    outcome = launch(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command])
    assert (outcome.code, outcome.out) == (0, "1\n"), outcome


def test_a_hangup_stops_the_run(mpi: Mpi, launch: Launch) -> None:
    launch.script(CATCHES)
    job = launch.start(mpi.runner(3, "script.py"))
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    os.kill(int(job.output()[0].split()[1]), signal.SIGHUP)
    outcome = job.finish()
    assert outcome.out.splitlines()[1:] == ["caught 7", "finally"], outcome
    assert outcome.said == ["mpitasks: stopped by SIGHUP"], outcome
    assert outcome.code == 128 + signal.SIGHUP, outcome
    assert not outcome.left


def test_a_killed_run_leaves_no_shared_memory(mpi: Mpi, launch: Launch) -> None:
    launch.script(
        "import os, signal\n"
        "import mpitasks as mt\n"
        "def files():\n"
        "    lines = open('/proc/self/maps').read().splitlines()\n"
        "    return {line.split(None, 5)[5] for line in lines if '/dev/shm' in line}\n"
        "with mt.Executor() as ex:\n"
        "    print(*files(), *ex.submit(files).result(), sep='\\n', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    outcome = launch(mpi.runner(3, "script.py"))
    lines = [line for line in outcome.out.splitlines() if line.startswith("/dev/shm")]
    names = {line.removesuffix(" (deleted)") for line in lines}
    assert names
    assert [name for name in names if Path(name).exists()] == []


@pytest.mark.parametrize("how", ["mpiexec", "survive"])
def test_a_frozen_mpiexec_is_the_end(openmpi: Mpi, launch: Launch, how: str) -> None:
    launch.script(CATCHES)
    way = "survive" if how == "survive" else "mpitasks"
    job = launch.start(commands(openmpi, "script.py")[way], seconds=60)
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    pid = find(job, "mpiexec")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    outcome = job.finish()
    assert outcome.code == 69, outcome
    assert f"mpitasks: mpiexec (pid {pid}) was frozen by a signal" in outcome.err
    assert not outcome.left


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("way", ["survive", "ulfm"])
def test_a_rank_that_dies_before_the_run_begins(
    openmpi: Mpi, launch: Launch, way: str, rank: str
) -> None:
    launch.script(SHORT)
    job = launch.start(commands(openmpi, "script.py")[way], seconds=60)
    job.until(lambda: find(job, rank) is not None, "the rank is there")
    pid = find(job, rank)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    outcome = job.finish()
    assert outcome.code > 0, outcome
    assert outcome.said[-1].startswith("mpitasks: a rank died before the run began"), (
        outcome
    )
    assert not outcome.left


@pytest.mark.parametrize("rank", ["0", "1", "2"])
def test_a_rank_that_exits_before_the_run_begins(
    mpi: Mpi, launch: Launch, rank: str
) -> None:
    """MPICH's mpiexec lets the others wait for one that ended with an exit code."""
    launch.script(SHORT)
    launch.script(
        "import os\n"
        "places = map(os.environ.get, ('PMI_RANK', 'OMPI_COMM_WORLD_RANK'))\n"
        f"if {rank!r} in places: os._exit(1)\n",
        "sitecustomize.py",
    )
    path = os.pathsep.join([str(launch.folder), os.environ.get("PYTHONPATH", "")])
    outcome = launch(mpi.runner(3, "script.py"), environ={"PYTHONPATH": path})
    assert outcome.code > 0, outcome
    if mpi.name == "mpich":
        assert len(outcome.said) == 1, outcome
        assert outcome.said[0].startswith("mpitasks: a rank died before"), outcome


def test_a_slow_rank_behind_a_wrapper_is_not_missing(mpi: Mpi, launch: Launch) -> None:
    """The parent of each rank has one rank then, of the two on this host."""
    launch.script(SHORT)
    launch.script(
        "import os, time\n"
        "places = map(os.environ.get, ('PMI_RANK', 'OMPI_COMM_WORLD_RANK'))\n"
        "if '1' in places: time.sleep(5)\n",
        "sitecustomize.py",
    )
    path = os.pathsep.join([str(launch.folder), os.environ.get("PYTHONPATH", "")])
    wrapped = ["sh", "-c", '"$@"; exit $?', "sh"]
    words = [str(mpi.python), "-m", "mpitasks", "script.py"]
    outcome = launch([*mpi.mpiexec(2), *wrapped, *words], environ={"PYTHONPATH": path})
    assert (outcome.code, outcome.out) == (0, "4950\n"), outcome


NOISE = [b"code abc", b"4194303 met", b"0 code 0", b"1 code 0", b"", b"\0\xff" * 30]


def test_words_of_others_are_no_words(openmpi: Mpi, launch: Launch) -> None:
    launch.script(CATCHES.replace("futures[0].result()", "input()"))
    job = launch.start(commands(openmpi, "script.py")["survive"])
    job.until(lambda: "ready" in job.output()[0], "the script waits")
    rank_0 = int(job.output()[0].split()[1])
    supervisor = job.process.pid
    variable = environment(rank_0)["MPITASKS_SUPERVISOR"]
    assert variable.split("/")[0] == str(supervisor)
    path = f"/proc/{supervisor}/fd/{variable.split('/')[1]}"
    with open(path, "wb", buffering=0) as pipe:  # noqa: PTH123
        for noise in (*NOISE, b"%d code 0" % os.getpid(), b"%d code x" % rank_0):
            pipe.write(noise + b"\n")
    if os.geteuid() == 0:
        stranger = subprocess.run(
            ["/bin/sh", "-c", f"echo {rank_0} code 0 > {path}"],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "ermission denied" in stranger.stderr
    os.kill(rank_0, signal.SIGINT)
    outcome = job.finish()
    assert outcome.code == 128 + signal.SIGINT, outcome
    assert outcome.out.splitlines()[1:] == ["caught 7", "finally"], outcome


INNER = """
import mpitasks as mt
with mt.Executor() as ex:
    print(ex.submit(abs, -5).result())
"""

OUTER = """
import os, subprocess, sys, time
import mpitasks as mt

def inner(way):
    launcher = ("OMPI_", "PMIX", "PRTE", "PMI")
    environ = {n: v for n, v in os.environ.items()
               if "ROOT" in n or not n.startswith(launcher)}
    command = [sys.executable, "-m", "mpitasks", "-n", "2", *way, "inner.py"]
    return subprocess.check_output(command, env=environ, text=True).strip()

def nap(x):
    time.sleep(0.5)
    return x

if __name__ == "__main__":
    with mt.Executor() as ex:
        print(ex.submit(inner, []).result(), ex.submit(inner, ["--survive"]).result())
        print(inner(["--survive"]))
        # Longer than a supervisor waits that takes the inner runs for this one.
        print(sum(ex.map(nap, range(40), chunksize=1)))
    sys.exit(7)
"""


@pytest.mark.parametrize("way", ["mpitasks", "survive"])
def test_runs_within_a_run_are_not_taken_for_it(
    openmpi: Mpi, launch: Launch, way: str
) -> None:
    launch.script(INNER, "inner.py")
    launch.script(OUTER)
    outcome = launch(commands(openmpi, "script.py")[way], seconds=100)
    assert (outcome.code, outcome.out) == (7, "5 5\n5\n780\n"), outcome


def _seconds_since(job: Job) -> float:
    """Return how long ago the job wrote something."""
    return time.time() - job._out.stat().st_mtime
