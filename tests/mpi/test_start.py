"""How ranks meet: run(main), worlds that do not fit together, plain mpiexec."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from launching import Launch, Mpi, Outcome, find_mpi

SETUP = 78

RUN = """
import mpitasks as mt

def main(ex):
    return ex.num_workers, sorted(ex.map(abs, [-3, -2]))

if __name__ == "__main__":
    first, second = mt.run(main), mt.run(main)
    print(first, second)
"""

RUN_GLOBALS = """
import mpitasks as mt
from mpi4py import MPI

rank = MPI.COMM_WORLD.Get_rank()
seen = []

def use(x):
    global left
    left = x
    seen.append(rank)
    return rank

def main(ex):
    return set(ex.map(use, range(100)))

if __name__ == "__main__":
    of_tasks = mt.run(main) or {0}
    print(rank == MPI.COMM_WORLD.Get_rank(), seen, "left" in globals(), of_tasks)
"""

RUN_IN_TASK = """
import mpitasks as mt

def use():
    return mt.run(print)

with mt.Executor() as ex:
    print(type(ex.submit(use).exception()).__name__)
"""

RUN_FAILS = """
import pathlib, time
import mpitasks as mt

def work():
    pathlib.Path("busy").touch()
    time.sleep(BUSY)

def main(ex):
    ex.submit(work)
    while not pathlib.Path("busy").exists():
        time.sleep(0.01)
    ex.shutdown(wait=False)
    raise LookupError("lost")

if __name__ == "__main__":
    try:
        mt.run(main)
    finally:
        pathlib.Path("over").open("a").write("x")
"""

EXECUTOR = """
import mpitasks as mt
with mt.Executor() as ex:
    print(list(ex.map(abs, [-1])))
