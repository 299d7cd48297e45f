"""Reinforcement learning: parallel runs improve a policy that keeps a pole upright.

The cross-entropy method (Rubinstein and Kroese, 2004): in each round the workers try
policies that are drawn around the best ones of the round before. The environment is the
cart with a pole of Barto, Sutton and Anderson (1983), written with NumPy.

    mpiexec -n 4 python -m mpitasks examples/rollouts.py --output curve.png
    python examples/rollouts.py
"""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

import numpy as np

import mpitasks

STEPS = 500  # an episode ends then, or when the pole falls
TRIES = 40
ELITES = 8


def episode(policy: Any, seed: int) -> int:
    """Return for how many steps a policy keeps the pole upright.

    Args:
        policy: Weights of place, speed, angle and angular speed, an array of 4.
        seed: Of the state at the start.
    """
    place, speed, angle, turn = np.random.default_rng(seed).uniform(-0.05, 0.05, 4)
    for step in range(STEPS):
        push = 10.0 if policy @ (place, speed, angle, turn) > 0 else -10.0
        sin, cos = math.sin(angle), math.cos(angle)
        pull = (push + 0.05 * turn * turn * sin) / 1.1
        swing = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        drive = pull - 0.05 * swing * cos / 1.1
        place, speed = place + 0.02 * speed, speed + 0.02 * drive
        angle, turn = angle + 0.02 * turn, turn + 0.02 * swing
        if abs(place) > 2.4 or abs(angle) > 0.21:
            return step
    return STEPS


def score(policy: Any, seeds: range) -> float:
    """Return the mean length of episodes: what a worker does in one task."""
    return sum(episode(policy, seed) for seed in seeds) / len(seeds)


def train(executor: mpitasks.Executor, rounds: int, seed: int) -> list[float]:
    """Improve the policy; return the mean score of each round."""
    random = np.random.default_rng(seed)
    mean, spread = np.zeros(4), np.ones(4)
    curve = []
    for number in range(rounds):
        policies = mean + spread * random.standard_normal((TRIES, 4))
        # All policies of a round meet the same starts, so that luck does not choose.
        seeds = range(5 * number, 5 * number + 5)
        run = functools.partial(score, seeds=seeds)
        scores = np.array(list(executor.map(run, policies)))
        best = policies[scores.argsort()[-ELITES:]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.05
        curve.append(float(scores.mean()))
    return curve


def draw(curve: list[float], path: str) -> None:
    """Draw the learning curve."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    axes.plot(range(1, len(curve) + 1), curve, marker="o")
    axes.set(xlabel="round", ylabel="steps upright, mean of 40 policies")
    axes.set_ylim(0, STEPS * 1.05)
    axes.grid(alpha=0.3)
    axes.figure.savefig(path, dpi=120)


def main() -> None:
    """Train, and tell how it went."""
    parser = argparse.ArgumentParser(description="Learn to keep a pole upright.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", help="a PNG of the learning curve")
    args = parser.parse_args()
    with mpitasks.Executor() as executor:
        curve = train(executor, args.rounds, args.seed)
    for number, mean in enumerate(curve, start=1):
        print(f"round {number}: {mean:.1f} steps")
    if args.output:
        draw(curve, args.output)


if __name__ == "__main__":
    main()
