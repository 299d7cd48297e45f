"""Random numbers of tasks: the same on any number of ranks, and after a resume."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from launching import Launch, Mpi, Outcome
from mpitasks.randomness import DOMAINS

SCRIPT = """
import mpitasks as mt

def draw(x):
    return float(mt.rng().random())

def flaky(x):
    value = float(mt.rng().random())
    if mt.current_task().attempt < 3:
        raise ValueError(value)
    return value

with mt.Executor() as executor:
    values = [executor.submit(draw, 0).result()]
    futures = [executor.submit(draw, x) for x in range(100)]
    values += executor.map(draw, range(1000))
    values += [future.result() for future in futures]
    values += executor.map(draw, ["x" * 2000] * 20, chunksize=3)
    values += executor.with_options(isolate=True).map(draw, range(5))
    again = executor.with_options(retries=3)
    values.append(again.submit(flaky, 0).result())
    values += again.map(flaky, range(5))
    values += dict(sorted(executor.map_unordered(draw, range(30)))).values()
    values.append(float(mt.rng().random()))
with mt.Executor() as executor:
    values.append(executor.submit(draw, 0).result())
with mt.Executor(seed=8) as executor:
    values.append(executor.submit(draw, 0).result())
for value in values:
    print(value.hex())
"""


def first(seed: int, *place: int, kind: str = "task") -> float:
    """Return the first number of a place, as documented."""
    seeds = np.random.SeedSequence(seed, spawn_key=(DOMAINS[kind], *place))
    return float(np.random.Generator(np.random.PCG64(seeds)).random())


def expected(seed: int) -> str:
    """Return what the script prints with that seed."""
    values = [first(seed, 0, 0)]
    values += [first(seed, 0, 101, n) for n in range(1000)]
    values += [first(seed, 0, 1 + n) for n in range(100)]
    for call, count in ((102, 20), (103, 5)):
        values += [first(seed, 0, call, n) for n in range(count)]
    values.append(first(seed, 0, 104))
    for call, count in ((105, 5), (106, 30)):
        values += [first(seed, 0, call, n) for n in range(count)]
    values.append(first(seed, 0, kind="script"))
    values += [first(seed, 1, 0), first(8, 0, 0)]
    return "".join(f"{value.hex()}\n" for value in values)


def test_alone(launch: Launch) -> None:
    script = launch.script(SCRIPT)
    outcome = launch([sys.executable, "-m", "mpitasks", "--seed", "7", script])
    assert (outcome.code, outcome.out) == (0, expected(7)), outcome


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_on_ranks(mpi: Mpi, launch: Launch, ranks: int) -> None:
    script = launch.script(SCRIPT)
    outcome = launch(mpi.runner(ranks, "--seed", "7", script), seconds=60)
    assert (outcome.code, outcome.out) == (0, expected(7)), outcome


def test_the_seed_goes_through_our_own_mpiexec(any_mpi: Mpi, launch: Launch) -> None:
    script = launch.script(SCRIPT)
    words = [any_mpi.python, "-m", "mpitasks", "-n", "2", "--seed", "0", script]
    outcome = launch(words, seconds=60)
    assert (outcome.code, outcome.out) == (0, expected(0)), outcome


def test_after_the_loss_of_a_rank(openmpi: Mpi, launch: Launch) -> None:
    launch.script(
        """
import os, signal
import mpitasks as mt

def draw(x):
    value = float(mt.rng().random())
    if x == 30 and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return value

with mt.Executor(seed=3) as executor:
    for value in executor.map(draw, range(100), chunksize=10):
        print(value.hex())
    print(executor.num_workers)
"""
    )
    words = ["-m", "mpitasks", "-n", "4", "--survive", "script.py"]
    outcome = launch([openmpi.python, *words], seconds=60)
    values = [first(3, 0, 0, n).hex() for n in range(100)]
    assert outcome.out.split() == [*values, "2"], outcome


# With a journal.

JOURNAL = """
import sys
import mpitasks as mt

def draw(x):
    with open("runs.txt", "a") as file:
        file.write(f"{x} ")
    return float(mt.rng().random())

def plain(x):
    with open("runs.txt", "a") as file:
        file.write(f"plain{x} ")
    return x * x

with mt.Executor(ARGS) as executor:
    for array in (WORK):
        print(*array)
