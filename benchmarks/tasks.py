"""The work that is handed out: small functions that every candidate runs alike.

They live in a module of their own, which imports neither MPI nor mpitasks, so that
each candidate's workers find them by name.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

STATUS = Path("/proc/self/status")
CALIBRATION_SECONDS = 0.001


def identity(value: Any) -> Any:
    """The null task, and the echo of an array."""
    return value


def increment(number: int) -> int:
    """The null task of a chain."""
    return number + 1


def add(left: int, right: int) -> int:
    """The null task that needs two others."""
    return left + right


def ones(count: int) -> np.ndarray[Any, Any]:
    """Make an array."""
    import numpy as np

    return np.ones(count)


def square(side: int) -> np.ndarray[Any, Any]:
    """Make a tile."""
    import numpy as np

    return np.ones((side, side))


def corner(tile: np.ndarray[Any, Any]) -> float:
    """Read a number of a tile."""
    return float(tile[0, 0])


def plus(left: Any, right: Any) -> np.ndarray[Any, Any]:
    """Add two arrays, or an array and a number."""
    total: np.ndarray[Any, Any] = left + right
    return total


def relax(
    middle: np.ndarray[Any, Any],
    above: np.ndarray[Any, Any],
    below: np.ndarray[Any, Any],
    left: np.ndarray[Any, Any],
    right: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """Replace each cell of a tile by the mean of its four neighbours."""
    import numpy as np

    rows, columns = middle.shape
    padded = np.empty((rows + 2, columns + 2))
    padded[1:-1, 1:-1] = middle
    padded[0, 1:-1], padded[-1, 1:-1] = above[-1], below[0]
    padded[1:-1, 0], padded[1:-1, -1] = left[:, -1], right[:, 0]
    return 0.25 * (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    )


def element(array: np.ndarray[Any, Any], number: int) -> float:
    """Read one element."""
    return float(array[number])


def last(array: np.ndarray[Any, Any]) -> float:
    """Use an array, but not for long."""
    return float(array[-1])


def spin(iterations: int) -> None:
    """Use the core for so many turns of an empty loop.

    Not until a clock has moved on: a task that was put aside for another process
    would then find its time passed without work, and a crowded machine look fine.
    """
    for _ in range(iterations):
        pass


def polls(seconds: float) -> int:
    """Return how many iterations of `spin` take so many seconds here and now.

    Refined at the length itself, since the first 256 turns of a loop are cheaper.
    """
    iterations = max(1, round(seconds / 1e-8))
    for _ in range(4):
        repeat = max(1, round(CALIBRATION_SECONDS / seconds))
        fastest = min(_mean_spin(iterations, repeat) for _ in range(3))
        iterations = max(1, round(iterations * seconds / fastest))
    return iterations


def _mean_spin(iterations: int, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        spin(iterations)
    return (time.perf_counter() - start) / repeat


def sleep(seconds: float) -> None:
    """Wait, without using the core."""
    time.sleep(seconds)


def wait_until_gone(path: str) -> None:
    """Return when a file is gone."""
    while os.path.exists(path):  # noqa: PTH110  a Path for each look costs more
        time.sleep(0.01)


def fibonacci(seq_size: int) -> int:
    """Build the list of the sequence's first numbers; return how many they are."""
    numbers: list[int] = []
    for i in range(seq_size):
        numbers.append(i if i < 2 else numbers[i - 1] + numbers[i - 2])
    return len(numbers)


def double(array: np.ndarray) -> np.ndarray:
    """Return a new array of the same size."""
    return array * 2.0


def measure_array(array: np.ndarray) -> int:
    """Take an array, return its size in bytes."""
    return array.nbytes


@functools.cache
def _block(nbytes: int) -> np.ndarray:
    import numpy as np

    return np.ones(nbytes // 8)


def block(nbytes: int) -> np.ndarray:
    """Return an array of so many bytes, made once: sending it is the only cost.

    A new view each time, else a pickle of several would have it once only.
    """
    return _block(nbytes)[:]


def fresh_block(nbytes: int) -> np.ndarray:
    """Return an array of so many bytes, made for this call alone."""
    import numpy as np

    return np.ones(nbytes // 8)


@dataclass
class Reading:
    """A record, as tasks return it."""

    number: int
    value: float
    name: str


def reading(number: int) -> Reading:
    """Return a record."""
    return Reading(number, 0.5 * number, "a sample")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(_: Any = None) -> float:
    """Return the CPU time of this process, all its threads, in seconds."""
    return time.process_time()


def process_id(_: Any = None) -> int:
    """Return the id of this process."""
    return os.getpid()


def memory(field: str) -> int:
    """Return a line of this process's status in bytes: VmRSS, or VmHWM for the peak."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def reset_peak(_: Any = None) -> int:
    """Let VmHWM start anew from what is in use now; return that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")
