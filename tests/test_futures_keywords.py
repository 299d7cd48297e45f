"""The keyword arguments of mpi4py's executors, and what some put around each call."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpitasks.around import Around, Within
from mpitasks.errors import ConfigurationError
from mpitasks.futures.keywords import MAX_WORKERS, Keywords, understand

NOTHING = Around((), None, {}, {})


def understood(**others: Any) -> Keywords:
    """Return keyword arguments, understood."""
    return understand(None, None, (), others)


@pytest.mark.parametrize(
    ("given", "number"), [(1, 1), ("3", 3), (2.9, 2), (True, 1), (10**9, 10**9)]
)
def test_numbers_of_workers(given: Any, number: int) -> None:
    assert understand(given, None, (), {}).max_workers == number


def test_the_number_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert understand(None, None, (), {}).max_workers is None
    monkeypatch.setenv(MAX_WORKERS, "5")
    assert understand(None, None, (), {}).max_workers == 5
    assert understand(2, None, (), {}).max_workers == 2
    monkeypatch.setenv(MAX_WORKERS, "0")
    with pytest.raises(ValueError, match="greater than 0"):
        understand(None, None, (), {})
    monkeypatch.setenv(MAX_WORKERS, "")
    assert understand(None, None, (), {}).max_workers is None


@pytest.mark.parametrize("number", [0, -1, "0", 0.5])
def test_numbers_that_are_too_small(number: Any) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        understand(number, None, (), {})


def test_initializers() -> None:
    assert understand(None, print, [1, 2], {})[1:3] == (print, (1, 2))
    with pytest.raises(TypeError, match="initializer must be a callable"):
        understand(None, "print", (), {})


def test_what_has_no_effect() -> None:
    names = ["backoff", "main", "mpi_info", "python_args", "python_exe", "use_pkl5"]
    assert understood(**dict.fromkeys(names, object())) == understood()
    assert understood().around == NOTHING


def test_unknown_ones() -> None:
    with pytest.raises(TypeError, match="there is no keyword argument 'pth'"):
        understood(pth=["/nowhere"])
    with pytest.raises(ConfigurationError, match=r"-m mpitasks script\.py"):
        understood(service="mpi4py.futures")


def test_what_is_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keywords = understood(
        path=iter([tmp_path, "b", b"c"]),
        wdir="inside",
        env=[("A", "1")],
        globals={"x": 2},
    )
    folders = str(tmp_path), "b", "c"
    around = Around(folders, str(tmp_path / "inside"), {"A": "1"}, {"x": 2})
    assert keywords.around == around
    assert understood(path=None, wdir=None, env=None, globals=None).around == NOTHING


@pytest.mark.parametrize(
    "keywords",
    [
        {"path": "/a"},
        {"path": Path("/a")},
        {"path": [1]},
        {"wdir": 3},
        {"env": {"A": 1}},
        {"env": {1: "A"}},
        {"env": 7},
        {"globals": [(1, 2)]},
    ],
    ids=str,
)
def test_values_of_a_wrong_type(keywords: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        understood(**keywords)


def around_of(folder: Path) -> Around:
    """Return all that can be around a call."""
    return Around((str(folder),), str(folder), {"MADE_UP": "1"}, {"made_up": 2})


def state() -> Any:
    """Return what is around."""
    main = vars(sys.modules["__main__"])
    folder = os.getcwd()  # noqa: PTH109
    return sys.path[-1], folder, os.environ.get("MADE_UP"), main.get("made_up")


def change() -> None:
    """Change all of it."""
    sys.path.remove(sys.path[-1])
    os.chdir("/")
    os.environ["MADE_UP"] = "changed"
    vars(sys.modules["__main__"])["made_up"] = "changed"


def leave() -> None:
    """Change all of it, and raise."""
    change()
    raise SystemExit(3)


def test_it_is_there_for_the_call_only(tmp_path: Path) -> None:
    before = state()
    assert before[2:] == (None, None)
    within = around_of(tmp_path).wrap(state)
    assert within() == (str(tmp_path), str(tmp_path), "1", 2)
    assert state() == before


@pytest.mark.parametrize("function", [change, leave])
def test_it_is_gone_whatever_the_call_does(
    tmp_path: Path, function: Callable[[], None]
) -> None:
    before, path = state(), sys.path.copy()
    try:
        around_of(tmp_path).wrap(function)()
    except SystemExit:
        assert function is leave
    assert state() == before
    assert sys.path == path


def test_what_was_there_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE_UP", "mine")
    monkeypatch.setitem(vars(sys.modules["__main__"]), "made_up", "the script's")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = sys.path.copy()
    within = around_of(tmp_path).wrap(state)
    # What the script has of its own comes first.
    assert within()[1:] == (str(tmp_path), "1", "the script's")
    assert state()[2:] == ("mine", "the script's")
    assert sys.path == path


def test_a_folder_that_is_not_there_fails_the_call(tmp_path: Path) -> None:
    before = state()
    within = around_of(tmp_path)._replace(folder=str(tmp_path / "gone")).wrap(state)
    with pytest.raises(FileNotFoundError):
        within()
    assert state() == before


def test_without_anything_a_function_stays_what_it_is() -> None:
    assert NOTHING.wrap(state) is state


class Nameless:
    """Something that can be called and has no name."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs


def test_it_passes_for_the_function(tmp_path: Path) -> None:
    around = around_of(tmp_path)
    assert around.wrap(state).__qualname__ == "state"
    within = around.wrap(Nameless())
    assert within.__qualname__ == "Nameless"
    assert within(1, self=2, around=3) == ((1,), {"self": 2, "around": 3})


def test_it_can_be_pickled(tmp_path: Path) -> None:
    within = pickle.loads(pickle.dumps(Within(around_of(tmp_path), len)))
    assert within("abc") == 3
