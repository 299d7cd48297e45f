"""Look a large table up in many tasks: it is in memory once, however many ranks.

The table has a spectrum for each of many models; each task finds the model that fits a
noisy observation best. `share` gives the table to all workers: those on this host map
it, those on others get it once. Start it with workers, or without:

    mpiexec -n 4 python -m mpitasks examples/shared_table.py
    mpiexec -n 4 python -m mpitasks examples/shared_table.py --models 20000
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

import mpitasks

Array = NDArray[np.float64]


def make_table(models: int, channels: int) -> Array:
    """Return a spectrum for each model: a peak whose place is the model's."""
    place = np.linspace(0.1, 0.9, models)[:, None]
    return np.exp(-(((np.linspace(0, 1, channels) - place) / 0.05) ** 2))


def observe(table: Array, model: int, noise: float, seed: int) -> Array:
    """Return the spectrum of a model with noise."""
    rng = np.random.default_rng(seed)
    return table[model] + noise * rng.standard_normal(table.shape[1])


def best_model(table: Array, model: int, noise: float, seed: int) -> int:
    """Return the model that fits an observation of another one best."""
    observation = observe(table, model, noise, seed)
    return int(np.argmin(((table - observation) ** 2).sum(axis=1)))


def main() -> None:
    """Fit observations on the workers, and say how far off the fits are."""
    parser = argparse.ArgumentParser(description="Fit spectra with a shared table.")
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--channels", type=int, default=500)
    parser.add_argument("--observations", type=int, default=60)
    parser.add_argument("--noise", type=float, default=0.05)
    args = parser.parse_args()
    table = make_table(args.models, args.channels)
    truth = np.linspace(0, args.models - 1, args.observations).astype(int)
    fits = np.empty(args.observations, int)
    with mpitasks.Executor() as executor:
        shared = executor.share(table)
        inputs = [shared] * len(truth), truth, [args.noise] * len(truth)
        executor.map_into(fits, best_model, *inputs, range(len(truth)))
    off = np.abs(fits - truth)
    print(f"Table: {table.nbytes / 1e6:.0f} MB, Observations: {len(truth)}")
    print(f"Off by {off.mean():.1f} models of {args.models}, at most {off.max()}")


if __name__ == "__main__":
    main()
