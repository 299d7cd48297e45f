"""Processes and threads of users: in tasks, in isolated tasks, in the script.

``processes.py plain|isolated|script NAME...`` runs what the names say; each must give
what it gives in plain Python, and no other task may notice.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpitasks as mt

NUMBERS, ROOTS = [0, 1, 4], [0.0, 1.0, 2.0]
BIN = Path(sys.executable).parent
OVERSUBSCRIBE = ["--oversubscribe"] if (BIN / "ompi_info").exists() else []
MPIEXEC = [str(BIN / "mpiexec"), "-n", "2", *OVERSUBSCRIBE]
SAYS_SIZE = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
INNER = """
import mpitasks as mt
with mt.Executor() as executor:
    print(executor.submit(abs, -7).result(), executor.num_workers)
"""
EXIT = "exit function"
ENDS = {
    "return": (0, EXIT),
    "exit": (3, EXIT),
    "words": (1, EXIT),
    "raise": (1, EXIT),
    "interrupt": (-signal.SIGINT, EXIT),
    "executor": (0, "refused, " + EXIT),
}
left: list[Any] = []


def pool(method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as made:
        assert made.map(math.sqrt, NUMBERS) == ROOTS


def left_pool() -> None:
    made = multiprocessing.get_context("fork").Pool(2)
    left.append(made)
    assert made.map(math.sqrt, NUMBERS) == ROOTS


def left_threads() -> None:
    made = concurrent.futures.ThreadPoolExecutor(2)
    left.append(made)
    assert list(made.map(math.sqrt, NUMBERS)) == ROOTS


def left_processes() -> None:
    made = concurrent.futures.ProcessPoolExecutor(2)
    left.append(made)
    assert list(made.map(math.sqrt, NUMBERS)) == ROOTS


def in_executor() -> None:
    async def main() -> float:
        return await asyncio.get_running_loop().run_in_executor(None, math.sqrt, 4)

    loop = asyncio.new_event_loop()
    left.append(loop)  # not closed, so its threads stay
    assert loop.run_until_complete(main()) == 2.0


def with_joblib() -> None:
    import joblib

    calls = [joblib.delayed(math.sqrt)(number) for number in NUMBERS]
    assert joblib.Parallel(n_jobs=2)(calls) == ROOTS


def with_scipy() -> None:
    import numpy as np
    import scipy.fft
    import scipy.optimize

    assert scipy.fft.fft(np.ones(64), workers=2)[0] == 64
    found = scipy.optimize.brute(
        scipy.optimize.rosen, ((-1, 1), (-1, 1)), Ns=5, finish=None, workers=2
    )
    assert list(found) == [1, 1]


def fork(how: str) -> str:
    """Fork a child that ends in some way; check what its parent sees of it."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        atexit.register(os.write, into, EXIT.encode())
        return end(how, into)
    os.close(into)
    with os.fdopen(out) as file:
        said = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert (code, said) == ENDS[how], (code, said)
    return "parent"


def end(how: str, into: int) -> str:
    if how == "exit":
        sys.exit(3)
    if how == "words":
        sys.exit("words")
    if how == "raise":
        raise ValueError("of the child")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "executor":
        try:
            mt.Executor()
        except mt.ConfigurationError:
            os.write(into, b"refused, ")
    return "child"


def terminated() -> None:
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(9)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM


def reads_input() -> None:
    assert subprocess.run(["cat"], capture_output=True).stdout == b""
    try:
        input()
    except EOFError:
        return
    raise AssertionError("there was something to read")


def say(words: list[str], **more: Any) -> str:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def mpi_programs() -> None:
    single = [sys.executable, "-c", SAYS_SIZE]
    assert say(single) == "1\n"
    assert say(single, env=mt.subprocess_environment()) == "1\n"
    assert say(single, env={**os.environ, "ANY": "1"}) == "1\n"
    assert "".join(say([*MPIEXEC, *single]).split()) == "22"
    assert os.environ.get("MPI4PY_RC_INITIALIZE") is None


def runs_within() -> None:
    path = Path(f"inner{os.getpid()}.py")
    path.write_text(INNER)
    python = [sys.executable, "-m", "mpitasks"]
    assert say([sys.executable, str(path)]) == "7 1\n"
    clean = mt.subprocess_environment()
    assert say([*MPIEXEC, *python, str(path)], env=clean) == "7 1\n"
    inner = [*python, "-n", "2", str(path)]
    assert say(inner, env=clean) == "7 1\n"


def place() -> None:
    """Scripts choose a GPU by such variables; programs that they start have none."""
    names = {"PMI_RANK", "OMPI_COMM_WORLD_RANK"}
    assert bool(names & os.environ.keys()) == ("TEST_RANKS" in os.environ)
    assert not names & set(say(["env"]).replace("=", "\n").split())
    assert not names & mt.subprocess_environment().keys()


def fork_within(number: int) -> int:
    if number == 1 and not os.fork():
        return -1
    with Path("items").open("a") as file:
        file.write(f"{number}\n")
    return number


def plus_one(number: int) -> int:
    return number + 1


CASES: dict[str, Any] = {
    "fork": (pool, "fork"),
    "spawn": (pool, "spawn"),
    "forkserver": (pool, "forkserver"),
    **{f"fork-{how}": (fork, how) for how in ENDS},
    **{
        case.__name__: (case,)
        for case in (
            left_pool,
            left_threads,
            left_processes,
            in_executor,
            with_joblib,
            with_scipy,
            terminated,
            reads_input,
            mpi_programs,
            runs_within,
            place,
        )
    },
}


def main(where: str, names: list[str]) -> None:
    with mt.Executor(isolate=where == "isolated") as executor:
        for name in names:
            function, *args = CASES[name]
            if where == "script":
                function(*args)
            else:
                value = executor.submit(function, *args).result(100)
                assert value in (None, "parent"), (name, value)
            assert list(executor.map(plus_one, range(9))) == list(range(1, 10)), name
            print(name, flush=True)
        if "fork-return" in names:
            got = list(executor.map(fork_within, range(5), chunksize=5))
            assert got == list(range(5)), got
            items = Path("items").read_text().split()
            assert items == list("01234"), items
    print("ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
