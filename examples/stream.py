"""A stream without an end: events are parsed by tasks, and actors keep state by key.

Sensors send readings. Tasks take them apart, in any order and never more than a window
of them at a time, however fast they come. Each sensor belongs to one actor, which
watches for readings that are far from the sensor's mean (Welford's way of updating mean
and variance, 1962).

    mpiexec -n 4 python -m mpitasks examples/stream.py --events 20000
    python examples/stream.py --events 2000
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import deque
from collections.abc import Iterator

import numpy as np

import mpitasks as mt

SENSORS, KEEPERS, WINDOW = 50, 2, 2000
Reading = tuple[int, float]


def readings(seed: int) -> Iterator[str]:
    """Yield readings as text, for ever; one of a thousand is far off."""
    random = np.random.default_rng(seed)
    while True:
        sensors = random.integers(0, SENSORS, 1000)
        values = random.normal(sensors / 10, 1.0)
        values[random.integers(0, 1000)] += 30.0
        yield from (f"s{s};{v:.6f}" for s, v in zip(sensors, values, strict=True))


def parse(line: str) -> Reading:
    """Return the sensor and the value of a reading."""
    name, value = line.split(";")
    return int(name[1:]), float(value)


class Keeper:
    """Keeps count, mean and variance of its sensors."""

    def __init__(self) -> None:
        self._state: dict[int, tuple[int, float, float]] = {}
        self._far = 0

    def take(self, batch: list[Reading]) -> int:
        """Take readings in; return how many were more than 8 deviations off."""
        far = 0
        for sensor, value in batch:
            count, mean, squares = self._state.get(sensor, (0, 0.0, 0.0))
            step = value - mean
            if count > 30 and abs(step) > 8 * math.sqrt(squares / count):
                far += 1
                continue  # and it does not spoil the mean
            count += 1
            mean += step / count
            squares += step * (value - mean)
            self._state[sensor] = count, mean, squares
        self._far += far
        return far

    def statistics(self) -> tuple[int, int, float]:
        """Return readings that were kept, those far off, and the largest mean."""
        kept = sum(count for count, _, _ in self._state.values())
        return kept, self._far, max(mean for _, mean, _ in self._state.values())


def main() -> None:
    """Watch the stream for a while."""
    parser = argparse.ArgumentParser(description="Watch sensors for strange readings.")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with mt.Executor() as executor:
        keepers = [executor.actor(Keeper) for _ in range(KEEPERS)]
        batches: list[list[Reading]] = [[] for _ in keepers]
        sent: deque[mt.Future] = deque()
        lines = itertools.islice(readings(args.seed), args.events)
        for _, (sensor, value) in executor.map_unordered(
            parse, lines, buffersize=WINDOW
        ):
            batch = batches[sensor % KEEPERS]
            batch.append((sensor, value))
            if len(batch) >= 200:
                sent.append(keepers[sensor % KEEPERS].take(batch))
                batches[sensor % KEEPERS] = []
            if len(sent) > 20:  # the keepers set the pace as well
                sent.popleft().result()
        sent += [k.take(b) for k, b in zip(keepers, batches, strict=True)]
        for future in sent:
            future.result()
        kept, far, largest = zip(
            *(keeper.statistics().result() for keeper in keepers), strict=True
        )
    print(f"readings: {sum(kept) + sum(far)}, far off: {sum(far)}")
    print(f"largest mean: {max(largest):.2f}")


if __name__ == "__main__":
    main()
