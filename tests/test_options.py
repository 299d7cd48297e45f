"""Options are validated once, when they are made."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from mpitasks.errors import OptionError
from mpitasks.options import DEFAULTS, TaskOptions


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
    names = ", ".join(field.name for field in dataclasses.fields(TaskOptions))
    expected = f"unknown option 'chunk_size'; the options are {names}"
    assert str(caught.value) == expected


def test_options_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.priority = 3  # type: ignore[misc]


def test_options_pickle() -> None:
    options = TaskOptions(chunksize=3, label="a", priority=-1)
    assert pickle.loads(pickle.dumps(options)) == options
