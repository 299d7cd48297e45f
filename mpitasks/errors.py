"""The exception tree. Each class says whose fault it is; each instance pickles.

    MpiTasksError
    |-- ConfigurationError      yours: launch or set-up is wrong (exit code 78)
    |   |-- OptionError         yours: an option's value is impossible; a ValueError
    |   `-- JournalError        yours: the journal cannot be opened or written
    |-- ExecutorClosedError     yours: used after shutdown; a RuntimeError
    |-- SerializationError      yours: cannot be pickled; a PicklingError
    |-- RemoteError             the task's: its exception could not be pickled
    |-- TaskTimeout             the task's: it ran longer than allowed; a TimeoutError
    |-- TooManyFailures         the tasks': more of them failed than allowed
    |-- TaskCrashed             the task's: it took its own process with it (isolate)
    |-- TaskMemoryExceeded      the task's: more than its memory_limit; a MemoryError
    |-- InitializerError        yours: the initializer failed; a BrokenExecutor
    |-- ActorCycle              the tasks': they wait for each other; a RuntimeError
    |-- ActorDied               the world's: an actor went with its rank
    |-- DataLost                the world's: a kept result went with its rank
    |-- WorkerLost              the world's: the task's rank is gone; a BrokenExecutor
    |-- LaunchError             the world's: ranks missing or unlike (exit code 78)
    |-- SlurmError              the world's: SLURM refuses, or does not answer
    |-- TransportError          the world's: a message came damaged or not at all
    `-- InternalError           ours: please report it (exit code 70)
        `-- TransitionError     ours: an event met a state that does not know it

`RemoteTraceback` is no failure of its own: it is the ``__cause__`` of every
exception that comes back from a worker and prints as the traceback there.

`Stopped` is no error: a `SystemExit` that ends a script whose time is over.

Of mpitasks only the exit codes are imported here: every other module may import this
one.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from mpitasks.exit_codes import STOPPED

if TYPE_CHECKING:
    import concurrent.futures


class MpiTasksError(Exception):
    """Root of all errors that mpitasks raises itself."""


class ConfigurationError(MpiTasksError):
    """The launch, the environment or the way an object is used is wrong."""


class OptionError(ConfigurationError, ValueError):
    """An option was given a value that it cannot have."""


class JournalError(ConfigurationError):
    """The journal is in use, is no journal, or cannot be written: disk full, rights.

    Attributes:
        unwritable: Whether the disk, or the rights on it, are the reason.
    """

    unwritable = False


class ExecutorClosedError(MpiTasksError, RuntimeError):
    """An Executor was used after its shutdown."""


class SerializationError(MpiTasksError, pickle.PicklingError):
    """A function, an argument or a result cannot be pickled or unpickled."""


class RemoteError(MpiTasksError):
    """Stands for a task's exception that could not be pickled, with its text."""


class TaskTimeout(MpiTasksError, TimeoutError):
    """The task ran longer than its ``timeout``."""


class TooManyFailures(MpiTasksError):
    """More tasks failed than ``max_failures`` allows; the last is the cause."""


class TaskCrashed(MpiTasksError):
    """An isolated task ended its process: a crash, a kill, ``os._exit``.

    Attributes:
        signal: The number of the signal that ended it, or None.
        exit_code: What it exited with, or None.
        rank: The rank whose child it ran in.
        host: That rank's host.
        label: The task's name, or None.
    """

    signal: int | None = None
    exit_code: int | None = None
    rank: int | None = None
    host: str | None = None
    label: str | None = None


class TaskMemoryExceeded(MpiTasksError, MemoryError):
    """An isolated task held more memory than its ``memory_limit``, and was killed.

    Attributes:
        resident: The bytes that it was seen to hold.
        limit: The bytes that it was allowed.
        rank: The rank whose child it ran in.
        host: That rank's host.
        label: The task's name, or None.
    """

    resident: int = 0
    limit: int = 0
    rank: int | None = None
    host: str | None = None
    label: str | None = None


class ActorDied(MpiTasksError):
    """A call of an actor whose rank is gone. The call may have run, in part or in full.

    Attributes:
        rank: The rank that the actor lived on, or None.
        host: That rank's host, or None.
        call: What messages call the call: "Counter.add".
    """

    rank: int | None = None
    host: str | None = None
    call: str | None = None


class ActorCycle(MpiTasksError, RuntimeError):
    """A call of an actor was waited for that can only begin when the wait ends.

    The call stays in the actor's mailbox, and runs afterwards.
    """


class DataLost(MpiTasksError):
    """A result that its worker kept (``keep=True``) is gone with that worker."""


if TYPE_CHECKING:

    class WorkerLost(MpiTasksError, concurrent.futures.BrokenExecutor):
        """The worker rank that held the task is gone."""

    class InitializerError(MpiTasksError, concurrent.futures.BrokenExecutor):
        """The Executor's initializer raised on the worker; that is the cause.

        Attributes:
            definition: The number of the initializer in the run.
        """

        definition: int | None = None

else:
    _BROKEN = {
        "WorkerLost": "The worker rank that held the task is gone.",
        "InitializerError": (
            "The Executor's initializer raised on the worker; that is the cause."
        ),
    }

    def __getattr__(name: str) -> Any:
        """Define `WorkerLost` and `InitializerError` when they are first asked for.

        Their base is in a module that loads a dozen others, which no worker needs.
        """
        if name not in _BROKEN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from concurrent.futures import BrokenExecutor

        body = {"__doc__": _BROKEN[name], "__module__": __name__}
        if name == "InitializerError":
            body["definition"] = None
        made = type(name, (MpiTasksError, BrokenExecutor), body)
        return globals().setdefault(name, made)  # of two threads, the first


class LaunchError(MpiTasksError):
    """Ranks of the world are missing, or do not fit together."""


class SlurmError(MpiTasksError):
    """SLURM refused what was asked of it, or did not answer; with its own words."""


class TransportError(MpiTasksError):
    """A message between ranks was damaged or could not be delivered."""


class InternalError(MpiTasksError):
    """A bug in mpitasks. Please report it with the traceback."""


class TransitionError(InternalError):
    """An event met a task or worker state that has no transition for it."""


class Stopped(SystemExit):
    """The run ends before the script does: the walltime is over, or a signal came.

    Raised in the script where it waits for tasks that will not be run any more, or
    wherever it is at the very end. As a SystemExit it passes ``except Exception``;
    ``finally`` blocks run. The exit code, 75, says that the same command may continue.

    Attributes:
        status: The exit code.
    """

    status = STOPPED

    def __init__(self, code: int | str = status) -> None:
        super().__init__(code)


class RemoteTraceback(Exception):
    """The traceback of a task on its worker, as text.

    Attributes:
        text: The formatted traceback, headed by the rank and host it is from.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}"
