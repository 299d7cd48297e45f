"""An isolated task knows as much of the job's end as one that is not isolated."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest

import mpitasks
from mpitasks import walltime
from sandboxes import Sandboxed


@pytest.fixture(autouse=True)
def _no_end() -> Iterator[None]:
    yield
    walltime.foresee(math.inf, 0.0)
    walltime.note_stop(False)


@pytest.fixture
def sandboxed() -> Iterator[Sandboxed]:
    with Sandboxed() as made:
        yield made


def what_is_known() -> tuple[float, bool]:
    """Return what a task is told."""
    return mpitasks.time_left(), mpitasks.stopping()


def until_it_stops() -> tuple[float, bool]:
    """Wait until the run comes to its end."""
    end = time.monotonic() + 60
    while not mpitasks.stopping() and time.monotonic() < end:
        time.sleep(0.001)
    return what_is_known()


def test_the_time_left_is_that_of_the_job(sandboxed: Sandboxed) -> None:
    assert sandboxed.call(what_is_known) == (math.inf, False)
    walltime.foresee(500.0, 20.0)
    left, stopping = sandboxed.call(what_is_known)
    assert 400 < left <= 500
    assert not stopping
    walltime.foresee(500.0, 600.0)
    assert sandboxed.call(what_is_known)[1]
    walltime.foresee(-1.0, 0.0)
    assert sandboxed.call(what_is_known) == (0.0, True)
    walltime.foresee(math.inf, 0.0)
    assert sandboxed.map(lambda _: what_is_known(), range(2)) == [(math.inf, False)] * 2


def test_a_running_task_hears_of_another_end(sandboxed: Sandboxed) -> None:
    walltime.foresee(500.0, 20.0)

    def move() -> None:
        walltime.foresee(50.0, 60.0)

    left, stopping = sandboxed.call(until_it_stops, watch=move)
    assert 0 < left <= 50
    assert stopping


def test_a_running_task_hears_that_the_run_stops(sandboxed: Sandboxed) -> None:
    def stop() -> None:
        walltime.note_stop()

    assert sandboxed.call(until_it_stops, watch=stop) == (math.inf, True)
