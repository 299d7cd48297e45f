"""A script and a worker in one process, as the two ends of a wire without MPI.

`Stage` runs a source as ``__main__``, registers what a test calls as rank 0 does, and
calls it on the other side, where ``__main__`` is the mirror of the script. What goes
from one side to the other are frames.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpitasks.master.functions import Function, Functions
from mpitasks.master.script_state import with_needs
from mpitasks.runner.mirror import FunctionTable
from mpitasks.wire import codec, rebuild


class Stage:
    """A script, and a worker that follows it.

    Args:
        source: The script.
        folder: Where it lies.
    """

    def __init__(self, source: str, folder: Path) -> None:
        path = folder / "script.py"
        path.write_text(source)
        self.script = types.ModuleType("__main__")
        self.script.__file__ = str(path)
        self.functions = Functions()
        self.set_up = self.functions.plain
        self.worker = FunctionTable()
        self.own = rebuild.Side(lambda: self.script)
        self.sent: dict[int, int] = {}  # by id: bytes
        self.told: list[Any] = []  # names of what was sent, in order
        self._usual = sys.modules["__main__"]
        with self.on_rank_0():
            exec(
                compile(source, str(path), "exec", dont_inherit=True),
                self.script.__dict__,
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.script, name)

    @contextmanager
    def on_rank_0(self) -> Iterator[None]:
        """Be the script's side."""
        with self._on(self.script, lambda: self.own):
            yield

    @contextmanager
    def on_worker(self) -> Iterator[None]:
        """Be the worker's side."""
        with self._on(self.worker.main, lambda: self.worker.side):
            yield

    @contextmanager
    def _on(
        self, main: types.ModuleType, side: Callable[[], rebuild.Side]
    ) -> Iterator[None]:
        sys.modules["__main__"] = main
        rebuild.set_side(side)
        try:
            yield
        finally:
            sys.modules["__main__"] = self._usual
            rebuild.set_side(None)

    def run(self, code: str) -> None:
        """Let the script go on."""
        with self.on_rank_0():
            exec(
                compile(code, "<more>", "exec", dont_inherit=True), self.script.__dict__
            )

    def open(self, initializer: Any = None, args: tuple[Any, ...] = ()) -> None:
        """Open an Executor."""
        with self.on_rank_0():
            self.set_up = self.functions.open(initializer, args)

    def submit(
        self, function: Callable[..., Any], *args: Any, whole: bool = False
    ) -> Call:
        """Submit a call; it runs when its result is asked for."""
        with self.on_rank_0():
            target = self.functions.register(function, self.set_up, whole=whole)
            frame, buffers, notes = codec.encode_noting(args, "the arguments")
            if notes is not None:
                target = target.including(notes.names, whole=whole)
        return Call(self, target, frame, [bytearray(buffer) for buffer in buffers])

    def call(
        self, function: Callable[..., Any], *args: Any, whole: bool = False
    ) -> Any:
        """Return what a call returns, as rank 0 gets it; raise what it raises."""
        return self.submit(function, *args, whole=whole).result()

    def teach(self, target: Function) -> None:
        """Send what the worker lacks."""
        for each in with_needs([target]):
            if each.id in self.sent:
                continue
            self.sent[each.id] = each.nbytes
            self.told.append(each.name)
            needs = tuple([need.id for need in each.needs])
            places = (None,) * len(each.buffers)
            told = (each.id, each.name, each.frame, each.head, places)
            buffers = [bytearray(buffer) for buffer in reversed(each.buffers)]
            self.worker.learn((*told, needs, each.refers), buffers)


class Call:
    """A call that was submitted."""

    def __init__(
        self, stage: Stage, target: Function, frame: bytes, buffers: list[Any]
    ) -> None:
        self.stage = stage
        self.target = target
        self.frame = frame
        self.buffers = buffers

    def result(self) -> Any:
        """Run it on the worker; return the result as it arrives on rank 0."""
        stage = self.stage
        with stage.on_worker():
            stage.teach(self.target)
            function = stage.worker.ready(self.target.id)
            args = codec.decode(self.frame, self.buffers)
            frame, buffers = codec.encode(function(*args), "the result")
            copies = [bytearray(buffer) for buffer in buffers]
        with stage.on_rank_0():
            return codec.decode(frame, copies)
