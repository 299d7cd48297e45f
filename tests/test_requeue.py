"""--requeue: what SLURM is asked, and what is said. SLURM's own part: tests/slurm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.slurm.requeue import continue_job, rounds_before

JOB = {"SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": "/home/me", "SLURM_JOB_NAME": "fit"}
ARRAY = {**JOB, "SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": "3"}
OF_ARRAY = " ArrayJobId=15 ArrayTaskId=3"
FORBIDDEN = SlurmError(
    "scontrol requeue 17 failed:\nRequested operation is presently disabled"
)


@dataclass
class Slurm:
    """Answers as SLURM's programs do.

    Attributes:
        state: The state of the job.
        reason: Its reason.
        array: The array that it is of, and its index there, as fields.
        restarts: How often it was queued again.
        requeue: What is raised when it is to be queued again.
        fields: More of what it shows of the job.
        said: What it was asked.
    """

    state: str = "RUNNING"
    reason: str = "None"
    array: str = ""
    restarts: int = 0
    requeue: Exception | None = None
    fields: str = ""
    said: list[tuple[str, ...]] = field(default_factory=list)
    text: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, text: str | None = None, **more: Any) -> str:
        self.said.append(words)
        if words[:2] == ("scontrol", "show"):
            # The last job of an array has the number of the array as well.
            others = "JobId=16 ArrayJobId=17 ArrayTaskId=1 JobState=RUNNING\n"
            return (
                f"{others if self.array else ''}JobId={words[-1]}{self.array} "
                f"JobState={self.state} Reason={self.reason} Restarts={self.restarts}"
                f"{self.fields}\n"
            )
        if words[:2] == ("scontrol", "requeue") and self.requeue is not None:
            raise self.requeue
        if words[:2] == ("scontrol", "write"):
            return "#!/bin/bash\nsrun\n"
        if words[0] == "sbatch":
            self.text, self.environ = text, more["environ"]
            return "18;cluster\n"
        return ""


def go_on(slurm: Slurm, environ: Mapping[str, str] = JOB, **changes: Any) -> str:
    told = {"done": 5, "most_rounds": 20, "keeps_results": True, **changes}
    done, most_rounds = told.pop("done"), told.pop("most_rounds")
    said: list[str] = []

    def say(sentence: str) -> None:
        assert ("scontrol", "requeue") not in [words[:2] for words in slurm.said] or (
            slurm.requeue
        ), "by now, SLURM may have killed us"
        said.append(sentence)

    continue_job(done, most_rounds, say, environ=environ, call=slurm, **told)
    return "\n".join(said)


@pytest.mark.parametrize("environ", [JOB, ARRAY])
@pytest.mark.parametrize(("of", "id"), [("", "17"), (OF_ARRAY, "15_3")])
def test_the_job_goes_into_the_queue_again(
    environ: dict[str, str], of: str, id: str
) -> None:
    """The job is its own, whatever a job around it has left in the environment."""
    slurm = Slurm(array=of)
    assert go_on(slurm, environ) == (
        f"round 1 of job {id} is over; the job goes into the queue again"
    )
    show = ("scontrol", "show", "job", "--oneliner", "17")
    assert slurm.said == [show, ("scontrol", "requeue", id)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"done": 0}, "this round of job 17 finished nothing, so the job does not go"),
        ({"keeps_results": False}, "job 17 does not go on: without --journal FILE"),
        ({"environ": {}}, "--requeue does nothing outside a SLURM job"),
    ],
)
def test_what_makes_no_sense_is_not_asked(changes: dict[str, Any], words: str) -> None:
    slurm = Slurm()
    assert words in go_on(slurm, **changes)
    assert slurm.said == []


def test_rounds_are_counted() -> None:
    left = {**JOB, "SLURM_RESTART_COUNT": "9"}  # by a job around, say
    again = {**left, "MPITASKS_ROUND": "3"}
    assert rounds_before(2, again) == 5
    assert rounds_before(0, left) == 0
    assert go_on(Slurm(restarts=2), again, most_rounds=7).startswith("round 6 of job 1")
    assert go_on(Slurm(restarts=2), again, most_rounds=6) == (
        "round 6 of job 17 was the last (--requeue-rounds 6)"
    )


def test_a_cancelled_job_stays_cancelled() -> None:
    slurm = Slurm("COMPLETING")
    assert "left to SLURM, which says that the job is COMPLETING" in go_on(slurm)
    assert len(slurm.said) == 1


def test_a_job_that_is_past_its_limit_goes_on() -> None:
    slurm = Slurm("COMPLETING", "TimeLimit")
    assert "goes into the queue again" in go_on(slurm)


def test_where_that_is_forbidden_a_successor_is_submitted() -> None:
    slurm = Slurm(fields=" Requeue=0", array=OF_ARRAY, restarts=1)
    environ = {
        **ARRAY,
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_END_TIME": "5",
        "SLURM_STEP_NUM_TASKS": "4",
        "PMI_RANK": "0",
        "OMPI_MCA_x": "y",
        "HOME": "/home/me",
    }
    assert go_on(slurm, environ) == (
        "round 2 of job 15_3 is over; job 18 goes on, since this one may not be queued "
        "again"
    )
    assert ("scontrol", "requeue", "15_3") not in slurm.said
    assert slurm.said[-2:] == [
        ("scontrol", "write", "batch_script", "17", "-"),
        (
            "sbatch",
            "--parsable",
            "--dependency=afterany:15_3",
            "--export=ALL",
            "--job-name=fit",
            "--array=3",
            "--chdir=/home/me",
        ),
    ]
    assert slurm.text == "#!/bin/bash\nsrun\n"
    assert slurm.environ == {
        "SLURM_CONF": "/etc/slurm.conf",
        "MPITASKS_ROUND": "2",
        "OMPI_MCA_x": "y",
        "HOME": "/home/me",
    }


def test_where_that_is_refused_a_successor_is_submitted() -> None:
    slurm = Slurm(requeue=FORBIDDEN, fields=" Requeue=1")
    assert go_on(slurm) == (
        "round 1 of job 17 is over; the job goes into the queue again\n"
        "job 17 was refused (Requested operation is presently disabled); job 18 goes "
        "on instead"
    )


@pytest.mark.parametrize("error", [SlurmError("no answer"), ConfigurationError("none")])
def test_a_slurm_that_fails_is_quoted(error: Exception) -> None:
    def fail(*words: str, **more: Any) -> str:
        raise error

    said: list[str] = []
    continue_job(5, 20, said.append, keeps_results=True, environ=JOB, call=fail)
    assert said == [f"job 17 cannot go on by itself: {error}"]
