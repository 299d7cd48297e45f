"""The sandbox: whatever a task does to its process, it costs that task alone."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import misbehaving
from misbehaving import Squares, identity, pid
from mpitasks.errors import (
    SerializationError,
    TaskCrashed,
    TaskMemoryExceeded,
    TaskTimeout,
)
from mpitasks.runner.damage import Damaged
from mpitasks.sandbox import progress_page
from mpitasks.sandbox.progress_page import new_page, read_notes
from mpitasks.wire.outcomes import Failure
from sandboxes import WHERE, Sandboxed, nothing_left

PATIENCE = 120.0
MB = 10**6


@pytest.fixture
def box() -> Iterator[Sandboxed]:
    """A sandbox, after which nothing must be left."""
    with nothing_left(), Sandboxed() as box:
        yield box


def await_end(number: int) -> None:
    """Wait until a process is gone."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], PATIENCE)[0], f"{number} lives on"
    finally:
        os.close(handle)


def alive(number: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def test_a_task_runs_in_one_process_that_stays(box: Sandboxed) -> None:
    first = box.call(pid)
    assert first != os.getpid()
    assert [box.call(pid) for _ in range(3)] == [first] * 3


def test_a_child_is_replaced_after_so_many_tasks(box: Sandboxed) -> None:
    ids = [box.call(pid, max_tasks=2) for _ in range(5)]
    assert [ids.index(each) for each in ids] == [0, 0, 2, 2, 4]
    assert not any(alive(number) for number in ids[:4])
    assert box.call(pid) == ids[4]  # who does not ask gets no other
    fresh = box.call(pid, max_tasks=2)
    assert fresh != ids[4]
    assert set(box.map(misbehaving.pid_of, range(20), max_tasks=2)) == {fresh}
    assert box.map(misbehaving.pid_of, range(1), max_tasks=2) != [fresh]


def test_a_child_that_is_replaced_leaves_by_itself(
    box: Sandboxed, tmp_path: Path
) -> None:
    path = tmp_path / "left"
    box.call(misbehaving.write_at_exit, str(path), max_tasks=1)
    assert not path.exists()
    box.call(identity, 1, max_tasks=1)
    assert path.read_text() == "left"


@pytest.mark.parametrize(
    ("task", "args", "number", "code"),
    [
        (misbehaving.segfault, (), signal.SIGSEGV, None),
        (os.abort, (), signal.SIGABRT, None),
        (misbehaving.signal_self, (signal.SIGKILL,), signal.SIGKILL, None),
        (misbehaving.signal_self, (signal.SIGTERM,), signal.SIGTERM, None),
        (misbehaving.signal_self, (signal.SIGBUS,), signal.SIGBUS, None),
        (misbehaving.signal_self, (signal.SIGRTMIN,), signal.SIGRTMIN, None),
        (misbehaving.leave, (0,), None, 0),
        (misbehaving.leave, (3,), None, 3),
    ],
    ids=lambda what: getattr(what, "__name__", str(what)),
)
def test_a_task_that_ends_its_process_fails_alone(
    box: Sandboxed, task: Any, args: Any, number: int | None, code: int | None
) -> None:
    before = box.call(pid)
    error = box.error(task, *map(int, args), label="fit")
    assert type(error) is TaskCrashed
    assert (error.signal, error.exit_code) == (number, code)
    assert (error.rank, error.host, error.label) == (7, "node3", "fit")
    assert "the task 'fit'" in str(error)
    assert "rank 7 (node3)" in str(error)
    if number is not None:
        names = [s.name for s in signal.Signals if s == number]
        assert names[0] in str(error)
    else:
        assert f"exit code {code}" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == {k: v for k, v in vars(error).items() if k[0] != "_"}
    assert str(again) == str(error)
    after = box.call(pid)
    assert after != before
    assert not alive(before)


def test_a_crash_tells_where_in_python_it_was(box: Sandboxed) -> None:
    error = box.error(misbehaving.segfault)
    told = str(error.__cause__)
    assert WHERE in told
    assert "Segmentation fault" in told
    assert "in segfault" in told
    assert "isolated.py" not in told


def test_sys_exit_and_keyboard_interrupt_are_exceptions(box: Sandboxed) -> None:
    before = box.call(pid)
    assert isinstance(box.error(misbehaving.exit_politely), SystemExit)
    stop = box.error(misbehaving.signal_self, int(signal.SIGINT))
    assert isinstance(stop, KeyboardInterrupt)
    assert "in its child" in str(stop.__cause__)
    assert box.call(pid) == before


def test_a_hanging_task_is_killed_at_its_timeout(box: Sandboxed) -> None:
    box.call(pid)
    start = time.monotonic()
    error = box.error(misbehaving.hang, timeout=0.3, label="fit")
    took = time.monotonic() - start
    assert type(error) is TaskTimeout
    assert "the task 'fit'" in str(error)
    assert "0.3 s" in str(error)
    assert took >= 0.3
    assert box.call(identity, 3, timeout=60.0) == 3


def test_a_timeout_is_for_each_item(box: Sandboxed) -> None:
    values = box.map(Squares(x3="hang", x4="raise"), range(8), timeout=3.0)
    assert isinstance(values[3].error, TaskTimeout)
    assert isinstance(values[4].error, ValueError)
    assert [v for v in values if type(v) is not Failure] == [0, 1, 4, 25, 36, 49]


def test_a_task_over_its_memory_limit_is_killed(box: Sandboxed) -> None:
    error = box.error(misbehaving.hog, 4 * MB, memory_limit=300 * MB, label="fit")
    assert type(error) is TaskMemoryExceeded
    assert isinstance(error, MemoryError)
    assert error.limit == 300 * MB < error.resident
    assert "300 MB" in str(error)
    assert (error.rank, error.host, error.label) == (7, "node3", "fit")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert box.call(identity, 3, memory_limit=300 * MB) == 3


def test_memory_of_earlier_tasks_does_not_count(box: Sandboxed) -> None:
    before = box.call(misbehaving.keep_and_return, 300 * MB)
    assert box.call(pid) == before
    assert box.call(pid, memory_limit=400 * MB) != before


def test_memory_of_earlier_items_does_not_count(box: Sandboxed) -> None:
    values = box.map(misbehaving.keep_slowly, [5 * MB] * 80, memory_limit=300 * MB)
    assert [v for v in values if type(v) is Failure] == []
    assert 1 < len(set(values)) < 40


def test_an_item_that_is_not_wanted_was_not_begun() -> None:
    page, page_fd = new_page()
    os.close(page_fd)
    page.reset(0, 2)
    assert page.begin(1)
    assert not page.begin(2)
    assert page.begun == 2
    page.close()


def test_an_item_that_crashes_fails_alone(box: Sandboxed) -> None:
    task = Squares(x0="exit", x7="segfault", x8="exit", x11="raise", x19="exit")
    values = box.map(task, range(20))
    for x, value in enumerate(values):
        if x in (0, 8, 19):
            assert value.error.exit_code == 3
        elif x == 7:
            assert value.error.signal == signal.SIGSEGV
        elif x == 11:
            assert isinstance(value.error, ValueError)
        else:
            assert value == x * x


def test_no_item_runs_twice(box: Sandboxed, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    import functools

    task = functools.partial(misbehaving.count, str(path))
    items = [*range(100), "crash", *range(100, 200), "crash"]
    values = box.map(task, items)
    assert [v for v in values if type(v) is not Failure] == list(range(200))
    assert path.read_text().split() == list(map(str, items))


def test_a_chunk_fills_the_page_many_times(box: Sandboxed) -> None:
    items = [f"{x:>900}" for x in range(3000)]
    assert box.map(identity, items) == items


def test_a_crash_behind_a_full_page(box: Sandboxed, tmp_path: Path) -> None:
    import functools

    path = tmp_path / "ran"
    task = functools.partial(misbehaving.count, str(path))
    items = [f"{x:>500}" for x in range(1400)]
    items[1200] = "crash"
    values = box.map(task, items)
    assert isinstance(values.pop(1200).error, TaskCrashed)
    del items[1200]
    assert values == items
    assert len(path.read_text().splitlines()) == 1400


def test_stop_iteration_ends_no_chunk(box: Sandboxed) -> None:
    values = box.map(Squares(x1="stop"), range(3))
    assert isinstance(values[1].error, StopIteration)
    assert values[2] == 4


def test_a_child_that_died_between_tasks_costs_nothing(box: Sandboxed) -> None:
    for _ in range(3):
        number = box.call(pid)
        os.kill(number, signal.SIGKILL)
        await_end(number)
        assert box.call(identity, 3) == 3


def test_a_server_that_died_costs_one_task(box: Sandboxed) -> None:
    error = box.error(misbehaving.kill_parent)
    assert isinstance(error, TaskCrashed)
    assert "nobody saw how" in str(error)
    assert box.call(identity, 3) == 3


def test_a_task_that_closes_all_files_fails(box: Sandboxed) -> None:
    assert isinstance(box.error(misbehaving.close_files), TaskCrashed)
    assert box.call(identity, 3) == 3


def test_a_child_that_was_stopped_is_replaced(box: Sandboxed) -> None:
    number = box.call(pid)
    os.kill(number, signal.SIGSTOP)
    assert box.call(identity, 3) == 3
    assert box.call(pid) != number


def test_a_server_that_was_stopped_goes_on(box: Sandboxed) -> None:
    assert box.call(misbehaving.signal_parent, signal.SIGSTOP) == signal.SIGSTOP
    assert box.error(misbehaving.leave, 4).exit_code == 4
    assert box.call(identity, 3) == 3


def test_what_others_write_on_the_page_is_no_result() -> None:
    page, page_fd = new_page()
    os.close(page_fd)
    page.reset(0, 3)
    page.take_up(8)
    assert page.note(0, (0, 7))
    assert page.note(1, (0, 8))
    assert [*read_notes(page.notes())] == [(0, (0, 7)), (1, (0, 8))]
    assert page.whole()
    for at in range(progress_page.HEAD, progress_page.HEAD + 26):
        page._view[at] ^= 1
        with pytest.raises(Damaged, match="a result was overwritten"):
            list(read_notes(page.notes()))
        assert not page.whole()
        assert [*read_notes(page.take())] == [(0, (0, 7)), (1, (0, 8))]
        page._view[at] ^= 1
    page.close()


def test_a_function_whose_loading_crashes_fails(box: Sandboxed) -> None:
    error = box.error(misbehaving.CrashesWhenLoaded())
    assert isinstance(error, TaskCrashed)
    assert error.exit_code == 5
    assert "loading the function" in str(error)
    values = box.map(misbehaving.CrashesWhenLoaded(), range(2))
    assert all(isinstance(value.error, TaskCrashed) for value in values)
    assert box.call(identity, 3) == 3


def test_a_result_that_cannot_be_pickled_fails(box: Sandboxed) -> None:
    error = box.error(misbehaving.unpicklable)
    assert isinstance(error, SerializationError)
    assert "not me" in str(error)


def test_a_function_that_cannot_be_loaded_fails(box: Sandboxed) -> None:
    class Missing:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module",)

        def __call__(self) -> None:
            raise AssertionError

    error = box.error(Missing())
    assert isinstance(error, SerializationError)
    assert "no_such_module" in str(error)


def test_processes_of_a_task_end_with_it(box: Sandboxed, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    error = box.error(misbehaving.start_orphans, str(path), int(signal.SIGABRT))
    assert error.signal == signal.SIGABRT
    pids = [int(word) for word in path.read_text().split()]
    assert len(pids) == 3
    assert not any(map(alive, pids))


def test_processes_of_a_task_end_with_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    with Sandboxed() as box:
        box.call(misbehaving.start_orphans, str(path), 0)
        pids = [int(word) for word in path.read_text().split()]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))


def test_the_child_leaves_properly_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "left"
    with Sandboxed() as box:
        box.call(misbehaving.tidy_up_later, str(path))
        assert not path.exists()
    assert path.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_rank(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "pid"
    code = f"import misbehaving; misbehaving.run_for_ever({str(path)!r})"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    rank = subprocess.Popen([sys.executable, "-c", code], env=environ)
    try:
        end = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < end
            assert rank.poll() is None
            time.sleep(0.005)
    finally:
        rank.send_signal(number)
        assert rank.wait() == -number
    await_end(int(path.read_text()))


def test_what_the_caller_sees_stops_the_task(box: Sandboxed) -> None:
    box.call(pid)
    stop = RuntimeError("not wanted any more")
    looks = 0

    def watch() -> BaseException | None:
        nonlocal looks
        looks += 1
        return stop if looks == 3 else None

    error = box.error(misbehaving.hang, watch=watch)
    assert type(error) is RuntimeError
    assert str(error) == str(stop)
    looks = 0
    values = box.map(Squares(x2="hang"), range(5), watch=watch)
    assert values[:2] == [0, 1]
    assert [str(value.error) for value in values[2:]] == [str(stop)] * 3


def test_a_chunk_is_cut_behind_the_item_that_runs(box: Sandboxed) -> None:
    cuts: list[int | None] = []

    def watch() -> BaseException | None:
        if box.sandbox.progress()[1] < 3:
            return None
        cuts.append(box.sandbox.cut())
        return RuntimeError("enough") if len(cuts) == 2 else None

    values = box.map(Squares(x2="hang"), range(10), watch=watch)
    assert cuts == [3, None]
    assert values[:2] == [0, 1]
    assert len(values) == 3


def test_nothing_is_cut_where_nothing_runs(box: Sandboxed) -> None:
    assert box.sandbox.cut() is None
    box.call(identity, 1)
    assert box.sandbox.cut() is None


def test_a_forgotten_function_is_sent_again(box: Sandboxed) -> None:
    assert box.call(identity, 1) == 1
    box.sandbox.forget([0])
    box.sandbox.forget([5])
    assert box.call(identity, 2) == 2
    assert box.call(pid) != os.getpid()


def test_the_child_is_like_its_rank_but_no_rank(
    box: Sandboxed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    facts = box.call(misbehaving.process_facts)
    assert facts["argv"] == sys.argv
    assert facts["path"] == sys.path
    assert facts["cwd"] == os.getcwd()  # noqa: PTH109
    assert facts["stdin"] == ""
    assert facts["group"]
    assert facts["oom"] == 1000
    assert not facts["mpi"]
    environ = facts["environ"]
    assert environ["SLURM_JOB_ID"] == "17"
    assert "MPI4PY_RC_INITIALIZE" not in environ  # MPI programs would inherit it
    assert environ["PATH"] == os.environ["PATH"]
    assert not {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"} & environ.keys()
    assert "SLURM_PROCID" not in environ


def test_children_draw_different_random_numbers(box: Sandboxed) -> None:
    drawn = []
    for _ in range(3):
        drawn.append(tuple(box.call(misbehaving.random_numbers)))
        box.error(misbehaving.leave, 1)
    assert len(set(drawn)) == 3


def test_time_to_get_ready_is_told(box: Sandboxed) -> None:
    box.call(identity, 1)
    first = box.sandbox.preparing
    assert first > 0.005  # an interpreter was started
    box.call(identity, 1)
    assert box.sandbox.preparing == 0.0
    box.error(misbehaving.leave, 1)
    box.call(identity, 1)
    assert 0.0 < box.sandbox.preparing < first


def test_time_to_get_ready_is_told_with_the_first_results(box: Sandboxed) -> None:
    told: list[float] = []

    def watch() -> None:
        if box.sandbox.finished():
            told.append(box.sandbox.preparing)

    box.map(misbehaving.nap, [0.02] * 20, watch=watch)
    assert told
    assert told[0] > 0.0
