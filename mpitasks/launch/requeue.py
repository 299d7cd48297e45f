"""--requeue: a job whose time is up goes into the queue again, by itself.

Where the cluster forbids that, a successor is submitted that waits for this job's end.
Either continues from the journal. Nothing here waits for anything but SLURM's answers,
and nothing raises: what came of it is said in a sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.launch.environment import batch_job
from mpitasks.launch.slurm import records
from mpitasks.master import journals
from mpitasks.subprocesses import LAUNCH

__all__ = ["ROUND", "continue_job", "end_round", "rounds_before"]

ROUND = "MPITASKS_ROUND"
"""The variable that tells a successor how many rounds were before it."""

OWN_NAMES = ("SLURM_", "SBATCH_", "HYDI_", "MPI_LOCAL", "OMPI_", "PMI", "PRTE_")
CLUSTER_NAMES = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CLUSTER_NAME")
"""Variables that begin with the former are about this job, but for the latter."""

Call = Callable[..., str]


def rounds_before(environ: Mapping[str, str] = LAUNCH) -> int:
    """Return how often this job ran before: started again, or as a predecessor."""
    counts = [environ.get(name, "") for name in ("SLURM_RESTART_COUNT", ROUND)]
    return sum(int(count) for count in counts if count.isdigit())


def end_round(done: int, most_rounds: int) -> None:
    """The run was stopped: have the job go on in another round; say what came of it.

    Args:
        done: Tasks that this round has finished.
        most_rounds: How many rounds there may be.
    """
    kept = journals.keeps_results()
    journals.end_journals()
    sentence = continue_job(done, most_rounds, keeps_results=kept)
    print(f"mpitasks: {sentence}", file=sys.stderr, flush=True)


def continue_job(
    done: int,
    most_rounds: int,
    *,
    keeps_results: bool,
    environ: Mapping[str, str] = LAUNCH,
    call: Call = records.call,
) -> str:
    """Put the job into the queue again, unless that makes no sense.

    Args:
        done: Tasks that this round has finished.
        most_rounds: How many rounds there may be.
        keeps_results: Whether they are in a journal.
        environ: The environment of the job.
        call: Runs a program of SLURM's; raises SlurmError if it fails.

    Returns:
        What came of it, as a sentence.
    """
    job = batch_job(environ)
    if job is None:
        return "--requeue does nothing outside a SLURM job"
    number = rounds_before(environ) + 1
    what = f"round {number} of job {job.id}"
    if not keeps_results:
        return f"{what} does not go on: without --journal FILE, it would start anew"
    if not done:
        return f"{what} finished nothing, so the job does not go on"
    if number >= most_rounds:
        return f"{what} was the last (--requeue-rounds {most_rounds})"
    try:
        state = _refusal(job.id, call)
        if state is not None:
            return f"{what} is left to SLURM, which says that the job is {state}"
        try:
            call("scontrol", "requeue", job.id)
            return f"{what} is over; the job goes into the queue again"
        except SlurmError as forbidden:
            return f"{what} is over; {_chain(job.id, number, environ, call, forbidden)}"
    except (SlurmError, ConfigurationError) as error:
        return f"{what} cannot go on by itself: {error}"


def _refusal(id: str, call: Call) -> str | None:
    """Return a job's state if somebody has ended it on purpose, by scancel say."""
    [record] = records.parse_records(call("scontrol", "show", "job", "--oneliner", id))
    if record.state == "RUNNING" or record.reason == "TimeLimit":
        return None
    return record.state


def _chain(
    id: str, number: int, environ: Mapping[str, str], call: Call, forbidden: SlurmError
) -> str:
    """Submit the script of this job again, to start when this one is over."""
    script = call("scontrol", "write", "batch_script", environ["SLURM_JOB_ID"], "-")
    words = [
        "--parsable",
        f"--dependency=afterany:{id}",
        "--export=ALL",
    ]
    name = environ.get("SLURM_JOB_NAME")
    if name:
        words.append(f"--job-name={name}")
    task = environ.get("SLURM_ARRAY_TASK_ID")
    if task:
        words.append(f"--array={task}")
    folder = environ.get("SLURM_SUBMIT_DIR")
    if folder:
        words.append(f"--chdir={folder}")
    own = {
        key: value
        for key, value in environ.items()
        if not key.startswith(OWN_NAMES) or key in CLUSTER_NAMES
    }
    own[ROUND] = str(number)
    said = call("sbatch", *words, text=script, environ=own)
    successor = said.strip().partition(";")[0]
    why = str(forbidden).strip().splitlines()[-1]
    return f"job {successor} goes on, since this one may not be queued again ({why})"
