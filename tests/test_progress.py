"""Progress: the numbers, the lines, the bottom of a terminal, and what is asked."""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from tqdm import tqdm

import mpitasks as mt
from hands import Hands
from mpitasks.observe.display import Bars, Display, Lines, choose
from mpitasks.observe.progress import (
    Counts,
    Intervals,
    Tracker,
    View,
    describe,
    duration,
)
from mpitasks.observe.terminal import Footer, Terminal, find_terminal

SECONDS = 60.0


class Steps:
    """A source whose counts a test sets."""

    def __init__(self, *counts: Counts, name: str = "fit") -> None:
        self.name = name
        self._counts = iter(counts)
        self._latest = Counts(0, 0, None)

    def counts(self) -> Counts:
        self._latest = next(self._counts, self._latest)
        return self._latest


def test_rate_and_what_is_left() -> None:
    source = Steps(Counts(0, 0, 100), Counts(20, 1, 100), Counts(100, 1, 100))
    tracker = Tracker(source, 0.0)
    assert tracker.take(0.0, 2).eta is None
    view = tracker.take(4.0, 2)
    assert (view.rate, view.eta, view.over) == (5.0, 16.0, False)
    assert describe(view) == "fit: 20/100 (20%), 1 failed, 5/s, 16 s to go"
    over = tracker.take(20.0, 2)
    assert over.over
    assert describe(over) == "fit: 100/100, 1 failed, in 20 s, 5/s"


def test_what_items_took_tells_more_than_a_rate_of_few() -> None:
    tracker = Tracker(Steps(Counts(8, 0, 100, work=920.0)), 0.0)
    assert tracker.take(10.0, 8).eta == pytest.approx(115.0)
    slow = Tracker(Steps(Counts(8, 0, 100, work=8.0)), 0.0)
    assert slow.take(10.0, 8).eta == pytest.approx(115.0), "others share the workers"


def test_without_a_total_nothing_is_forecast() -> None:
    view = Tracker(Steps(Counts(7, 0, None)), 0.0).take(2.0, 1)
    assert (view.eta, view.over) == (None, False)
    assert describe(view) == "fit: 7, 3.5/s"


def test_what_may_grow_is_not_over_and_begins_with_its_first() -> None:
    tracker = Tracker(
        Steps(Counts(0, 0, 0, grows=True), Counts(5, 0, 5, grows=True)), 0.0
    )
    tracker.take(100.0, 1)
    view = tracker.take(102.0, 1)
    assert (view.over, view.seconds) == (False, 2.0)
    assert tracker.take(105.0, 1, over=True).rate == 1.0


def test_rate_is_that_of_late() -> None:
    counts = [Counts(100 + step, 0, 1000) for step in range(100)]
    tracker = Tracker(Steps(*counts), -1.0)
    views = [tracker.take(float(step), 1) for step in range(100)]
    assert views[-1].rate == pytest.approx(1.0)


def test_more_done_than_there_were_to_be() -> None:
    """A length that is wrong, as some `__len__` tell it, harms nothing."""
    view = Tracker(Steps(Counts(12, 0, 10, grows=True)), 0.0).take(1.0, 1)
    assert view.eta == 0.0


def test_names_of_users_are_made_fit_for_a_terminal() -> None:
    name = "\x1b[2Jevil" + "x" * 100
    view = Tracker(Steps(Counts(1, 0, 2), name=name), 0.0).take(1.0, 1)
    assert view.name == ("\\x1b[2Jevil" + "x" * 100)[:37] + "..."


