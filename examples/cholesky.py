"""A Cholesky factorisation in tiles: a graph of tasks whose data stay on the workers.

A symmetric, positive definite matrix is cut into tiles. Each task works on one of them
and needs up to two others; none of them comes to rank 0 before the end. The tasks are
those of the tiled algorithm that looks to the right (Buttari et al., Parallel Computing
35, 2009).

    mpiexec -n 4 python -m mpitasks examples/cholesky.py
    mpiexec -n 4 python -m mpitasks examples/cholesky.py --size 6000 --tile 500
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mpitasks

Array = NDArray[np.float64]


def make_tile(row: int, column: int, tile: int) -> Array:
    """Return a tile of the matrix with exp(-|i - j| / 10) in row i and column j."""
    i = np.arange(row * tile, (row + 1) * tile)[:, None]
    j = np.arange(column * tile, (column + 1) * tile)
    matrix: Array = np.exp(-np.abs(i - j) / 10.0)
    return matrix


def factor(diagonal: Array) -> Array:
    """Return the Cholesky factor of a tile on the diagonal."""
    return np.linalg.cholesky(diagonal)


def solve(factor: Array, below: Array) -> Array:
    """Return X, where X times the transpose of the factor is the tile below it."""
    return np.linalg.solve(factor, below.T).T


def update(tile: Array, left: Array, above: Array) -> Array:
    """Take off a tile what two tiles of the finished column account for."""
    tile -= left @ above.T
    return tile


def factorise(executor: mpitasks.Executor, tiles: int, tile: int) -> dict[Any, Any]:
    """Submit all tasks; return the futures of the tiles of the factor."""
    keep = executor.with_options(keep=True)
    at: dict[Any, Any] = {
        (row, column): keep.submit(make_tile, row, column, tile)
        for row in range(tiles)
        for column in range(row + 1)
    }
    for k in range(tiles):
        # What is needed next gets the highest priority: the next column.
        at[k, k] = keep.with_options(priority=3).submit(factor, at[k, k])
        for row in range(k + 1, tiles):
            at[row, k] = keep.with_options(priority=2).submit(
                solve, at[k, k], at[row, k]
            )
        for column in range(k + 1, tiles):
            urgent = keep.with_options(priority=1 if column == k + 1 else 0)
            for row in range(column, tiles):
                at[row, column] = urgent.submit(
                    update, at[row, column], at[row, k], at[column, k]
                )
    return at


def main() -> None:
    """Factorise a matrix on the workers and here; compare results and times."""
    parser = argparse.ArgumentParser(description="Cholesky factorisation in tiles.")
    parser.add_argument("--size", type=int, default=2000, help="rows of the matrix")
    parser.add_argument("--tile", type=int, default=250, help="rows of a tile")
    args = parser.parse_args()
    tile = args.tile
    tiles = args.size // tile
    size = tiles * tile
    with mpitasks.Executor() as executor:
        executor.submit(factor, np.eye(2)).result()  # so that NumPy is loaded
        start = time.perf_counter()
        at = factorise(executor, tiles, tile)
        mpitasks.wait(at.values())
        seconds = time.perf_counter() - start
        factor_of_tiles = np.zeros((size, size))
        for (row, column), future in at.items():
            rows = slice(row * tile, (row + 1) * tile)
            columns = slice(column * tile, (column + 1) * tile)
            factor_of_tiles[rows, columns] = future.result()
    matrix = make_tile(0, 0, size)
    start = time.perf_counter()
    expected = np.linalg.cholesky(matrix)
    alone = time.perf_counter() - start
    off = np.abs(factor_of_tiles - expected).max()
    print(f"Matrix: {size} x {size}, Tiles: {len(at)}, Off by at most: {off:.0e}")
    print(f"Tiles on workers: {seconds:.2f} s, NumPy alone: {alone:.2f} s")


if __name__ == "__main__":
    main()
