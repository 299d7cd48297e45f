"""Actors: a parameter server that workers train with, and a counter of their steps.

Each worker computes gradients of a least-squares problem on its own part of the data.
The server, an object on one of the workers, holds the parameters and applies them.

    mpiexec -n 4 python -m mpitasks examples/actors.py
    python examples/actors.py                            # no MPI: in this process
"""

from __future__ import annotations

from typing import Any

import numpy as np

import mpitasks as mt

ROUNDS, PARTS, SAMPLES = 40, 4, 200
TRUE = np.array([2.0, -1.0, 0.5])


class Server:
    """Holds the parameters."""

    def __init__(self, size: int, rate: float) -> None:
        self.parameters = np.zeros(size)
        self.rate = rate

    def pull(self) -> Any:
        """Return the parameters as they are now."""
        return self.parameters

    def push(self, gradient: Any) -> None:
        """Take a step down a gradient."""
        self.parameters -= self.rate * gradient


class Counter:
    """Counts the steps of all workers."""

    def __init__(self) -> None:
        self.steps = 0

    def add(self) -> int:
        """Count a step; return how many there were."""
        self.steps += 1
        return self.steps


def train(server: mt.ActorHandle, counter: mt.ActorHandle, part: int) -> None:
    """Improve the parameters with one part of the data."""
    random = np.random.default_rng(part)
    inputs = random.normal(size=(SAMPLES, len(TRUE)))
    outputs = inputs @ TRUE + 0.01 * random.normal(size=SAMPLES)
    for _ in range(ROUNDS):
        error = inputs @ server.pull().result() - outputs
        server.push(inputs.T @ error / SAMPLES).result()
        counter.add().result()


def main() -> None:
    """Train with all parts at a time."""
    with mt.Executor() as executor:
        server = executor.actor(Server, len(TRUE), rate=0.1)
        counter = executor.actor(Counter)
        parts = [executor.submit(train, server, counter, p) for p in range(PARTS)]
        for part in parts:
            part.result()
        found = server.pull().result()
        print(f"steps: {counter.get('steps').result()}")
        print("parameters:", " ".join(f"{value:.2f}" for value in found))


if __name__ == "__main__":
    main()