"""

ODD_VERSION = """
import mpitasks
mpitasks.__version__ = "99.0"
from mpitasks.launch.cli import main
main()
"""

SILENT = "from mpi4py import MPI; import time; time.sleep(60)"


def assert_one_line(outcome: Outcome, *words: str) -> None:
    """Exit code 78, one line from mpitasks with these words, and no traceback."""
    assert outcome.code == SETUP, str(outcome)
    assert len(outcome.said) == 1, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    for word in words:
        assert word in outcome.said[0], str(outcome)


def test_ranks_that_served_have_their_own_globals_again(
    mpi: Mpi, launch: Launch
) -> None:
    script = launch.script(RUN_GLOBALS)
    outcome = launch([*mpi.mpiexec(3), mpi.python, script])
    assert outcome.code == 0, str(outcome)
    assert outcome.out == 3 * "True [] False {0}\n", str(outcome)


def test_run_in_a_task_is_refused(any_mpi: Mpi, launch: Launch) -> None:
    outcome = launch(any_mpi.runner(2, launch.script(RUN_IN_TASK)))
    assert outcome.out == "ConfigurationError\n", str(outcome)


def test_run_under_plain_mpiexec(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN)
    outcome = launch([*mpi.mpiexec(3), mpi.python, "script.py"])
    assert outcome.code == 0, str(outcome)
    lines = sorted(outcome.out.splitlines())
    assert lines == ["(2, [2, 3]) (2, [2, 3])", "None None", "None None"]
    assert outcome.unforeseen == "", str(outcome)


def test_of_what_two_runs_warn_is_said_once(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN)
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    outcome = launch([*one_core, *mpi.mpiexec(3), mpi.python, "script.py"])
    assert outcome.code == 0, str(outcome)
    assert outcome.err.count(" take turns on ") == 1, str(outcome)


def test_run_under_the_runner(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN)
    outcome = launch(mpi.runner(3, "script.py"))
    assert (outcome.code, outcome.out) == (0, "(2, [2, 3]) (2, [2, 3])\n")


def test_run_alone(launch: Launch, any_mpi: Mpi) -> None:
    launch.script(RUN)
    for command in ([sys.executable], [*any_mpi.mpiexec(1), str(any_mpi.python)]):
        outcome = launch([*command, "script.py"])
        assert (outcome.code, outcome.out) == (0, "(1, [2, 3]) (1, [2, 3])\n")
        assert len(outcome.said) == 1, str(outcome)


def test_run_whose_main_raises(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN_FAILS.replace("BUSY", "0"))
    outcome = launch([*mpi.mpiexec(3), mpi.python, "script.py"])
    assert outcome.code == 1, str(outcome)
    assert "LookupError: lost" in outcome.err
    assert outcome.err.count("Traceback") == 1, str(outcome)
    assert (launch.folder / "over").read_text() == "xxx"  # it returned everywhere


def test_run_whose_main_raises_while_a_worker_is_busy(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN_FAILS.replace("BUSY", "600"))
    outcome = launch([*mpi.mpiexec(3), mpi.python, "script.py"])
    assert outcome.code == 1, str(outcome)
    assert "LookupError: lost" in outcome.err


def test_executor_under_plain_mpiexec(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    outcome = launch([*mpi.mpiexec(3), mpi.python, "script.py"])
    assert outcome.code == 1, str(outcome)
    assert outcome.out == "", str(outcome)
    assert f"-n 3 {mpi.python} -m mpitasks script.py" in outcome.err
    assert "mpitasks.run(main)" in outcome.err
    assert outcome.err.count("ConfigurationError") == 1, str(outcome)


def test_missing_rank_is_named(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    runner = mpi.runner(2, "--start-timeout", "2", "script.py")
    outcome = launch([*runner, ":", "-n", "1", mpi.python, "-c", SILENT])
    assert_one_line(outcome, f"rank 2 on {socket.gethostname()}", "1 of 3 ranks")


def test_missing_master_is_said(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    launch.script(
        "import mpitasks.launch.run as run\n"
        "run.GOODBYE_SECONDS = 0.0\n"
        "from mpitasks.launch.cli import main\n"
        "main()\n",
        "impatient.py",
    )
    silent = [*mpi.mpiexec(1), mpi.python, "-c", SILENT]
    words = ["impatient.py", "--start-timeout", "2", "script.py"]
    outcome = launch([*silent, ":", "-n", "1", mpi.python, *words])
    assert outcome.code == SETUP, str(outcome)
    assert "rank 0 did not answer rank 1" in outcome.err, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)


@pytest.mark.parametrize("odd", [0, 2])
def test_two_versions_are_refused(mpi: Mpi, launch: Launch, odd: int) -> None:
    launch.script(EXECUTOR)
    launch.script(ODD_VERSION, "odd.py")
    usual = ["-n", "2", str(mpi.python), "-m", "mpitasks", "script.py"]
    other = ["-n", "1", str(mpi.python), "odd.py", "script.py"]
    first, second = (usual, other) if odd else (other, usual)
    head = [word for word in mpi.mpiexec(0) if word not in ("-n", "0")]
    outcome = launch([*head, *first, ":", *second])
    assert_one_line(outcome, "99.0", "mpitasks", "rank 0", "rank")


def test_foreign_mpiexec_is_refused(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    other = find_mpi("openmpi" if mpi.name == "mpich" else "mpich")
    if other is None:
        pytest.skip("needs both MPIs")
    outcome = launch([*mpi.mpiexec(2), other.python, "-m", "mpitasks", "script.py"])
    assert outcome.out == ""
    assert_one_line(outcome, "2 copies", "each is alone")


def test_run_under_a_foreign_mpiexec_raises_once(mpi: Mpi, launch: Launch) -> None:
    launch.script(RUN)
    other = find_mpi("openmpi" if mpi.name == "mpich" else "mpich")
    if other is None:
        pytest.skip("needs both MPIs")
    outcome = launch([*mpi.mpiexec(3), other.python, "script.py"])
    assert outcome.code != 0, str(outcome)
    assert outcome.out == "", str(outcome)
    assert outcome.err.count("ConfigurationError: ") == 1, str(outcome)
    assert "3 copies, but each is alone" in outcome.err


THREADS = """
import os
import mpitasks as mt

