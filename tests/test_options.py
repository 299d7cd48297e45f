"""Options are validated once, when they are made."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from typing import Any

import pytest

from mpitasks.errors import OptionError
from mpitasks.options import DEFAULTS, TaskOptions
from mpitasks.terms import Terms


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


def test_a_worker_is_told_terms_only_where_they_differ() -> None:
    assert TaskOptions(retries=3, priority=2, chunksize=4).terms is None
    assert TaskOptions(label="fit").terms == Terms("fit")
    made = TaskOptions(isolate=True, timeout=2, memory_limit=1 << 20)
    assert made.terms == Terms(None, 1, 2, True, 1 << 20)
    assert made.replace(isolate=False, timeout=None, memory_limit=None).terms is None
