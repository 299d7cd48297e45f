"""Lineage: kept results that went with their worker are computed again.

A `Recipe` is what rank 0 remembers of the call that made a kept result, for as long as
somebody needs the result: the call as it was sent, with the recipes of kept results
among its arguments in their places. It holds none of their data. If a result is lost,
the call runs again, after those that it needs. The `KeptResult` is then where the new
result is, so all that refers to it goes on. Tasks that need it meanwhile wait for that
call.

Only runs that go on when a rank dies have recipes. Everything here is called under the
event loop's lock, and runs no code of the user.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mpitasks.master.inputs import SOME, unnamed
from mpitasks.master.kept_results import KeptResult, has_inputs
from mpitasks.master.payloads import Call
from mpitasks.scheduler.events import ActorTask, Event, Task, TasksSubmitted
from mpitasks.wire.messages import KEPT
from mpitasks.wire.outcomes import Failure

if TYPE_CHECKING:
    from mpitasks.master.inputs import Inputs
    from mpitasks.master.passing import Passing
    from mpitasks.scheduler.events import TaskId

__all__ = ["Lineage", "Recipe", "recipe_of"]

LONGEST_LINEAGE = 100
"""A recipe needs at most so many others, one after another. What took more calls in a
row is not made again: it would take as long as the run has taken."""

LARGEST_BYTES = 64 << 10
"""A call with more arguments has no recipe: rank 0 would have to keep them."""


class Recipe:
    """How a kept result was made.

    Attributes:
        call: The call, with a `_Parent` in the place of each kept result among its
            arguments.
        rest: What `Call.anew` needs besides.
        depth: How many recipes it takes to make it from nothing.
    """

    __slots__ = ("call", "depth", "rest")

    def __init__(self, call: Call) -> None:
        *head, payload, count = call.wire
        self.depth = 1
        if has_inputs(call.wire):
            frame, own, entries, token = payload
            entries = [_with_parent(entry) for entry in entries]
            payload = frame, own, entries, token
            parents = [entry[1] for entry in entries if entry[0] == KEPT]
            depths = [parent.depth for parent in parents]
            self.depth += max(depths, default=0)
        self.call = (*head, payload, count)
        self.rest = (
            call.target,
            call.options,
            call.owner,
            call.place,
            call.needs,
            call._event_loop,
        )

    def results(self) -> tuple[Any, ...]:
        """Return the call with its kept results; those that are gone are lost ones."""
        *head, payload, count = self.call
        if has_inputs(self.call):
            frame, own, entries, token = payload
            entries = [
                (form, part.found() if form == KEPT else part, own_count)
                for form, part, own_count in entries
            ]
            payload = frame, own, entries, token
        return (*head, payload, count)


class _Parent:
    """A kept result among the arguments of a call that has made another one."""

    __slots__ = ("_at", "_owner", "_result", "depth", "recipe")

    def __init__(self, result: KeptResult) -> None:
        self._result = weakref.ref(result)
        self._at = result.at
        self._owner = result.owner
        self.recipe: Recipe | None = result.recipe
        self.depth = LONGEST_LINEAGE if self.recipe is None else self.recipe.depth

    def found(self) -> KeptResult:
        """Return it; as a lost one if nobody has needed it any more.

        Its memory may be given away at this moment, to the last task that was known to
        need it.
        """
        found = self._result()
        if found is None or found.is_last:
            found = KeptResult(self._at, None, self._owner)
            found.recipe = self.recipe
            found.was_released = True
            self._result = weakref.ref(found)
        return found


def _with_parent(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    form, part, count = entry
    return (form, _Parent(part), count) if form == KEPT else entry


def recipe_of(task: Task) -> Recipe | None:
    """Return how a call that is done can be run again; None if it shall not be."""
    call: Call = task.payload
    if isinstance(task, ActorTask):
        return None  # what it returns depends on the calls before it
    if call.wire is None or call.buffers or task.nbytes > LARGEST_BYTES:
        return None
    recipe = Recipe(call)
    return recipe if recipe.depth <= LONGEST_LINEAGE else None


class Lineage:
    """Makes lost results again.

    Args:
        ids: Where tasks get their ids from.
        passing: Passes results on.
        handle: Lets the scheduler decide about an event, and does what it decided.

    Attributes:
        recovered: How many calls were run again for lost results.
    """

    def __init__(
        self,
        ids: Iterator[TaskId],
        passing: Passing,
        handle: Callable[[Event], None],
    ) -> None:
        self._ids = ids
        self._passing = passing
        self._handle = handle
        self.recovered = 0
        # By the ids of tasks that run again: the losses of their inputs so far.
        self._seen: dict[TaskId, int] = {}

    def prepare(self, lost: Iterable[KeptResult]) -> list[Call]:
        """Return calls that make results again which are about to be lost.

        From now on whoever needs one of these results waits for its call.
        """
        calls: list[Call] = []
        for kept in lost:
            self._prepare(kept, calls)
        return calls

    def submit(self, calls: Iterable[Call]) -> None:
        """Have such calls run, once their results are lost."""
        for call in calls:
            self.recovered += 1
            inputs = call.unfill(call.task)
            if inputs is None:
                self._handle(TasksSubmitted([call.task]))
            else:
                self._submit(call.task, inputs)

    def run_again(self, task: Task) -> bool:
        """Run a task again that did not get a kept result.

        Returns:
            Whether that makes sense: the result was lost, and is there again or will
            be.
        """
        payload = task.payload
        inputs = payload.unfill(task) if payload.is_sendable() else None
        if inputs is None:
            return False
        losses = sum([form[1].losses for form in inputs.forms if form[0] == KEPT])
        if losses <= self._seen.pop(task.id, 0):  # it is lost for another reason
            payload.fill(task)
            return False
        again = Task(
            next(self._ids),
            task.function,
            payload,
            0,
            task.priority,
            task.task_spec,
            start=task.start,
            alone=task.alone,
        )
        self._seen[again.id] = losses
        inputs.task = again
        payload.replace_task(again)
        self._submit(again, inputs)
        return True

    def _prepare(self, kept: KeptResult, calls: list[Call]) -> bool:
        """Prepare a call that makes a result again; return whether there is one."""
        if kept.pending is not None:
            return True
        recipe: Recipe | None = kept.recipe
        if recipe is None:
            return False
        wire = recipe.results()
        if has_inputs(wire):
            for form, parent, _ in wire[3][2]:
                is_gone = form == KEPT and parent.is_gone
                if is_gone and not self._prepare(parent, calls):
                    return False
        call = Call.anew(next(self._ids), wire, *recipe.rest)
        call.revives = kept
        kept.pending = call
        calls.append(call)
        return True

    def _wait(self, inputs: Inputs) -> None:
        """Have a task wait for those of its inputs that are being made again."""
        for index, form in enumerate(inputs.forms):
            if form is None or form[0] != KEPT or not form[1].is_gone:
                continue
            kept: KeptResult = form[1]
            maker: Any = kept.pending
            if maker is None:
                inputs.lose(Failure(kept.error()), unnamed)
                return
            inputs.forms[index] = None
            inputs.wait_for(maker, index)

    def _submit(self, task: Task, inputs: Inputs) -> None:
        self._wait(inputs)
        task.inputs = SOME
        self._passing.open(task)
        self._handle(TasksSubmitted([task]))
