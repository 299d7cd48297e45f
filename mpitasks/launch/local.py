"""The size-1 mode: master and worker in one process, over the same scheduler.

The one place that wires the two rooms together. Tasks run in one worker thread, so
that time-outs and callbacks keep their contract.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any, NoReturn

from mpitasks import actor_objects, forks, randomness
from mpitasks.api import session as sessions
from mpitasks.api.session import Session, settings
from mpitasks.errors import ConfigurationError, Stopped
from mpitasks.journal import open_journals
from mpitasks.launch.copies import raise_on_first
from mpitasks.launch.early_stop import begin
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.exit import at_end_of_script, tell_end
from mpitasks.launch.job_end import foresee
from mpitasks.launch.node_limit import node_limit
from mpitasks.launch.output import flush
from mpitasks.launch.task_session import session_of_task
from mpitasks.master.event_loop import EventLoop
from mpitasks.runner import context, nesting
from mpitasks.runner.mirror import Divided
from mpitasks.wire import rebuild
from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.node_memory import is_attachable
from mpitasks.worker.loop import Worker

__all__ = ["start_local"]

NOTICE = (
    "mpitasks: one process, so tasks run in it, one at a time; for workers, "
    "start with: {command}"
)


def start_local(workers: int | None = None) -> Session:
    """Start a run in this process, and say so on stderr.

    Args:
        workers: How many workers were asked for; None if no number was.

    Raises:
        ConfigurationError: A launcher started several copies of this process, and
            each of them would do all the work alone.
    """
    _refuse_copies()
    from mpitasks.launch import hints

    print(
        NOTICE.format(command=hints.with_workers((workers or 3) + 1)), file=sys.stderr
    )
    master_end, worker_end = local_pair()
    host = socket.gethostname()
    where = f"the process itself (host {host}, pid {os.getpid()})"
    worker = Worker(worker_end, where, rank=0, host=host, own=False)
    functions = worker.functions
    event_loop = EventLoop(
        master_end,
        [worker_end.rank],
        near=[worker_end.rank] if is_attachable(os.getpid()) else [],
        max_failures=settings().max_failures,
    )
    limit = settings().node_memory
    if limit is None and (whole := node_limit(os.environ)) is not None:
        limit = whole // 2
    event_loop.engine.kept.bound({worker_end.rank: (host, limit)})
    thread = threading.Thread(
        target=_serve, args=(worker, event_loop), name="mpitasks-worker", daemon=True
    )
    thread.start()
    forks.begin()
    forks.in_child(worker.disown)

    def in_task() -> bool:
        return threading.current_thread() is thread

    sys.modules["__main__"] = Divided(
        sys.modules["__main__"],
        lambda: nesting.main_module() or functions.main,
        in_task,
    )
    own = rebuild.side()
    rebuild.set_side(lambda: functions.side if in_task() else own)
    context.provide(lambda: worker.current_task(0, host) if in_task() else None)
    context.provide_communicator(lambda: _own_communicator() if in_task() else None)
    session = Session(event_loop, in_task, hosts={worker_end.rank: host})
    session.current = lambda: worker.name_task() if in_task() else (None, None)
    actor_objects.provide_caller(
        lambda: worker.calls_of_actors() if in_task() else None
    )
    randomness.provide(lambda: worker.draw() if in_task() else session.draw())
    assert thread.ident is not None
    home = nesting.Home(0, host, where, worker, thread.ident, divides=True)
    nesting.settle_in(home)
    sessions.answer_tasks(session_of_task)
    foresee(settings())
    session.ending = begin(event_loop, settings(), _exit)
    at_end_of_script(_finish, session)
    return session


def _own_communicator() -> Any:
    """Return the communicator of this process alone. Starts MPI."""
    from mpitasks.wire.world import itself

    return itself()


def _serve(worker: Worker, event_loop: EventLoop) -> None:
    """Run tasks until the end; if that fails, let those that wait for them know."""
    served = False
    try:
        worker.serve()
        served = True
    finally:
        if not served:
            error = sys.exc_info()[1]
            event_loop.lose(
                1, f"the thread that runs tasks in this process failed: {error!r}"
            )


def _refuse_copies() -> None:
    hint = launch_hint()
    if hint is None:
        return
    copies = hint.size if hint.size is not None else hint.rank + 1
    if copies > 1:
        from mpitasks.launch import hints

        command = hints.under_launcher(hint, copies)
        error = ConfigurationError(
            f"{hint.launcher} started {copies} copies of this script, and no Executor "
            f"can tell which of them are workers. Start it with: {command}; or call "
            f"mpitasks.run(main) in it, which gives main an executor"
        )
        raise_on_first(error, 1)


def _exit(code: int) -> NoReturn:
    """End this process, whatever goes on in it."""
    tell_end(code)
    os._exit(code)


def _finish(session: Session) -> None:
    """Let what was submitted finish, as the stdlib's executors do, and end.

    After Ctrl-C, or once the run was stopped, nothing is waited for; the task in the
    worker thread ends with the process.
    """
    session.end()
    event_loop = session.event_loop
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    try:
        if interrupted or event_loop.refuses_waits:
            return
        event_loop.finish()
    except Stopped as stop:
        open_journals.end_journals()
        flush()
        _exit(stop.status)
    finally:
        open_journals.end_journals()
    if session.ending is not None:
        session.ending.close()
    event_loop.close(5.0)
    session.close()
