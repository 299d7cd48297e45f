"""Each program of benchmarks/ runs, at tiny sizes, and leaves what it should.

No figure is looked at: these runs are far too short for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launching import Launch, Mpi

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {"date", "processor", "cores", "python", "mpi", "versions"}

FIGURES = {
    "latency": ["median", "99th percentile"],
    "throughput": ["one by one", "map"],
    "waiting": ["all by wait", "one by as_completed"],
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
