"""`mpitasks.start`: a run that a notebook, a REPL or a plain script starts itself.

What the user calls: where a run may be started, with which words, and the Executor
that ends it. The script's process stays outside of MPI. It starts mpiexec as a child
(`mpitasks.launch.mpi_job`) and drives the run as rank 0 of any other run does
(`mpitasks.launch.started_run`); that rank only hands the messages on
(`mpitasks.launch.relay`). Neither the death of a rank nor an interrupt ends the script.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from mpitasks import forks
from mpitasks.api import session as sessions
from mpitasks.api.executor import INTERRUPTS, Executor
from mpitasks.errors import ConfigurationError
from mpitasks.launch.capacity import job_ranks, whole_cores
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.mpiexec import find_mpiexec, is_open_mpi, permissions
from mpitasks.launch.started_run import StartedRun
from mpitasks.master.lost_tasks import SHUTDOWN_SECONDS
from mpitasks.subprocesses import subprocess_environment
from mpitasks.values import integer

__all__ = ["StartedExecutor", "start"]


def start(
    workers: int | None = None,
    *,
    mpiexec_args: Sequence[str] = (),
    mpiexec: str | os.PathLike[str] | None = None,
    slurm: bool | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout: float = 60.0,
    **options: Any,
) -> StartedExecutor:
    """Start `mpiexec` with workers, from a notebook, a REPL or a plain script.

    The process that calls this stays outside of MPI. It becomes the master of the run;
    `mpiexec` is its child, with one rank more than there are workers, which hands
    messages on. What the ranks print appears here. If a rank or `mpiexec` dies, what
    waits raises `WorkerLost`, and `start` may be called again. An interrupt of a wait
    cancels what was not sent to a worker yet, and what runs isolated.

    Args:
        workers: How many workers; None for as many as there are cores, or tasks of the
            SLURM job.
        mpiexec_args: Further words for the launcher.
        mpiexec: The launcher; None for the one that belongs to this Python, else the
            one on PATH.
        slurm: Whether `srun` is the launcher. `mpiexec_args` tell it how to start the
            MPI library, ``["--mpi=pmi2"]`` say, where its default is another. None is
            the same as False: an `mpiexec` in an allocation finds its nodes.
        env: Environment variables of the ranks, beside those of this process.
        start_timeout: How long the ranks get to start, in seconds.
        **options: As `mpitasks.Executor` takes them.

    Returns:
        An Executor, whose shutdown ends the ranks. Other Executors that are opened
        meanwhile share its workers.

    Raises:
        LaunchError: The ranks did not start: with what the launcher said.
        ConfigurationError: There is no launcher; or this process is a rank or a task;
            or it has a run already.
        OptionError: An option has a value that it cannot have.

    Example:
        >>> executor = mpitasks.start(8)
        >>> sum(executor.map(simulate, range(1000)))
    """
    refuse_start()
    if workers is None:
        workers = job_ranks(os.environ) or whole_cores()
    workers = integer("workers", workers, 1)
    words = _launcher(workers + 1, mpiexec, list(mpiexec_args), slurm=bool(slurm))
    run = StartedRun(words, {**subprocess_environment(), **(env or {})}, start_timeout)
    try:
        executor = StartedExecutor(**options)
    except BaseException:
        run.end_now()
        raise
    executor._run = run
    return executor


def refuse_start() -> None:
    """Raise where no run can be started; end one that is broken.

    Raises:
        ConfigurationError: This is a rank, or a task, or there is a run.
    """
    if forks.forked():
        forks.refuse()
    if sessions.is_task():
        raise ConfigurationError(
            "mpitasks.start is for the script: a task runs on a worker of a run already"
        )
    sessions.refuse_after_end()
    hint = launch_hint()
    if hint is not None:
        raise ConfigurationError(
            f"mpitasks.start starts an mpiexec, but {hint.launcher} already started "
            f"this process: use mpitasks.Executor() in a script that is started with "
            f"mpiexec -n {hint.size or 4} python -m mpitasks, or start the script "
            f"without mpiexec"
        )
    session = sessions.peek()
    run = None if session is None else session.ending
    if isinstance(run, StartedRun) and run.is_lost:
        run.end_now()
    elif isinstance(run, StartedRun):
        raise ConfigurationError(
            "mpitasks.start was called before, and its workers are there: open an "
            "mpitasks.Executor(), which shares them, or call shutdown() of the "
            "Executor that it returned"
        )
    elif session is not None:
        raise ConfigurationError(
            "an Executor was opened before mpitasks.start, so tasks run in this "
            "process: call mpitasks.start first; in a notebook, restart the kernel"
        )


def _launcher(
    ranks: int,
    mpiexec: str | os.PathLike[str] | None,
    extra: list[str],
    *,
    slurm: bool,
) -> list[str]:
    """Return the words that start so many ranks.

    Raises:
        ConfigurationError: There is no such launcher.
    """
    if slurm:
        srun = shutil.which("srun")
        if srun is None or "SLURM_JOB_ID" not in os.environ:
            raise ConfigurationError(
                "slurm=True starts the ranks by srun, which needs an allocation: type "
                "salloc first, or leave out slurm=True"
            )
        return [srun, "-n", str(ranks), "--kill-on-bad-exit=1", *extra]
    path = find_mpiexec() if mpiexec is None else None
    if path is None:
        found = shutil.which(os.fspath(mpiexec or ""))
        if found is None:
            raise ConfigurationError(
                f"there is no program {os.fspath(mpiexec or '')!r} to start the ranks; "
                f"leave out mpiexec=, and the one of this Python is used"
            )
        from pathlib import Path

        path = Path(found)
    allowed = permissions(ranks, extra) if is_open_mpi(path) else []
    return [str(path), "-n", str(ranks), *extra, *allowed]


class StartedExecutor(Executor):
    """An Executor whose shutdown ends the ranks that were started for it."""

    _run: StartedRun | None = None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end the ranks once every call is done.

        Args:
            wait: Return only then.
            cancel_futures: Cancel the calls that were not sent to a worker yet, and end
                those that run isolated. Others that run get 30 s; then their futures
                fail with `ExecutorClosedError`.
        """
        super().shutdown(wait, cancel_futures=cancel_futures)
        run = self._run
        if run is None or run.is_over:
            return
        if wait:
            run.close()
        else:
            seconds = SHUTDOWN_SECONDS if cancel_futures else None
            threading.Thread(
                target=run.close, args=(seconds,), name="mpitasks-close", daemon=True
            ).start()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Shut down, waiting for what is outstanding; if interrupted, end all now."""
        if kind is not None and issubclass(kind, INTERRUPTS):
            if self._run is not None:
                self._run.end_now()
            return
        super().__exit__(kind, error, trace)
