"""Arrays that go from task to task, and stay on the workers meanwhile.

    mpiexec -n 3 python benchmarks/tiles.py

    64 MiB, a hop       an array of 64 MiB, to which each of 10 tasks in a row adds 1
    100 arrays          100 arrays of 4 MiB are made, then added in pairs until one is
                        left
    stencil, a step     a grid of 2,048 x 2,048 numbers in 64 tiles; in each of 50 steps
                        each number becomes the mean of its four neighbours, a task for
                        each tile, which needs the tile and the four around it

The script submits all tasks before it waits for the last ones. Our results stay on
their workers by `keep=True`; those of Ray and Dask do so in any case. With n ranks
there are n - 1 workers, and each peer gets as many. A first run of each kind is not
counted.

    NumPy    the same work in one process without tasks: the additions alone, and the
             stencil over the whole grid at once
    without  our tasks without `keep`: each result comes to rank 0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench import Bench, median_time, parser
from pools import DASK, OURS, RAY, GraphPool
from results import Figure
from tasks import corner, element, ones, plus, relax, square

FIGURES = [
    Figure("64 MiB, a hop", "ms", lower=True),
    Figure("100 arrays", "ms", lower=True, aim=120),
    Figure("stencil, a step", "ms", lower=True),
]

NUMPY, WITHOUT = "NumPy", "without"
REPEATS = 3

Array = np.ndarray[Any, Any]
Submit = Callable[..., Any]


def measure(
    pool: GraphPool, nbytes: int, count: int, side: int, steps: int, *, keep: bool
) -> Mapping[str, float]:
    """Return the milliseconds of each kind of work."""
    submit = pool.keep if keep else pool.submit
    hops = 10
    work: dict[str, tuple[float, Submit, tuple[Any, ...]]] = {
        "64 MiB, a hop": (hops, chain, (nbytes // 8, hops)),
        "100 arrays": (1, pairs, (nbytes // 128, count)),
        "stencil, a step": (steps, stencil, (side, steps)),
    }
    times = {}
    for name, (parts, run, sizes) in work.items():
        run(pool, submit, *sizes)
        seconds = median_time(REPEATS, run, pool, submit, *sizes)
        times[name] = 1e3 * seconds / parts
    return times


def chain(pool: GraphPool, submit: Submit, count: int, hops: int) -> None:
    """Have each of so many tasks add 1 to the array of the one before."""
    array = submit(ones, count)
    for _ in range(hops):
        array = submit(plus, array, 1)
    check(pool, array, 1 + hops)


def pairs(pool: GraphPool, submit: Submit, count: int, arrays: int) -> None:
    """Make arrays, and add them in pairs."""
    level = [submit(ones, count) for _ in range(arrays)]
    while len(level) > 1:
        odd = level[len(level) // 2 * 2 :]
        level = [
            submit(plus, *level[at : at + 2]) for at in range(0, len(level) - 1, 2)
        ]
        level += odd
    check(pool, level[0], arrays)


def stencil(pool: GraphPool, submit: Submit, side: int, steps: int) -> None:
    """Relax a grid of ones, in 8 x 8 tiles, whose borders touch each other."""
    tiles = [[submit(square, side) for _ in range(8)] for _ in range(8)]
    for _ in range(steps):
        tiles = [
            [
                submit(
                    relax,
                    tiles[row][column],
                    tiles[row - 1][column],
                    tiles[(row + 1) % 8][column],
                    tiles[row][column - 1],
                    tiles[row][(column + 1) % 8],
                )
                for column in range(8)
            ]
            for row in range(8)
        ]
    for row in tiles:
        for tile in row:
            if pool.result(pool.submit(corner, tile)) != 1:
                raise RuntimeError("the grid is wrong")


def check(pool: GraphPool, array: Any, expected: float) -> None:
    """Raise an error if the array of a task is not as it should be."""
    found = pool.result(pool.submit(element, array, 0))
    if found != expected:
        raise RuntimeError(f"the array has {found} instead of {expected}")


def alone(nbytes: int, count: int, side: int) -> dict[str, float]:
    """Return the milliseconds of the same work without tasks."""
    array = ones(nbytes // 8)
    small = ones(nbytes // 128)
    grid = np.ones((8 * side, 8 * side))

    def add_all() -> None:
        for _ in range(count):
            ones(nbytes // 128)
        for _ in range(count - 1):
            plus(small, small)

    return {
        "64 MiB, a hop": 1e3 * median_time(9, plus, array, 1),
        "100 arrays": 1e3 * median_time(REPEATS, add_all),
        "stencil, a step": 1e3 * median_time(9, relax, grid, grid, grid, grid, grid),
    }


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__).parse_args()
    bench = Bench("tiles", FIGURES, options, measure, peers=[RAY, DASK])
    nbytes, count, side, steps = 64 << 20, 100, 256, 50
    if bench.quick:
        nbytes, count, side, steps = 8 << 20, 10, 100, 3
    sizes = {"nbytes": nbytes, "count": count, "side": side, "steps": steps}
    for _ in bench.rounds():
        if bench.rank == 0:
            bench.note(NUMPY, alone(nbytes, count, side))
        for who in [OURS, *bench.peers]:
            bench.note(who, bench.run(who, **sizes, keep=True))
        bench.note(WITHOUT, bench.run(OURS, **sizes, keep=False))
    bench.finish()


if __name__ == "__main__":
    main()
