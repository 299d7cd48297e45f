"""On the rank: runs isolated tasks in a child process, and outlives what they do to it.

`Sandbox.run` takes one call, or one chunk of a map, and returns what the worker's loop
would have: a form to send. A segmentation fault, an abort, `os._exit`, a kill, too much
memory or too much time costs the call, or the one item of the chunk, that was running;
what comes next runs in a new child. Only what was not begun is ever run again.

Request to the child: ``(function id, functions and globals that it lacks, mode,
payload, first item, those to forget, task)``, and how to set up `logging`, if that is
new. Answers, one for a call, any number for a chunk:
``(first note, notes, item, (form, payload) or None, done, NumPy is loaded)``: the notes
that were on the slate, then the result of one item, whose buffers come along. And
between them ``(None, log record)``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mpitasks.worker.blame import Blame
from mpitasks.worker.children import Child, Children
from mpitasks.worker.order import Order, Run

if TYPE_CHECKING:
    from mpitasks.wire.messages import LogSetup
    from mpitasks.wire.outcomes import Form
    from mpitasks.worker.children import Ending

__all__ = ["Sandbox"]

TICK_SECONDS = 0.05
"""How often the rank looks around while a task runs, and lets the caller do so."""

WATCH_SECONDS = 0.02
"""The same while memory is watched. A task that takes memory as fast as the kernel can
give it, some GB/s, exceeds its limit by what fits in this time."""

LOAD_SECONDS = 60.0
"""How long loading the function may take, at least, where the task has a timeout."""

ATTEMPTS = 3
"""A child that dies before it began the task is replaced; so many may."""


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
        self._blame = Blame(rank, host)
        self._run: Run | None = None
        self._drew = False  # as in `Run`, of the last run
        self._rest: list[Form] = []  # results of calls that ran together
        self._forget: list[int] = []
        self._runs = 0
        self.tick = TICK_SECONDS
        self.preparing = 0.0
        self.logs: LogSetup | None = None
        self.on_record: Callable[[bytes], None] = lambda data: None
        self._began = 0.0  # when this attempt did, until its preparing is counted

    def run(self, order: Order, watch: Watch = lambda: None) -> tuple[int, Form | None]:
        """Run a call or a chunk.

        Args:
            order: What to run.
            watch: Called every `TICK_SECONDS` meanwhile. What it returns ends the
                call, or what is left of the chunk, by a kill, and is its error.

        Returns:
            The number of items, and what they came to, whatever happens to the child;
            None for calls that run together: `finished` has what they came to.

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
            if run.together:
                self._rest = run.hand_out()
                return len(run.items), None
            return len(run.items), run.form()
        finally:
            self._run = None

    def progress(self) -> tuple[int, int]:
        """Return what changes with each call, or item of a chunk, that is begun."""
        return self._runs, 0 if self._child is None else self._child.slate.begun

    def loading(self) -> bool:
        """Whether the child, or the function in it, is still being made ready."""
        run, child = self._run, self._child
        return run is not None and (
            child is None or child.slate.begun <= max(run.first, len(run.items))
        )

    def finished(self) -> list[Form]:
        """Return the results of calls that run together, or did, each once."""
        run = self._run
        if run is None:
            rest, self._rest = self._rest, []
            return rest
        if self._child is not None:
            self._count_preparing(self._child)
            run.add_notes(*self._child.slate.notes())
            run.drew = run.drew or self._child.slate.drew
        return run.hand_out()

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
        end = max(child.slate.begun, len(run.items) + 1)
        if end >= run.total or not child.slate.stop_at(end):
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
        child.slate.reset(len(run.items), run.total)
        fields, buffers = run.request(child.known, self._forget)
        if child.logs is not self.logs:
            child.logs = self.logs
            fields = (*fields, self.logs)
        try:
            child.channel.send(fields, buffers)
        except ConnectionError:
            self._bury(run, child)
            return
        except (OSError, MemoryError) as error:  # no memory to share
            run.fail(error, f"{self._where} could not hand it to its child: {error}")
            return
        del fields, buffers
        child.known.update(each.id for each in run.order.sent)
        self._forget = []
        end = self._follow(run, child, watch)
        self._count_preparing(child)
        if end is not None:
            end()

    def _count_preparing(self, child: Child) -> None:
        if self._began and child.slate.ready > self._began:
            self.preparing += child.slate.ready - self._began
            self._began = 0.0

    def _fit_child(self, order: Order, watch: Watch) -> Child:
        """Return a living child, and a fresh one if memory is to be watched."""
        child = self._child
        limit = order.memory_limit
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
            if self._take(run, child):
                return None
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
        if child.slate.begun <= run.first:  # the function is being loaded
            timeout = max(timeout, LOAD_SECONDS)
        return child.slate.since + timeout

    def _take(self, run: Run, child: Child) -> bool:
        """Take in what the child has sent; return whether it is done."""
        while True:
            try:
                message = child.channel.receive()
            except BlockingIOError:
                return False
            if message is None:
                child.hung_up = True
                return False
            fields, buffers = message
            if fields[0] is None:
                self.on_record(fields[1])
                continue
            first, notes, at, told, done, has_numpy = fields
            if has_numpy and not child.has_numpy:
                child.has_numpy = True
                self._children.load_numpy()
            run.add_notes(first, notes)
            run.drew = run.drew or child.slate.drew
            if done:
                run.add_notes(*child.slate.notes())
            if told is not None and at == len(run.items):
                form, payload = told
                run.add(form, payload, buffers)
            if done:
                return True

    def _bury(self, run: Run, child: Child) -> None:
        """The child has died: let the item fail that it was running."""
        ending = self._end(child, run)
        if child.begun > len(run.items) and not run.finished:
            self._fail(run, child, self._blame.crash(run.order, ending))
            return
        run.futile += 1
        if run.futile >= ATTEMPTS and not run.finished:
            self._fail(run, child, self._blame.stillborn(run.order, ending))

    def _kill(
        self, run: Run, child: Child, blame: Callable[[Order], BaseException]
    ) -> None:
        """Kill the child, and let the item fail, unless it was done just now."""
        guilty = max(child.slate.begun, run.first + 1)
        self._end(child, run)
        if len(run.items) < min(guilty, run.total):
            self._fail(run, child, blame(run.order))

    def _stop(self, run: Run, child: Child, error: BaseException) -> None:
        """Kill the child, and let everything fail that is left, or one of the calls."""
        guilty = max(child.slate.begun, run.first + 1) if run.together else run.total
        self._end(child, run)
        while len(run.items) < min(guilty, run.total):
            run.fail(error, f"Stopped on {self._where}.")

    def _fail(self, run: Run, child: Child, error: BaseException) -> None:
        report = child.last_words or "It left no report."
        run.fail(error, f"Crash in the child of {self._where}:\n{report}\n")

    def _end(self, child: Child, run: Run | None = None) -> Ending:
        """End the child, and take in what it still left."""
        ending = self._children.end(child)
        if run is not None:
            self._take(run, child)
            run.add_notes(*child.slate.notes())
            run.drew = run.drew or child.slate.drew
        child.close()
        self._child = None
        self._forget = []  # the next one knows nothing
        return ending


def _held(run: Run, child: Child) -> bool:
    """Keep the child from beginning another item; return whether it has not.

    Whoever kills it would kill that one, too.
    """
    begun = max(child.slate.begun, run.first + 1)
    return begun >= run.total or child.slate.stop_at(begun)
