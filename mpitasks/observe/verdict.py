"""The verdict on a run: what kept workers from computing, and what would help. Pure.

All seconds that the workers had are shared out: in functions of tasks, with tasks but
not in their functions, and idle, for causes that the recording has noted. The largest
loss is the verdict, if it is large enough to matter. What it is called is part of the
trace's format: names stay.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mpitasks.observe.progress import duration

__all__ = ["GOOD", "Loss", "Verdict", "between", "losses_of", "verdict_of"]

GOOD = "good"
"""The name of the verdict on a run with nothing to gain."""

LEAST = 0.1
"""A loss below this part of the workers' time is none to talk about."""

TRANSFER_BYTES_PER_SECOND = 20e6
"""Of the time in which a worker has tasks and computes nothing. Above, it is bytes that
take the time; below, messages and pickling do."""

LONG_SECONDS = 0.05
"""Tasks of that length are not too short for messages."""

FEW_TASKS = 2
"""With fewer tasks than this for each worker, the tail is a want of tasks."""


class Loss(NamedTuple):
    """Time of the workers that went elsewhere.

    Attributes:
        name: What kind it is.
        seconds: How much, summed over the workers.
        what: What happened, as the end of "...% of the time of the workers went to".
        cure: What would help, as a sentence.
    """

    name: str
    seconds: float
    what: str
    cure: str


class Verdict(NamedTuple):
    """What is said first.

    Attributes:
        name: That of the largest loss, or `GOOD`.
        text: One or two sentences.
    """

    name: str
    text: str


def losses_of(summary: dict[str, Any]) -> list[Loss]:
    """Return where the time of the workers went beside functions, the most first.

    Args:
        summary: As `mpitasks.observe.summary` makes it.
    """
    idle = summary["idle"]
    workers, tasks = summary["workers"], summary["tasks"]
    few = tasks < FEW_TASKS * workers
    losses = [
        _between(summary),
        Loss(
            "loading",
            summary.get("loading", 0.0),
            "making functions on each worker, and importing what they need",
            "Import what is slow where few tasks need it, or not at all; longer and "
            "fewer runs pay for it less often.",
        ),
        Loss(
            "copies",
            summary.get("copying", 0.0),
            "copying kept results for the tasks that need them",
            f"{_megabytes(summary)} of them went from worker to worker: keep smaller "
            "results, or have one task do what several do with the same one.",
        ),
        Loss(
            "start",
            idle["start"],
            "waiting for the first task",
            "Submit tasks earlier: imports, reading and preparing before the first "
            "one keep all workers waiting; have tasks do part of it.",
        ),
        Loss(
            "script",
            idle["script"] + idle["end"],
            "waiting while the script did something else and had no task for them",
            "Submit the next tasks before you work on the results of the last ones, or "
            "have tasks do that work.",
        ),
        Loss(
            "few tasks" if few else "too few at a time",
            idle["few"] + (idle["tail"] if few else 0.0),
            "waiting because there were fewer tasks than workers",
            f"There were {tasks} tasks for {workers} workers: make more and shorter "
            "tasks, or start fewer ranks."
            if few
            else "Submit more tasks at a time: do not wait for each of them, and give "
            "a larger buffersize.",
        ),
        Loss(
            "tail",
            0.0 if few else idle["tail"],
            "waiting for the last tasks of others",
            f"The longest task took {duration(_longest(summary))}: divide the long "
            "tasks, or submit them first (priority=1); a fixed chunksize that is too "
            "large does the same harm.",
        ),
        Loss(
            "inputs",
            idle["inputs"],
            "waiting for results that all other tasks needed",
            "The chain of tasks that need each other is the limit: make its tasks "
            "shorter, or start other tasks beside it.",
        ),
        Loss(
            "retries",
            idle["retries"] + summary["retried_seconds"],
            "attempts that failed, and waiting for the next ones",
            f"{summary['retries']} further attempts: look at the failures below; a "
            "shorter retry_delay and retry_on for the exceptions that pass away help.",
        ),
        Loss(
            "stopping",
            idle["stopping"],
            "waiting for the end, since nothing new was started any more",
            "The walltime or a signal ended the run early; with --journal the same "
            "command goes on, and a smaller --margin starts tasks for longer.",
        ),
    ]
    return sorted(
        (loss for loss in losses if loss.seconds > 0), key=lambda loss: -loss.seconds
    )


def verdict_of(summary: dict[str, Any]) -> Verdict:
    """Return what is to be said first about a run."""
    total = summary["workers"] * summary["seconds"]
    if not summary["tasks"] or total <= 0:
        return Verdict(GOOD, "No task was finished, so there is nothing to tell.")
    busy = summary["busy"] / total
    text = f"The workers were in your functions for {_percent(busy)} of their time."
    losses = losses_of(summary)
    waited = summary["waited"] / summary["seconds"]
    if waited > LEAST and losses and losses[0].name != "memory":
        seconds = summary["waited"]
        return Verdict(
            "memory",
            f"{text} The script waited {duration(seconds)} for room: large arguments "
            f"that wait for a worker take at most 1 GiB. Pass what all tasks need "
            f"with share(), or have tasks read their data themselves.",
        )
    if not losses or losses[0].seconds < LEAST * total:
        return Verdict(GOOD, f"{text} There is little to gain.")
    first = losses[0]
    return Verdict(
        first.name,
        f"{text} {_percent(first.seconds / total)} went to {first.what}. {first.cure}",
    )


def _between(summary: dict[str, Any]) -> Loss:
    """Return the loss between functions: bytes on their way, or rank 0 too slow."""
    seconds = between(summary)
    moved = summary["sent"] + summary["received"]
    if seconds and moved / seconds > TRANSFER_BYTES_PER_SECOND:
        return Loss(
            "transfers",
            seconds,
            "arguments and results on their way",
            f"{moved / 1e6:.3g} MB were moved: pass what all tasks need with share(), "
            "results that only other tasks need with keep=True, and return less.",
        )
    each = summary["busy"] / max(summary["tasks"], 1)
    cure = (
        f"A task took {_short(each)} on average, which is too short for a message: use "
        "map instead of submit, leave chunksize out, or have each task do more."
        if each < LONG_SECONDS
        else "Rank 0 was late: the script computed meanwhile, or there are more ranks "
        "than cores."
    )
    return Loss("rank 0", seconds, "messages and pickling", cure)


def between(summary: dict[str, Any]) -> float:
    """Return the seconds with tasks in which workers did nothing that they tell."""
    told = summary.get("loading", 0.0) + summary.get("copying", 0.0)
    return max(float(summary["held"] - summary["busy"] - told), 0.0)


def _megabytes(summary: dict[str, Any]) -> str:
    return f"{(summary.get('near', 0) + summary.get('far', 0)) / 1e6:.3g} MB"


def _longest(summary: dict[str, Any]) -> float:
    return max((label["longest"] for label in summary["labels"]), default=0.0)


def _percent(part: float) -> str:
    return f"{100 * part:.0f}%"


def _short(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else duration(seconds)
