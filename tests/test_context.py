"""A task can ask which one it is."""

from __future__ import annotations

from typing import Any

import pytest

import mpitasks
from mpitasks.errors import ConfigurationError, TaskTimeout
from mpitasks.runner import context
from mpitasks.runner.current_task import CurrentTask
from mpitasks.task_spec import TaskSpec
from working import Running, chunk, error_of, plain


def which() -> Any:
    return mpitasks.current_task()


def which_of(item: int) -> Any:
    return mpitasks.current_task()


def spin_at(x: int) -> int:
    while x == 1:
        pass
    return x


def test_outside_a_task() -> None:
    with pytest.raises(ConfigurationError, match="outside a task"):
        mpitasks.current_task()


def test_a_call_and_the_items_of_a_chunk() -> None:
    master = Running()
    context.provide(lambda: master.worker.current_task(3, "node7"))
    try:
        master.send(
            plain(7, which),
            plain(8, which),
            chunk(9, which_of, [1, 2]),
            task_spec={7: TaskSpec("fit", 2), 9: TaskSpec("map")},
        )
        outcomes = master.finish()
        with pytest.raises(ConfigurationError):
            mpitasks.current_task()
    finally:
        context.provide(lambda: None)
    assert outcomes[7] == CurrentTask(7, 2, "fit", 3, "node7")
    assert outcomes[8] == CurrentTask(8, 1, None, 3, "node7")
    assert outcomes[9] == [CurrentTask(9, 1, "map", 3, "node7")] * 2


def test_a_time_limit_is_for_each_item() -> None:
    master = Running()
    limited = TaskSpec(timeout=3.0)  # a busy machine may stop any item for a while
    master.send(
        chunk(1, spin_at, [0, 1, 2]),
        plain(2, spin_at, 1),
        plain(3, spin_at, 0),
        task_spec={1: limited, 2: limited},
    )
    outcomes = master.finish()
    first, second, third = outcomes[1]
    assert (first, third) == (0, 2)
    for late in (second, outcomes[2]):
        assert isinstance(error_of(late), TaskTimeout)
    assert outcomes[3] == 0
