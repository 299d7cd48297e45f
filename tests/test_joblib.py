"""The backend of joblib on rank 0: how many jobs, which arrays are shared, and when.

What calls make of it is tried by `tests/programs/joblib_backend.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib._parallel_backends import FallbackToBackend, SequentialBackend
from joblib.parallel import BACKENDS, BatchedCalls

from hands import Hands
from mpitasks.api import session
from mpitasks.api.executor import Executor
from mpitasks.errors import ConfigurationError, ExecutorClosedError, OptionError
from mpitasks.integrations.joblib import LARGE_BYTES, MpiTasksBackend, SharedArrays

LARGE = LARGE_BYTES // 8


class Own(np.ndarray):
    """Arrays of a class of the user's."""


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(3)
    yield hands
    hands.close()


def batch_of(*arguments: Any, **keywords: Any) -> BatchedCalls:
    """Return a batch with a call of `len`."""
    return BatchedCalls([(len, arguments, keywords)], (None, None))


def sent(arrays: SharedArrays, *arguments: Any, **keywords: Any) -> Any:
    """Return the arguments of a call as they are sent."""
    ((function, args, kwargs),) = arrays.replaced(
        batch_of(*arguments, **keywords)
    ).items
    assert function is len
    return [*args, *kwargs.values()]


def test_importing_registers_it() -> None:
    assert BACKENDS["mpitasks"] is MpiTasksBackend


@pytest.mark.parametrize(
    ("asked", "number"),
    [(None, 1), (1, 1), (2, 2), (3, 3), (99, 3), (-1, 3), (-2, 2), (-3, 1), (-99, 1)],
)
def test_numbers_of_jobs(hands: Hands, asked: Any, number: int) -> None:
    assert MpiTasksBackend().effective_n_jobs(asked) == number


def test_no_job_at_all(hands: Hands) -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        MpiTasksBackend().effective_n_jobs(0)


def test_one_job_runs_in_the_script(hands: Hands) -> None:
    with pytest.raises(FallbackToBackend) as caught:
        MpiTasksBackend(nesting_level=0).configure(n_jobs=1)
    assert type(caught.value.backend) is SequentialBackend


def test_in_a_task_all_do() -> None:
    session.install_worker(2)
    try:
        backend = MpiTasksBackend(nesting_level=0)
        assert backend.effective_n_jobs(-1) == 1
        with pytest.raises(FallbackToBackend):
            backend.configure(n_jobs=-1)
    finally:
        session.uninstall()


def test_calls_of_a_call_run_on_its_rank() -> None:
    nested, jobs = MpiTasksBackend(nesting_level=1).get_nested_backend()
    assert (type(nested), nested.nesting_level, jobs) == (SequentialBackend, 2, None)


@pytest.mark.parametrize("mode", ["r+", "w+"])
def test_arrays_that_calls_would_write_into(hands: Hands, mode: str) -> None:
    with pytest.raises(ConfigurationError, match="return the values instead"):
        MpiTasksBackend().configure(n_jobs=-1, mmap_mode=mode)


def test_options(hands: Hands) -> None:
    backend = MpiTasksBackend(label="fit", retries=2)
    assert backend.configure(n_jobs=2) == 2
    backend.start_call()
    assert backend._executor is not None
    assert backend._executor.options.label == "fit"
    assert backend._executor.num_workers == 2
    assert backend.compute_batch_size() == 1
    backend = MpiTasksBackend(retries=-1)
    backend.configure(n_jobs=-1)
    with pytest.raises(OptionError):
        backend.start_call()


def test_each_call_has_an_executor_of_its_own(hands: Hands) -> None:
    backend = MpiTasksBackend()
    backend.configure(n_jobs=-1)
    backend.start_call()
    first = backend._executor
    assert first is not None
    backend.abort_everything(ensure_ready=True)
    with pytest.raises(ExecutorClosedError):
        first.submit(abs, 1)
    backend.start_call()
    seen: list[Any] = []
    future = backend.submit(batch_of("abc"), seen.append)
    ((rank, call),) = [(r, c) for r in (1, 2, 3) for c in hands.calls(r)]
    hands.reply(rank, call, 3)
    assert backend.retrieve_result_callback(future) == 3
    assert seen == [future]


def test_an_array_is_shared_once(hands: Hands) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    large, other = np.zeros(LARGE), np.zeros(LARGE + 1)
    first, second, again = sent(arrays, large, other, x=large)
    assert first is again is not second
    assert (first.result() == large).all()
    assert not first.result().flags.writeable
    assert sent(arrays, large, x=other) == [first, second]


def test_one_that_changed_is_shared_anew(hands: Hands) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    large = np.zeros(LARGE)
    (before,) = sent(arrays, large)
    large[-1] = 1
    (after,) = sent(arrays, large)
    assert (before.result()[-1], after.result()[-1]) == (0, 1)
    assert sent(arrays, large) == [after]


def test_one_that_nobody_can_change_is_not_looked_at(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    large = np.zeros(LARGE)
    view = large[:]
    view.flags.writeable = False
    (before,) = sent(arrays, view)
    large[0] = 1  # by the array below
    (after,) = sent(arrays, view)
    assert before is not after
    large.flags.writeable = False
    monkeypatch.setattr("mpitasks.integrations.joblib.same_bytes", None)
    assert sent(arrays, view) == [after]


def test_what_is_gone_is_forgotten(hands: Hands) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    for _ in range(3):
        sent(arrays, np.zeros(LARGE))
        assert arrays._shared == {}
    large = np.zeros(LARGE)
    (first,) = sent(arrays, large)
    arrays.forget_all()
    (second,) = sent(arrays, large)
    assert first is not second


def test_what_is_not_shared(hands: Hands) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    others = [
        np.zeros(LARGE - 1),
        np.full(LARGE, None),
        np.zeros(LARGE).view(Own),
        "x",
        None,
    ]
    for kept, other in zip(sent(arrays, *others), others, strict=True):
        assert kept is other
    large = np.zeros(LARGE)
    assert sent(SharedArrays(Executor(), None), large)[0] is large


def test_mapped_files_go_by_their_path(hands: Hands, tmp_path: Path) -> None:
    arrays = SharedArrays(Executor(), LARGE_BYTES)
    mapped = np.memmap(tmp_path / "data", np.uint8, "w+", shape=(9,))
    (first,) = sent(arrays, mapped)
    mapped[3] = 7
    assert sent(arrays, mapped) == [first]
    assert first.result()[3] == 7


def test_without_joblib_it_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['joblib'] = None\nimport mpitasks.integrations.joblib"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'mpitasks[joblib]'" in done.stderr
