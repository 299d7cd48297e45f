"""``mpitasks bench`` as a user starts it: every benchmark, on 1, 2 and 4 ranks.

What is written is read again and compared with itself; no time is asserted.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launching import Launch, Mpi, Outcome

SECONDS = 60.0
RANKS = (1, 2, 4)
WORKERS = {1: [1], 2: [1], 4: [1, 2, 3]}
PNG = b"\x89PNG\r\n\x1a\n"

SMALL = {
    "fibonacci": ["--size", "200", "--sequences", "12", "--repeat", "2"],
    "throughput": ["--tasks", "200", "--repeat", "2"],
    "latency": ["--trips", "50", "--repeat", "2"],
    "bandwidth": ["--size", "64KiB", "1MiB", "--repeat", "1"],
}


def has_matplotlib(mpi: Mpi) -> bool:
    code = "import importlib.util as u, sys; sys.exit(not u.find_spec('matplotlib'))"
    return subprocess.run([mpi.python, "-c", code], check=False).returncode == 0


def run_bench(launch: Launch, mpi: Mpi, ranks: int, *words: str) -> Outcome:
    outcome = launch(mpi.runner(ranks, "bench", *words), seconds=SECONDS)
    assert outcome.code == 0, outcome
    assert "Traceback" not in outcome.err, outcome
    return outcome


def read_files(folder: Path, name: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / f"{name}.json").read_text())


def assert_same(row: dict[str, str], value: dict[str, Any]) -> None:
    expected = {key: "" if v is None else str(v) for key, v in value.items()}
    assert row == expected


def check_fibonacci(found: dict[str, Any], ranks: int) -> None:
    """Every part of the world does the same work; the figures follow from the runs."""
    assert [row["workers"] for row in found["rows"]] == WORKERS[ranks]
    assert found["options"] == {"size": 200, "sequences": 12, "repeat": 2}
    serial = found["samples"]["serial"]
    assert len(serial) == 2
    for row in found["rows"]:
        runs = found["samples"]["workers"][str(row["workers"])]
        assert len(runs) == 2
        assert row["seconds"] == min(runs)
        assert row["serial_seconds"] == min(serial)
        assert row["speedup"] == min(serial) / min(runs)
        assert row["efficiency"] == row["speedup"] / row["workers"]


def check_throughput(found: dict[str, Any], ranks: int) -> None:
    assert [row["workers"] for row in found["rows"]] == WORKERS[ranks]
    for row in found["rows"]:
        for way in ("submit", "map"):
            runs = found["samples"][way][str(row["workers"])]
            assert len(runs) == 2
            assert row[f"{way}_per_second"] in [200 / seconds for seconds in runs]


def check_latency(found: dict[str, Any], ranks: int) -> None:
    named = ["submit to result", "raw mpi4py object"]
    assert [row["what"] for row in found["rows"]] == named[: 1 if ranks == 1 else 2]
    for row in found["rows"]:
        samples = found["samples"][row["what"]]
        assert row["trips"] == 100
        assert samples["percentiles"] == sorted(samples["percentiles"])
        assert row["median_seconds"] == samples["percentiles"][50]
        assert row["p99_seconds"] == samples["percentiles"][99]
        assert len(samples["round_medians"]) == 2


def check_bandwidth(found: dict[str, Any], ranks: int) -> None:
    assert [row["bytes"] for row in found["rows"]] == [1 << 16, 1 << 20]
    for row in found["rows"]:
        assert row["bytes_per_second"] == 2 * row["bytes"] / row["seconds"]
        assert (row["raw_seconds"] is None) == (ranks == 1)
        assert (row["rate_over_raw"] is None) == (ranks == 1)
    assert any("no raw MPI" in note for note in found["notes"]) == (ranks == 1)


CHECKS = {
    "fibonacci": check_fibonacci,
    "throughput": check_throughput,
    "latency": check_latency,
    "bandwidth": check_bandwidth,
}


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", SMALL)
def test_every_benchmark(launch: Launch, mpi: Mpi, name: str, ranks: int) -> None:
    outcome = run_bench(launch, mpi, ranks, name, *SMALL[name], "--output", "out/x")
    assert outcome.out.startswith(f"mpitasks bench {name}\n"), outcome
    rows, found = read_files(launch.folder / "out", "x")
    for row, value in zip(rows, found["rows"], strict=True):
        assert_same(row, value)
    CHECKS[name](found, ranks)
    assert_machine(found["machine"], outcome, mpi, ranks)
    picture = launch.folder / "out" / "x.png"
    if has_matplotlib(mpi):
        assert picture.read_bytes().startswith(PNG)
        assert outcome.out.endswith("written: out/x.csv, .json, .png\n")
    else:
        assert not picture.exists()
        assert "pip install 'mpitasks[plot]'" in outcome.out


def assert_machine(
    machine: dict[str, Any], outcome: Outcome, mpi: Mpi, ranks: int
) -> None:
    assert machine["ranks"] == ranks
    assert machine["workers"] == max(ranks - 1, 1)
    assert sum(host["ranks"] for host in machine["hosts"]) == ranks
    assert machine["hosts"][0]["name"] in outcome.out
    if ranks > 1:
        assert {"mpich": "MPICH", "openmpi": "Open MPI"}[mpi.name] in machine["mpi"]
        assert machine["mpi"] in outcome.out


def test_default_sequences_and_names(launch: Launch, any_mpi: Mpi) -> None:
    run_bench(launch, any_mpi, 3, "fibonacci", "--size", "50", "--repeat", "1")
    (path,) = launch.folder.glob("mpitasks-bench-fibonacci-*.json")
    found = json.loads(path.read_text())
    assert found["options"]["sequences"] == 16
    assert path.with_suffix(".csv").exists()


def test_chosen_worker_counts(launch: Launch, any_mpi: Mpi) -> None:
    words = ["throughput", "--tasks", "50", "--repeat", "1", "--workers", "3", "1"]
    run_bench(launch, any_mpi, 4, *words, "--output", "x")
    rows, _ = read_files(launch.folder, "x")
    assert [row["workers"] for row in rows] == ["1", "3"]


def test_without_a_launcher(launch: Launch, any_mpi: Mpi) -> None:
    command = [any_mpi.bin / "mpitasks", "bench", "latency", *SMALL["latency"]]
    outcome = launch([*command, "--output", "x"])
    assert outcome.code == 0, outcome
    assert "in this process" in outcome.out
    assert "bench latency" in outcome.said[0]
    _, found = read_files(launch.folder, "x")
    assert found["machine"]["mpi"] is None
    assert found["machine"]["ranks"] == 1


def test_mpitasks_starts_mpiexec(launch: Launch, mpi: Mpi) -> None:
    words = ["-n", "4", "bench", "fibonacci", *SMALL["fibonacci"], "--output", "x"]
    outcome = launch([mpi.bin / "mpitasks", *words], seconds=SECONDS)
    assert outcome.code == 0, outcome
    _, found = read_files(launch.folder, "x")
    assert [row["workers"] for row in found["rows"]] == WORKERS[4]


def test_without_matplotlib(launch: Launch, mpi: Mpi) -> None:
    absent = launch.folder / "absent" / "matplotlib"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('not here')\n")
    command = mpi.runner(2, "bench", "latency", *SMALL["latency"], "--output", "x")
    paths = [str(absent.parent), os.environ.get("PYTHONPATH", "")]
    outcome = launch(
        command, seconds=SECONDS, environ={"PYTHONPATH": os.pathsep.join(paths)}
    )
    assert outcome.code == 0, outcome
    assert "written: x.csv, .json\n" in outcome.out
    assert outcome.out.count("pip install 'mpitasks[plot]'") == 1
    assert (launch.folder / "x.csv").exists()
    assert not (launch.folder / "x.png").exists()


REFUSED = [
    (["bench"], "WHICH"),
    (["bench", "nonsense"], "nonsense"),
    (["bench", "fibonacci", "--size", "-3"], "--size"),
    (["bench", "latency", "--no-such-option"], "--no-such-option"),
    (["bench", "fibonacci", "--workers", "9"], "--workers 9"),
    (["bench", "latency", "--output", "script.py/x"], "--output"),
]


def assert_refused(outcome: Outcome, named: str) -> None:
    assert outcome.code == 2, outcome
    (said,) = [line for line in outcome.said if "one process" not in line]
    assert named in said
    assert "Traceback" not in outcome.err, outcome


@pytest.mark.parametrize(("words", "named"), REFUSED)
def test_wrong_words(launch: Launch, mpi: Mpi, words: list[str], named: str) -> None:
    launch.script("")
    assert_refused(launch(mpi.runner(3, *words)), named)


@pytest.mark.parametrize(("words", "named"), REFUSED)
def test_wrong_words_alone(
    launch: Launch, any_mpi: Mpi, words: list[str], named: str
) -> None:
    launch.script("")
    assert_refused(launch([any_mpi.python, "-m", "mpitasks", *words]), named)


def test_wrong_words_start_no_mpiexec(launch: Launch, any_mpi: Mpi) -> None:
    command = [any_mpi.bin / "mpitasks", "-n", "0", *REFUSED[2][0]]
    assert_refused(launch(command), REFUSED[2][1])


def test_help_comes_once(launch: Launch, mpi: Mpi) -> None:
    outcome = launch(mpi.runner(3, "bench", "--help"))
    assert outcome.code == 0, outcome
    assert outcome.out.count("usage: mpitasks bench") == 1
    for name in SMALL:
        assert name in outcome.out


def test_a_script_called_bench(launch: Launch, any_mpi: Mpi) -> None:
    launch.script("print('mine')", "bench")
    assert launch(any_mpi.runner(2, "./bench")).out == "mine\n"
    assert launch(any_mpi.runner(2, "bench")).code == 2


def test_a_failing_benchmark_shows_where(launch: Launch, any_mpi: Mpi) -> None:
    name = "x" * 250  # and so no room in the folder for the name of what replaces it
    words = ["bench", "latency", *SMALL["latency"], "--output", name]
    outcome = launch(any_mpi.runner(2, *words))
    assert outcome.code == 1, outcome
    assert "in write_csv" in outcome.err
    assert "File name too long" in outcome.err


def test_files_of_the_user_stay(launch: Launch) -> None:
    words = ["bench", "latency", *SMALL["latency"], "--output", "x"]
    verb = [sys.executable, "-m", "mpitasks", *words]
    assert launch(verb).code == 0
    assert launch(verb).code == 0  # its own files are replaced
    for name in ("x.csv", "x.json", "x.png"):
        path = launch.folder / name
        before = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        path.write_text("precious")
        outcome = launch(verb)
        assert (outcome.code, outcome.out) == (2, ""), str(outcome)
        assert f"{name} is there already and was not written" in outcome.err
        assert path.read_text() == "precious"
        path.unlink()
        if before is not None:
            path.write_bytes(before)
