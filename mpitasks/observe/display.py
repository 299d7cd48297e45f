"""Shows progress on standard error: a thread that looks, and three ways to show.

On a terminal there are bars at its bottom (`mpitasks.observe.terminal`), whose text
tqdm makes. In a notebook they are tqdm's widgets. Elsewhere, as in the output file of a
job, there is a line now and then. Sources are asked without any lock of the run's.

What the numbers mean is in `mpitasks.observe.progress`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mpitasks.observe.progress import Intervals, Tracker, View, describe

if TYPE_CHECKING:
    from typing import Protocol

    from mpitasks.observe.progress import Source
    from mpitasks.observe.terminal import Footer

    class Output(Protocol):
        """A way to show progress.

        `show` and `finish` return lines that are to be written to standard error, which
        may be a stream of the user's own: so nobody writes them under a lock.
        """

        period: float
        """Seconds between two looks."""

        def show(self, views: Sequence[Keyed], now: float) -> list[str]:
            """Show how far sources are, each with what tells them apart."""

        def finish(self, key: object, view: View) -> list[str]:
            """Show the last of a source."""

        def close(self) -> None:
            """Nothing is to be shown for a while."""

    Keyed = tuple[object, View]


__all__ = ["Bars", "Display", "Lines", "Widgets", "choose", "close_latest", "say"]

MOST_BARS = 5
"""More would take the screen, and a write of theirs might be torn."""

LOCK_SECONDS = 0.5
"""A signal handler waits so long for a thread that it may have interrupted."""

MISSING = (
    "progress bars need tqdm, which is not installed (pip install "
    "'mpitasks[progress]'); there are lines instead"
)

_NOTEBOOK = "ZMQInteractiveShell"


class Lines:
    """A line now and then, for files and pipes."""

    period = 0.5

    def __init__(self) -> None:
        self._intervals: dict[object, Intervals] = {}

    def show(self, views: Sequence[Keyed], now: float) -> list[str]:
        """Return the lines that are due."""
        lines = []
        for key, view in views:
            intervals = self._intervals.get(key)
            if intervals is None:
                intervals = self._intervals[key] = Intervals(now - view.seconds)
            if intervals.due(now):
                lines.append(describe(view))
        return lines

    def finish(self, key: object, view: View) -> list[str]:
        """Return the last line of a source."""
        self._intervals.pop(key, None)
        return [describe(view)]

    def close(self) -> None:
        """There is nothing to be taken away."""


class Bars:
    """Bars at the bottom of a terminal.

    Args:
        meter: tqdm's class, which knows how a bar looks.
        footer: Where they are shown.
    """

    period = 0.1

    def __init__(self, meter: Any, footer: Footer) -> None:
        self._meter = meter
        self._footer = footer
        self._lines = Lines()

    def show(self, views: Sequence[Keyed], now: float) -> list[str]:
        """Draw the bars of the first sources."""
        columns = self._footer.columns
        if not columns:
            self._footer.close()
            return self._lines.show(views, now)
        lines = [self._text(view, columns) for _, view in views[:MOST_BARS]]
        if len(views) > MOST_BARS:
            lines[-1] = f"and {len(views) - MOST_BARS + 1} more"
        self._footer.show(lines)
        return []

    def finish(self, key: object, view: View) -> list[str]:
        """Leave a line behind, above the bars."""
        if not self._footer.columns:
            return self._lines.finish(key, view)
        self._footer.say(f"mpitasks: {describe(view)}")
        return []

    def close(self) -> None:
        """Give the bottom of the screen back."""
        self._footer.close()

    def _text(self, view: View, columns: int) -> str:
        left = "?" if view.eta is None else self._meter.format_interval(view.eta)
        failed = f", {view.failed} failed" if view.failed else ""
        end = f"[{{elapsed}}<{left}, {{rate_fmt}}{failed}]"
        if view.total is None:
            shape = f"{{desc}}: {{n_fmt}} {end}"
        else:
            shape = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} {end}"
        text: str = self._meter.format_meter(
            view.done,
            view.total,
            view.seconds,
            ncols=columns - 1,
            prefix=view.name,
            rate=view.rate or None,
            bar_format=shape,
            ascii=not _shows_unicode(),
        )
        return text


class Widgets:
    """tqdm's bars of a notebook.

    Args:
        make: Makes one.
    """

    period = 0.2

    def __init__(self, make: Any) -> None:
        self._make = make
        self._bars: dict[object, Any] = {}

    def show(self, views: Sequence[Keyed], now: float) -> list[str]:
        """Move each bar."""
        for key, view in views:
            self._move(key, view)
        return []

    def finish(self, key: object, view: View) -> list[str]:
        """Leave the bar as it is."""
        self._move(key, view)
        self._bars.pop(key).close()
        return []

    def close(self) -> None:
        """Bars stay where they are."""

    def _move(self, key: object, view: View) -> None:
        bar = self._bars.get(key)
        if bar is None:
            bar = self._bars[key] = self._make(total=view.total, desc=view.name)
        bar.total, bar.n = view.total, view.done
        failed = f"{view.failed} failed" if view.failed else ""
        bar.set_postfix_str(failed, refresh=False)
        bar.refresh()


def choose() -> Output:
    """Return the way to show progress that fits this process's standard error."""
    try:
        if _in_notebook():
            from tqdm.notebook import tqdm as make

            return Widgets(make)
        from mpitasks.observe.terminal import Footer, find_terminal

        terminal = find_terminal() if _is_own(sys.stderr) else None
        if terminal is None:
            return Lines()
        from tqdm import tqdm as meter
    except ImportError:
        say(MISSING)
        return Lines()
    return Bars(meter, Footer(terminal))


