"""The scheduler for dask on rank 0: what is submitted of a graph, and how.

What comes back is tried by `tests/programs/dask_graphs.py`.
"""

from __future__ import annotations

import copyreg
import operator
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import pytest
from dask import _task_spec as spec

from hands import Hands
from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.errors import ConfigurationError
from mpitasks.integrations import dask as integration
from mpitasks.integrations.dask import SHARED_BYTES, get

# dask has tblib, where it is installed, pickle all exceptions of the process in its own
# way. Other tests of this process are about ours.
for _kind in [each for each in copyreg.dispatch_table if isinstance(each, type)]:
    if issubclass(_kind, BaseException):
        del copyreg.dispatch_table[_kind]

LARGE = np.zeros(SHARED_BYTES // 8)


class Recorded(Executor):
    """Runs calls here and now, and notes the options of each.

    Attributes:
        calls: Label, `keep`, and priority of each call, and its inputs.
        shared: What was shared.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str | None, bool, int, dict[Any, Any]]] = []
        self.shared: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        options = self.options
        self.calls.append((options.label, options.keep, options.priority, args[1]))
        return super().submit(fn, *args, **kwargs)

    def share(self, value: Any) -> Any:
        self.shared.append(value)
        return super().share(value)


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(2)
    yield hands
    hands.close()


def submitted(dsk: Any, *wanted: Any, **kwargs: Any) -> Recorded:
    """Return what was submitted of a graph. Nobody runs it."""
    executor = Recorded()
    graph = integration._Graph(spec.convert_legacy_graph(dsk), {*wanted}, **kwargs)
    run = integration._Run(executor, graph, graph.state(), [], [])
    run._submit()
    return executor


def test_only_what_others_need_is_kept(hands: Hands) -> None:
    dsk = {"a-1": (abs, 1), "b-1": (abs, "a-1"), "c-1": (divmod, "a-1", "b-1")}
    executor = submitted(dsk, "c-1", "b-1", optimize=False)
    told = [call[:3] for call in executor.calls]
    assert told == [("a", True, 0), ("b", True, 1), ("c", False, 2)]


def test_a_chain_is_one_task(hands: Hands) -> None:
    dsk = {("n", n): (operator.neg, ("n", n - 1)) for n in range(1, 9)}
    dsk["n", 0] = (abs, 1)
    executor = submitted(dsk, ("n", 8), optimize=True)
    assert len(executor.calls) == 1
    assert len(submitted(dsk, ("n", 8), optimize=False).calls) == 9


def test_what_is_not_needed_is_not_submitted(hands: Hands) -> None:
    executor = submitted({"a": (abs, 1), "b": (abs, 2)}, "b", optimize=True)
    assert len(executor.calls) == 1


def test_futures_are_dropped_when_nothing_more_needs_them(hands: Hands) -> None:
    dsk = {"a": (abs, 1), "b": (abs, "a"), "c": (abs, "a"), "d": (divmod, "b", "c")}
    graph = integration._Graph(spec.convert_legacy_graph(dsk), {"d"}, optimize=False)
    run = integration._Run(Executor(), graph, graph.state(), [], [])
    results = run._submit()
    assert [*results] == ["d"]
    hands.event_loop.nudge()
    # Calls hold their inputs until they are done; nothing else does.
    assert sum(each() is not None for each in run._submitted) == 4
    for _ in range(4):
        for rank in (1, 2):
            for call in hands.calls(rank):
                hands.answer(rank, call, 1)
    assert results["d"].done()
    assert sum(each() is not None for each in run._submitted) == 1


def test_large_data_that_several_need_is_shared(hands: Hands) -> None:
    once = {"x": LARGE, "a": (len, "x")}
    assert submitted(once, "a", optimize=False).shared == []
    small = {"x": LARGE[1:], "a": (len, "x"), "b": (sum, "x")}
    assert submitted(small, "a", "b", optimize=False).shared == []
    twice = {"x": LARGE, "a": (len, "x"), "b": (sum, "x")}
    (shared,) = submitted(twice, "a", "b", optimize=False).shared
    assert shared is LARGE


def test_what_waits_is_cancelled_after_a_failure(hands: Hands) -> None:
    dsk = {"a": (abs, 1), "b": (abs, "a"), "c": (len, threading.Lock())}
    graph = integration._Graph(spec.convert_legacy_graph(dsk), {"b", "c"}, False)
    executor = Executor()
    run = integration._Run(executor, graph, graph.state(), [], [])
    with pytest.raises(Exception, match="lock"):
        run.compute()
    for rank in (1, 2):
        for call in hands.calls(rank):
            hands.answer(rank, call, 1)
    assert all(f is None or f.done() for f in (each() for each in run._submitted))


def test_an_executor_has_its_number_of_workers(hands: Hands) -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        get({"a": 1}, "a", num_workers=1, executor=Executor())


def test_options_that_do_not_exist_are_refused(hands: Hands) -> None:
    with pytest.raises(TypeError, match="retires"):
        dask.delayed(abs)(1).compute(scheduler=get, retires=2)


def test_in_a_task_it_runs_there() -> None:
    session.install_worker(2)
    try:
        assert dask.delayed(abs)(-1).compute(scheduler=get) == 1
    finally:
        session.uninstall()


@pytest.mark.parametrize(("before", "after"), [("None", "tasks"), ("'p2p'", "p2p")])
def test_shuffles_do_not_use_the_disk(before: str, after: str) -> None:
    code = (
        f"import dask; dask.config.set({{'dataframe.shuffle.method': {before}}})\n"
        f"import mpitasks.integrations.dask\n"
        f"print(dask.utils.get_default_shuffle_method())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after


def test_without_dask_it_says_what_to_install() -> None:
    code = "import sys\nsys.modules['dask'] = None\nimport mpitasks.integrations.dask"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'mpitasks[dask]'" in done.stderr
