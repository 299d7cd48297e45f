"""Isolated tasks of a worker: hands them to the sandbox, and watches over them there.

Consecutive calls of one function go into the sandbox together, since each visit there
costs two changes of process. Each of them remains a task of its own, and its result
leaves at the rank's next look. While the child works, the rank does here what the
listener does for other tasks. This module is imported with the first isolated task.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from mpitasks.sandbox.request import make_joint_order, make_order
from mpitasks.sandbox.sandbox import Sandbox
from mpitasks.wire.inputs import shared_ids
from mpitasks.wire.messages import CALL, CALL_PLAIN, PLAIN
from mpitasks.wire.outcomes import Sealed, encode_items
from mpitasks.worker.listener import (
    LOOK_SECONDS,
    LOOK_SECONDS_SENDING,
    UNRESPONSIVE_SECONDS,
)

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.outcomes import Form
    from mpitasks.worker.speaker import Speaker
    from mpitasks.worker.state import Call

__all__ = ["Isolation"]

LOADING_SECONDS = 1.0
"""How often a rank tells the master that its child is not ready yet. What waits behind
that task is given back only then: other ranks have to start their children, too."""

TOGETHER = 64
"""The most calls that go into the sandbox at once."""


class Isolation:
    """The isolated tasks of one worker.

    Args:
        worker: The worker.
        rank: What tasks call its rank.
        host: Its host.
        where: Both and the process, for the head of tracebacks.
    """

    def __init__(self, worker: Speaker, rank: int, host: str, where: str) -> None:
        self._worker = worker
        self._own = rank, host
        self._where = where
        self._sandbox = Sandbox(rank, host, where)
        self._joint = False  # whether several calls run there together
        self._answered = 0  # how many of these were reported, or items of a chunk
        self._since = 0.0
        self._told = 0.0  # when the master was last told of them
        self._progress = 0, 0  # of the sandbox, when we looked last
        self._changed = 0.0  # when it was seen to change

    def run(self, buffers: list[Buffer]) -> None:
        """Run the call that comes next, and perhaps some behind it; add the outcomes.

        Args:
            buffers: Those of the call.
        """
        worker, state = self._worker, self._worker.state
        calls = state.visit(TOGETHER)
        self._joint = len(calls) > 1
        specs = [state.spec_of(call) for call in calls]
        places = [state.places(call[0]) for call in calls]
        functions = worker.functions
        shared: set[int] = set().union(*(shared_ids(call[3]) for call in calls))
        sent = [*functions.shared(shared), *functions.needed(calls[0][1])]
        if self._joint:
            order = make_joint_order(calls, sent, specs, self._own, places)
        else:
            call = calls[0][:4]
            order = make_order(call, buffers, sent, specs[0], self._own, places[0])
        self._answered = 0
        logs = worker.replies.logs
        if logs is not None:
            self._sandbox.logs = logs.setup
            self._sandbox.on_record = logs.take_held
        self._since = self._told = self._changed = time.perf_counter()
        self._sandbox.run(order, self._look_around)
        self._answer(last=True)
        state.leave()

    def cut(self) -> int | None:
        """Take back from the sandbox what it has not begun.

        Returns:
            How many items that were not reported a chunk has now, if it was cut.
        """
        kept = self._sandbox.cut()
        if kept is None:
            return None
        if self._joint:
            self._worker.state.keep_inside(kept)
            return None
        return kept - self._answered

    def forget(self, function_ids: Sequence[int]) -> None:
        """Forget functions: the master sends them again before it uses them."""
        self._sandbox.forget(function_ids)

    def close(self) -> None:
        """End the child and whatever it has started."""
        self._sandbox.close()

    def _answer(self, *, last: bool = False) -> None:
        """Report the outcomes that have come since the last report."""
        forms = self._sandbox.finished()
        if not forms:
            return
        now = time.perf_counter()
        seconds = max(now - self._since - self._sandbox.preparing, 0.0)
        self._since = now
        if not last:
            self._sandbox.preparing = 0.0
        first, self._answered = self._answered, self._answered + len(forms)
        replies = self._worker.replies
        calls = self._worker.state.inside()
        if self._joint:
            for call, form in zip(calls[first:], forms, strict=False):
                form = self._kept(call, form)
                replies.add(call[0], call[1], 1, form, seconds / len(forms))
                self._note_drawn(call[0])
            return
        task_id, function_id, mode, *_ = calls[0]
        if mode in (CALL_PLAIN, CALL):
            [form] = forms
            form = self._kept(calls[0], form)
            replies.add(task_id, function_id, 1, form, seconds)
        else:
            values = [f[1] if f[0] == PLAIN else Sealed(f) for f in forms]
            form = encode_items(values, self._where)
            add = replies.add if last else replies.add_part
            add(task_id, function_id, len(forms), form, seconds)
        self._note_drawn(task_id)
        if not last:
            replies.flush(0)

    def _kept(self, call: Call, form: Form) -> Form:
        """Return what to report of a call: perhaps that its result is kept here."""
        worker = self._worker
        if not worker.state.spec_of(call).keep:
            return form
        return worker.kept.keep(call[0], form)

    def _note_drawn(self, task_id: int) -> None:
        if self._sandbox.drew():
            self._worker.replies.note_drawn(task_id)

    def _look_around(self) -> BaseException | None:
        """Do what the listener does for other tasks; called while the child works."""
        worker = self._worker
        worker.take_in()
        self._answer()
        now = time.perf_counter()
        if now > worker.replies.due:
            worker.replies.flush_due()
        progress = self._sandbox.progress()
        if progress != self._progress:
            self._progress, self._changed = progress, now
        unresponsive = now - self._changed >= UNRESPONSIVE_SECONDS
        if self._sandbox.loading():
            # The task could not begin yet, so it is not overdue: tell the master that
            # this rank works.
            unresponsive = now - self._told > LOADING_SECONDS
            if unresponsive:
                worker.replies.sign()
                self._told = now
        if unresponsive:
            worker.give_back()
        hurry = worker.sending()
        self._sandbox.tick = LOOK_SECONDS_SENDING if hurry else LOOK_SECONDS
        return self._revoked()

    def _revoked(self) -> BaseException | None:
        """Return the error that ends the call that runs, if the call was cancelled."""
        state = self._worker.state
        if not state.revoked:
            return None
        calls = state.inside()
        if state.revoked.isdisjoint([call[0] for call in calls]):
            return None
        if len(calls) > 1:
            # The state leaves out the others when their turn comes.
            kept = self._sandbox.cut()
            if kept is not None:
                state.keep_inside(kept)
                calls = state.inside()
            elif self._sandbox.progress()[1] < len(calls):
                return None  # it has gone on meanwhile
        return CancelledError() if calls[-1][0] in state.revoked else None
