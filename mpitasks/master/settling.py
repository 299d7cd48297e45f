"""What became of tasks, brought to who waits for them: futures and jobs.

Called under the pump's lock. Which task is done was decided before, by the scheduler;
here a failure that deserves another attempt (`mpitasks.master.attempts`) is taken out,
and its future, or its place in the job, goes on waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.errors import TooManyFailures
from mpitasks.master import future
from mpitasks.master.attempts import Again, next_attempt
from mpitasks.master.calls import Call, Chunk
from mpitasks.wire.diagnose import describe
from mpitasks.wire.messages import LIST, PLAIN
from mpitasks.wire.outcomes import Failure, decode_outcome

if TYPE_CHECKING:
    from mpitasks.core.events import Task, TaskId
    from mpitasks.wire.messages import Outcomes

__all__ = ["Settler"]


class Settler:
    """Settles the tasks of a run.

    Args:
        ids: Where further attempts get their ids from.
        max_failures: How many calls and items may fail in the run; None for any
            number.

    Attributes:
        again: Further attempts, to be run; whoever takes them empties it.
        failures: How many calls and items failed for good.
        retries: How many further attempts there were.
        halt: Set when more failed than may.
        failed: Told of each failure that is final, and whose it is, if there is a
            journal.
    """

    def __init__(self, ids: Iterator[TaskId], max_failures: int | None = None) -> None:
        self._ids = ids
        self._max_failures = max_failures
        self.failures = 0
        self.retries = 0
        self.again: list[Again] = []
        self.halt: TooManyFailures | None = None
        self.failed: Callable[[Call | Chunk, BaseException], None] | None = None

    def take_halt(self) -> TooManyFailures | None:
        """Return why the run is to be halted, if it is; failures no longer count."""
        halt, self.halt = self.halt, None
        self._max_failures = None
        return halt

    def complete(self, tasks: Sequence[Task | None], outcomes: Outcomes) -> None:
        """Give each task what the report says of it.

        Args:
            tasks: The tasks of the report, in its order; None where it came too late.
            outcomes: The report.
        """
        values = outcomes.values
        if outcomes.forms:
            buffers = outcomes.buffers
            buffers.reverse()
            for at, (form, count) in outcomes.forms.items():
                own = [buffers.pop() for _ in range(count)]
                values[at] = decode_outcome(form, values[at], own, _label(tasks[at]))
        futures = []
        for at, task in enumerate(tasks):
            if type(task) is Call:
                futures.append(task.future)
            elif type(task) is Chunk:
                form, _ = outcomes.forms[at]
                self._deliver(task, values[at], mixed=form != LIST)
        if len(futures) != len(tasks):  # some are chunks, or late
            values = [v for t, v in zip(tasks, values, strict=True) if type(t) is Call]
        if outcomes.failed:
            calls = [task for task in tasks if type(task) is Call]
            futures, values = self._final(calls, values, outcomes.failed)
        future.settle(futures, values)

    def succeed(self, call: Call, form: int, value: Any) -> None:
        """Give a call what it returned: as `complete`, for one.

        Args:
            call: The call.
            form: What the value is: PLAIN, or VALUE.
            value: As it stands in the message.
        """
        if form != PLAIN:
            value = decode_outcome(form, value, [])
            if type(value) is Failure:  # it could not be decoded
                future.settle([call.future], [value])
                return
        call.future._settle_value(value)

    def fail(
        self,
        tasks: Sequence[Task],
        error: Callable[[Call | Chunk], BaseException],
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
            if type(task) is Call:
                failure = Failure(error(task))
                if final or not self._try_again(task, failure, crashed, alone):
                    self._count(failure)
                    if not final:
                        self._note(task, failure)
                    future.settle([task.future], [failure])
            elif type(task) is Chunk:
                failure = Failure(error(task))
                if final or task.job.closed:
                    failures = [failure] * task.count
                    self._count(failure, task.count)
                    task.job.deliver(task.start, failures, mixed=True)
                else:
                    values = [Failure(error(task)) for _ in range(task.count)]
                    self._deliver(task, values, True, crashed, alone)

    def _final(
        self, calls: list[Call], values: list[Any], failed: Sequence[TaskId]
    ) -> tuple[list[Any], list[Any]]:
        """Leave out the calls that get another attempt; return futures and outcomes."""
        failing = set(failed)
        futures, outcomes = [], []
        for call, value in zip(calls, values, strict=True):
            if call.id in failing and self._try_again(call, value):
                continue
            if type(value) is Failure:
                self._count(value)
                self._note(call, value)
            futures.append(call.future)
            outcomes.append(value)
        return futures, outcomes

    def _deliver(
        self,
        chunk: Chunk,
        outcome: Any,
        mixed: bool,
        crashed: bool = False,
        alone: bool = True,
    ) -> None:
        """Give a job the results of a chunk, but for items that are tried again."""
        values = outcome
        if type(outcome) is Failure:  # it could not be decoded
            values, mixed = [outcome] * chunk.count, True
        job = chunk.job
        if not mixed:
            job.deliver(chunk.start, values, mixed=False)
            return
        begin = 0
        for at, value in enumerate(values):
            if type(value) is not Failure:
                continue
            one = chunk.single(chunk.id, at)
            if job.wanted and self._try_again(one, value, crashed, alone):
                job.deliver(chunk.start + begin, values[begin:at], mixed=True)
                begin = at + 1
            else:
                self._count(value)
                self._note(one, value)
        job.deliver(chunk.start + begin, values[begin:], mixed=True)

    def _try_again(
        self,
        task: Call | Chunk,
        failure: Failure,
        crashed: bool = False,
        alone: bool = True,
    ) -> bool:
        again = next_attempt(
            task, failure.error, self._ids, crashed=crashed, alone=alone
        )
        if again is None:
            return False
        self.again.append(again)
        self.retries += 1
        return True

    def _note(self, task: Call | Chunk, failure: Failure) -> None:
        """Tell the journal, if there is one, what a task failed with for good."""
        if self.failed is not None:
            self.failed(task, failure.error)

    def _count(self, failure: Failure, items: int = 1) -> None:
        self.failures += items
        if self._max_failures is not None and self.failures > self._max_failures:
            self.halt = TooManyFailures(
                f"--max-failures {self._max_failures} stops the run: "
                f"{self.failures} failed; the last with "
                f"{describe(failure.error)}"
            )
            self.halt.__cause__ = failure.error


def _label(task: Task | None) -> str | None:
    if type(task) is Call:
        return task.options.label
    if type(task) is Chunk:
        return task.job.options.label
    return None  # the outcome is late