def say(text: str) -> None:
    """Write a line to standard error.

    Past Python's buffer, in which may be the beginning of a line of the script's.
    """
    line = f"mpitasks: {text}\n"
    stream = sys.stderr
    with contextlib.suppress(Exception):  # whatever users have put there
        if _is_own(stream):
            os.write(2, line.encode(errors="backslashreplace"))
        else:
            stream.write(line)
            stream.flush()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and type(shell()).__name__ == _NOTEBOOK


def _shows_unicode() -> bool:
    encoding = getattr(sys.stderr, "encoding", None) or ""
    return encoding.lower().replace("-", "") == "utf8"


def _is_own(stream: Any) -> bool:
    """Whether standard error is what Python has made of descriptor 2."""
    own = sys.__stderr__
    if own is None or stream is not own:
        return False
    try:
        return own.fileno() == 2
    except (OSError, ValueError):
        return False


_latest: Display | None = None


def close_latest() -> None:
    """Take away what is shown: this process is about to end.

    Signal handlers call it, too.
    """
    if _latest is not None:
        _latest.close()


class Display:
    """Looks at sources and shows how far they are, until none is left.

    Args:
        workers: Returns how many workers take tasks.
        output: Returns how progress is shown; called when there is some.
    """

    def __init__(
        self, workers: Callable[[], int], output: Callable[[], Output] = choose
    ) -> None:
        self._workers = workers
        self._choose = output
        self._output: Output | None = None
        self._trackers: dict[Source, Tracker] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._changed = threading.Event()

    def add(self, source: Source) -> None:
        """Show a source from now on."""
        global _latest
        with self._lock:
            _latest = self
            if self._output is None:
                self._output = self._choose()
            self._trackers[source] = Tracker(source, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="mpitasks-progress", daemon=True
                )
                self._thread.start()

    def end(self, source: Source) -> None:
        """Show the last of a source, if that was not done yet."""
        with self._lock:
            lines = self._finish(source)
        _say_all(lines)

    def close(self) -> None:
        """Show the last of all; from any thread, and from a signal handler."""
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return
        lines = []
        try:
            for source in [*self._trackers]:
                lines += self._finish(source)
        finally:
            self._lock.release()
        _say_all(lines)

    def disown(self) -> None:
        """In a forked child: show nothing any more."""
        self._lock = threading.RLock()
        self._trackers = {}

    def _finish(self, source: Source) -> list[str]:
        tracker = self._trackers.pop(source, None)
        if tracker is None or self._output is None:
            return []
        view = tracker.take(time.monotonic(), self._workers(), over=True)
        lines = self._output.finish(source, view) if view.total != 0 else []
        if not self._trackers:
            self._output.close()
            self._changed.set()
        return lines

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._trackers or self._output is None:
                    self._thread = None
                    return
                self._changed.clear()
                lines = self._look(self._output)
                period = self._output.period
            _say_all(lines)
            self._changed.wait(period)

    def _look(self, output: Output) -> list[str]:
        now, workers = time.monotonic(), self._workers()
        lines: list[str] = []
        views = []
        for source, tracker in [*self._trackers.items()]:
            view = tracker.take(now, workers)
            if view.over:
                lines += self._finish(source)
            elif view.total != 0:
                views.append((source, view))
        if views:
            lines += output.show(views, now)
        return lines


def _say_all(lines: list[str]) -> None:
    for line in lines:
        say(line)
