"""Hyperparameters by trials that run side by side; those that do badly end early.

The study is an actor. Tasks ask it what to try, tell it how far they are, and stop when
it says so (the median rule of Golovin et al., "Google Vizier", 2017). With Optuna
installed, its sampler and its pruner choose; else parameters are drawn at random.

    mpiexec -n 4 python -m mpitasks examples/hyperparameters.py
    python examples/hyperparameters.py --plain               # without Optuna
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections import defaultdict
from typing import Any

import numpy as np

import mpitasks as mt

STEPS = 30


class PlainStudy:
    """Draws parameters at random, and ends trials that are below the median."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._seen: dict[int, list[float]] = defaultdict(list)
        self.trials: list[tuple[float, dict[str, float], bool]] = []

    def ask(self) -> tuple[int, dict[str, float]]:
        """Return the number of a new trial, and what it is to try."""
        rate, momentum = (
            10 ** self._random.uniform(-4, 0),
            self._random.uniform(0, 0.99),
        )
        self.trials.append((float("inf"), {"rate": rate, "momentum": momentum}, False))
        return len(self.trials) - 1, self.trials[-1][1]

    def report(self, number: int, step: int, loss: float) -> bool:
        """Take note of an intermediate loss; return whether the trial is to end."""
        others = self._seen[step]
        bad = len(others) >= 4 and loss > statistics.median(others)
        others.append(loss)
        return bad

    def tell(self, number: int, loss: float, pruned: bool) -> None:
        """A trial has ended."""
        self.trials[number] = (loss, self.trials[number][1], pruned)

    def results(self) -> list[tuple[float, dict[str, float], bool]]:
        """Return loss, parameters, and whether it ended early, of each trial."""
        return self.trials


class OptunaStudy:
    """The same, by Optuna."""

    def __init__(self, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=4),
        )
        self._trials: dict[int, Any] = {}

    def ask(self) -> tuple[int, dict[str, float]]:
        """Return the number of a new trial, and what it is to try."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
        momentum = trial.suggest_float("momentum", 0.0, 0.99)
        return trial.number, {"rate": rate, "momentum": momentum}

    def report(self, number: int, step: int, loss: float) -> bool:
        """Take note of an intermediate loss; return whether the trial is to end."""
        trial = self._trials[number]
        trial.report(loss, step)
        return bool(trial.should_prune())

    def tell(self, number: int, loss: float, pruned: bool) -> None:
        """A trial has ended."""
        states = self._optuna.trial.TrialState
        state = states.PRUNED if pruned else states.COMPLETE
        self._study.tell(self._trials[number], None if pruned else loss, state=state)

    def results(self) -> list[tuple[float, dict[str, float], bool]]:
        """Return loss, parameters, and whether it ended early, of each trial."""
        pruned = self._optuna.trial.TrialState.PRUNED
        return [
            (float("inf") if t.value is None else t.value, t.params, t.state == pruned)
            for t in self._study.trials
        ]


def run_trial(study: mt.ActorHandle, data_seed: int) -> None:
    """Fit a line by gradient steps with the parameters that the study wants tried."""
    number, parameters = study.ask().result()
    random = np.random.default_rng(data_seed)
    inputs = random.normal(size=(200, 8))
    outputs = inputs @ np.arange(8.0) + 0.1 * random.normal(size=200)
    weights, speed = np.zeros(8), np.zeros(8)
    loss, pruned = float("inf"), False
    for step in range(STEPS):
        gradient = inputs.T @ (inputs @ weights - outputs) / len(outputs)
        speed = parameters["momentum"] * speed - parameters["rate"] * gradient
        weights = weights + speed
        loss = float(np.minimum(np.mean((inputs @ weights - outputs) ** 2), 1e9))
        if study.report(number, step, loss).result():
            pruned = True
            break
    study.tell(number, loss, pruned).result()


def main() -> None:
    """Run the trials, and show the best."""
    parser = argparse.ArgumentParser(description="Search for hyperparameters.")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without Optuna")
    args = parser.parse_args()
    has_optuna = importlib.util.find_spec("optuna") is not None
    kind = OptunaStudy if has_optuna and not args.plain else PlainStudy
    with mt.Executor() as executor:
        study = executor.actor(kind, args.seed)
        trials = [executor.submit(run_trial, study, 0) for _ in range(args.trials)]
        for trial in trials:
            trial.result()
        results = study.results().result()
    loss, best, _ = min((r for r in results if not r[2]), key=lambda r: r[0])
    early = sum(r[2] for r in results)
    print(f"{kind.__name__}: {len(results)} trials, {early} ended early")
    found = ", ".join(f"{name} {value:.4f}" for name, value in best.items())
    print(f"best loss {loss:.4f}: {found}")


if __name__ == "__main__":
    main()