def threads(_):
    return os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")

with mt.Executor() as ex:
    print(threads(0), *set(ex.map(threads, range(20))))
"""


def test_threads_are_limited_to_the_share(mpi: Mpi, launch: Launch) -> None:
    launch.script(THREADS)
    cores = len(os.sched_getaffinity(0))
    outcome = launch(mpi.runner(2, "script.py"), environ={"OMP_NUM_THREADS": None})
    share = str(max(cores // 2, 1)) if mpi.name == "mpich" else "1"  # the other binds
    if mpi.name == "mpich" or cores == 2:
        assert outcome.out == f"{(share, share)} {(share, share)}\n", str(outcome)
    assert outcome.said == [], str(outcome)
    outcome = launch(mpi.runner(2, "script.py"), environ={"OMP_NUM_THREADS": "1"})
    assert outcome.out == "('1', None) ('1', None)\n", str(outcome)


def test_numpy_starts_no_more_threads_than_the_share(
    any_mpi: Mpi, launch: Launch
) -> None:
    """The variables are set before anything of ours has loaded NumPy."""
    launch.script(
        "import os\n"
        "import mpitasks as mt\n"
        "def more():\n"
        "    before = len(os.listdir('/proc/self/task'))\n"
        "    import numpy\n"
        "    a = numpy.ones((600, 600))\n"
        "    a @ a\n"
        "    return len(os.listdir('/proc/self/task')) - before\n"
        "with mt.Executor() as ex:\n"
        "    print(ex.submit(more).result())\n"
    )
    ranks = len(os.sched_getaffinity(0)) + 1
    outcome = launch(
        any_mpi.runner(ranks, "script.py"), environ={"OMP_NUM_THREADS": None}
    )
    assert outcome.out == "0\n", str(outcome)


def test_crowded_host_is_warned_of_once(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    ranks = len(os.sched_getaffinity(0)) + 2
    outcome = launch(mpi.runner(ranks, "script.py"), seconds=60)
    assert (outcome.code, outcome.out) == (0, "[1]\n"), str(outcome)
    (line,) = outcome.said
    assert line.startswith(f"mpitasks: warning: {ranks} ranks on "), str(outcome)


def test_storm_of_threads_is_warned_of_once(mpi: Mpi, launch: Launch) -> None:
    launch.script(EXECUTOR)
    environ = {"OMP_NUM_THREADS": "999"}
    outcome = launch(mpi.runner(3, "script.py"), environ=environ)
    assert (outcome.code, outcome.out) == (0, "[1]\n"), str(outcome)
    storms = [line for line in outcome.said if "999 threads" in line]
    assert len(storms) == 1, str(outcome)


@pytest.mark.parametrize("how", ["no mpi4py", "no library"])
def test_no_mpi_under_mpiexec(mpi: Mpi, launch: Launch, how: str) -> None:
    launch.script(EXECUTOR)
    if how == "no mpi4py":
        hide = "import sys\nsys.modules['mpi4py'] = None\n"
        launch.script(hide, "sitecustomize.py")
        environ = {"PYTHONPATH": str(launch.folder)}
    else:
        environ = {"MPI4PY_LIBMPI": "/no/such/libmpi.so"}
    outcome = launch(mpi.runner(2, "script.py"), environ=environ)
    assert_one_line(outcome, "pip install", "no MPI library")


def test_refused_world_runs_nothing(mpi: Mpi, launch: Launch) -> None:
    launch.script("print('I ran')")
    runner = mpi.runner(1, "--start-timeout", "1", "script.py")
    outcome = launch([*runner, ":", "-n", "1", mpi.python, "-c", SILENT])
    assert_one_line(outcome, "rank 1")
    assert "I ran" not in outcome.out
