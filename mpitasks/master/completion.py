"""Completion: brings outcomes of tasks to futures and bulk jobs.

Called under the event loop's lock, and so runs no code of the user: outcomes are passed
on as they came (`mpitasks.wire.outcomes.Encoded`). A failure that may deserve another
attempt (`mpitasks.master.retry`), or belongs into a journal, must be decoded first.
That is done later, when the lock is released; until then the future, or the place in
the job, goes on waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.errors import DataLost, InitializerError, TooManyFailures
from mpitasks.master import future, lost_tasks
from mpitasks.master.retry import Again, next_attempt
from mpitasks.wire.diagnose import describe
from mpitasks.wire.interrupts import interrupts
from mpitasks.wire.messages import KEPT, LIST, PLAIN
from mpitasks.wire.outcomes import Encoded, Failure, error_of, has_failed, undecoded

if TYPE_CHECKING:
    from mpitasks.master.bulk_job import BulkJob
    from mpitasks.master.functions import Initializer
    from mpitasks.master.kept_results import KeptResults
    from mpitasks.master.payloads import Payload
    from mpitasks.scheduler.events import Task, TaskId
    from mpitasks.wire.messages import Outcomes

__all__ = ["Completion", "Excess"]

Step = Callable[[], None]


class Excess(NamedTuple):
    """More tasks failed than may.

    Attributes:
        allowed: How many may.
        failures: How many did.
        last: The outcome of the last of them.
    """

    allowed: int
    failures: int
    last: Any

    def error(self) -> TooManyFailures:
        """Return it as an exception. This may decode an outcome."""
        cause = error_of(self.last)
        error = TooManyFailures(
            f"--max-failures {self.allowed} stops the run: {self.failures} failed; "
            f"the last with {describe(cause)}"
        )
        error.__cause__ = cause
        return error


class Completion:
    """Settles the tasks of a run.

    Args:
        ids: Where further attempts get their ids from.
        kept: The results that workers keep.
        max_failures: How many calls and items may fail in the run; None for any
            number.

    Attributes:
        again: Further attempts, to be run; whoever takes them empties it.
        failures: How many calls and items failed for good.
        retries: How many further attempts there were.
        undecided: Tasks whose failures wait for the decision whether they are final.
        excess: Set when more failed than may.
        broken: Initializers that have failed; whoever takes them empties it.
        failed: Told of each failure that is final, and whose it is, if there is a
            journal; returns what records it. Called without the lock; what it returns,
            under it.
        error_listeners: Told of each task of one item that failed, of its exception,
            and whether that is final. Called without the lock.
        failure_listeners: Told of each task that failed for good, and of how many of
            its items that is. Called under the lock.
        defer: Has something called when no lock is held.
        enter: Calls something under the lock.
        run_again: Runs a task again whose kept input was lost, and returns whether that
            makes sense; called under the lock. None if the run ends with a rank.
    """

    def __init__(
        self,
        ids: Iterator[TaskId],
        kept: KeptResults,
        max_failures: int | None = None,
    ) -> None:
        self._ids = ids
        self._kept = kept
        self._max_failures = max_failures
        self.failures = 0
        self.retries = 0
        self.again: list[Again] = []
        self.undecided: set[Task] = set()
        self.excess: Excess | None = None
        self.broken: list[Initializer] = []
        self.failed: Callable[[Task, BaseException], Step] | None = None
        self.error_listeners: list[Callable[[Task, BaseException, bool], None]] = []
        self.failure_listeners: list[Callable[[Task, int], None]] = []
        self.defer: Callable[[Step], None] = lambda step: step()
        self.enter: Callable[[Step], None] = lambda step: step()
        self.run_again: Callable[[Task], bool] | None = None

    def take_excess(self) -> Excess | None:
        """Return why the run is to be halted, if it is; failures no longer count."""
        excess, self.excess = self.excess, None
        self._max_failures = None
        return excess

    def complete(self, tasks: Sequence[Task | None], outcomes: Outcomes) -> None:
        """Give each task what the report says of it.

        Args:
            tasks: The tasks of the report, in its order; None where it came too late.
            outcomes: The report.
        """
        calls = [task for task in tasks if task is not None]
        values = outcomes.values
        if outcomes.forms or len(calls) < len(tasks):
            calls, values = self._deliver_chunks(tasks, outcomes)
        futures = [call.payload for call in calls]
        if outcomes.failed:
            futures, values = self._final(calls, values)
        future.settle(futures, values)

    def _deliver_chunks(
        self, tasks: Sequence[Task | None], outcomes: Outcomes
    ) -> tuple[list[Task], list[Any]]:
        """Give jobs their results; return the calls, and what became of each."""
        buffers = outcomes.buffers
        buffers.reverse()
        calls, values = [], []
        for at, (task, value) in enumerate(zip(tasks, outcomes.values, strict=True)):
            form, count = outcomes.forms.get(at, (PLAIN, 0))
            own = [buffers.pop() for _ in range(count)]
            if task is None:  # it is late
                continue
            if form != PLAIN:
                label = task.payload.options.label
                value = (
                    self._kept.add(value, task)
                    if form == KEPT
                    else undecoded(form, value, own, label)
                )
            if task.payload.is_call:
                calls.append(task)
                values.append(value)
            else:
                self._deliver(task, value, mixed=form != LIST)
        return calls, values

    def succeed(self, task: Task, form: int, value: Any) -> None:
        """Give a call what it returned: as `complete`, for one.

        Args:
            task: The call.
            form: What the value is: PLAIN, or VALUE.
            value: As it stands in the message.
        """
        if form == PLAIN:
            task.payload._settle_value(value)
        else:
            future.settle([task.payload], [Encoded(form, value, [])])

    def fail(
        self,
        tasks: Sequence[Task],
        error: Callable[[Task], BaseException],
        *,
        crashed: bool = False,
        final: bool = True,
    ) -> None:
        """Give each task an error.

        Args:
            tasks: The tasks.
            error: Makes the error of a task.
            crashed: Whether they were lost with their rank.
            final: Whether none of them gets another attempt.
        """
        alone = sum([task.count for task in tasks]) == 1
        for task in tasks:
            payload: Payload = task.payload
            if payload.is_call:
                singles = [task]
            else:
                job: BulkJob = task.payload
                if final or job.closed:
                    job.release(task)
                    failures = [Failure(error(task))] * task.count
                    self._count(task, failures[0], task.count)
                    job.deliver(task.start, failures, mixed=True)
                    continue
                singles = self._singles(task)
            for one in singles:
                failure = Failure(error(task))
                if final:
                    self._count(one, failure)
                    payload.give(one, failure)
                else:
                    self._decide_later(one, failure, crashed=crashed, alone=alone)

    def fail_users(self, tasks: Sequence[Task]) -> None:
        """Give each task what it comes to: a result that it needs is not there."""
        for task in tasks:
            outcome = task.payload.inputs_of(task).lost
            self._count(task, outcome)
            task.payload.give(task, outcome)

    def _singles(self, chunk: Task) -> list[Task]:
        """Return a task for each item of a chunk: each goes its own way from now on."""
        job: BulkJob = chunk.payload
        for index, item in enumerate(job.release(chunk), chunk.start):
            job.keep(index, item)
        return [_single(chunk, at) for at in range(chunk.count)]

    def _final(
        self, calls: list[Task], outcomes: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Leave out what is not decided yet; return the futures of others, and theirs.

        Returns:
            The futures, and their outcomes.
        """
        futures, final = [], []
        for call, outcome in zip(calls, outcomes, strict=True):
            if has_failed(outcome):
                if self._is_open(call):
                    self._decide_later(call, outcome)
                    continue
                self._count(call, outcome)
                call.payload.keep_name()
            futures.append(call.payload)
            final.append(outcome)
        return futures, final

    def _deliver(self, chunk: Task, outcome: Any, *, mixed: bool) -> None:
        """Give a job the results of a chunk, without those that are not decided yet."""
        values = outcome
        if type(outcome) is not Failure and len(values) != chunk.count:
            outcome = Failure(lost_tasks.miscounted(chunk, len(values)))
        if type(outcome) is Failure:  # it could not be decoded
            values, mixed = [outcome] * chunk.count, True
        job: BulkJob = chunk.payload
        items = job.release(chunk)
        if not mixed:
            job.deliver(chunk.start, values, mixed=False)
            return
        begin = 0
        for at, value in enumerate(values):
            if not has_failed(value):
                continue
            one = _single(chunk, at)
            if self._is_open(one):
                job.keep(one.start, items[at])
                job.deliver(chunk.start + begin, values[begin:at], mixed=True)
                begin = at + 1
                self._decide_later(one, value)
            else:
                self._count(one, value)
        job.deliver(chunk.start + begin, values[begin:], mixed=True)

    # Whether a failure is final.

    def _is_open(self, task: Task) -> bool:
        """Whether a failure of the task must be decoded before it is passed on."""
        payload: Payload = task.payload
        return (
            self.failed is not None
            or bool(self.error_listeners)
            or payload.options.retries > 0
            or (self.run_again is not None and bool(task.data))
            or payload.history(task) is not None
            or payload.target_of(task).initializer is not None
        )

    def _decide_later(
        self,
        task: Task,
        outcome: Any,
        *,
        crashed: bool = False,
        alone: bool = True,
    ) -> None:
        self.undecided.add(task)
        self.defer(
            functools.partial(self._decide, task, outcome, crashed=crashed, alone=alone)
        )

    def _decide(self, task: Task, outcome: Any, *, crashed: bool, alone: bool) -> None:
        """Decide whether a failure is final. Called without the lock."""
        again: Again | None = None
        note: Step | None = None
        lacks_input = False
        broken: Initializer | None = None
        try:
            error = error_of(outcome)
            lacks_input = isinstance(error, DataLost) and bool(task.data)
            broken = _broken_by(task, error)
            if broken is None and task.payload.wanted and not lacks_input:
                again = next_attempt(
                    task, error, self._ids, crashed=crashed, alone=alone
                )
            if broken is None and again is None and self.failed is not None:
                note = self.failed(task, error)
            final = again is None and not lacks_input
            for listener in self.error_listeners:
                listener(task, error, final)
            outcome = Failure(error)
        except BaseException as wrong:  # of a class in `retry_on` that decides itself
            if interrupts(wrong):
                raise
            outcome = Failure(wrong)
        finally:  # also if it was interrupted: then this is final
            step = functools.partial(self._decided, task, outcome, again, note)
            self.enter(functools.partial(step, lacks_input=lacks_input, broken=broken))

    def _decided(
        self,
        task: Task,
        outcome: Any,
        again: Again | None,
        note: Step | None,
        *,
        lacks_input: bool,
        broken: Initializer | None,
    ) -> None:
        self.undecided.discard(task)
        if lacks_input and self.run_again is not None and self.run_again(task):
            self.retries += 1  # so that it does not count as failed
            return
        if broken is not None and broken.failure is None:
            broken.failure = outcome.error
            self.broken.append(broken)
        if again is not None:
            self.again.append(again)
            self.retries += 1
            return
        if note is not None:
            note()
        self._count(task, outcome)
        task.payload.give(task, outcome)

    def _count(self, task: Task, outcome: Any, items: int = 1) -> None:
        self.failures += items
        for listener in self.failure_listeners:
            listener(task, items)
        if self._max_failures is not None and self.failures > self._max_failures:
            self.excess = Excess(self._max_failures, self.failures, outcome)


def _broken_by(task: Task, error: BaseException) -> Initializer | None:
    """Return the initializer of a task if it, and not the task, has raised."""
    initializer = task.payload.target_of(task).initializer
    if initializer is None or not isinstance(error, InitializerError):
        return None
    return initializer if error.definition == initializer.id else None


def _single(chunk: Task, at: int) -> Task:
    """Return a task for one item of a chunk."""
    one = chunk.part(chunk.id, at, 1)
    one.alone = chunk.alone
    one.data = chunk.data
    return one
