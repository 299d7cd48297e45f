"""The accounts of a run: what they make of events, and what an Executor tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import mpitasks as mt
from hands import Hands
from mpitasks.observe import accounts
from mpitasks.observe.accounts import Accounts, RunStatistics, label_of
from mpitasks.options import DEFAULTS
from mpitasks.scheduler.events import (
    Cost,
    Event,
    OutcomesArrived,
    RankLost,
    Task,
    TasksPostponed,
    TasksSubmitted,
    TaskSubmitted,
    TaskSucceeded,
    WorkerJoined,
)
from mpitasks.scheduler.scheduler import Scheduler
from mpitasks.scheduler.statistics import DataStatistics
from mpitasks.wire.messages import Overhead


class Run:
    """A scheduler whose events accounts take in, at times that a test chooses."""

    def __init__(self, ranks: list[int]) -> None:
        self.scheduler = Scheduler()
        for rank in ranks:
            self.scheduler.handle(WorkerJoined(rank), 0.0)
        self.accounts = Accounts(ranks, 0.0, {1: "node1", 2: "node2"})

    def at(self, now: float, event: Event) -> None:
        """Have something happen."""
        self.accounts.listen(now, event, self.scheduler.handle(event, now))

    def statistics(self, now: float) -> RunStatistics:
        """Return the statistics of that time."""
        return self.accounts.statistics(self.scheduler.statistics(), now)


def task(id: int, label: str | None = None, function: int = 1, **more: Any) -> Task:
    options = DEFAULTS.replace(label=label)
    target = SimpleNamespace(label=f"function{function}")
    payload = SimpleNamespace(options=options, target=target)
    return Task(id, function, payload, task_spec=options.task_spec, **more)


def test_seconds_of_a_worker() -> None:
    run = Run([1, 2])
    run.at(1.0, TaskSubmitted(task(0, "fit", nbytes=1000)))
    busy, other = (1, 2) if run.scheduler.held(1) else (2, 1)
    run.at(4.0, TaskSucceeded(busy, 0, 1, 2.5, 80))
    found = run.statistics(10.0)
    assert (found.seconds, found.workers, found.succeeded) == (10.0, 2, 1)
    assert found.running_seconds == 2.5
    assert found.assigned_seconds == 3.0
    assert found.idle_seconds == 1.0 + 6.0 + 10.0
    assert found.links[busy] == mt.LinkStatistics(f"node{busy}", 1000, 80, 1)
    assert found.links[other] == mt.LinkStatistics(f"node{other}", 0, 0, 0)
    assert found.labels == {"fit": mt.LabelStatistics(1, 0, 0, 2.5, 80)}


def test_a_worker_that_holds_a_task_is_not_idle() -> None:
    run = Run([1])
    run.at(1.0, TaskSubmitted(task(0)))
    found = run.statistics(5.0)
    assert (found.assigned_seconds, found.idle_seconds) == (4.0, 1.0)
    assert (found.running, found.running_seconds) == (1, 0.0)


def test_a_lost_worker_is_neither_idle_nor_busy_any_more() -> None:
    run = Run([1, 2])
    run.at(0.0, TasksSubmitted([task(0, "a"), task(1, "a")]))
    run.at(3.0, RankLost(1))
    assert run.statistics(9.0).assigned_seconds == 3.0 + 9.0
    assert run.statistics(9.0).labels["a"].succeeded == 1  # until it counts as failed
    run.accounts.note_failure(task(0, "a"), 1)
    assert run.statistics(9.0).labels["a"] == mt.LabelStatistics(0, 1, 0, 0.0, 0)


def report(run: Run, now: float, ids: list[int], costs: list[Cost]) -> None:
    run.at(now, OutcomesArrived(1, 1, ids, [], costs))


def measured(run: Run, tasks: list[Task]) -> list[int]:
    """Submit tasks of known functions, which go in one batch; return their ids."""
    run.at(0.0, TaskSubmitted(task(90, "first")))
    report(run, 0.0, [90], [Cost(1, 100, 1e-4)])
    run.at(0.0, TaskSubmitted(task(91, "first", 2)))
    report(run, 0.0, [91], [Cost(2, 100, 1e-4)])
    run.at(0.0, TaskSubmitted(task(92, "first")))  # so that the others wait
    run.at(0.0, TasksSubmitted(tasks))
    report(run, 0.0, [92], [Cost(1, 1, 0.0)])
    return [each.id for each in run.scheduler.held(1)]


def test_a_report_of_several_functions_is_shared_out_in_order() -> None:
    run = Run([1])
    tasks = [task(0, None, 1), task(1, None, 1), task(2, None, 2), task(3, None, 1)]
    assert measured(run, tasks) == [0, 1, 2, 3]
    costs = [Cost(1, 2, 3.0, 10), Cost(2, 1, 5.0, 20), Cost(1, 1, 7.0, 30)]
    report(run, 20.0, [0, 1, 2, 3], costs)
    labels = run.statistics(20.0).labels
    assert labels["function1"] == mt.LabelStatistics(3, 0, 0, 10.0, 40)
    assert labels["function2"] == mt.LabelStatistics(1, 0, 0, 5.0, 20)


def test_labels_of_one_function_share_by_their_items() -> None:
    run = Run([1])
    assert measured(run, [task(0, "a"), task(1, "b"), task(2, "a")]) == [0, 1, 2]
    report(run, 9.0, [0, 1, 2], [Cost(1, 3, 6.0, 30)])
    labels = run.statistics(9.0).labels
    assert labels["a"] == mt.LabelStatistics(2, 0, 0, 4.0, 20)
    assert labels["b"] == mt.LabelStatistics(1, 0, 0, 2.0, 10)


def test_a_late_outcome_counts_its_time_only() -> None:
    run = Run([1])
    run.at(0.0, TaskSubmitted(task(0, "a")))
    report(run, 2.0, [0, 77], [Cost(1, 2, 4.0, 6)])
    found = run.statistics(2.0)
    assert found.labels["a"] == mt.LabelStatistics(1, 0, 0, 4.0, 6)
    assert found.running_seconds == 4.0


def test_an_attempt_that_is_followed_by_another_is_no_success() -> None:
    run = Run([1])
    run.at(0.0, TaskSubmitted(task(0, "a")))
    run.at(1.0, OutcomesArrived(1, 1, [0], [0], [Cost(1, 1, 1.0)]))
    run.at(1.0, TasksPostponed([task(1, "a")], 1.0))
    report(run, 2.0, [1], [Cost(1, 1, 1.0)])
    found = run.statistics(2.0)
    assert found.labels["a"] == mt.LabelStatistics(1, 0, 1, 2.0, 0)
    assert (found.retries, found.assigned_seconds) == (1, 2.0)


def test_a_label_for_each_task_takes_no_memory_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accounts, "MOST_LABELS", 3)
    run = Run([1])
    for id in range(10):
        run.at(0.0, TaskSubmitted(task(id, f"seed {id}")))
        run.at(1.0, TaskSucceeded(1, id, 1, 0.5, 0))
    labels = run.statistics(1.0).labels
    assert [*labels] == ["seed 0", "seed 1", "seed 2", accounts.OTHERS]
    assert labels[accounts.OTHERS].succeeded == 7


def test_a_label_of_a_class_of_the_user_runs_none_of_its_code() -> None:
    class Odd(str):
        def __hash__(self) -> int:
            raise AssertionError

        def __str__(self) -> str:
            raise AssertionError

    odd = task(0)
    odd.payload.options = SimpleNamespace(label=Odd("odd"))
    assert type(label_of(odd.payload)) is str
    assert label_of(odd.payload) == "odd"


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def test_executor_tells_of_the_run(hands: Hands) -> None:
    with mt.Executor() as executor:
        future = executor.with_options(label="power").submit(pow, 2, 3)
        (call,) = hands.calls(1)
        assert executor.statistics().running == 1
        hands.answer(1, call, 8)
        assert future.result() == 8
        found = executor.statistics()
        assert (found.running, found.succeeded) == (0, 1)
        assert found.labels["power"].seconds == 1e-5


def fail_odd(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def test_failures_and_retries_by_label() -> None:
    with mt.Executor(return_exceptions=True) as executor:
        before = executor.statistics().labels.get("fail_odd")
        assert before is None
        list(executor.map(fail_odd, range(10), retries=1))
        future = executor.with_options(label="one").submit(fail_odd, 1)
        assert isinstance(future.exception(), ValueError)
        found = executor.statistics()
    labels = found.labels
    first, one = labels["fail_odd"], labels["one"]
    assert (first.succeeded, first.failed, first.retries) == (5, 5, 5)
    assert (one.succeeded, one.failed, one.retries) == (0, 1, 0)
    assert found.retries == 5


def test_copies_count_as_near_or_far_by_the_hosts() -> None:
    run = Run([1, 2, 3])
    run.accounts.hosts = {1: "node1", 2: "node2", 3: "node1"}
    run.accounts.note_overhead(1, Overhead(0.5, 0.25, {2: 70, 3: 500}))
    run.accounts.note_overhead(1, Overhead(0.0, 0.25, {2: 7}))
    data = DataStatistics({"node1": 0}, {"node1": 600}, {1: 30}, {1: 9})
    counts = run.scheduler.statistics()
    found = run.accounts.statistics(counts, 1.0, data)
    assert found.links[1] == mt.LinkStatistics(
        "node1", 0, 30, 0, near=500, far=77, shared=9, loading=0.5, copying=0.5
    )
    assert found.links[2] == mt.LinkStatistics("node2", 0, 0, 0)
    assert (found.kept, found.most_kept) == ({"node1": 0}, {"node1": 600})


def test_any_thread_may_ask() -> None:
    found: list[RunStatistics] = []
    with mt.Executor() as executor:
        list(executor.map(abs, range(10)))
        thread = threading.Thread(target=lambda: found.append(executor.statistics()))
        thread.start()
        thread.join()
    assert found[0].labels["abs"].succeeded >= 10
