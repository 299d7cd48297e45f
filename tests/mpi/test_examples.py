"""The examples, as a user runs them: alone and on several ranks, under both MPIs."""

from __future__ import annotations

import importlib.util
import math
import re
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from launching import Launch, Mpi, Outcome

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60.0
SIZES = (1, 2, 4)

FIBONACCI = re.compile(
    r"Sequence size: (\d+), Local execution time: \d+\.\d\d\n"
    r"Sequence size: \1, Remote execution time: \d+\.\d\d\n"
    r"Speed-up: \d+\.\d\d, Sequences: (\d+), Ranks: (\d+)\n"
)


def run_example(launch: Launch, command: list[str]) -> Outcome:
    outcome = launch(command, seconds=SECONDS)
    assert outcome.code == 0, outcome
    assert "Traceback" not in outcome.err, outcome
    return outcome


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_png(path: Path) -> np.ndarray:
    """Return the pixels of an RGB picture whose rows are not filtered."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        assert crc == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, *form = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    assert b"IEND" in chunks
    raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    rows = raw.reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


@pytest.mark.parametrize("ranks", SIZES)
def test_fibonacci_prints_its_three_lines_for_each_size(
    mpi: Mpi, launch: Launch, ranks: int
) -> None:
    words = ["200", "1000", "--repeat", "1"]
    outcome = run_example(launch, mpi.runner(ranks, EXAMPLES / "fibonacci.py", *words))

    assert FIBONACCI.sub("", outcome.out) == ""
    workers = max(ranks - 1, 1)
    expected = [(size, str(workers), str(ranks)) for size in ("200", "1000")]
    assert FIBONACCI.findall(outcome.out) == expected


def test_fibonacci_takes_the_number_of_sequences(launch: Launch) -> None:
    words = ["300", "--sequences", "5", "--repeat", "2"]
    command = [sys.executable, str(EXAMPLES / "fibonacci.py"), *words]
    outcome = run_example(launch, command)
    assert FIBONACCI.findall(outcome.out) == [("300", "5", "1")]


def test_fibonacci_builds_the_sequence() -> None:
    fibonacci = load("fibonacci")
    assert [fibonacci.fibonacci(size) for size in (0, 1, 2, 90)] == [0, 1, 2, 90]
    assert fibonacci.run_local(10, 3) == [10, 10, 10]


@pytest.mark.parametrize("ranks", [1, 3])
def test_actors_find_the_parameters(mpi: Mpi, launch: Launch, ranks: int) -> None:
    outcome = run_example(launch, mpi.runner(ranks, EXAMPLES / "actors.py"))
    assert outcome.out == "steps: 160\nparameters: 2.00 -1.00 0.50\n"


@pytest.mark.parametrize("ranks", SIZES)
def test_mandelbrot_writes_the_picture(mpi: Mpi, launch: Launch, ranks: int) -> None:
    width, height, iterations = 70, 45, 60
    words = ["--size", str(width), str(height), "--tile", "16"]
    words += ["--iterations", str(iterations), "--output", "m.png"]
    outcome = run_example(launch, mpi.runner(ranks, EXAMPLES / "mandelbrot.py", *words))

    assert outcome.out == "Wrote m.png: 70 x 45 pixels from 15 tiles\n"
    expected = load("mandelbrot").compute_tile(width, height, 128, iterations, (0, 0))
    assert len(np.unique(expected)) > 50
    np.testing.assert_array_equal(read_png(launch.folder / "m.png"), expected)


def test_monte_carlo_says_the_same_whatever_the_ranks(mpi: Mpi, launch: Launch) -> None:
    script = EXAMPLES / "monte_carlo.py"
    words = ["--batches", "20", "--darts", "5000", "--seed", "7"]
    commands = [mpi.runner(ranks, script, *words) for ranks in SIZES]
    commands.append([str(mpi.python), str(script), *words])
    outputs = {run_example(launch, command).out for command in commands}

    assert len(outputs) == 1
    line = re.search(
        r"Pi: ([\d.]+) \+- ([\d.]+) \(off by [\d.]+ sigma\)", outputs.pop()
    )
    assert line is not None
    pi, error = float(line[1]), float(line[2])
    assert abs(pi - math.pi) < 4 * error
    assert error == pytest.approx(
        math.sqrt(math.pi * (4 - math.pi) / 100_000), rel=0.05
    )


def test_monte_carlo_differs_by_seed(launch: Launch) -> None:
    script = EXAMPLES / "monte_carlo.py"
    words = ["--batches", "2", "--darts", "1000", "--seed"]
    one, other = (
        run_example(launch, [sys.executable, str(script), *words, seed]).out
        for seed in ("1", "2")
    )
    assert one.splitlines()[1] != other.splitlines()[1]


def test_recursion_gives_what_plain_calls_give(mpi: Mpi, launch: Launch) -> None:
    words = ["--fib", "14", "--sort", "30000"]
    outcome = run_example(launch, mpi.runner(2, EXAMPLES / "recursion.py", *words))
    assert re.fullmatch(
        r"fib\(14\) = 377, \d+\.\d\d s\n"
        r"30000 values, sorted: True, \d+\.\d\d s\n",
        outcome.out,
    ), outcome


def test_word_count_counts_what_is_there(mpi: Mpi, launch: Launch) -> None:
    texts = {
        "a.txt": "Der Fluß fließt. der FLUSS?",
        "b.txt": "1 x; x_y der\n",
        "c.txt": "",
    }
    for name, text in texts.items():
        (launch.folder / name).write_text(text)
    script = EXAMPLES / "word_count.py"
    commands = [mpi.runner(ranks, script, *texts) for ranks in SIZES]
    outputs = {run_example(launch, command).out for command in commands}
    assert outputs == {
        "Files: 3, Words: 9, Different: 6\n"
        "       3 der\n       2 x\n       1 fließt\n       1 fluss\n       1 fluß\n"
    }


def test_word_count_writes_texts_of_its_own(launch: Launch, any_mpi: Mpi) -> None:
    words = ["--texts", "3", "--top", "1"]
    script = EXAMPLES / "word_count.py"
    outcome = run_example(launch, any_mpi.runner(3, script, *words))
    assert outcome.out.startswith("Files: 3, Words: 72000, Different: 14\n")
    assert outcome.out.endswith(" the\n")


def test_shared_table_finds_the_models(mpi: Mpi, launch: Launch) -> None:
    script = EXAMPLES / "shared_table.py"
    words = ["--models", "700", "--observations", "10"]
    commands = [mpi.runner(ranks, script, *words) for ranks in SIZES]
    outputs = {run_example(launch, command).out for command in commands}
    assert len(outputs) == 1
    found = re.fullmatch(
        r"Table: 3 MB, Observations: 10\n"
        r"Off by ([\d.]+) models of 700, at most (\d+)\n",
        outputs.pop(),
    )
    assert found is not None
    assert float(found[1]) < 5


def test_cholesky_factorises(mpi: Mpi, launch: Launch) -> None:
    script = EXAMPLES / "cholesky.py"
    words = ["--size", "650", "--tile", "130"]
    for ranks in SIZES:
        outcome = run_example(launch, mpi.runner(ranks, script, *words))
        found = re.fullmatch(
            r"Matrix: 650 x 650, Tiles: 15, Off by at most: (\S+)\n"
            r"Tiles on workers: [\d.]+ s, NumPy alone: [\d.]+ s\n",
            outcome.out,
        )
        assert found is not None, outcome
        assert float(found[1]) < 1e-12


def test_training_says_the_same_whatever_the_ranks(mpi: Mpi, launch: Launch) -> None:
    example = [EXAMPLES / "training.py", "--steps", 60]
    alone = run_example(launch, [sys.executable, *map(str, example)])
    ranks = run_example(launch, mpi.runner(3, *example))
    assert alone.out == ranks.out
    losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", ranks.out)]
    assert losses[0] > 10 * losses[-1]


def test_rollouts_keep_the_pole_upright(
    any_mpi: Mpi, launch: Launch, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.png"
    words = ("--rounds", 5, "--output", curve)
    outcome = run_example(launch, any_mpi.runner(3, EXAMPLES / "rollouts.py", *words))
    steps = [float(mean) for mean in re.findall(r": ([0-9.]+) steps", outcome.out)]
    assert len(steps) == 5
    assert steps[-1] > 4 * steps[0]
    assert curve.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["--plain", ""])
def test_hyperparameters_are_found(any_mpi: Mpi, launch: Launch, kind: str) -> None:
    if not kind:
        pytest.importorskip("optuna")
    words = [kind] if kind else []
    script = EXAMPLES / "hyperparameters.py"
    outcome = run_example(launch, any_mpi.runner(3, script, *words))
    assert "40 trials" in outcome.out
    (loss,) = re.findall(r"best loss ([0-9.]+):", outcome.out)
    assert float(loss) < 0.02  # the noise of the data is 0.01


def test_the_stream_ends_with_its_statistics(mpi: Mpi, launch: Launch) -> None:
    words = ("--events", 3000)
    outcome = run_example(launch, mpi.runner(3, EXAMPLES / "stream.py", *words))
    assert outcome.out.startswith("readings: 3000, far off: ")
    (largest,) = re.findall(r"largest mean: ([0-9.]+)", outcome.out)
    assert 4.0 < float(largest) < 6.0
