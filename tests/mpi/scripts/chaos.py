"""Hundreds of tasks that return, raise, crash, hang, eat memory and lose their rank.

What each is to come to is known beforehand, from a seed. The script checks that each
future is resolved exactly once, with what it should be, and prints a line of JSON.

    chaos.py --seed 1 --tasks 300            one round
    chaos.py --seed 1 --seconds 600          rounds for ten minutes, seeds counting up
    chaos.py --seed 1 --tasks 300 --kills 2  and so many ranks are killed meanwhile
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import ctypes
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import mpitasks
from mpitasks import (
    Executor,
    Future,
    SerializationError,
    TaskCrashed,
    TaskMemoryExceeded,
    TaskTimeout,
)

LIMIT_SECONDS = 1.0
LIMIT_BYTES = 400 << 20
RESOLVE_SECONDS = 240.0
"""A round takes some seconds; what is not resolved by then hangs."""


class Boom(Exception):
    """What tasks raise."""


KINDS: dict[str, tuple[float, type[BaseException] | None, dict[str, Any]]] = {
    # kind: (weight, how its bad attempts end, options)
    "good": (6, None, {}),
    "raise": (2, Boom, {}),
    "spin": (1, TaskTimeout, {"timeout": LIMIT_SECONDS}),
    "isolated": (3, None, {"isolate": True}),
    "segfault": (2, TaskCrashed, {"isolate": True}),
    "abort": (1, TaskCrashed, {"isolate": True}),
    "exit": (1, TaskCrashed, {"isolate": True}),
    "kill": (1, TaskCrashed, {"isolate": True}),
    "hang": (1, TaskTimeout, {"isolate": True, "timeout": LIMIT_SECONDS}),
    "hog": (0.3, TaskMemoryExceeded, {"isolate": True, "memory_limit": LIMIT_BYTES}),
    "unpicklable": (1, SerializationError, {}),
    "sleep": (2, None, {"isolate": True}),
}


@dataclass(frozen=True)
class Spec:
    """A task.

    Attributes:
        number: Its number.
        kind: What it does in a bad attempt.
        bad: How many of its attempts are bad.
        retries: How many more than one it has.
        size: Length of the array that it is given and returns.
    """

    number: int
    kind: str
    bad: int
    retries: int
    size: int

    @property
    def error(self) -> type[BaseException] | None:
        """What it is to end with; None if it is to succeed."""
        return KINDS[self.kind][1] if self.bad > self.retries else None


def work(spec: Spec, array: Any) -> tuple[int, Any]:
    """Be bad as often as the specification wants, then good."""
    attempt = mpitasks.current_task().attempt
    if attempt <= spec.bad:
        misbehave(spec.kind)
        if spec.kind == "unpicklable":
            return spec.number, threading.Lock()
    if spec.kind == "sleep":
        time.sleep(0.2)
    return spec.number, array + spec.number


def misbehave(kind: str) -> None:
    """End this attempt."""
    if kind == "raise":
        raise Boom(kind)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "abort":
        os.abort()
    if kind == "exit":
        os._exit(3)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while kind in ("spin", "hang"):
        pass
    if kind == "hog":
        eaten = []
        while True:
            eaten.append(np.ones(4 << 20, dtype=np.uint8))
            time.sleep(0.002)


def specs_of(seed: int, count: int) -> list[Spec]:
    """Return the tasks of a round."""
    chance = random.Random(seed)
    kinds = list(KINDS)
    weights = [KINDS[kind][0] for kind in kinds]
    specs = []
    for number in range(count):
        kind = chance.choices(kinds, weights)[0]
        bad = 0 if KINDS[kind][1] is None else chance.choice([0, 1, 1, 2])
        retries = chance.choice([0, 0, 1, 2])
        size = chance.choice([0, 1, 100, 20_000, 300_000])
        specs.append(Spec(number, kind, bad, retries, size))
    return specs


class Round:
    """One round.

    Args:
        executor: Runs it.
        seed: What is random is from here.
        count: How many tasks.
        kills: Whether ranks are killed meanwhile.
    """

    def __init__(
        self, executor: Executor, seed: int, count: int, *, kills: bool
    ) -> None:
        self.executor = executor
        self.kills = kills
        self.chance = random.Random(seed + 1)
        self.specs = specs_of(seed, count)
        self.counts: collections.Counter[str] = collections.Counter()
        self.ended = 0  # by cancel() while they ran
        self.wrong: list[str] = []
        self.resolved: collections.Counter[int] = collections.Counter()

    def run(self) -> None:
        """Submit, cancel some, and look at what came of each."""
        half = len(self.specs) // 2
        futures = [self.submit(spec) for spec in self.specs[:half]]
        mapped = self.map_some(self.specs[half:])
        cancelled = set()
        for at in sorted(self.chance.sample(range(half), half // 4)):
            if self.chance.random() < 0.7:
                await_begin(futures[at])
                time.sleep(self.chance.choice([0.0, 0.001, 0.05]))
            was_running = futures[at].running()
            if futures[at].cancel():
                cancelled.add(at)
                self.ended += was_running
        values = list(mapped)
        done = concurrent.futures.wait(futures, RESOLVE_SECONDS)
        if done.not_done:
            self.wrong.append(f"{len(done.not_done)} futures were not resolved")
            return
        for at, future in enumerate(futures):
            self.check(self.specs[at], future, at in cancelled)
        end = time.monotonic() + RESOLVE_SECONDS
        while len(self.resolved) < half and time.monotonic() < end:
            time.sleep(0.01)  # callbacks follow what waiters are told
        for spec, value in zip(self.specs[half:], values, strict=True):
            self.check_value(spec, value)
        for spec in self.specs[:half]:
            if self.resolved[spec.number] != 1:
                times = self.resolved[spec.number]
                self.wrong.append(f"{spec} was resolved {times} times")

    def submit(self, spec: Spec) -> Future:
        options = KINDS[spec.kind][2]
        view = self.executor.with_options(
            label=f"{spec.kind} {spec.number}",
            retries=spec.retries,
            retry_delay=self.chance.choice([0.0, 0.01, 0.1]),
            **options,
        )
        future = view.submit(work, spec, np.arange(spec.size))

        def note(_: Any) -> None:
            self.resolved[spec.number] += 1

        future.add_done_callback(note)
        return future

    def map_some(self, specs: list[Spec]) -> Iterator[Any]:
        """Run tasks as items of one map, isolated, with the widest of the options."""
        view = self.executor.with_options(
            isolate=True,
            timeout=LIMIT_SECONDS,
            memory_limit=LIMIT_BYTES,
            retries=1,
            return_exceptions=True,
        )
        arrays = [np.arange(spec.size) for spec in specs]
        return view.map(work, specs, arrays)

    def check(self, spec: Spec, future: Future, cancelled: bool) -> None:
        if cancelled != future.cancelled():
            self.wrong.append(f"{spec}: cancel() and cancelled() do not agree")
        if future.cancelled():
            self.counts["cancelled"] += 1
            return
        error = future.exception()
        self.compare(spec, spec.error, future.result() if error is None else error)

    def check_value(self, spec: Spec, value: Any) -> None:
        expected = KINDS[spec.kind][1] if spec.bad > 1 else None
        self.compare(spec, expected, value)

    def compare(
        self, spec: Spec, expected: type[BaseException] | None, value: Any
    ) -> None:
        """Note whether a task came to what it should have."""
        if isinstance(value, BaseException):
            self.counts[type(value).__name__] += 1
            # What eats memory may come to the time limit of the map first.
            slow = spec.kind == "hog" and isinstance(value, TaskTimeout)
            if expected is None or not (isinstance(value, expected) or slow):
                self.wrong.append(f"{spec}: {expected} expected, but {value!r}")
            return
        self.counts["succeeded"] += 1
        if self.kills:  # a bad attempt may have been lost with its rank
            expected = None
        number, array = value
        right = number == spec.number and np.array_equal(
            array, np.arange(spec.size) + spec.number
        )
        if expected is not None or not right:
            self.wrong.append(f"{spec}: {expected} expected, but it returned")


def await_begin(future: Future) -> None:
    """Wait until it runs, or is over."""
    end = time.monotonic() + RESOLVE_SECONDS
    while not (future.running() or future.done()) and time.monotonic() < end:
        time.sleep(0.001)


def pid_and_rank(seconds: float) -> tuple[int, int]:
    """Tell who runs this."""
    time.sleep(seconds)
    return os.getpid(), mpitasks.current_task().rank


def kill_some(executor: Executor, kills: int, chance: random.Random) -> None:
    """Kill so many of the workers, each from outside, at some moment."""
    probes = [
        executor.submit(pid_and_rank, 0.1) for _ in range(3 * executor.num_workers)
    ]
    pids = dict(sorted({probe.result()[::-1] for probe in probes}))
    victims = chance.sample(sorted(pids), min(kills, len(pids) - 1))

    def kill() -> None:
        for rank in victims:
            time.sleep(chance.uniform(0.1, 1.5))
            os.kill(pids[rank], chance.choice([signal.SIGKILL, signal.SIGSEGV]))

    threading.Thread(target=kill, daemon=True).start()


def main() -> int:
    """Run rounds; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    rounds = ended = 0
    began = time.monotonic()
    with Executor(max_crashes=10) as executor:
        if options.kills:
            kill_some(executor, options.kills, random.Random(options.seed))
        while True:
            seed = options.seed + rounds
            one = Round(executor, seed, options.tasks, kills=options.kills > 0)
            one.run()
            rounds += 1
            counts += one.counts
            ended += one.ended
            wrong += [f"seed {seed}: {line}" for line in one.wrong]
            if time.monotonic() > end or wrong:
                break
        workers = executor.num_workers
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    result = {
        "seed": options.seed,
        "rounds": rounds,
        "tasks": rounds * options.tasks,
        "seconds": round(time.monotonic() - began, 1),
        "workers_left": workers,
        "outcomes": dict(sorted(counts.items())),
        "cancelled_while_running": ended,
        "wrong": len(wrong),
    }
    print(json.dumps(result))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
