"""Results of a job on their way to the thread that consumes them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from mpitasks.master.job_results import JobResults

COUNT = 20_000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.usefixtures("hasty")
def test_one_thread_puts_while_another_takes(*, ordered: bool) -> None:
    results = JobResults(ordered=ordered)

    def put() -> None:
        for start in range(0, COUNT, 2):
            results.put(start, [start, start + 1], mixed=False)

    thread = threading.Thread(target=put)
    thread.start()
    taken = []
    while results.taken < COUNT:
        if results.has_news():
            start, values, _ = results.take()
            assert start == values[0]
            taken += values
        else:
            results.block(0.01)
    thread.join()
    assert taken == list(range(COUNT))


def test_a_run_is_handed_out_with_whether_it_is_mixed() -> None:
    results = JobResults(ordered=True)
    results.put(2, ["c"], mixed=True)
    assert not results.has_news()
    results.put(0, ["a", "b"], mixed=False)
    assert [results.take(), results.take()] == [
        (0, ["a", "b"], False),
        (2, ["c"], True),
    ]
    assert (results.taken, results.has_news()) == (3, False)


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_let_go_is_not_handed_out(*, ordered: bool) -> None:
    results = JobResults(ordered=ordered)
    results.put(0, ["a"], mixed=False)
    results.clear()
    assert not results.has_news()
