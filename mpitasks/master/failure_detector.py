"""Rank 0's failure detector: notices that a rank has died or fallen silent, and acts.

A thread of its own sleeps until a process of this machine dies (`mpitasks.wire
.processes`) and looks every few seconds for ranks that only fell silent: frozen ones
here, ones that answer no inquiry elsewhere (`mpitasks.scheduler.heartbeat`). Where the
MPI survives the death of a rank, the event loop is told, and goes on with the others;
elsewhere the run is ended at once, before somebody waits for the dead rank for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mpitasks.scheduler.events import (
    ActorFailed,
    Fail,
    GiveUp,
    RankLost,
    RunningAbandoned,
)
from mpitasks.scheduler.heartbeat import (
    PERIOD_SECONDS,
    SILENT_SECONDS,
    SILENT_SECONDS_BUSY,
    SILENT_SECONDS_FATAL,
    SilenceMonitor,
)
from mpitasks.wire.processes import Watch, frozen

if TYPE_CHECKING:
    from mpitasks.master.event_loop import EventLoop
    from mpitasks.scheduler.events import Action, Event, Rank, Task
    from mpitasks.wire.messages import Hello

__all__ = ["FailureDetector", "describe"]

NUDGES = 100
"""With nothing outstanding, the event loop is nudged at most this often, to take in
signs of life."""


def describe(held: Sequence[Task]) -> str:
    """Return what a rank was doing, to be put behind what became of it."""
    if not held:
        return " while it had no task"
    first = held[0]
    more = f" and held {len(held) - 1} more" if len(held) > 1 else ""
    return f" while it ran {first.payload.describe(first)}{more}"


class FailureDetector:
    """Looks after the workers of a run.

    Args:
        event_loop: What is told of losses.
        hellos: What each rank said of itself, by rank; rank 0's first.
        end_run: Ends the whole run, saying so; None where the MPI survives a loss.
        say: Tells the user something.
        listens: Whether workers can answer while user code runs.
    """

    def __init__(
        self,
        event_loop: EventLoop,
        hellos: Sequence[Hello],
        end_run: Callable[[str], None] | None,
        say: Callable[[str], None],
        *,
        listens: bool = False,
    ) -> None:
        self._event_loop = event_loop
        self._hellos = hellos
        self._end_run = end_run
        self._say = say
        own = hellos[0].machine
        self._here = [h for h in hellos[1:] if h.machine == own]
        self._elsewhere = [h.rank for h in hellos[1:] if h.machine != own]
        self._listens = listens
        fatal = end_run is not None
        self._frozen = SilenceMonitor()
        self._silent = SilenceMonitor(SILENT_SECONDS_FATAL if fatal else SILENT_SECONDS)
        self._lengthy = SilenceMonitor(SILENT_SECONDS_BUSY)
        self._told: set[Rank] = set()
        pids = {hello.rank: hello.pid for hello in self._here}
        self._watch = Watch(pids, self._died, self._look, PERIOD_SECONDS)

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()
        self._event_loop.engine.on_peer_failure = self.lost
        if self._end_run is None:
            self._event_loop.engine.listen(self._listen)

    def stop(self) -> None:
        """End it: the workers leave."""
        self._watch.stop()

    def untold(self) -> bool:
        """Whether a rank of this machine is dead, which is not said yet."""
        return self._watch.untold()

    def lost(self, rank: Rank, how: str) -> None:
        """Take note that a rank is gone, and see to it that it stays so."""
        if rank not in self._event_loop.running_workers():
            return  # it said goodbye, or is known to be gone
        hello = self._hellos[rank]
        text = f"rank {rank} on {hello.host} (pid {hello.pid}) {how}"
        if self._end_run is not None:
            self._end_run(f"{text}{describe(self._event_loop.held(rank))}")
            return
        if hello in self._here:
            # Whoever is declared dead must not come back; and MPI reports who was
            # killed, but not who only ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(hello.pid, signal.SIGKILL)
        self._event_loop.lose(rank, text)

    def _tell(self, rank: Rank, held: Sequence[Task]) -> None:
        """Say who is gone, and who goes on. Under the event loop's lock."""
        hello = self._hellos[rank]
        where = f"rank {rank} on {hello.host} (pid {hello.pid})"
        how = self._event_loop.engine.losses[rank]
        if not how.startswith(where):  # MPI says only that it is dead
            how = f"{where} died"
        left = len(self._event_loop.running_workers())
        goes_on = f"workers left: {left}" if left else "no worker is left"
        self._say(f"{how}{describe(held)}; {goes_on}")

    def _listen(self, now: float, event: Event, actions: Sequence[Action]) -> None:
        """Say who is lost; lose who does not come back. A listener of the engine."""
        held: list[Task] = []
        for action in actions:
            if type(action) is GiveUp and type(event) is not RunningAbandoned:
                # Else nobody waits for the task, and its worker may be well.
                self.lost(action.rank, "did not come back from a task")
            elif type(action) is Fail and action.rank is not None:
                held = [*held, *action.tasks]
            elif type(action) is ActorFailed and action.held:
                held = [*action.tasks, *held]
        if type(event) is RankLost:
            self._tell(event.rank, held)

    def _died(self, rank: Rank, how: str) -> None:
        self.lost(rank, how)

    def _look(self) -> None:
        """Look for ranks that live and are silent."""
        now = time.monotonic()
        running = set(self._event_loop.running_workers())
        here = [hello.rank for hello in self._here if hello.rank in running]
        awake = {rank for rank in here if not frozen(self._hellos[rank].pid)}
        for rank in self._frozen.look(now, here, awake).lost:
            if self._end_run is None:
                self.lost(rank, "was frozen")
            else:
                self._say_once(rank, self._frozen_text(rank))
        if self._event_loop.background.enabled:  # else this thread must not use MPI
            self._look_elsewhere(now, running)

    def _look_elsewhere(self, now: float, running: set[Rank]) -> None:
        """Look for ranks of other machines that are silent, and ask them."""
        for _ in range(NUDGES):
            if self._event_loop.outstanding or not self._event_loop.nudge():
                break  # somebody else turns it, or all has been taken in
        heard, self._event_loop.engine.heard = self._event_loop.engine.heard, set()
        far = [rank for rank in self._elsewhere if rank in running]
        busy = {rank for rank in far if self._event_loop.held(rank)}
        found = self._silent.look(now, set(far) - busy, heard)
        lengthy = self._lengthy.look(now, busy if self._listens else (), heard)
        for rank in found.lost:
            self.lost(rank, "does not answer")
        for rank in lengthy.lost:
            self._say_once(rank, self._silent_text(rank))
        if self._end_run is None:  # else they give signs without being asked
            self._event_loop.inquire(found.ask + lengthy.ask)

    def _say_once(self, rank: Rank, text: str) -> None:
        if rank not in self._told:
            self._told.add(rank)
            self._say(text)

    def _silent_text(self, rank: Rank) -> str:
        return (
            f"rank {rank} on {self._hellos[rank].host} has been silent for "
            f"{SILENT_SECONDS_BUSY:g} s{describe(self._event_loop.held(rank))}: it is "
            f"in C code that keeps Python's global lock, or gone; a timeout for the "
            f"task tells which"
        )

    def _frozen_text(self, rank: Rank) -> str:
        hello = self._hellos[rank]
        return (
            f"rank {rank} on {hello.host} is stopped and answers nobody; continue it "
            f"with: kill -CONT {hello.pid}"
        )
