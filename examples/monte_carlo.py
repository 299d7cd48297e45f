"""Pi by throwing darts, with its error; the same for a seed on any number of ranks.

Each batch has a random stream of its own, spawned from the one seed, so it does not
matter which worker throws it, nor when. Start it with workers, or without:

    mpiexec -n 4 python -m mpitasks examples/monte_carlo.py --seed 7
    python examples/monte_carlo.py --seed 7
"""

from __future__ import annotations

import argparse
import math

import numpy as np

import mpitasks


def count_hits(darts: int, seed: np.random.SeedSequence) -> int:
    """Throw darts at the unit square; return how many hit the quarter circle."""
    rng = np.random.default_rng(seed)
    x, y = rng.random(darts), rng.random(darts)
    return int(np.count_nonzero(x * x + y * y < 1))


def estimate(hits: int, darts: int) -> tuple[float, float]:
    """Return pi and its standard error."""
    share = hits / darts
    return 4 * share, 4 * math.sqrt(share * (1 - share) / darts)


def main() -> None:
    """Throw the batches on the workers and add up."""
    parser = argparse.ArgumentParser(description="Estimate pi by the Monte Carlo way.")
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--darts", type=int, default=500_000, help="in each batch")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    seeds = np.random.SeedSequence(args.seed).spawn(args.batches)
    with mpitasks.Executor() as executor:
        hits = sum(executor.map(count_hits, [args.darts] * args.batches, seeds))
    darts = args.batches * args.darts
    pi, error = estimate(hits, darts)
    print(f"Darts: {darts}, Seed: {args.seed}")
    print(f"Pi: {pi:.6f} +- {error:.6f} (off by {abs(pi - math.pi) / error:.1f} sigma)")


if __name__ == "__main__":
    main()
