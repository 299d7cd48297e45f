"""Results that stay with their workers: who has them, who frees them, what is lost."""

from __future__ import annotations

import pytest

from launching import Launch, Mpi

HOLD = """
import ctypes, os, sys, time
import numpy as np
import mpitasks as mt

def make(n):
    return np.ones(n)

def total(array):
    return float(array.sum()), mt.current_task().rank

def hold(array, begun, pipe):
    ends = os.open(pipe, os.O_RDWR)
    open(begun, "w").close()
    ctypes.PyDLL(None).read(ends, ctypes.create_string_buffer(1), 1)  # keeps the GIL
    return mt.current_task().rank

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.002)

if __name__ == "__main__":
    os.mkfifo("pipe")
    end = os.open("pipe", os.O_RDWR)
    with mt.Executor() as ex:
        kept = ex.with_options(keep=True).submit(make, 1_000_000)
        held = ex.submit(hold, kept, os.path.abspath("begun"), os.path.abspath("pipe"))
        wait_for("begun")
        value, other = ex.submit(total, kept).result()
        print(value, float(kept.result().sum()), held.done())
        os.write(end, b"x")
        print(held.result() == kept.ranks[0] != other)
"""


def test_a_worker_in_c_code_delays_nobody(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(HOLD)
    outcome = launch(mpi.runner(3, script), seconds=60)
    assert outcome.code == 0, outcome
    assert outcome.out == "1000000.0 1000000.0 False\nTrue\n", outcome


FREED = """
import os, sys, time
import numpy as np
import mpitasks as mt

NBYTES = 200 << 20

def make():
    return np.ones(NBYTES // 8)

def process(_):
    time.sleep(0.01)
    return mt.current_task().rank, os.getpid()

def compute(path):
    while not os.path.exists(path):
        sum(range(1000))

def resident(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def seconds_until_freed(pid, before):
    start = time.monotonic()
    while resident(pid) > before - NBYTES // 2:
        if time.monotonic() - start > 30:
            sys.exit("it is not freed")
        time.sleep(0.01)
    return time.monotonic() - start

if __name__ == "__main__":
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True)
        pids = dict(ex.map(process, range(60), chunksize=1))
        for busy in (True, False):
            kept = keep.submit(make)
            mt.wait([kept])
            pid = pids[kept.ranks[0]]
            path = os.path.abspath(f"end-{busy}")
            tasks = [ex.submit(compute, path) for _ in pids] if busy else []
            before = resident(pid)
            assert before > NBYTES
            del kept
            took = seconds_until_freed(pid, before)
            print("freed", all(task.running() for task in tasks))
            print(f"{took:.2f} s", file=sys.stderr)
            open(path, "w").close()
            mt.wait(tasks)
"""


def test_a_result_is_freed_when_its_future_is_gone(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(FREED)), seconds=100)
    assert outcome.code == 0, outcome
    assert outcome.out == "freed True\nfreed True\n", outcome


PAST = """
import numpy as np
import mpitasks as mt

NBYTES = 64 << 20

def make():
    return np.ones(NBYTES // 8)

def step(array):
    return array + 1

def first(array):
    return float(array[0])

def most():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if "VmHWM" in line)

if __name__ == "__main__":
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True)
        ex.submit(first, keep.submit(np.ones, 10_000)).result()
        before = most()
        arrays = [keep.submit(make) for _ in range(3)]
        for _ in range(5):
            arrays = [keep.submit(step, array) for array in arrays]
        print(*[ex.submit(first, array).result() for array in arrays])
        print(most() - before < NBYTES // 2)
"""


