"""Tasks inside tasks, as what runs tasks in this process sees them.

A task that opens an Executor becomes the master of its own calls. Whoever waits for one
of these runs it on its own stack: `run_child` puts the runner of the child in the place
of that of its parent, and brings the parent's back afterwards. What the two share is
here: the depth, what each has open, and the time that a parent spent on its children.

The masters are made by `mpitasks.launch.nested`; nothing here knows them. One thread
runs the tasks of a process, and only that one changes what is here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from signal import ITIMER_REAL, getitimer, setitimer  # a task may patch the module
from time import perf_counter  # a task may patch the module
from typing import TYPE_CHECKING, NamedTuple

from mpitasks import randomness
from mpitasks.runner import context
from mpitasks.wire import rebuild

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Protocol

    from mpitasks.randomness import Draw
    from mpitasks.runner.current_task import CurrentTask
    from mpitasks.runner.mirror import FunctionTable
    from mpitasks.task_spec import Place

    class Runner(Protocol):
        """What runs tasks in this process: a worker, or the child of a sandbox.

        Attributes:
            functions: Those that were sent, and the script as it stands here.
            on_leave: Called when there are no more tasks.
        """

        functions: FunctionTable
        on_leave: Callable[[], None]

        def draw(self) -> Draw | None:
            """Return where the running task has its random numbers from."""

        def place(self) -> Place | None:
            """Return where in the program the running task stands."""

        def tell_helping(self) -> None:
            """Let the master know that the running task is not at fault."""

        def name_task(self) -> tuple[int | None, str | None]:
            """Return number and label of the running task."""


__all__ = [
    "MOST_DEPTH",
    "Home",
    "chain",
    "close_opened",
    "depth",
    "here",
    "label",
    "main_module",
    "move_out",
    "open_with",
    "opened",
    "place",
    "run_child",
    "runs_here",
    "settle_in",
    "spent",
    "stopwatch",
    "take_spent",
    "tell_helping",
]

MOST_DEPTH = 100
"""How deep tasks may be nested."""

FRAMES_A_LEVEL = 40
"""Frames of ours between a task and its child, rounded up: the recursion limit grows by
as many, so that the user's functions have what they had."""


class Home(NamedTuple):
    """Where this process runs tasks.

    Attributes:
        rank: The rank.
        host: Its host.
        where: Rank, host and process, for the head of tracebacks.
        runner: What runs the tasks that are no children.
        thread: The thread that runs tasks.
        divides: Whether other threads of the process have a ``__main__`` of their own.
    """

    rank: int
    host: str
    where: str
    runner: Runner
    thread: int
    divides: bool = False


class _Frame(NamedTuple):
    """A child's runner on the stack of its parent, and since when it is there."""

    runner: Runner
    current_task: Callable[[], CurrentTask | None]
    since: float


opened: list[Callable[[BaseException | None], None]] = []
"""What closes the Executors of the tasks that have some open, the innermost last."""

spent: dict[int, float] = {}
"""Seconds that the running task of a depth has spent on its children."""

_opened_at: list[int] = []  # the depth of each
_frames: list[_Frame] = []
_home: Home | None = None
_on_timer = False  # whether a timer limits tasks, which only the main thread can have


def settle_in(home: Home) -> None:
    """Say where, and by what, tasks are run in this process."""
    global _home, _on_timer
    _home = home
    _on_timer = home.thread == threading.main_thread().ident
    side, find = rebuild.side_provider(), context.provider()
    draw = randomness.provider()

    def current_side() -> rebuild.Side:
        return _frames[-1].runner.functions.side if _is_child() else side()

    rebuild.set_side(current_side)
    context.provide(lambda: _frames[-1].current_task() if _is_child() else find())
    randomness.provide(lambda: _draw() if _is_child() else draw())


def move_out() -> None:
    """This process runs no more tasks."""
    global _home
    _home = None


def here() -> Home | None:
    """Return where tasks are run in this process; None where none are."""
    return _home


def runs_here() -> bool:
    """Whether the calling thread is the one that runs tasks in this process."""
    return _home is not None and threading.get_ident() == _home.thread


def _is_child() -> bool:
    return bool(_frames) and runs_here()


def depth() -> int:
    """Return how many tasks the running one is inside of."""
    return len(_frames)


def main_module() -> ModuleType | None:
    """Return the ``__main__`` of the child that runs; None if none does."""
    return _frames[-1].runner.functions.main if _frames else None


def place() -> Place | None:
    """Return where in the program the task stands that is running here."""
    return _runners()[-1].place()


def tell_helping() -> None:
    """A child has run: the time of the task that is no child is not its own."""
    assert _home is not None
    _home.runner.tell_helping()


def label() -> str | None:
    """Return the label of the task that is running here."""
    return _runners()[-1].name_task()[1]


def chain() -> list[str]:
    """Return what tasks run here, each inside the one before."""
    names = [runner.name_task() for runner in _runners()]
    return [label or f"task {number}" for number, label in names]


def _runners() -> list[Runner]:
    assert _home is not None
    return [_home.runner, *[frame.runner for frame in _frames]]


def _draw() -> Draw | None:
    """Return where a child has its random numbers from.

    What its parents come to depends on these, too, so they have drawn as well.
    """
    draws = [runner.draw() for runner in _runners()]
    return draws[-1]


def stopwatch() -> Callable[[], float]:
    """Return what tells how long the running task has waited for children so far.

    It may be called in any thread.
    """
    level = len(_frames)

    def helped() -> float:
        before = spent.get(level, 0.0)
        frames = _frames[level:]
        return before + (perf_counter() - frames[0].since if frames else 0.0)

    return helped


def take_spent() -> float:
    """Return the seconds that the task which has ended spent on its children."""
    return spent.pop(len(_frames), 0.0)


def open_with(close: Callable[[BaseException | None], None]) -> None:
    """The running task has opened its first Executor; call this when it ends."""
    if not _opened_at or _opened_at[-1] != len(_frames):
        _opened_at.append(len(_frames))
        opened.append(close)


def close_opened(error: BaseException | None = None) -> None:
    """The running task has ended: close what it has open.

    Args:
        error: What it raised.
    """
    if _opened_at and _opened_at[-1] == len(_frames):
        # Closed first: what it waits for may raise.
        _opened_at.pop()
        opened.pop()(error)


def run_child(
    runner: Runner,
    current_task: Callable[[], CurrentTask | None],
    step: Callable[[], object],
) -> None:
    """Have a child's runner be the one of this process while `step` runs.

    The limit on the parent's time stands still meanwhile, and so does the clock by
    which it is measured. Random numbers of the parent go on where they were.
    """
    assert _home is not None
    level = len(_frames)
    timer = None
    if _on_timer and (timer := getitimer(ITIMER_REAL))[0]:
        setitimer(ITIMER_REAL, 0.0)
    started = perf_counter()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + FRAMES_A_LEVEL)
    generator = randomness.set_aside("task")
    modules = sys.modules
    before = modules["__main__"]
    _frames.append(_Frame(runner, current_task, started))
    if not _home.divides:
        modules["__main__"] = runner.functions.main
    try:
        step()
    finally:
        _frames.pop()
        modules["__main__"] = before
        randomness.put_back("task", generator)
        if sys.getrecursionlimit() == limit + FRAMES_A_LEVEL:
            sys.setrecursionlimit(limit)
        spent[level] = spent.get(level, 0.0) + perf_counter() - started
        spent.pop(level + 1, None)
        if timer is not None and timer[0]:
            setitimer(ITIMER_REAL, *timer)
