"""Programs that every rank runs, as ``mpiexec -n 8 python script.py`` starts them.

`run` gives one function of such a program an Executor. `meet` and `part` are the two
halves of that, for what has to return in between. How ranks meet and leave, is in
`mpitasks.launch.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mpitasks import exit_codes, forks
from mpitasks.api import session as sessions
from mpitasks.errors import ConfigurationError
from mpitasks.launch.copies import raise_on_first
from mpitasks.launch.exit import bound_farewell
from mpitasks.launch.run import Leaving, Role, abort_with_traceback, join, leave
from mpitasks.settings import Settings
from mpitasks.wire import mpi_library

if TYPE_CHECKING:
    from mpitasks.api.executor import Executor

__all__ = ["meet", "part", "run"]

T = TypeVar("T")


def run(main: Callable[[Executor], T]) -> T | None:
    """Call ``main(executor)`` on rank 0 while the other ranks serve.

    Collective: every rank of the world must call it, and it returns on every rank,
    on rank 0 with what `main` returned, elsewhere with None. It is for a script that
    is started as ``mpiexec -n 8 python script.py``; in a world of one, and in a
    script started with ``python -m mpitasks``, it works as well.

    Raises:
        BaseException: On rank 0, whatever `main` raises.
        ExecutorClosedError: The script has ended: not in a function that atexit calls.
        LaunchError: Ranks are missing, or do not fit together.
        ConfigurationError: The launcher does not fit the MPI library. Only the first
            of the copies that it started raises this; the others end with code 78. Or
            the caller is a task.
    """
    sessions.refuse_in_task()
    if sessions.installed() and not forks.forked():
        return _call(main)
    role = meet()
    if role is Role.WORKER:
        return None
    failed = True
    try:
        result = _call(main)
        failed = False
        return result
    finally:
        part(role, failed=failed)


def _call(main: Callable[[Executor], T]) -> T:
    """Call ``main(executor)``; wait for what it left undone, unless it raises."""
    from mpitasks.api.executor import Executor

    executor = Executor()
    try:
        result = main(executor)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
    return result


def meet(comm: Any = None, root: int = 0) -> Role:
    """Begin a run in the middle of the program. Collective.

    Args:
        comm: The ranks that meet, an intracommunicator of mpi4py; None for all.
        root: Which of them leads. There it returns at once; the others serve first.

    Raises:
        ExecutorClosedError: The script has ended.
        LaunchError: Ranks are missing, or do not fit together.
        ConfigurationError: As `run`; or this is a task.
    """
    if forks.forked():
        forks.refuse()
    sessions.refuse_in_task()
    sessions.refuse_after_end()
    try:
        role = join(Settings(), ran_script=True, comm=comm, root=root)
    except ConfigurationError as error:
        raise_on_first(error, exit_codes.SET_UP)
    except KeyboardInterrupt:
        if mpi_library.is_up():  # the others wait for this rank, in MPI_Finalize too
            abort_with_traceback()
        raise
    if role is Role.WORKER:
        bound_farewell()
    return role


def part(role: Role, *, failed: bool) -> None:
    """End the run that `meet` has begun, where that has returned at once.

    Args:
        role: What `meet` has returned.
        failed: Whether to end it without what was submitted and is not done. If workers
            are busy then, the job is aborted.
    """
    if (
        role is Role.MASTER
        and not forks.forked()
        and leave(failed=failed) is not Leaving.CLEAN
    ):
        abort_with_traceback()
    bound_farewell()
