"""Rank 0's lookout: finds out that a rank has died or fallen silent, and what then.

A thread of its own sleeps until a process of this machine dies (`mpitasks.wire
.processes`) and looks every few seconds for ranks that only fell silent: frozen ones
here, ones that answer no inquiry elsewhere (`mpitasks.core.vigil`). Where the MPI
survives the death of a rank, the pump is told, and goes on with the others; elsewhere
the run is ended at once, before somebody waits for the dead rank for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mpitasks.core.vigil import (
    PERIOD_SECONDS,
    SILENT_SECONDS,
    SILENT_SECONDS_BUSY,
    SILENT_SECONDS_FATAL,
    Vigil,
)
from mpitasks.master.calls import Call, Chunk
from mpitasks.wire.processes import Watch, frozen

if TYPE_CHECKING:
    from mpitasks.core.events import Rank, Task
    from mpitasks.master.pump import Pump
    from mpitasks.wire.messages import Hello

__all__ = ["Lookout", "describe"]

NUDGES = 100
"""With nothing outstanding, so many times some signs of life are taken in at most."""


def describe(held: Sequence[Task]) -> str:
    """Return what a rank was doing, to be put behind what became of it."""
    if not held:
        return " while it had no task"
    first = held[0]
    more = f" and held {len(held) - 1} more" if len(held) > 1 else ""
    if isinstance(first, Call):
        what = f"task {first.id} ({_name(first.options.label, first.target.label)})"
    else:
        assert isinstance(first, Chunk)
        job = first.job
        end = first.start + first.count
        name = _name(job.options.label, job.target.label)
        what = f"items {first.start} to {end - 1} of a map ({name})"
    return f" while it ran {what}{more}"


def _name(label: str | None, function: str) -> str:
    return function if label is None else f"{label!r}: {function}"


class Lookout:
    """Looks after the workers of a run.

    Args:
        pump: What is told of losses.
        hellos: What each rank said of itself, by rank; rank 0's first.
        end_run: Ends the whole run, saying so; None where the MPI survives a loss.
        say: Tells the user something.
        listens: Whether workers can answer while user code runs.
    """

    def __init__(
        self,
        pump: Pump,
        hellos: Sequence[Hello],
        end_run: Callable[[str], None] | None,
        say: Callable[[str], None],
        *,
        listens: bool = False,
    ) -> None:
        self._pump = pump
        self._hellos = hellos
        self._end_run = end_run
        self._say = say
        own = hellos[0].machine
        self._here = [h for h in hellos[1:] if h.machine == own]
        self._elsewhere = [h.rank for h in hellos[1:] if h.machine != own]
        self._listens = listens
        fatal = end_run is not None
        self._frozen = Vigil()
        self._silent = Vigil(SILENT_SECONDS_FATAL if fatal else SILENT_SECONDS)
        self._lengthy = Vigil(SILENT_SECONDS_BUSY)
        self._told: set[Rank] = set()
        pids = {hello.rank: hello.pid for hello in self._here}
        self._watch = Watch(pids, self._died, self._look, PERIOD_SECONDS)

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()
        self._pump.engine.on_obituary = self.lost
        if self._end_run is None:
            self._pump.engine.on_overdue = self._overdue
            self._pump.engine.on_loss = self._tell

    def stop(self) -> None:
        """End it: the workers leave."""
        self._watch.stop()

    def lost(self, rank: Rank, how: str) -> None:
        """Take note that a rank is gone, and see to it that it stays so."""
        if rank not in self._pump.running_workers():
            return  # it said goodbye, or is known to be gone
        hello = self._hellos[rank]
        text = f"rank {rank} on {hello.host} (pid {hello.pid}) {how}"
        if self._end_run is not None:
            self._end_run(f"{text}{describe(self._pump.held(rank))}")
            return
        if hello in self._here:
            # Whoever is declared dead must not come back; and MPI reports who was
            # killed, but not who only ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(hello.pid, signal.SIGKILL)
        self._pump.lose(rank, text)

    def _tell(self, rank: Rank, held: Sequence[Task]) -> None:
        """Say who is gone, and who goes on. Under the pump's lock."""
        hello = self._hellos[rank]
        where = f"rank {rank} on {hello.host} (pid {hello.pid})"
        how = self._pump.engine.losses[rank]
        if not how.startswith(where):  # MPI says only that it is dead
            how = f"{where} died"
        left = len(self._pump.running_workers())
        goes_on = f"workers left: {left}" if left else "no worker is left"
        self._say(f"{how}{describe(held)}; {goes_on}")

    def _overdue(self, rank: Rank) -> None:
        self.lost(rank, "did not come back from a task")

    def _died(self, rank: Rank, how: str) -> None:
        self.lost(rank, how)

    def _look(self) -> None:
        """Look for ranks that live and are silent."""
        now = time.monotonic()
        running = set(self._pump.running_workers())
        here = [hello.rank for hello in self._here if hello.rank in running]
        awake = {rank for rank in here if not frozen(self._hellos[rank].pid)}
        for rank in self._frozen.look(now, here, awake).lost:
            if self._end_run is None:
                self.lost(rank, "was frozen")
            else:
                self._say_once(rank, self._frozen_text(rank))
        if self._pump.background.enabled:  # else this thread must not use MPI
            self._look_elsewhere(now, running)

    def _look_elsewhere(self, now: float, running: set[Rank]) -> None:
        """Look for ranks of other machines that are silent, and ask them."""
        for _ in range(NUDGES):
            if self._pump.outstanding or not self._pump.nudge():
                break  # somebody else turns it, or all has been taken in
        heard, self._pump.engine.heard = self._pump.engine.heard, set()
        far = [rank for rank in self._elsewhere if rank in running]
        busy = {rank for rank in far if self._pump.held(rank)}
        found = self._silent.look(now, set(far) - busy, heard)
        lengthy = self._lengthy.look(now, busy if self._listens else (), heard)
        for rank in found.lost:
            self.lost(rank, "does not answer")
        for rank in lengthy.lost:
            self._say_once(rank, self._silent_text(rank))
        if self._end_run is None:  # else they give signs without being asked
            self._pump.inquire(found.ask + lengthy.ask)

    def _say_once(self, rank: Rank, text: str) -> None:
        if rank not in self._told:
            self._told.add(rank)
            self._say(text)

    def _silent_text(self, rank: Rank) -> str:
        return (
            f"rank {rank} on {self._hellos[rank].host} has been silent for "
            f"{SILENT_SECONDS_BUSY:g} s{describe(self._pump.held(rank))}: it is in C "
            f"code that keeps Python's global lock, or gone; a timeout for the task "
            f"tells which"
        )

    def _frozen_text(self, rank: Rank) -> str:
        hello = self._hellos[rank]
        return (
            f"rank {rank} on {hello.host} is stopped and answers nobody; continue it "
            f"with: kill -CONT {hello.pid}"
        )
