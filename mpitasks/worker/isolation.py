"""What a worker's loop does about isolated tasks: into the sandbox, and watching.

Calls of one function that stand behind each other go into the sandbox together, since
each visit there costs two changes of process; but each is a task of its own, and its
result leaves as soon as the rank looks around. While the child works the rank stays
responsive: nobody needs the listener then.

Imported with the first isolated task.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from mpitasks.terms import Terms
from mpitasks.wire.messages import CALL, CALL_PLAIN
from mpitasks.worker.listener import LOOK_SECONDS, LOOK_SECONDS_SENDING
from mpitasks.worker.order import make_joint_order, make_order
from mpitasks.worker.sandbox import Sandbox

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import Batch
    from mpitasks.worker.loop import Worker

__all__ = ["Isolation"]

LOADING_SECONDS = 1.0
"""How often the master hears of a rank whose child is not ready yet. Only then what
stands behind that task is given back: other ranks have children to start, too."""

TOGETHER = 64
"""At most so many calls go into the sandbox at once."""


class Isolation:
    """The isolated tasks of one worker.

    Args:
        worker: The worker.
        rank: What tasks call its rank.
        host: Its host.
        where: Both and the process, for the head of tracebacks.
    """

    def __init__(self, worker: Worker, rank: int, host: str, where: str) -> None:
        self._worker = worker
        self._own = rank, host
        self._sandbox = Sandbox(rank, host, where)
        self._calls: Sequence[Any] = ()  # those that are in the sandbox
        self._answered = 0  # so many of them
        self._done: set[int] = set()  # calls that were run with one before them
        self._since = 0.0
        self._told = 0.0  # when the master was last told of them
        self._progress = 0, 0  # of the sandbox, when we looked last

    def run(self, batch: Batch, at: int, buffers: list[Buffer]) -> None:
        """Run call `at` of a batch, and perhaps some behind it; append the outcomes."""
        task_id, function_id, mode, payload, _ = batch.calls[at]
        if task_id in self._done:
            self._done.discard(task_id)
            return
        worker = self._worker
        assert batch.terms is not None
        self._calls = calls = self._together(batch, at)
        terms = [Terms(*batch.terms[call[0]]) for call in calls]
        sent = worker.functions.needed(function_id)
        if len(calls) == 1:
            call = task_id, function_id, mode, payload
            places = worker.places(task_id)
            order = make_order(call, buffers, sent, terms[0], self._own, places)
        else:
            all_places = [worker.places(call[0]) for call in calls]
            order = make_joint_order(calls, sent, terms, self._own, all_places)
        self._answered = 0
        logs = worker.replies.logs
        if logs is not None:
            self._sandbox.logs = logs.setup
            self._sandbox.on_record = logs.take_held
        self._since = self._told = time.perf_counter()
        try:
            items, form = self._sandbox.run(order, self._look_around)
        finally:
            worker.revoked.difference_update(call[0] for call in self._calls)
        if form is not None:
            seconds = time.perf_counter() - self._since - self._sandbox.preparing
            worker.replies.add(task_id, function_id, items, form, seconds)
            if self._sandbox.drew():
                worker.replies.note_drawn(task_id)
        else:
            self._answer()
        self._calls = ()

    def cut(self, at: int) -> tuple[int, tuple[int, int] | None] | None:
        """Give up what the sandbox has not begun of what it has.

        Args:
            at: How many calls of the batch were begun, as the loop sees it.

        Returns:
            How many were begun, and the task and the number of items that it keeps, if
            it is a chunk that was cut; None if the sandbox has nothing.
        """
        calls = self._calls
        if not calls:
            return None
        kept = self._sandbox.cut()
        if len(calls) == 1:
            return at, None if kept is None else (calls[0][0], kept)
        if kept is not None:
            self._shorten(kept)
        return at - 1 + len(self._calls), None

    def forget(self, function_ids: Sequence[int]) -> None:
        """These functions will be sent anew, if at all."""
        self._sandbox.forget(function_ids)

    def close(self) -> None:
        """End the child and whatever it has started."""
        self._sandbox.close()

    def _together(self, batch: Batch, at: int) -> Sequence[Any]:
        """Return the calls that go into the sandbox with call `at`, that one first."""
        first = batch.calls[at]
        assert batch.terms is not None
        if not _simple(first):
            return [first]
        terms = Terms(*batch.terms[first[0]])
        calls = [first]
        for call in batch.calls[at + 1 : at + TOGETHER]:
            its = batch.terms.get(call[0])
            alike = its is not None and Terms(*its)._replace(attempt=1) == (
                terms._replace(attempt=1)
            )
            if not alike or call[1] != first[1] or not _simple(call):
                break
            if call[0] in self._worker.revoked:
                break
            calls.append(call)
        self._done.update(call[0] for call in calls[1:])
        return calls

    def _answer(self) -> None:
        """Append the outcomes that are there, of calls that run together."""
        forms = self._sandbox.finished()
        if not forms:
            return
        now = time.perf_counter()
        seconds = (now - self._since - self._sandbox.preparing) / len(forms)
        self._since = now
        self._sandbox.preparing = 0.0
        for form in forms:
            task_id, function_id, *_ = self._calls[self._answered]
            self._answered += 1
            self._worker.replies.add(task_id, function_id, 1, form, max(seconds, 0.0))
            if self._sandbox.drew():
                self._worker.replies.note_drawn(task_id)

    def _look_around(self) -> BaseException | None:
        """Do what the listener does, now and then while the child works for long."""
        worker = self._worker
        worker.take_in()
        if len(self._calls) > 1:
            self._answer()
            if time.perf_counter() > worker.replies.due:
                worker.replies.flush_due()
        progress = self._sandbox.progress()
        stuck = progress == self._progress
        self._progress = progress
        if self._sandbox.loading():
            # No task is overdue that could not begin yet: say that we are alive.
            now = time.perf_counter()
            stuck = now - self._told > LOADING_SECONDS
            if stuck:
                worker.replies.sign()
                self._told = now
        if stuck:
            worker.give_back()
        hurry = worker.sending()
        self._sandbox.tick = LOOK_SECONDS_SENDING if hurry else LOOK_SECONDS
        return self._revoked()

    def _revoked(self) -> BaseException | None:
        """Return what ends the call that runs, if nobody waits for it."""
        revoked = self._worker.revoked
        if not revoked or revoked.isdisjoint(call[0] for call in self._calls):
            return None
        if len(self._calls) > 1:
            # The others are looked at again when their turn comes.
            kept = self._sandbox.cut()
            if kept is not None:
                self._shorten(kept)
            elif self._sandbox.progress()[1] < len(self._calls):
                return None  # it has gone on meanwhile
        return CancelledError() if self._calls[-1][0] in revoked else None

    def _shorten(self, kept: int) -> None:
        """Take note that the sandbox has so many calls now."""
        self._calls = self._calls[:kept]
        self._done.intersection_update(call[0] for call in self._calls)


def _simple(call: tuple[Any, ...]) -> bool:
    """Whether it is a call, and without buffers."""
    return call[2] in (CALL_PLAIN, CALL) and not call[4]
