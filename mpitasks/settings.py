"""What the command line asks of a run: one frozen record, the same on every rank.

`mpitasks.launch.arguments` makes it, from nothing but the words; the launcher and the
session read it. What a single Executor or task is asked, is in `mpitasks.options`.
"""

from __future__ import annotations

from typing import Any

from mpitasks.records import dataclass, field

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run.

    Attributes:
        start_seconds: How long rank 0 waits for the other ranks to say hello.
        survive: Whether the run must be one that goes on when a worker dies.
        status: The file that tells how far the run is; None leaves it to the job.
        trace: The file for the trace of the run; None for none.
        report: The file for its report; None for none.
        task_options: Options of `mpitasks.TaskOptions` that every Executor starts
            with, unless it is given others.
        seed: What random numbers depend on; None for a fresh one, or the journal's.
        logging: Whether log records of tasks are wanted on rank 0.
        journal: The file of the journal; None for none.
        keep_failures: Whether calls that failed in an earlier run stay failed.
        journal_errors: What to do when the journal cannot be written any more:
            "stop", or "continue" without it.
        trust: Whether to use a journal that another user could have written.
        max_failures: How many tasks, and items of maps, may fail in the run; None for
            any number.
        node_memory: Bytes that the workers of a host may keep of results; None for half
            of what the job may use there.
        time_limit: Seconds from the start of rank 0 until the job is ended by force,
            if the batch system does not tell.
        margin: Seconds before that when everything should be finished; None for what
            suits the time there is.
        grace: Seconds that running tasks get after SIGTERM or SIGUSR1.
        requeue: Whether a SLURM job whose time is up goes into the queue again.
        requeue_rounds: How many rounds that may make.
    """

    start_seconds: float = 60.0
    survive: bool = False
    status: str | None = None
    trace: str | None = None
    report: str | None = None
    task_options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    logging: bool = False
    journal: str | None = None
    keep_failures: bool = False
    journal_errors: str = "stop"
    trust: bool = False
    max_failures: int | None = None
    node_memory: int | None = None
    time_limit: float | None = None
    margin: float | None = None
    grace: float = 10.0
    requeue: bool = False
    requeue_rounds: int = 20