def test_intervals_grow() -> None:
    intervals = Intervals(0.0)
    times = [tenth / 10 for tenth in range(100_000) if intervals.due(tenth / 10)]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] == 2.0
    assert all(later >= earlier - 0.2 for earlier, later in itertools.pairwise(waits))
    assert max(waits) == pytest.approx(300.0)
    assert len(times) < 50


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (61, "61 s"), (125, "2:05 min"),
     (7384, "2:03 h"), (200_000, "2 days 7 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Screen:
    """A terminal that a test looks at, and what it shows."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self._master, self.fd = os.openpty()
        self.resize(rows, columns)
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.terminal = Terminal(self.fd, self.fd)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        """Have somebody print."""
        os.write(self.fd, text.encode())

    def lines(self) -> list[str]:
        """Return what stands there, without empty lines at the end of the text."""
        os.write(self.fd, b"\x1b[0m")
        received = b""
        while not received.endswith(b"\x1b[0m"):
            received += os.read(self._master, 65536)
        self._stream.feed(received)
        return [line.rstrip() for line in self.screen.display]

    def scrolled(self) -> list[str]:
        """Return what has left the screen."""
        lines = self.screen.history.top
        return ["".join(line[at].data for at in range(80)).rstrip() for line in lines]

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


def test_lines_scroll_above_the_footer(screen: Screen) -> None:
    footer = Footer(screen.terminal)
    printed = [f"line {number}" for number in range(100)]
    for number, line in enumerate(printed):
        footer.show([f"bar {number}", "other"])
        screen.type(line + "\n")
    shown = screen.lines()
    assert shown[-2:] == ["bar 99", "other"]
    assert [*screen.scrolled(), *shown[:-3]] == printed
    footer.close()
    assert screen.lines()[-2:] == ["", ""]


def test_where_only_whole_lines_arrive_each_change_is_one(screen: Screen) -> None:
    footer = Footer(screen.terminal._replace(whole_lines=True))
    printed = [f"line {number}" for number in range(50)]
    for number, line in enumerate(printed):
        screen.type(line + "\n")
        footer.show([f"bar {number}"])
        footer.show([f"bar {number}", "other"])
    footer.close()
    shown = screen.lines()
    assert shown[-3:] == ["", "", ""]
    assert [*screen.scrolled(), *shown[:-3]] == printed


def test_a_line_that_is_not_at_its_end_goes_on(screen: Screen) -> None:
    footer = Footer(screen.terminal)
    for _ in range(30):
        screen.type("before\n")
    screen.type("half a ")
    for number in range(5):
        footer.show([f"bar {number}"] * (1 + number % 2))
    screen.type("line\n")
    assert "half a line" in screen.lines()


def test_what_is_said_takes_a_line_of_its_own(screen: Screen) -> None:
    footer = Footer(screen.terminal)
    footer.show(["bar"])
    screen.type("half a line")
    footer.say("all done")
    footer.say("really")
    shown = screen.lines()
    assert shown[:3] == ["half a line", "all done", "really"]
    assert shown[-1] == "bar"


def test_a_terminal_may_change_its_size(screen: Screen) -> None:
    footer = Footer(screen.terminal)
    footer.show(["bar"])
    screen.lines()
    screen.resize(20, 60)
    screen.screen.resize(20, 60)
    footer.show(["bar"])
    assert screen.lines()[-1] == "bar"
    screen.resize(3, 60)
    assert footer.columns == 0


def test_bars_name_what_they_count(screen: Screen) -> None:
    bars = Bars(tqdm, Footer(screen.terminal))
    view = View("fit", 30, 2, 120, 10.0, 3.0, 30.0, False)
    assert (
        bars.show(
            [("a", view), ("b", view._replace(name="x", total=None, eta=None))], 0.0
        )
        == []
    )
    first, second = screen.lines()[-2:]
    assert first.startswith("fit:  25%|")
    assert first.endswith("30/120 [00:10<00:30,  3.00it/s, 2 failed]")
    assert second.startswith("x: 30 [00:10<?,")
    assert bars.finish("a", view._replace(over=True, eta=None)) == []
    bars.close()
    shown = screen.lines()
    assert "mpitasks: fit: 30/120, 2 failed, in 10 s, 3/s" in shown
    assert shown[-1] == ""


def test_many_bars_leave_room(screen: Screen) -> None:
    bars = Bars(tqdm, Footer(screen.terminal))
    view = View("fit", 30, 2, 120, 10.0, 3.0, 30.0, False)
    bars.show([(number, view) for number in range(9)], 0.0)
    assert screen.lines()[-1] == "and 5 more"
    assert screen.lines()[-6] == ""


def test_a_small_terminal_gets_lines(screen: Screen) -> None:
    screen.resize(4, 80)
    bars = Bars(tqdm, Footer(screen.terminal))
    view = View("fit", 30, 0, 120, 10.0, 3.0, 30.0, False)
    assert bars.show([("a", view)], 0.0) == ["fit: 30/120 (25%), 3/s, 30 s to go"]
    assert bars.finish("a", view) == ["fit: 30/120 (25%), 3/s, 30 s to go"]


def test_a_terminal_is_found(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    found = find_terminal(screen.fd)
    assert found is not None
    assert os.path.samestat(os.fstat(found.size), os.fstat(screen.fd))
    assert not found.whole_lines
    os.close(found.size)
    monkeypatch.setenv("TERM", "dumb")
    assert find_terminal(screen.fd) is None


# What users see.


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if not line.startswith("mpitasks: one process")]


LAST = r"mpitasks: {}, in \d.*/s"


def fail_odd(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


@pytest.mark.parametrize(
    "run",
    [
        lambda ex: list(ex.map(fail_odd, range(10), progress=True)),
        lambda ex: list(ex.map(fail_odd, iter(range(10)), progress=True)),
        lambda ex: list(ex.map(fail_odd, range(10), buffersize=2, progress=True)),
        lambda ex: list(ex.map_unordered(fail_odd, iter(range(10)), progress=True)),
        lambda ex: list(ex.starmap(fail_odd, [(n,) for n in range(10)], progress=True)),
        lambda ex: list(ex.with_options(progress=True).map(fail_odd, range(10))),
    ],
)
def test_the_last_line_of_a_map(
    capsys: pytest.CaptureFixture[str], run: Callable[[mt.Executor], object]
) -> None:
    with mt.Executor(return_exceptions=True) as executor:
        run(executor)
    (line,) = said(capsys)
    assert re.fullmatch(LAST.format("fail_odd: 10/10, 5 failed"), line)


def test_no_line_without_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with mt.Executor() as executor:
        list(executor.map(abs, range(10)))
        executor.submit(abs, 1).result()
    assert said(capsys) == []


def test_a_map_that_raises_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with mt.Executor(progress=True, chunksize=1) as executor:
        with pytest.raises(ValueError, match="1"):
            list(executor.map(fail_odd, range(3)))
        assert said(capsys)[0].startswith("mpitasks: fail_odd: ")


def test_map_into_and_map_reduce(capsys: pytest.CaptureFixture[str]) -> None:
    import operator

    import numpy as np

    with mt.Executor(progress=True) as executor:
        executor.map_into(np.empty(20), float, range(20))
        total = executor.map_reduce(abs, range(3000), operator.add)
        assert total == sum(range(3000))
    into, reduced = said(capsys)
    assert re.fullmatch(LAST.format("float: 20/20"), into)
    assert re.fullmatch(LAST.format("map_reduce: 3000/3000"), reduced)


def test_calls_have_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with mt.Executor(progress=True) as executor:
        futures = [executor.submit(fail_odd, number) for number in range(9)]
        futures += [executor.with_options(label="b").submit(abs, 1) for _ in range(3)]
        futures.append(executor.submit(sum, [futures[0], futures[2]]))
        gone = executor.submit(abs, futures[1])  # fails with what it needs
        quiet = executor.with_options(progress=False).submit(abs, 2)
        mt.wait([*futures, gone, quiet])
    (line,) = said(capsys)
    assert re.fullmatch(LAST.format("tasks: 14/14, 5 failed"), line)


def test_retries_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    with mt.Executor(progress=True, retries=2) as executor:
        future = executor.submit(fail_odd, 1)
        assert isinstance(future.exception(), ValueError)
    (line,) = said(capsys)
    assert re.fullmatch(LAST.format("tasks: 1/1, 1 failed"), line)


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands(1)
    yield hands
    hands.close()


def test_a_cancelled_call_is_no_longer_waited_for(
    capsys: pytest.CaptureFixture[str], hands: Hands
) -> None:
    executor = mt.Executor(progress=True)
    first, second, third = (executor.submit(abs, number) for number in range(3))
    (call,) = hands.calls(1)
    assert second.cancel()
    hands.answer(1, call, 0)
    (call,) = hands.calls(1)
    hands.answer(1, call, 2)
    assert (first.result(), third.result()) == (0, 2)
    executor.shutdown()
    (line,) = said(capsys)
    assert re.fullmatch(LAST.format("tasks: 2/2"), line)


def test_results_of_a_journal_count_as_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for count in (6, 10):
        with mt.Executor(journal=tmp_path / "run.db", progress=True) as executor:
            assert list(executor.map(abs, range(count))) == list(range(count))
    first, second = (line for line in said(capsys) if ": abs: " in line)
    assert re.fullmatch(LAST.format("abs: 6/6"), first)
    assert re.fullmatch(LAST.format("abs: 10/10"), second)


def test_a_stream_of_the_user_that_raises_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def write(self, text: str) -> int:
            raise RuntimeError(text)

        flush = fileno = write

    with mt.Executor() as executor:
        monkeypatch.setattr("sys.stderr", Broken())
        assert list(executor.map(abs, [1, 2], progress=True)) == [1, 2]


def test_the_thread_ends_with_the_last_source() -> None:
    display = Display(lambda: 1, Lines)
    source = Steps(Counts(0, 0, None))
    display.add(source)
    (thread,) = [t for t in threading.enumerate() if t.name == "mpitasks-progress"]
    display.end(source)
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_file_gets_lines() -> None:
    assert type(choose()) is Lines


def test_progress_must_be_a_bool() -> None:
    with pytest.raises(mt.OptionError, match="progress must be True or False, not 1"):
        mt.TaskOptions(progress=1)  # type: ignore[arg-type]


# Iterators that know their length.


def test_results_know_their_number() -> None:
    with mt.Executor() as executor:
        for results in (
            executor.map(abs, range(7)),
            executor.map(abs, iter(range(7))),
            executor.map(abs, [1] * 7, buffersize=2),
            executor.map(pow, [1] * 9, [2] * 7),
            executor.map_unordered(abs, [1] * 7),
            executor.starmap(abs, [(1,)] * 7),
        ):
            assert iter(results) is results
            assert len(results) == 7
            next(results)
            assert len(results) == 7
            assert len(list(results)) == 6
        bar = tqdm(executor.map(abs, [1, 2]), file=io.StringIO())
        assert bar.total == 2
        assert list(bar) == [1, 2]


def test_results_of_a_generator_do_not() -> None:
    with mt.Executor() as executor:
        results = executor.map_unordered(abs, iter(range(10_000)), buffersize=1)
        assert not hasattr(results, "__len__")
        with pytest.raises(TypeError):
            len(results)  # type: ignore[arg-type]
        assert len(list(results)) == 10_000


def test_an_empty_iterator_of_results_is_true() -> None:
    with mt.Executor() as executor:
        results = executor.map(abs, [])
        assert len(results) == 0
        assert results
        assert list(results) == []


def test_a_length_that_raises_is_no_length() -> None:
    class Odd:
        def __len__(self) -> int:
            raise RuntimeError

        def __iter__(self) -> Iterator[int]:
            return iter([1, 2])

    with mt.Executor() as executor:
        results = executor.map_unordered(abs, Odd(), buffersize=1)
        assert not hasattr(results, "__len__")
        assert sorted(results) == [(0, 1), (1, 2)]


def test_results_that_are_closed_are_over() -> None:
    with mt.Executor() as executor:
        results = executor.map(abs, range(100), chunksize=1)
        next(results)
        results.close()
        assert list(results) == []


def test_results_cannot_be_copied() -> None:
    import copy

    with mt.Executor() as executor:
        results = executor.map(abs, [1])
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copy.copy(results)
        assert list(results) == [1]


def test_after_an_exception_results_are_over() -> None:
    with mt.Executor() as executor:
        results = executor.map(fail_odd, range(10), chunksize=1)
        assert next(results) == 0
        with pytest.raises(ValueError, match="1"):
            next(results)
        assert list(results) == []
