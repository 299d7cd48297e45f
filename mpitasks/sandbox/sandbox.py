"""On the rank: runs isolated tasks in a child process, and outlives what they do to it.

`Sandbox.run` takes one call, one chunk of a map, or several calls of one function.
`Sandbox.finished` hands out what they came to, as forms to send. A segmentation fault,
an abort, `os._exit`, a kill, too much memory or too much time costs the call, or the
one item of the chunk, that was running; what comes next runs in a new child. Only what
was not begun is ever run again.

Request to the child: ``(number, function id, functions and globals that it lacks, mode,
payload, first item, those to forget, task)``, and how to set up `logging`, if that is
new. Answers, one for a call, any number for a chunk: ``(notes, item, (form, payload) or
None, done, random numbers were drawn, NumPy is loaded)``: the notes that were on the
progress page, or None if they are there still, then the result of one item, whose
buffers come along. And between them ``(LOG, log record)``.

What a task writes to the files and the memory that it shares with the rank is no reason
for the rank to fail: see `mpitasks.runner.damage`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks import walltime
from mpitasks.runner.damage import Damaged
from mpitasks.sandbox.channel import LOG
from mpitasks.sandbox.children import Child, Children
from mpitasks.sandbox.request import Run, SandboxRequest, read_answer
from mpitasks.sandbox.task_errors import TaskErrors
from mpitasks.wire.processes import frozen

if TYPE_CHECKING:
    from mpitasks.sandbox.children import ChildExit
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.outcomes import Form

__all__ = ["Sandbox"]

TICK_SECONDS = 0.03
"""How often the rank looks after the child while a task runs, and calls `watch`."""

WATCH_SECONDS = 0.02
"""The same while memory is watched. A task that takes memory as fast as the kernel can
give it, some GB/s, exceeds its limit by what fits in this time."""

LOAD_SECONDS = 60.0
"""How long loading the function may take, at least, where the task has a timeout."""

TAKE_SECONDS, TAKE_SECONDS_FROZEN = 30.0, 0.5
"""How long a child may take to take a request, before anything of it is begun: one that
earlier tasks have blocked is replaced. The second holds for one that was stopped."""

ATTEMPTS = 3
"""How many children in a row may die before they begin the task."""


Watch = Callable[[], BaseException | None]


class Sandbox:
    """The child process of a rank, as it comes and goes.

    Used by one thread, which must live as long as the rank.

    Args:
        rank: The rank's number.
        host: Its host.
        where: Both and the process, for the head of tracebacks.

    Attributes:
        tick: How often `watch` is called, in seconds.
        logs: How the child is to set up `logging`, if it is.
        on_record: Gets the log records of the child.
        preparing: How much of the last run was spent on starting children and loading
            the function, in seconds; whoever has taken note of it may set it to 0.
    """

    def __init__(self, rank: int, host: str, where: str) -> None:
        self._where = where
        self._children = Children(rank, where)
        self._child: Child | None = None
        self._blame = TaskErrors(rank, host)
        self._run: Run | None = None
        self._drew = False  # as in `Run`, of the last run
        self._rest: list[Form] = []  # results of the last run
        self._forget: list[int] = []
        self._runs = 0
        self.tick = TICK_SECONDS
        self.preparing = 0.0
        self.logs: LogSetup | None = None
        self.on_record: Callable[[bytes], None] = lambda data: None
        self._began = 0.0  # when this attempt did, until its preparing is counted
        self._sent = 0.0  # when the child was sent its request
        self._seen = 0, 0.0  # how many items were begun, and since when we know

    def run(self, order: SandboxRequest, watch: Watch = lambda: None) -> None:
        """Run a call, a chunk, or several calls, whatever happens to the child.

        `finished` has what they came to.

        Args:
            order: What to run.
            watch: Called every `TICK_SECONDS` meanwhile. What it returns ends the
                call, or what is left of the chunk, by a kill, and is its error.

        Raises:
            InternalError: No child can be started.
        """
        self._run = run = Run(order)
        self._runs += 1
        self.tick = TICK_SECONDS
        self.preparing = 0.0
        try:
            while not run.finished:
                self._attempt(run, watch)
            self._drew = run.drew
            self._rest = run.hand_out()
        finally:
            self._run = None

    def progress(self) -> tuple[int, int]:
        """Return what changes with each call, or item of a chunk, that is begun."""
        return self._runs, 0 if self._child is None else self._child.page.begun

    def loading(self) -> bool:
        """Whether the child, or the function in it, is still being made ready."""
        run, child = self._run, self._child
        return run is not None and (
            child is None or child.page.begun <= max(run.first, len(run.items))
        )

    def finished(self) -> list[Form]:
        """Return the results of items, or calls, that were not returned before.

        While a chunk runs, that of its last item is not among them.
        """
        run = self._run
        if run is None:
            rest, self._rest = self._rest, []
            return rest
        if self._child is not None:
            self._count_preparing(self._child)
            with contextlib.suppress(Damaged):  # the child may still have it whole
                run.add_notes(self._child.page.notes())
            run.drew = run.drew or self._child.page.drew
        return run.hand_out(0 if run.together else 1)

    def drew(self) -> bool:
        """Whether results that were handed out may depend on random numbers of ours."""
        return self._drew if self._run is None else self._run.drew

    def cut(self) -> int | None:
        """Have a chunk end with the item that is running; to be called by `watch`.

        Returns:
            How many items, or calls, it has now, if that is fewer; the others were not
            begun.
        """
        run, child = self._run, self._child
        if run is None or child is None:
            return None
        end = max(child.page.begun, len(run.items) + 1)
        if end >= run.total or not child.page.stop_at(end):
            return None
        run.total = end
        return end

    def forget(self, function_ids: Sequence[int]) -> None:
        """These functions will not be asked for again, or be sent anew."""
        if self._child is not None:
            known = self._child.known.intersection(function_ids)
            self._child.known -= known
            self._forget += known

    def close(self) -> None:
        """End the child, which gets a moment to leave by itself, and all it started."""
        child, self._child = self._child, None
        self._children.close(child)
        if child is not None:
            child.close()

    def _attempt(self, run: Run, watch: Watch) -> None:
        """Send what is left to a child, and follow it until it is done or dead."""
        self._began = time.monotonic()
        child = self._fit_child(run.order, watch)
        child.requests += 1
        child.page.reset(len(run.items), run.total)
        child.page.tell_job_end(*walltime.known())
        fields, buffers = run.request(child.known, self._forget)
        if child.logs is not self.logs:
            child.logs = self.logs
            fields = (*fields, self.logs)
        try:
            child.channel.send((child.page.number, *fields), buffers)
        except ConnectionError:
            self._bury(run, child)
            return
        except (OSError, MemoryError) as error:  # no memory to share
            run.fail(error, f"{self._where} could not hand it to its child: {error}")
            return
        del fields, buffers
        child.known.update(each.id for each in run.order.sent)
        self._forget = []
        self._sent = time.monotonic()
        self._seen = len(run.items), self._sent
        done = len(run.items)
        try:
            end = self._follow(run, child, watch)
        except Damaged as damage:
            self._ruin(run, child, damage)
            return
        self._count_preparing(child)
        if end is not None:
            end()
        elif not run.finished and len(run.items) == done:
            self._renew(run, child)  # it said that it was done

    def _count_preparing(self, child: Child) -> None:
        ready = min(child.page.ready, time.monotonic())
        if self._began and ready > self._began:
            self.preparing += ready - self._began
            self._began = 0.0

    def _fit_child(self, order: SandboxRequest, watch: Watch) -> Child:
        """Return a living child, a fresh one if it must be."""
        child = self._child
        limit = order.memory_limit
        if (
            child is not None
            and order.max_tasks is not None
            and child.requests >= order.max_tasks
        ):
            self._children.retire(child)
            self._end(child)
            child = None
        if child is not None and (
            child.dead()
            # What earlier tasks left there does not count as this one's.
            or (limit is not None and 2 * child.resident() > limit and child.known)
        ):
            self._end(child)
        if self._child is None:
            self._child = self._children.new(watch)
        return self._child

    def _follow(
        self, run: Run, child: Child, watch: Watch
    ) -> Callable[[], None] | None:
        """Wait for the answers; return how to end the child if it must end."""
        limit = run.order.memory_limit
        looked = time.monotonic()
        while True:
            tick = self.tick if limit is None else min(self.tick, WATCH_SECONDS)
            due = self._due(run, child)
            child.wait(min(looked + tick, due) - time.monotonic())
            answered = child.page.answered
            if self._take(run, child):
                return None
            if answered:
                raise Damaged("something else in the place of its answer")
            if child.gone():
                # It may have died with its last answer on the way.
                return (
                    None if self._take(run, child) else lambda: self._bury(run, child)
                )
            now = time.monotonic()
            # Held first: what it began meanwhile is not overdue, and then it shows.
            if now >= due and _held(run, child) and now >= self._due(run, child):
                return lambda: self._kill(run, child, self._blame.overdue)
            if now < looked + tick:
                continue
            looked = now
            child.page.tell_job_end(*walltime.known())
            if self._blocked(child, now):
                return lambda: self._renew(run, child)
            if limit is not None:
                resident = child.resident()
                # From half of it on, the next item gets a fresh child: `_fit_child`.
                if 2 * resident > limit and _held(run, child) and resident > limit:
                    blame = functools.partial(self._blame.overflow, resident)
                    return lambda: self._kill(run, child, blame)
            stop = watch()
            if stop is not None and (not run.together or _held(run, child)):
                return lambda: self._stop(run, child, stop)

    def _due(self, run: Run, child: Child) -> float:
        """Return when the item that runs has run for too long."""
        timeout = run.order.timeout
        if timeout is None:
            return float("inf")
        begun = child.page.begun
        if begun != self._seen[0]:
            self._seen = begun, time.monotonic()
        if begun <= run.first:  # the function is being loaded
            timeout = max(timeout, LOAD_SECONDS)
        return min(child.page.since, self._seen[1]) + timeout

    def _blocked(self, child: Child, now: float) -> bool:
        """Whether the child does not even take its request."""
        if not child.page.untouched or now < self._sent + TAKE_SECONDS_FROZEN:
            return False
        return now > self._sent + TAKE_SECONDS or frozen(child.pid)

    def _take(self, run: Run, child: Child) -> bool:
        """Take in what the child has sent; return whether it is done.

        What is no message is left out: the task has written it.

        Raises:
            Damaged: There is no result where one should be.
        """
        while True:
            try:
                message = child.channel.receive()
            except BlockingIOError:
                return False
            except Damaged:
                continue
            if message is None:
                child.hung_up = True
                return False
            fields, buffers = message
            if fields[:1] == (LOG,):
                self._take_record(fields)
                continue
            answer = read_answer(fields)
            if answer is None:
                continue
            notes, at, told, done, drew, has_numpy = answer
            if has_numpy and not child.has_numpy:
                child.has_numpy = True
                self._children.load_numpy()
            run.drew = run.drew or drew or child.page.drew
            run.add_notes(child.page.notes() if notes is None else notes)
            if told is not None:
                run.add_answer(at, told, buffers)
            if done:
                return True

    def _take_record(self, fields: tuple[Any, ...]) -> None:
        """Pass a log record on, if it is one."""
        if len(fields) == 2 and type(fields[1]) is bytes:
            self.on_record(fields[1])

    def _bury(self, run: Run, child: Child) -> None:
        """The child has died: let the item fail that it was running."""
        ending = self._end(child, run)
        if child.begun > len(run.items) and not run.finished:
            self._fail(run, child, self._blame.crash(run.order, ending))
            return
        self._count_futile(run, child, ending)

    def _renew(self, run: Run, child: Child) -> None:
        """Try with another child, since this one begins nothing."""
        self._count_futile(run, child, self._end(child, run))

    def _count_futile(self, run: Run, child: Child, ending: ChildExit) -> None:
        run.futile += 1
        if run.futile >= ATTEMPTS and not run.finished:
            self._fail(run, child, self._blame.stillborn(run.order, ending))

    def _ruin(self, run: Run, child: Child, damage: Damaged) -> None:
        """Results are lost, since a task has written where they were.

        What was begun and has none fails: it is not run twice.
        """
        ending = self._end(child, run)
        begun = min(max(child.begun, len(run.items) + 1), run.total)
        while len(run.items) < begun:
            self._fail(run, child, self._blame.ruin(run.order, ending, damage))

    def _kill(
        self, run: Run, child: Child, blame: Callable[[SandboxRequest], BaseException]
    ) -> None:
        """Kill the child, and let the item fail, unless it was done just now."""
        guilty = max(child.page.begun, run.first + 1)
        self._end(child, run)
        if len(run.items) < min(guilty, run.total):
            self._fail(run, child, blame(run.order))

    def _stop(self, run: Run, child: Child, error: BaseException) -> None:
        """Kill the child, and let everything fail that is left, or one of the calls."""
        guilty = max(child.page.begun, run.first + 1) if run.together else run.total
        self._end(child, run)
        while len(run.items) < min(guilty, run.total):
            run.fail(error, f"Stopped on {self._where}.")

    def _fail(self, run: Run, child: Child, error: BaseException) -> None:
        report = child.last_words or "It left no report."
        run.fail(error, f"Crash in the child of {self._where}:\n{report}\n")

    def _end(self, child: Child, run: Run | None = None) -> ChildExit:
        """End the child, and take in what it still left."""
        ending = self._children.end(child)
        if run is not None:
            with contextlib.suppress(Damaged):
                self._take(run, child)
                run.add_notes(child.page.notes())
            run.drew = run.drew or child.page.drew
        child.close()
        self._child = None
        self._forget = []  # the next one knows nothing
        return ending


def _held(run: Run, child: Child) -> bool:
    """Keep the child from beginning another item; return whether it has not.

    Whoever kills it would kill that one, too.
    """
    begun = max(child.page.begun, run.first + 1)
    return begun >= run.total or child.page.stop_at(begun)