"""


def run(
    mpi: Mpi | None, launch: Launch, work: str, *words: str, args: str = ""
) -> tuple[Outcome, list[str]]:
    """Run tasks with a journal; return what came of it and which tasks ran."""
    script = launch.script(JOURNAL.replace("WORK", work).replace("ARGS", args))
    options = [*words, script]
    if mpi is None:
        command: Sequence[object] = [sys.executable, "-m", "mpitasks", *options]
    else:
        command = mpi.runner(3, *options)
    outcome = launch(command, seconds=60)
    assert outcome.code == 0, outcome
    path = Path(launch.folder, "runs.txt")
    ran = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return outcome, ran


def numbers(outcome: Outcome) -> list[float]:
    """Return what it printed."""
    return [float(word) for word in outcome.out.split()]


ALL = "executor.map(draw, range(12), chunksize=4), executor.map(plain, range(3))"
DRAWS = sorted(map(str, range(12)))
PLAINS = ["plain0", "plain1", "plain2"]


def test_a_resumed_run_goes_on_with_the_recorded_seed(mpi: Mpi, launch: Launch) -> None:
    words = ["--journal", "run.db"]
    half = "executor.map(draw, range(8), chunksize=4), [executor.num_workers]"
    first_run, ran = run(mpi, launch, half, *words)
    assert len(ran) == 8
    again, ran = run(None, launch, ALL, *words)
    assert ran == ["10", "11", "8", "9", *PLAINS]
    assert numbers(again)[:8] == numbers(first_run)[:8]
    assert len(set(numbers(again)[:12])) == 12
    third, ran = run(mpi, launch, ALL, *words)
    assert ran == []
    assert third.out == again.out


def test_draws_of_another_seed_are_not_used(launch: Launch) -> None:
    words = ["--journal", "run.db"]
    seven, ran = run(None, launch, ALL, *words, "--seed", "7")
    assert ran == DRAWS + PLAINS
    assert numbers(seven)[:12] == [first(7, 0, 0, n) for n in range(12)]
    eight, ran = run(None, launch, ALL, *words, "--seed", "8")
    assert ran == DRAWS  # what drew nothing comes back
    assert numbers(eight)[:12] == [first(8, 0, 0, n) for n in range(12)]
    untold, ran = run(None, launch, ALL, *words)
    assert (untold.out, ran) == (eight.out, [])
    back, ran = run(None, launch, ALL, *words, "--seed", "7")
    assert (back.out, ran) == (seven.out, [])


def test_draws_of_another_place_are_not_used(launch: Launch) -> None:
    """Else items that are new would draw what those that came back have drawn."""
    words = ["--journal", "run.db", "--seed", "7"]
    run(None, launch, "executor.map(draw, range(8)), [0]", *words)
    moved, ran = run(None, launch, "executor.map(draw, range(4, 12)), [0]", *words)
    assert len(ran) == 8
    assert numbers(moved)[:8] == [first(7, 0, 0, n) for n in range(8)]
    grown, ran = run(None, launch, "executor.map(draw, range(10)), [0]", *words)
    assert ran == ["8", "9"]
    assert numbers(grown)[:10] == [first(7, 0, 0, n) for n in range(10)]


def test_the_missing_items_between_found_ones_keep_their_places(
    any_mpi: Mpi, launch: Launch
) -> None:
    words = ["--journal", "run.db", "--seed", "7"]
    odd = "executor.starmap(pick, [(x, 1) for x in range(12)], chunksize=5), [0]"
    pick = """
def pick(x, fails):
    import os
    if x % 3 == 0 and not os.path.exists("again"):
        raise ValueError(x)
    return draw(x)
"""
    script = JOURNAL.replace("def plain", f"{pick}\ndef plain", 1)
    text = script.replace("WORK", odd).replace("ARGS", "return_exceptions=True")
    command = any_mpi.runner(3, *words, launch.script(text))
    assert launch(command, seconds=60).code == 0
    assert len(Path(launch.folder, "runs.txt").read_text().split()) == 8
    Path(launch.folder, "again").touch()
    outcome = launch(command, seconds=60)
    assert len(Path(launch.folder, "runs.txt").read_text().split()) == 12
    assert numbers(outcome)[:12] == [first(7, 0, 0, n) for n in range(12)]


def test_by_submit_and_isolated(any_mpi: Mpi, launch: Launch) -> None:
    words = ["--journal", "run.db", "--isolate"]
    work = "[executor.submit(draw, x).result() for x in RANGE], [0]"
    one, ran = run(any_mpi, launch, work.replace("RANGE", "range(3)"), *words)
    assert ran == ["0", "1", "2"]
    two, ran = run(any_mpi, launch, work.replace("RANGE", "range(4)"), *words)
    assert ran == ["3"]
    assert numbers(two)[:3] == numbers(one)[:3]
    _, ran = run(any_mpi, launch, work.replace("RANGE", "range(4)"), *words[:2])
    assert ran == []
    words += ["--seed", "1"]
    other, ran = run(any_mpi, launch, work.replace("RANGE", "range(4)"), *words)
    assert len(ran) == 4
    assert numbers(other)[:4] == [first(1, 0, n) for n in range(4)]


def test_executors_with_journals_of_their_own(launch: Launch) -> None:
    text = JOURNAL.replace("WORK", "executor.map(draw, range(3)),")
    body = text[text.index("with mt") :].replace("\n", "\n    ")
    loop = "for options in OPTIONS:\n    " + body
    text = text[: text.index("with mt")] + loop.replace("ARGS", "**options")
    for options, draws in (
        ('[{"journal": "a.db"}] * 2', 3),
        ('[{"journal": "a.db"}, {"journal": "b.db"}]', 3),
        ('[{"journal": "a.db", "seed": 5}, {"journal": "c.db", "seed": 5}]', 6),
    ):
        command = [sys.executable, launch.script(text.replace("OPTIONS", options))]
        outcome = launch(command)
        ran = Path(launch.folder, "runs.txt")
        assert len(ran.read_text().split()) == draws, outcome
        ran.unlink()
        lines = outcome.out.splitlines()
        assert (lines[0] == lines[1]) == ("b.db" not in options)


def test_a_damaged_result_is_drawn_again_at_its_place(launch: Launch) -> None:
    words = ["--journal", "run.db", "--seed", "7"]
    work = "[a.sum() for a in executor.map(large, range(3))], [0]"
    large = "def large(x):\n    return mt.rng().random(200_000)\n\n"
    script = JOURNAL.replace("def plain", large + "def plain", 1)
    text = script.replace("WORK", work).replace("ARGS", "")
    command = [sys.executable, "-m", "mpitasks", *words, launch.script(text)]
    before = launch(command)
    files = [path for path in (launch.folder / "run.db.d").rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
    after = launch(command)
    assert "damaged" in after.err
    assert after.out == before.out
