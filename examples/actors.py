"""Actors: a parameter server that workers train with, and a counter of their steps.

Each worker computes gradients of a least-squares problem on its own part of the data.
The server, an object on one of the workers, holds the parameters and applies them.

    mpiexec -n 4 python -m mpitasks examples/actors.py
    python examples/actors.py                            # no MPI: in this process
"""

import numpy as np

import mpitasks as mt

ROUNDS, PARTS, SAMPLES = 40, 4, 200
TRUE = np.array([2.0, -1.0, 0.5])


class Server:
    """Holds the parameters."""

    def __init__(self, size, rate):
        self.parameters = np.zeros(size)
        self.rate = rate

    def pull(self):
        return self.parameters

    def push(self, gradient):
        self.parameters -= self.rate * gradient


class Counter:
    """Counts the steps of all workers."""

    def __init__(self):
        self.steps = 0

    def add(self):
        self.steps += 1
        return self.steps


def train(server, counter, part):
    """Improve the parameters with one part of the data."""
    random = np.random.default_rng(part)
    inputs = random.normal(size=(SAMPLES, len(TRUE)))
    outputs = inputs @ TRUE + 0.01 * random.normal(size=SAMPLES)
    for _ in range(ROUNDS):
        error = inputs @ server.pull().result() - outputs
        server.push(inputs.T @ error / SAMPLES).result()
        counter.add().result()


def main():
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
