"""Training with all workers: each takes a part of the data, and gradients are summed.

A network with one hidden layer learns to tell two spirals apart. In each step the
gradients of all parts are added along a tree on the workers (`Executor.map_reduce`), so
the weights are the same, bit by bit, on any number of ranks.

    mpiexec -n 4 python -m mpitasks examples/training.py
    python examples/training.py
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import numpy as np

import mpitasks

PARTS, POINTS, HIDDEN = 8, 100, 32


def spirals(part: int) -> tuple[Any, Any]:
    """Return points of a part, of shape (POINTS, 2), and which spiral each is on."""
    random = np.random.default_rng(part)
    which = random.integers(0, 2, POINTS)
    way = random.uniform(0.3, 1.0, POINTS)
    angle = 5 * way + np.pi * which
    points = np.stack([way * np.cos(angle), way * np.sin(angle)], axis=1)
    return points + 0.01 * random.normal(size=points.shape), which


def gradient(weights: Any, part: int) -> Any:
    """Return gradient, loss and number of right answers of a part, as one array."""
    points, which = spirals(part)
    first, bias, second = _apart(weights)
    hidden = np.tanh(points @ first + bias)
    chance = 1 / (1 + np.exp(-hidden @ second))
    loss = -np.log(np.where(which, chance, 1 - chance) + 1e-12).sum()
    error = chance - which
    back = np.outer(error, second) * (1 - hidden * hidden)
    parts = points.T @ back, back.sum(axis=0), hidden.T @ error
    right = ((chance > 0.5) == which).sum()
    return np.concatenate([*(part.ravel() for part in parts), [loss, right]])


def _apart(weights: Any) -> tuple[Any, Any, Any]:
    first, bias, second = np.split(weights, [2 * HIDDEN, 3 * HIDDEN])
    return first.reshape(2, HIDDEN), bias, second


def train(
    executor: mpitasks.Executor, steps: int, seed: int
) -> list[tuple[float, float]]:
    """Train; return mean loss and the share of right answers before each step."""
    weights = np.random.default_rng(seed).normal(size=4 * HIDDEN)
    mean = square = np.zeros_like(weights)
    course = []
    for step in range(1, steps + 1):
        compute = functools.partial(gradient, weights)
        total = executor.map_reduce(compute, range(PARTS), op=np.add)
        slope, (loss, right) = total[:-2] / (PARTS * POINTS), total[-2:]
        course.append((loss / (PARTS * POINTS), right / (PARTS * POINTS)))
        # Adam: Kingma and Ba, 2015.
        mean = 0.9 * mean + 0.1 * slope
        square = 0.99 * square + 0.01 * slope * slope
        size = 0.05 * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        weights = weights - size * mean / (np.sqrt(square) + 1e-8)
    return course


def main() -> None:
    """Train, and tell how it went."""
    parser = argparse.ArgumentParser(description="Learn to tell two spirals apart.")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with mpitasks.Executor() as executor:
        course = train(executor, args.steps, args.seed)
    for step in range(0, len(course), 25):
        loss, right = course[step]
        print(f"step {step}: loss {loss:.3f}, right {right:.1%}")
    print(f"end: loss {course[-1][0]:.6f}, right {course[-1][1]:.1%}")


if __name__ == "__main__":
    main()
