"""What is taken down of a run: slices, causes of idleness, failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpitasks as mt
from mpitasks.api import session
from mpitasks.observe import recording as recordings
from mpitasks.observe.failures import Failures
from mpitasks.observe.recording import Recording
from mpitasks.observe.slices import SEVERAL, Durations, Slice
from mpitasks.options import DEFAULTS
from mpitasks.scheduler.events import (
    Cost,
    DrainRequested,
    Event,
    InputReady,
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
from mpitasks.task_spec import TaskSpec
from mpitasks.wire.messages import CALL_PLAIN


class Run:
    """A scheduler whose events are taken down, at times that a test chooses."""

    def __init__(self, workers: int = 1) -> None:
        self.scheduler = Scheduler()
        ranks = range(1, workers + 1)
        for rank in ranks:
            self.scheduler.handle(WorkerJoined(rank), 0.0)
        counts = self.scheduler.statistics
        self.recording = Recording(ranks, 0.0, counts, lambda: 0.0)

    def at(self, now: float, event: Event) -> None:
        """Have something happen."""
        self.recording.listen(now, event, self.scheduler.handle(event, now))

    def submit(self, now: float, *tasks: Task) -> None:
        self.at(now, TasksSubmitted(tasks))

    def done(self, now: float, rank: int, id: int, seconds: float) -> None:
        """Have a worker report its only task."""
        self.at(now, TaskSucceeded(rank, id, 1, seconds, 0))

    def holder(self, id: int) -> int:
        """Return who holds a task."""
        for rank in self.recording.workers:
            if any(task.id == id for task in self.scheduler.held(rank)):
                return rank
        raise AssertionError(id)

    @property
    def idle(self) -> dict[str, float]:
        """Seconds by cause, those that there are."""
        totals = self.recording.idleness.totals()
        return {cause: seconds for cause, seconds in totals.items() if seconds}


def task(id: int, label: str = "fit", function: int = 1, **more: Any) -> Task:
    options = DEFAULTS.replace(label=label)
    payload = SimpleNamespace(
        options=options,
        target=SimpleNamespace(label="f"),
        is_call=True,
        wire=(id, function, CALL_PLAIN, (id,), 0),
    )
    more.setdefault("task_spec", options.task_spec)
    return Task(id, function, payload, **more)


def test_a_slice_ends_when_its_report_comes() -> None:
    run = Run()
    run.submit(1.0, task(7))
    run.done(4.0, 1, 7, 2.5)
    assert list(run.recording.slices()) == [(1, Slice(1.5, 4.0, "fit", 1, 2.5, id=7))]
    (slow,) = run.recording.slowest()
    assert (slow.seconds, slow.name, slow.arguments) == (2.5, "task 7", "(7,)")


def test_slices_of_a_worker_do_not_overlap() -> None:
    """A report that comes late says of more time than there is."""
    run = Run()
    run.submit(0.0, task(0), task(1))
    run.done(5.0, 1, 0, 2.0)
    run.done(6.0, 1, 1, 4.0)
    first, second = (each for _, each in run.recording.slices())
    assert (first.begin, first.end) == (3.0, 5.0)
    assert (second.begin, second.end, second.seconds) == (5.0, 6.0, 4.0)


def test_a_report_of_several_labels_has_a_slice_for_each() -> None:
    run = Run()
    run.submit(0.0, task(90))
    run.at(0.0, OutcomesArrived(1, 1, [90], [], [Cost(1, 100, 1e-4)]))
    run.submit(0.0, task(91))
    run.submit(0.0, task(0, "a"), task(1, "a"), task(2, "b"))
    run.at(1.0, OutcomesArrived(1, 1, [91], [], [Cost(1, 1, 0.0)]))
    assert len(run.scheduler.held(1)) == 3
    run.at(9.0, OutcomesArrived(1, 1, [0, 1, 2], [2], [Cost(1, 3, 6.0)]))
    *_, a, b = (each for _, each in run.recording.slices())
    assert a == Slice(3.0, 7.0, "a", 2, 4.0)
    assert b == Slice(7.0, 9.0, "b", 1, 2.0, failed=1, id=2)


def test_causes_of_idleness() -> None:
    run = Run(2)
    run.submit(1.0, task(0), task(1))  # 2 s before the first task
    held = {run.holder(0): 0, run.holder(1): 1}
    run.done(3.0, 1, held[1], 1.0)
    run.at(4.0, TasksPostponed([task(2)], 6.0))  # 1 s with one task for two workers
    run.done(6.0, 2, held[2], 1.0)  # 2 s with one idle for a retry
    run.submit(7.0, task(3))  # 2 s with both idle, for nothing
    assert run.idle["start"] == 2.0
    assert run.idle["few"] == 1.0
    assert run.idle["retries"] == 2.0 + 2.0
    total = sum(run.recording.idleness.totals().values())
    held_seconds = sum(worker.held for worker in run.recording.workers.values())
    assert total + held_seconds == 2 * 7.0


def test_inputs_and_the_end_of_a_run_are_causes() -> None:
    run = Run(1)
    waiting = task(1, inputs=(0,))
    run.submit(0.0, task(0), waiting)
    run.done(2.0, 1, 0, 1.0)
    run.at(5.0, InputReady(0, [waiting]))
    run.done(6.0, 1, 1, 1.0)
    run.at(10.0, DrainRequested())
    assert run.idle == {"inputs": 3.0, "end": 4.0}
    ((arrow, _),) = [(each, 0) for each in run.recording.arrows]
    assert (arrow.source, arrow.sent, arrow.target, arrow.taken) == (1, 2.0, 1, 5.0)
    assert [moment.name for moment in run.recording.instants] == [
        "nothing new is started"
    ]


def test_the_last_tasks_are_the_tail() -> None:
    run = Run(2)
    run.submit(0.0, task(0), task(1))
    run.done(1.0, run.holder(0), 0, 1.0)
    run.done(9.0, run.holder(1), 1, 9.0)
    assert run.idle == {"tail": 8.0}


def test_a_lost_worker_is_not_idle() -> None:
    run = Run(2)
    run.submit(0.0, task(0), task(1))
    run.at(2.0, RankLost(1))
    run.at(9.0, TaskSubmitted(task(2)))
    assert [(each.name, each.rank) for each in run.recording.instants] == [
        ("rank lost", 1)
    ]
    assert run.idle == {}


def test_a_retry_is_an_instant_and_its_attempt_is_told() -> None:
    run = Run()
    run.submit(0.0, task(0))
    run.at(1.0, OutcomesArrived(1, 1, [0], [0], [Cost(1, 1, 1.0)]))
    run.at(1.0, TasksPostponed([task(1, task_spec=TaskSpec(attempt=2))], 1.0))
    run.done(2.0, 1, 1, 0.5)
    first, second = (each for _, each in run.recording.slices())
    assert (first.failed, first.attempt, second.attempt) == (1, 1, 2)
    assert run.recording.retries == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 1e-3), st.floats(0, 1e-3), st.sampled_from("ab")),
        min_size=20,
        max_size=200,
    )
)
def test_joining_loses_nothing(steps: list[tuple[float, float, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "MOST_SLICES", 16)
        run = Run()
        now = 0.0
        for id, (gap, seconds, label) in enumerate(steps):
            now += gap
            run.submit(now, task(id, label))
            now += seconds
            run.done(now, 1, id, seconds)
        slices = [each for _, each in run.recording.slices()]
    assert len(slices) <= 16
    assert run.recording.joined
    assert sum(each.items for each in slices) == len(steps)
    total = sum(seconds for _, seconds, _ in steps)
    assert sum(each.seconds for each in slices) == pytest.approx(total)
    assert {each.label for each in slices} <= {"a", "b", SEVERAL}
    durations = run.recording.durations
    for label in "ab":
        count = sum(own == label for _, _, own in steps)
        assert not count or durations[label].count == count
    ends = [moment for each in slices for moment in (each.begin, each.end)]
    assert ends == sorted(ends)


def test_samples_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MOST_SAMPLES", 100)
    run = Run()
    for step in range(5000):
        run.at(step / 100, DrainRequested())
    times = [sample.time for sample in run.recording.samples]
    assert 40 < len(times) <= 101
    assert times == sorted(times)
    assert times[-1] > 45.0
    monkeypatch.setattr(recordings, "MOST_INSTANTS", 7)


def test_quantiles() -> None:
    durations = Durations()
    for number in range(1, 101):
        durations.add(1, number / 100)
    assert durations.quantile(0.5) == pytest.approx(0.5, rel=0.15)
    assert durations.quantile(0.95) == pytest.approx(0.95, rel=0.15)
    assert durations.longest == 1.0
    assert durations.quantile(1.0) <= 1.0


class Rude(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def test_failures_by_class() -> None:
    failures = Failures()
    for error in (ValueError(1), ValueError(2), KeyError("x"), Rude()):
        failures.record(task(0), error, True)
    failures.record(task(0), OSError(), False)
    assert failures.retried == {"OSError": 1}
    assert failures.counts == {"ValueError": 2, "KeyError": 1, "Rude": 1}
    assert failures.first["ValueError"].text == "ValueError: 1\n"
    assert failures.first["ValueError"].label == "fit"


def fail(number: int) -> None:
    raise ValueError(number)


def test_a_real_run_is_taken_down() -> None:
    with mt.Executor(return_exceptions=True) as executor:
        engine = session.current().event_loop.engine
        failures = Failures()
        recording = Recording(
            engine.ranks, 0.0, engine.scheduler.statistics, lambda: 0.0
        )
        engine.listen(recording.listen)
        engine.completion.error_listeners.append(failures.record)
        try:
            list(executor.map(fail, range(5), retries=1))
            list(executor.map(abs, range(1000)))
        finally:
            engine.listeners.remove(recording.listen)
            engine.completion.error_listeners.remove(failures.record)
    assert failures.counts == failures.retried == {"ValueError": 5}
    assert "fail" in failures.first["ValueError"].text
    assert recording.retries == 5
    assert recording.durations["abs"].count == 1000
    assert recording.durations["fail"].count == 10
