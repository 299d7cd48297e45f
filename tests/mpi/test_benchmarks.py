"""Each program of benchmarks/ runs, at tiny sizes, and leaves what it should.

No figure is looked at: these runs are far too short for that.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launching import Launch, Mpi, Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {"date", "processor", "cores", "python", "mpi", "versions"}

FIGURES = {
    "latency": ["median", "99th percentile"],
    "throughput": ["one by one", "map"],
    "waiting": ["all by wait", "one by as_completed"],
    "graphs": ["chain", "tree", "64 MiB to 100 tasks", "a sum, by map_reduce"],
    "tiles": ["64 MiB, a hop", "100 arrays", "stencil, a step"],
    "nested": ["fib, a task per call", "500 parents", "map in a task"],
    "actors": ["call to result", "calls, pipelined", "calls of tasks"],
    "many": ["10,000 of 70 kB to a task", "100,000 of 100 B back", "closures"],
    "metg": ["METG(50%) by map", "METG(50%) by submit"],
    "makespan": ["equal, spin 10 us", "equal, sleep 10,000 us"],
    "bandwidth": ["64 MiB out and back", "1,000 results of 1 MiB"],
    "memory": ["1 GiB, master", "1 GiB, worker", "growth", "endless map"],
    "arguments": ["the same, time", "different, master", "reused, submitting"],
    "isolate": ["submit to result", "map", "first task", "after a crash"],
    "journal": ["10,000/s, wall", "by map", "1 GB/s, wall", "back, arrays"],
    "idle": ["idle worker", "master waiting", "after 50 ms"],
    "fibonacci": ["speed-up"],
    "scaling": ["speed-up, sleep, 1 workers", "one by one, 2 workers"],
    "startup": ["import", "empty script, 8 ranks"],
    "core": ["submitted, short, 10 workers", "memory, 10 workers"],
}
COMPARED = {
    "submit",
    "map",
    "submit to result",
    "64 MiB out and back",
    "1,000 results of 1 MiB, made once",
    "1,000 results of 1 MiB, made anew",
    "1,000 arguments of 1 MiB, one array",
    "submit, journalled",
    "map, journalled",
    "submit, coming back",
    "map, coming back",
    "submit, five globals",
    "map, five globals",
    "records of the script",
    "records of a module",
    "20 calls, 20 MB held",
    "20 calls, 20 MB held, again",
    "empty script",
}
THREE_RANKS = ("makespan", "scaling")
ALONE = ("startup", "core")


def run_quick(
    launch: Launch, command: Sequence[str], program: str, *words: str
) -> Mapping[str, Any]:
    """Run a program; return its JSON."""
    script = str(BENCHMARKS / f"{program}.py")
    results = launch.folder / "results"
    outcome = launch(
        [*command, script, "--quick", "--results", str(results), *words], seconds=60
    )
    assert outcome.code == 0, outcome
    assert "quick: no figures" in outcome.out
    (path,) = results.glob(f"{program}-*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("program", FIGURES)
def test_program_leaves_its_figures(any_mpi: Mpi, launch: Launch, program: str) -> None:
    command = [str(any_mpi.python)]
    words = ["--peers", "none"]
    if program not in ALONE:
        command = [*any_mpi.mpiexec(3 if program in THREE_RANKS else 2), *command]
    if program == "startup":
        words += ["--ranks", "2"]
    record = run_quick(launch, command, program, *words)

    assert record["benchmark"] == program
    assert set(record["machine"]) >= MACHINE
    figures = {figure["name"]: figure for figure in record["figures"]}
    assert set(figures) >= set(FIGURES[program])
    for name, figure in figures.items():
        assert figure["unit"], name
        assert len(figure["rounds"]["mpitasks"]) >= 1
        assert isinstance(figure["medians"]["mpitasks"], (int, float))


def test_peers_run_in_the_same_rounds(any_mpi: Mpi, launch: Launch) -> None:
    command = [*any_mpi.mpiexec(2), str(any_mpi.python)]
    peers = ["multiprocessing", "mpi4py.futures"]
    words = ["--peers", ",".join(peers), "--rounds", "2"]
    record = run_quick(launch, command, "latency", *words)

    for figure in record["figures"]:
        assert set(figure["rounds"]) == {"mpitasks", "raw MPI", *peers}
        assert {len(values) for values in figure["rounds"].values()} == {2}
        assert set(figure["ratios"]) == {"raw MPI", *peers}


def test_saturation_is_what_the_messages_leave(any_mpi: Mpi, launch: Launch) -> None:
    script = str(BENCHMARKS / "saturation.py")
    words = ["--workers", "10", "--message", "4000"]
    outcome = launch([str(any_mpi.python), script, *words], seconds=60)

    assert outcome.code == 0, outcome
    values = dict(map(str.split, outcome.out.splitlines()[1:]))
    # 10 messages of 4 ms for each 16 ms, or each second, of a worker.
    assert values["0.001"] == "0.40"
    assert float(values["1"]) > 0.95


def test_driver_writes_the_page(any_mpi: Mpi, launch: Launch) -> None:
    results = launch.folder / "results"
    script = str(BENCHMARKS / "run.py")
    words = ["latency", "--quick", "--peers", "none", "--results", str(results)]
    outcome = launch([str(any_mpi.python), script, *words], seconds=60)

    assert outcome.code == 0, outcome
    page = (results / "README.md").read_text()
    assert "## latency, 2 ranks, quick: no figures" in page
    assert "| median (us)" in page


def compare(any_mpi: Mpi, launch: Launch, *words: object) -> Outcome:
    script = BENCHMARKS / "compare.py"
    return launch([any_mpi.python, script, "--quick", *words], seconds=100)


def test_versions_are_compared(any_mpi: Mpi, launch: Launch) -> None:
    here = BENCHMARKS.parent
    out = launch.folder / "told.json"
    words = ["--base", here, "--candidate", here, "--ranks", "2"]
    outcome = compare(any_mpi, launch, *words, "--out", out)

    assert outcome.code == 0, outcome
    record = json.loads(out.read_text())
    assert record["failed"] == []
    for side in record["sides"].values():
        assert side["folder"] == str(here / "mpitasks")
        assert set(side["machine"]) >= MACHINE
    names = {figure["name"].removesuffix(", 2 ranks") for figure in record["figures"]}
    assert names == COMPARED
    for figure in record["figures"]:
        base, candidate = figure["rounds"]["base"], figure["rounds"]["candidate"]
        ratios = [new / old for old, new in zip(base, candidate, strict=True)]
        assert figure["ratios"] == ratios
        assert len(ratios) == 1
        assert f"| {figure['name']} ({figure['unit']})" in outcome.out


def test_each_side_runs_its_own_version(any_mpi: Mpi, launch: Launch) -> None:
    """Also where the current folder holds another one, which `-m` would prefer."""
    here, other = BENCHMARKS.parent, launch.folder / "other"
    shutil.copytree(here / "mpitasks", other / "mpitasks")
    (launch.folder / "mpitasks").symlink_to(here / "mpitasks")
    words = ["--base", here, "--candidate", other, "--rounds", "2", "latency"]
    outcome = compare(any_mpi, launch, *words)

    assert outcome.code == 0, outcome
    record = json.loads((launch.folder / "compare.json").read_text())
    assert [len(figure["ratios"]) for figure in record["figures"]] == [2]
    sides = record["sides"]
    assert sides["base"]["folder"] == str(here / "mpitasks")
    assert sides["candidate"]["folder"] == str(other / "mpitasks")


def test_side_that_breaks_is_told(any_mpi: Mpi, launch: Launch) -> None:
    here, other = BENCHMARKS.parent, launch.folder / "other"
    shutil.copytree(here / "mpitasks", other / "mpitasks")
    (other / "mpitasks" / "__main__.py").write_text("raise SystemExit(7)")
    words = ["--base", here, "--candidate", other, "startup", "latency"]
    outcome = compare(any_mpi, launch, *words)

    assert outcome.code == 1, outcome
    assert "failed: candidate, latency: exit code 7" in outcome.err
    record = json.loads((launch.folder / "compare.json").read_text())
    assert len(record["failed"]) == 2
    assert record["figures"] == []


def test_side_without_the_package_is_refused(any_mpi: Mpi, launch: Launch) -> None:
    words = ["--base", launch.folder, "--candidate", BENCHMARKS.parent]
    outcome = compare(any_mpi, launch, *words)

    assert outcome.code == 1, outcome
    assert f"{launch.folder} holds no mpitasks" in outcome.err
