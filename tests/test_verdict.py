"""The verdict: which loss is named, and when there is nothing to say."""

from __future__ import annotations

from typing import Any

import pytest

from mpitasks.observe.idleness import CAUSES
from mpitasks.observe.verdict import losses_of, verdict_of


def summary(**changes: Any) -> dict[str, Any]:
    """Return that of a run of 10 s on 4 workers, all of it in functions."""
    idle = dict.fromkeys(CAUSES, 0.0)
    idle.update({name: changes.pop(name) for name in CAUSES if name in changes})
    usual = {
        "workers": 4,
        "seconds": 10.0,
        "tasks": 1000,
        "busy": 40.0,
        "held": changes.get("busy", 40.0) + changes.pop("between", 0.0),
        "idle": idle,
        "sent": 0,
        "received": 0,
        "retries": 0,
        "retried_seconds": 0.0,
        "waited": 0.0,
        "labels": [{"longest": 3.0}],
    }
    return {**usual, **changes}


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({}, "good", "100% of their time. There is little to gain."),
        ({"busy": 37.0, "tail": 3.0}, "good", "little to gain"),
        ({"busy": 30.0, "tail": 10.0}, "tail", "The longest task took 3.0 s"),
        ({"tasks": 3, "tail": 10.0}, "few tasks", "3 tasks for 4 workers"),
        ({"few": 10.0}, "too few at a time", "do not wait for each of them"),
        ({"start": 10.0}, "start", "25% went to waiting for the first task"),
        ({"script": 6.0, "end": 6.0}, "script", "30% went to waiting while the script"),
        ({"inputs": 10.0}, "inputs", "chain of tasks"),
        ({"retries": 5.0, "retried_seconds": 5.0}, "retries", "25% went to attempts"),
        ({"stopping": 10.0}, "stopping", "--journal"),
        ({"busy": 20.0, "between": 20.0}, "rank 0", "20 ms on average"),
        (
            {"busy": 20.0, "between": 20.0, "received": 1 << 30},
            "transfers",
            "1.07e+03 MB were moved",
        ),
        ({"tasks": 100, "busy": 20.0, "between": 20.0}, "rank 0", "Rank 0 was late"),
        (
            {"busy": 20.0, "between": 20.0, "loading": 19.0},
            "loading",
            "48% went to making functions on each worker",
        ),
        (
            {"busy": 20.0, "between": 20.0, "copying": 20.0, "near": 10**9},
            "copies",
            "1e+03 MB of them went from worker to worker",
        ),
        ({"waited": 5.0, "start": 10.0}, "memory", "share()"),
        ({"tasks": 0, "busy": 0.0}, "good", "No task was finished"),
        ({"seconds": 0.0}, "good", "No task was finished"),
    ],
)
def test_verdicts(changes: dict[str, Any], name: str, words: str) -> None:
    verdict = verdict_of(summary(**changes))
    assert verdict.name == name
    assert words in verdict.text


def test_the_largest_loss_comes_first() -> None:
    losses = losses_of(summary(between=10.0, tail=7.0, start=9.0, inputs=8.0))
    assert [loss.name for loss in losses] == ["rank 0", "start", "inputs", "tail"]
    assert [loss.seconds for loss in losses] == [10.0, 9.0, 8.0, 7.0]


def test_every_cause_of_idleness_is_a_loss() -> None:
    for cause in CAUSES:
        assert sum(loss.seconds for loss in losses_of(summary(**{cause: 4.0}))) == 4.0
