"""Start and end of a run: every rank meets, rank 0 gets a session, the rest serve.

The command line (`mpitasks.launch.cli`) and programs that every rank runs
(`mpitasks.launch.spmd`) go through the same two functions, `join` and `leave`.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks import actor_objects, forks, randomness, walltime
from mpitasks.api import session as sessions
from mpitasks.errors import ConfigurationError, Stopped
from mpitasks.journal import open_journals
from mpitasks.launch import signals
from mpitasks.launch.environment import (
    launch_hint,
    may_leave_ranks,
    refuse_lone_copy,
    survives_losses,
)
from mpitasks.launch.exit import tell_end
from mpitasks.launch.handshake import (
    check_hellos,
    near_ranks,
    own_hello,
    room_for_results,
    warnings_of,
    welcomes_of,
)
from mpitasks.launch.mpi_start import start_mpi
from mpitasks.launch.output import empty_input, flush
from mpitasks.launch.task_session import session_of_task
from mpitasks.launch.threads import limit_to_share
from mpitasks.subprocesses import hide_launch
from mpitasks.wire.wakeup import Wakeup

if TYPE_CHECKING:
    from types import ModuleType

    from mpitasks.settings import Settings
    from mpitasks.wire.messages import Welcome
    from mpitasks.worker.loop import Worker

__all__ = ["Leaving", "Role", "abort_with_traceback", "finish", "join", "leave"]


FORWARD_SECONDS = 0.1
"""Seconds for launchers to forward what was printed; they drop it after an abort."""

GRACE_SECONDS = 1.0
"""How long workers get to finish what they run when the run ends with an error."""

UNRESPONSIVE_SECONDS = 1.0
"""As the next, for workers that did not come back from a task for long."""

GOODBYE_SECONDS = 30.0
"""How long workers, which have nothing to do any more, get to say goodbye."""

_warned: set[str] = set()
"""What was said already: `join` may be called again and again."""


class Role(enum.Enum):
    """What became of this process in `join`."""

    MASTER = "master"  # rank 0; its session is installed
    WORKER = "worker"  # it has served, and the run is over
    ALONE = "alone"  # there are no other ranks


def join(
    settings: Settings,
    *,
    ran_script: bool = False,
    comm: Any = None,
    root: int = 0,
    lead: Callable[..., NoReturn] | None = None,
) -> Role:
    """Meet the other ranks, if this process was launched by an MPI.

    On the root this installs the session and returns. On any other rank it serves
    until the root lets it go. MPI is not even loaded if nothing says that this process
    was launched together with others.

    Args:
        settings: What the command line asks.
        ran_script: Whether every rank runs the script, up to here.
        comm: The communicator whose ranks meet; None for the world.
        root: Which of its ranks is to be rank 0 of the run.
        lead: What rank 0 does instead of driving the run, once all ranks have met: see
            `mpitasks.launch.relay`.

    Raises:
        LaunchError: Ranks are missing, or do not fit together.
        ConfigurationError: The launcher does not fit the MPI library, or there is no
            MPI library.
    """
    sessions.configure(settings)
    hint = launch_hint()
    if hint is None:
        _foresee(settings)
        return Role.ALONE
    if hint.rank != 0:
        empty_input()
    if settings.survive and not survives_losses():
        raise ConfigurationError(
            f"--survive needs Open MPI 5 and its mpiexec --with-ft ulfm, and "
            f"{hint.launcher} started this without; let mpitasks -n {hint.size or 4} "
            f"--survive start it, or leave out --survive"
        )
    mpi, met = start_mpi(hint)
    forks.begin()
    comm = mpi.led_by(mpi.world() if comm is None else comm, root)
    rank, size = comm.Get_rank(), comm.Get_size()
    if size == 1:
        met()
        refuse_lone_copy(hint, mpi.library_version())
        _foresee(settings)
        hide_launch()
        return Role.ALONE
    own = own_hello(rank, mpi.library_version())
    # Each role imports its own room only: starting many ranks at once is slow enough.
    if rank == 0:
        _foresee(settings)
        hellos = mpi.gather_hellos(comm, own, settings.start_seconds)
        check_hellos(hellos, size, settings.start_seconds)
        met()
        welcomes = welcomes_of(hellos)
        workers = range(1, size)
        mpi.welcome(comm, {rank: welcomes[rank] for rank in workers})
        limit_to_share(welcomes[0].share)
        for line in warnings_of(hellos):
            if line not in _warned:
                _warned.add(line)
                print(f"mpitasks: warning: {line}", file=sys.stderr, flush=True)
        if may_leave_ranks(hint):
            from mpitasks.wire.lifeline import offer_lifeline

            offer_lifeline(welcomes[0].run)
        transport = _transport(mpi, comm, workers, welcomes[0])
        if lead is not None:
            hide_launch()
            lead(transport, hellos, welcomes[0], listens=mpi.threads_may_overlap())
        from mpitasks.launch import early_stop, failure_policy
        from mpitasks.master.event_loop import EventLoop

        event_loop = EventLoop(
            transport,
            workers,
            near=near_ranks(hellos),
            threads=mpi.threads_allowed(),
            max_failures=settings.max_failures,
        )
        event_loop.engine.kept.bound(room_for_results(hellos, settings.node_memory))
        failure_policy.look_out(
            event_loop,
            hellos,
            survives=survives_losses(),
            listens=mpi.threads_may_overlap(),
        )
        hosts = {hello.rank: hello.host for hello in hellos[1:]}
        session = sessions.Session(event_loop, hosts=hosts)
        session.ending = early_stop.begin(event_loop, settings, _abort)
        sessions.install(session)
        randomness.provide(session.draw)
        mpi.hold_finalize(_say_finalize)
        hide_launch()
        return Role.MASTER
    from mpitasks.runner import context, nesting
    from mpitasks.runner.lent import LentMain
    from mpitasks.runner.mirror import follow
    from mpitasks.wire import rebuild
    from mpitasks.worker import exits
    from mpitasks.worker.loop import Worker
    from mpitasks.worker.orphan import bound_to
    from mpitasks.worker.peer_monitor import watched_over

    sessions.install_worker(rank)
    sessions.answer_tasks(session_of_task)
    answer = mpi.say_hello(comm, own, settings.start_seconds + GOODBYE_SECONDS)
    met()
    limit_to_share(answer.share)
    walltime.foresee(answer.seconds_left, answer.margin)
    transport = _transport(mpi, comm, [0], answer)
    where = f"rank {rank} on {own.host} (pid {own.pid})"
    listens = mpi.threads_may_overlap()
    lent = LentMain() if ran_script else None
    main = None if lent is None else lent.module
    worker = Worker(transport, where, host=own.host, listens=listens, main=main)
    follow(worker.functions)
    worker.foresee = walltime.foresee
    context.provide(lambda: worker.current_task(rank, own.host))
    randomness.provide(worker.draw)
    actor_objects.provide_caller(worker.calls_of_actors)
    nesting.settle_in(
        nesting.Home(rank, own.host, where, worker, threading.get_ident())
    )
    if not survives_losses():  # a rank that dies would spoil it
        workers = mpi.workers_of(comm)
        context.provide_communicator(lambda: workers)
    # Elsewhere than rank 0, which cannot ask: MPICH over UCX crashes on a message to a
    # rank that is dead.
    worker.signs = answer.master is None and not survives_losses()
    run = answer.run if may_leave_ranks(hint) else None
    forks.in_child(worker.disown)
    mpi.hold_finalize(_refuse_finalize)
    hide_launch()
    with (
        signals.let_pass(),
        exits.made_visible(where),
        bound_to(answer.master, run),
        watched_over(answer.peers, worker.report, survives=survives_losses()),
    ):
        _serve(worker, where)
    nesting.move_out()
    rebuild.set_side(None)
    context.provide_communicator(lambda: None)
    if lent is not None:
        lent.give_back()
    if worker.degraded:
        mpi.note_gone(-1, reported=True)
    sessions.uninstall()
    mpi.let_finalize()
    return Role.WORKER


def _say_finalize() -> None:
    print(
        "mpitasks: MPI.Finalize() in the script does nothing: mpitasks ends MPI "
        "itself, after the script and with the workers",
        file=sys.stderr,
        flush=True,
    )


def _refuse_finalize() -> None:
    raise ConfigurationError(
        "a task called MPI.Finalize(), and its rank has more tasks to run: leave that "
        "to mpitasks, which ends MPI after the script"
    )


def _serve(worker: Worker, where: str) -> None:
    """Serve until rank 0 lets this rank go; if that fails, end the rank and say so."""
    from mpitasks.runner import damage
    from mpitasks.worker import fatal_error

    damage.remember()
    served = False
    try:
        worker.serve()
        served = True
    finally:  # nothing needs a name here that a task may have replaced
        if not served:
            fatal_error.end_rank(worker, where, _abort)
    damage.lift_limits()


def finish() -> None:
    """Where the script runs: wait for everything that was submitted, and for the disk.

    Raises:
        JournalError: The journal could not be written, and the run is to stop then.
        TooManyFailures: More failed than may, and nobody was told yet.
        Stopped: There is not enough time for that.
    """
    if sessions.installed():
        sessions.current().event_loop.finish()
    open_journals.settle_journals()


class Leaving(enum.Enum):
    """How workers left at the end of a run."""

    CLEAN = "clean"  # all said goodbye
    UNRESPONSIVE = (
        "unresponsive"  # all but some that had been given up: the run must be aborted
    )
    LATE = "late"  # the run must be aborted, and should not have to be


def leave(*, failed: bool) -> Leaving:
    """On rank 0: end the session; return how the workers left.

    Args:
        failed: Whether the script ended with an error. Then nothing more is sent, and
            workers in the middle of a task get `GRACE_SECONDS`. Else everything that
            was submitted is done first, as at the end of a stdlib executor.
    """
    session = sessions.current()
    session.end()
    sessions.uninstall()
    sys.modules["mpitasks.wire.mpi_transport"].let_finalize()
    event_loop = session.event_loop
    event_loop.ignore_failures()
    if session.ending is not None:
        session.ending.close()
    try:
        if failed:
            event_loop.cancel_queue(isolated=True)
            if not event_loop.finish(GRACE_SECONDS):
                # The run will be aborted. Nobody is let go before: an mpiexec of Open
                # MPI may crash when a rank aborts while others are in MPI_Finalize.
                return Leaving.LATE
        else:
            event_loop.finish()
    finally:
        open_journals.end_journals()
    if failed and event_loop.engine.losses:
        from mpitasks.wire import mpi_transport

        if mpi_transport.must_abort():
            return Leaving.LATE
    unresponsive = event_loop.unresponsive_workers()
    missing = event_loop.close(
        UNRESPONSIVE_SECONDS if unresponsive else GOODBYE_SECONDS
    )
    session.close()
    if not missing:
        return Leaving.CLEAN
    return Leaving.UNRESPONSIVE if set(missing) <= set(unresponsive) else Leaving.LATE


def abort_with_traceback() -> NoReturn:
    """Workers are busy and would never end: print what happened and end the job."""
    error = sys.exc_info()[1]
    if isinstance(error, Stopped):
        _abort(error.status)
    import traceback

    traceback.print_exc()
    _abort(1)


def _abort(code: int) -> NoReturn:
    """End the job with that exit code, whatever goes on."""
    tell_end(code, leaving=True)
    flush()
    time.sleep(FORWARD_SECONDS)
    sys.modules["mpitasks.wire.mpi_transport"].abort(code)
    os._exit(code)  # it may return, to be ended by the launcher


def _foresee(settings: Settings) -> None:
    """Find out when the job will be ended by force."""
    from mpitasks.launch.job_end import foresee

    foresee(settings)


def _transport(
    mpi: ModuleType, comm: Any, peers: Sequence[int], answer: Welcome
) -> Any:
    """Return this rank's transport, once every rank has hung up its wake-up."""
    wakeup = None
    with contextlib.suppress(OSError):
        wakeup = Wakeup(answer.run, answer.secret, comm.Get_rank(), peers)
    return mpi.MpiTransport(
        mpi.private(comm),
        peers,
        answer.spare_cores,
        wakeup,
        survives=survives_losses(),
        alone=answer.alone,
    )
