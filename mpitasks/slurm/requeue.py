"""--requeue: a job whose time is up goes into the queue again, by itself.

Where the cluster forbids that, a successor is submitted that waits for this job's end.
Either continues from the journal. Nothing here waits for anything but SLURM's answers,
and nothing raises: what came of it is said in a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.journal import open_journals
from mpitasks.slurm import job_records
from mpitasks.slurm.inherited import for_successor
from mpitasks.subprocesses import LAUNCH

__all__ = ["ROUND", "continue_job", "end_round", "rounds_before"]

ROUND = "MPITASKS_ROUND"
"""The variable that tells a successor how many rounds were before it."""

Call = Callable[..., str]


def rounds_before(restarts: int, environ: Mapping[str, str] = LAUNCH) -> int:
    """Return how many rounds there were: of this job, and of its predecessors."""
    before = environ.get(ROUND, "")
    return restarts + (int(before) if before.isdigit() else 0)


def end_round(done: int, most_rounds: int) -> None:
    """The run was stopped: have the job go on in another round; say what came of it.

    Args:
        done: Tasks that this round has finished.
        most_rounds: How many rounds there may be.
    """
    kept = open_journals.keeps_results()
    open_journals.end_journals()
    continue_job(done, most_rounds, _say, keeps_results=kept)


def _say(sentence: str) -> None:
    print(f"mpitasks: {sentence}", file=sys.stderr, flush=True)


def continue_job(
    done: int,
    most_rounds: int,
    say: Callable[[str], object],
    *,
    keeps_results: bool,
    environ: Mapping[str, str] = LAUNCH,
    call: Call = job_records.call,
) -> None:
    """Put the job into the queue again, unless that makes no sense.

    SLURM kills this process as soon as it takes the job back, so what happens is said
    before SLURM is asked.

    Args:
        done: Tasks that this round has finished.
        most_rounds: How many rounds there may be.
        say: Is told what comes of it, a sentence at a time.
        keeps_results: Whether they are in a journal.
        environ: The environment of the job.
        call: Runs a program of SLURM's; raises SlurmError if it fails.
    """
    number = environ.get("SLURM_JOB_ID")
    if not number:
        say("--requeue does nothing outside a SLURM job")
        return
    what = f"job {number}"
    if not keeps_results:
        say(f"{what} does not go on: without --journal FILE, it would start anew")
        return
    if not done:
        say(f"this round of {what} finished nothing, so the job does not go on")
        return
    try:
        job = _find(number, call)
        rounds = rounds_before(job.restarts, environ) + 1
        what = f"round {rounds} of job {job.id}"
        if rounds >= most_rounds:
            say(f"{what} was the last (--requeue-rounds {most_rounds})")
        elif job.state != "RUNNING" and job.reason != "TimeLimit":
            # Somebody has ended it on purpose, by scancel say.
            say(f"{what} is left to SLURM, which says that the job is {job.state}")
        elif job.requeue:
            say(f"{what} is over; the job goes into the queue again")
            try:
                call("scontrol", "requeue", job.id)
            except SlurmError as refused:
                why = str(refused).strip().splitlines()[-1]
                what = f"job {job.id}"
                successor = _chain(job.id, rounds, environ, call)
                say(f"{what} was refused ({why}); job {successor} goes on instead")
        else:
            successor = _chain(job.id, rounds, environ, call)
            say(
                f"{what} is over; job {successor} goes on, since this one may not be "
                "queued again"
            )
    except (SlurmError, ConfigurationError) as error:
        say(f"{what} cannot go on by itself: {error}")


def _find(number: str, call: Call) -> job_records.Record:
    """Return what SLURM says of the job that this process is part of.

    By its own number, which no other job of an array has. The variables that tell the
    array may be left from a job around.

    Raises:
        SlurmError: It does not know the job.
    """
    shown = call("scontrol", "show", "job", "--oneliner", number)
    for record in job_records.parse_records(shown):
        if record.number == number:
            return record
    raise SlurmError(f"scontrol show job {number} does not show it")


def _chain(id: str, number: int, environ: Mapping[str, str], call: Call) -> str:
    """Submit the script of this job again, to start when this one is over.

    Returns:
        The number of the new job.
    """
    script = call("scontrol", "write", "batch_script", environ["SLURM_JOB_ID"], "-")
    words = [
        "--parsable",
        f"--dependency=afterany:{id}",
        "--export=ALL",
    ]
    name = environ.get("SLURM_JOB_NAME")
    if name:
        words.append(f"--job-name={name}")
    _, _, task = id.partition("_")
    if task:
        words.append(f"--array={task}")
    folder = environ.get("SLURM_SUBMIT_DIR")
    if folder:
        words.append(f"--chdir={folder}")
    own = for_successor(environ)
    own[ROUND] = str(number)
    said = call("sbatch", *words, text=script, environ=own)
    return said.strip().partition(";")[0]