def test_it_does_not_pass_through_rank_0(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(mpi.runner(3, launch.script(PAST)), seconds=60)
    assert outcome.code == 0, outcome
    assert outcome.out == "6.0 6.0 6.0\nTrue\n", outcome


JOURNALLED = """
import sys
import numpy as np
import mpitasks as mt

def note(what):
    with open("ran", "a") as ran:
        ran.write(what + "\\n")

def make(value):
    note("make")
    return np.full(100_000, float(value))

def step(array, by):
    note("step")
    return array + by

def total(array):
    note("total")
    return float(array.sum())

if __name__ == "__main__":
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True)
        array = keep.submit(step, keep.submit(make, 1), 2)
        print(ex.submit(total, array).result(), list(ex.map(total, [array])))
"""


def test_calls_that_need_it_come_back_from_a_journal(
    any_mpi: Mpi, launch: Launch
) -> None:
    command = any_mpi.runner(3, "--journal", "run.journal", launch.script(JOURNALLED))
    for run in (1, 2):
        outcome = launch(command, seconds=60)
        assert outcome.code == 0, outcome
        assert outcome.out == "300000.0 [300000.0]\n", outcome
        ran = (launch.folder / "ran").read_text().split()
        assert sorted(ran) == sorted(["make", "step"] * run + ["total"] * 2), outcome


GRAPH = """
import os, random, signal, sys
import numpy as np
import mpitasks as mt

TILES, STEPS, SIZE, SEED = 6, 14, 30_000, int(sys.argv[1])

def first(at):
    return np.arange(SIZE) * float(at + 1)

def relax(left, middle, right, step, mark):
    if mark is not None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return (left + middle + right) / 3.0 + step

def neighbours(tiles, at):
    return tiles[at - 1], tiles[at], tiles[(at + 1) % TILES]

if __name__ == "__main__":
    chance = random.Random(SEED)
    deaths = {(chance.randrange(STEPS), chance.randrange(TILES)) for _ in range(3)}
    want = [first(at) for at in range(TILES)]
    for step in range(STEPS):
        want = [relax(*neighbours(want, at), step, None) for at in range(TILES)]
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True)
        tiles = [keep.submit(first, at) for at in range(TILES)]
        for step in range(STEPS):
            if SEED % 2:
                mt.wait(tiles)
            marks = [
                os.path.abspath(f"{step}-{at}") if (step, at) in deaths else None
                for at in range(TILES)
            ]
            tiles = [
                keep.submit(relax, *neighbours(tiles, at), step, marks[at])
                for at in range(TILES)
            ]
        sums = list(ex.map(np.sum, tiles))
        got = [tile.result() for tile in tiles]
        print(all(map(np.array_equal, got, want)))
        print(np.array_equal(sums, [tile.sum() for tile in want]))
        print(len(deaths) + ex.num_workers)
"""


@pytest.mark.parametrize("seed", range(6))
def test_what_dies_with_a_worker_is_made_again(
    openmpi: Mpi, launch: Launch, seed: int
) -> None:
    launch.script(GRAPH)
    words = ["-m", "mpitasks", "-n", "6", "--survive", "script.py", str(seed)]
    outcome = launch([openmpi.python, *words], seconds=90)
    assert outcome.code == 0, outcome
    assert outcome.out == "True\nTrue\n5\n", outcome


LOST = """
import os, signal
import numpy as np
import mpitasks as mt

def double(array):
    return 2 * array

def die(array):
    os.kill(os.getpid(), signal.SIGKILL)

def error_of(future):
    error = future.exception()
    return type(error).__name__, "('doubled') left on rank" in str(error)

if __name__ == "__main__":
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True, label="doubled")
        kept = keep.submit(double, np.ones(100_000))  # too large to be remembered
        mt.wait([kept])
        ex.with_options(max_crashes=1).submit(die, kept).exception()
        print(error_of(kept), error_of(ex.submit(double, kept)), kept.ranks)
"""


def test_what_cannot_be_made_again_is_named(openmpi: Mpi, launch: Launch) -> None:
    launch.script(LOST)
    words = ["-m", "mpitasks", "-n", "3", "--survive", "script.py"]
    outcome = launch([openmpi.python, *words], seconds=60)
    assert outcome.code == 0, outcome
    told = "('DataLost', True)"
    assert outcome.out == f"{told} {told} ()\n", outcome


BOUNDED = """
import numpy as np
import mpitasks as mt

NBYTES = 8 << 20

def make(value):
    return np.full(NBYTES // 8, float(value))

def total(*arrays):
    return sum(float(array[-1]) for array in arrays)

def most(_):
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) << 10 for line in status if "VmHWM" in line)
    return mt.current_task().rank, peak

if __name__ == "__main__":
    with mt.Executor() as ex:
        keep = ex.with_options(keep=True)
        ex.submit(total, keep.submit(make, 0)).result()
        before = dict(ex.map(most, range(40), chunksize=1))
        sums = [ex.submit(total, keep.submit(make, value)) for value in range(80)]
        print(sum(future.result() for future in sums))
        grown = dict(ex.map(most, range(40), chunksize=1))
        peaks = [grown[rank] - before.get(rank, 0) for rank in grown]
        print(sum(peaks) < 40 * NBYTES)
        # More than may be kept, and nothing can be dropped before: it goes on.
        parts = [keep.submit(make, value) for value in range(20)]
        print(ex.submit(total, *parts).result())
"""


def test_producers_wait_while_memory_is_full(mpi: Mpi, launch: Launch) -> None:
    script = launch.script(BOUNDED)
    outcome = launch(mpi.runner(3, "--node-memory", "64M", script), seconds=60)
    assert outcome.code == 0, outcome
    assert outcome.out == "3160.0\nTrue\n190.0\n", outcome
    told = [line for line in outcome.said if "--node-memory allows" in line]
    assert len(told) == 1, outcome
