"""Options are validated once, when they are made."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

from mpitasks.errors import OptionError
from mpitasks.options import DEFAULTS, TaskOptions
from mpitasks.task_spec import TaskSpec


def test_what_came_with_the_isolation_goes_with_it() -> None:
    made = TaskOptions(isolate=True, memory_limit=1 << 20, max_tasks_per_child=3)
    assert made.task_spec == TaskSpec(None, 1, None, True, 1 << 20, False, 3)
    assert made.replace(isolate=False) == DEFAULTS


def test_the_defaults() -> None:
    assert TaskOptions() == DEFAULTS
    assert (DEFAULTS.chunksize, DEFAULTS.label, DEFAULTS.priority) == (None, None, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"chunksize": 1},
        {"chunksize": 10**9},
        {"label": ""},
        {"label": "fit"},
        {"priority": -5},
        {"chunksize": 2, "label": "x", "priority": 3},
        {"retries": 2, "retry_on": OSError, "retry_delay": 0},
        {"retry_on": (OSError, KeyError), "timeout": 0.5},
        {"isolate": True, "memory_limit": 1 << 30},
        {"isolate": True, "max_tasks_per_child": 1},
        {"max_failures": 0, "fail_fast": True, "return_exceptions": True},
        {"max_crashes": 1},
    ],
)
def test_good_values(options: dict[str, Any]) -> None:
    made = TaskOptions(**options)
    assert {name: getattr(made, name) for name in options} == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunksize": 0}, "chunksize must be at least 1, not 0"),
        ({"chunksize": -3}, "chunksize must be at least 1, not -3"),
        ({"chunksize": 1.0}, "chunksize must be an integer, not 1.0"),
        ({"chunksize": True}, "chunksize must be an integer, not True"),
        ({"chunksize": "4"}, "chunksize must be an integer, not '4'"),
        ({"label": 7}, "label must be a string, not 7"),
        ({"label": b"fit"}, "label must be a string, not b'fit'"),
        ({"priority": None}, "priority must be an integer, not None"),
        ({"priority": 0.5}, "priority must be an integer, not 0.5"),
        ({"priority": False}, "priority must be an integer, not False"),
        ({"retries": -1}, "retries must be at least 0, not -1"),
        ({"retries": None}, "retries must be an integer, not None"),
        (
            {"max_tasks_per_child": 5},
            "max_tasks_per_child needs isolate=True: only a task in a process of its "
            "own can have a fresh one",
        ),
        (
            {"max_tasks_per_child": 0, "isolate": True},
            "max_tasks_per_child must be at least 1, not 0",
        ),
        ({"max_crashes": 0}, "max_crashes must be at least 1, not 0"),
        ({"max_failures": -1}, "max_failures must be at least 0, not -1"),
        ({"timeout": 0}, "timeout must be more than 0 seconds; None is no limit"),
        ({"timeout": -1.0}, "timeout must be a number of seconds, not -1.0"),
        ({"timeout": "4"}, "timeout must be a number of seconds, not '4'"),
        ({"timeout": math.inf}, "timeout must be a number of seconds, not inf"),
        ({"retry_delay": None}, "retry_delay must be a number of seconds, not None"),
        ({"fail_fast": 1}, "fail_fast must be True or False, not 1"),
        ({"isolate": None}, "isolate must be True or False, not None"),
        (
            {"retry_on": (OSError, 3)},
            re.escape(
                "retry_on must be an exception type or a tuple of them, not "
                "(<class 'OSError'>, 3)"
            ),
        ),
        (
            {"memory_limit": 5},
            "memory_limit needs isolate=True: only a task in a process of its own can "
            "be watched and ended without its rank",
        ),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        TaskOptions(**options)
    with pytest.raises(OptionError, match=f"^{message}$"):
        DEFAULTS.replace(**options)


def test_replace_leaves_the_rest_and_the_original() -> None:
    first = TaskOptions(chunksize=3, label="a")
    second = first.replace(label="b", priority=1)
    assert second == TaskOptions(chunksize=3, label="b", priority=1)
    assert first == TaskOptions(chunksize=3, label="a")


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(TypeError) as caught:
        DEFAULTS.replace(chunk_size=3)
    names = ", ".join(f.name for f in dataclasses.fields(TaskOptions) if f.init)
    expected = f"unknown option 'chunk_size'; the options are {names}"
    assert str(caught.value) == expected


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.priority = 3  # type: ignore[misc]


def test_options_pickle() -> None:
    options = TaskOptions(chunksize=3, label="a", priority=-1)
    assert pickle.loads(pickle.dumps(options)) == options


def test_a_worker_is_told_task_spec_only_where_they_differ() -> None:
    assert TaskOptions(retries=3, priority=2, chunksize=4).task_spec is None
    assert TaskOptions(label="fit").task_spec == TaskSpec("fit")
    made = TaskOptions(isolate=True, timeout=2, memory_limit=1 << 20)
    assert made.task_spec == TaskSpec(None, 1, 2, True, 1 << 20)
    assert (
        made.replace(isolate=False, timeout=None, memory_limit=None).task_spec is None
    )


INTEGERS = {
    "chunksize": 3,
    "priority": -2,
    "retries": 2,
    "max_crashes": 1,
    "max_failures": 0,
}


@pytest.mark.parametrize(
    "kind",
    [np.int8, np.int64, np.uint64, np.uint8, lambda n: np.array(n, np.int32)],
)
def test_numpy_s_integers_are_integers(kind: Any) -> None:
    given = {name: kind(abs(value)) for name, value in INTEGERS.items() if value >= 0}
    made = TaskOptions(**given, isolate=True, memory_limit=kind(100), key=kind(7))
    found = {name: getattr(made, name) for name in given}
    assert found == {name: INTEGERS[name] for name in given}
    values = [*found.values(), made.memory_limit, made.key]
    assert {type(value) for value in values} == {int}
    assert TaskOptions(key=("a", kind(7))).key == ("a", 7)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, np.longdouble])
def test_numpy_s_numbers_are_seconds(kind: Any) -> None:
    made = TaskOptions(timeout=kind(2), retry_delay=kind(1))
    assert (made.timeout, made.retry_delay) == (2.0, 1.0)
    assert {type(made.timeout), type(made.retry_delay)} == {float}


@pytest.mark.parametrize("name", [*INTEGERS, "timeout", "retry_delay", "memory_limit"])
@pytest.mark.parametrize("value", [np.True_, True, b"3", [3], np.arange(2), 3j])
def test_no_option_takes_what_is_no_number(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be a"):
        TaskOptions(**{name: value}, isolate=True)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", ["3", 2.0, np.float64(2), np.float32(2)])
def test_no_integer_is_a_float(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be an integer, not "):
        TaskOptions(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "retry_delay"])
@pytest.mark.parametrize("value", [math.nan, -math.inf, np.float64("inf"), 10**400])
def test_seconds_are_finite(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be a number of seconds"):
        TaskOptions(**{name: value})


@pytest.mark.parametrize(
    ("text", "nbytes"), [("2G", 2 << 30), ("500M", 500 << 20), ("1.5KiB", 1536)]
)
def test_memory_as_on_the_command_line(text: str, nbytes: int) -> None:
    made = TaskOptions(isolate=True, memory_limit=text)  # type: ignore[arg-type]
    assert made.memory_limit == nbytes
    assert made.task_spec == TaskSpec(isolate=True, memory_limit=nbytes)


@pytest.mark.parametrize("text", ["", "2X", "0", "-1", "2 G", "G"])
def test_text_that_is_no_memory(text: str) -> None:
    with pytest.raises(OptionError, match=r"memory_limit: .* is no amount of memory"):
        TaskOptions(isolate=True, memory_limit=text)  # type: ignore[arg-type]
