"""A sandbox with a master by hand: encodes calls, decodes what comes of them."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mpitasks.runner.sent import Sent
from mpitasks.sandbox.request import SandboxRequest
from mpitasks.sandbox.sandbox import Sandbox
from mpitasks.wire import codec
from mpitasks.wire.messages import CALL, CALL_PLAIN, MAP, MAP_PLAIN
from mpitasks.wire.outcomes import Failure, decode_outcome

WHERE = "rank 7 on node3 (pid 1)"


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Check that no process, file or shared memory is left of what runs inside."""
    gc.collect()  # what earlier tests have left to be collected holds files, too
    files, children, shared = _files(), _offspring(), _shared()
    yield
    gc.collect()
    assert _offspring() == children
    assert _files() == files
    assert _shared() == shared


def _files() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(path.readlink()))
    return sorted(found)


def _shared() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:mpitasks")


def _offspring() -> set[int]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, path.read_text().split()))


class Sandboxed:
    """A `Sandbox`, to be called with Python objects.

    Attributes:
        sandbox: The sandbox.
    """

    def __init__(self) -> None:
        self.sandbox = Sandbox(7, "node3", WHERE)
        self._functions: list[Any] = []

    def __enter__(self) -> Sandboxed:
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.close()

    def order(
        self, function: Any, mode: int, payload: Any, **task_spec: Any
    ) -> SandboxRequest:
        """Return an order for it."""
        if function not in self._functions:
            self._functions.append(function)
        number = self._functions.index(function)
        frame, own = codec.encode(function, "the function")
        sent = Sent(number, None, frame, None, own, (), ())
        return SandboxRequest(number, [sent], mode, payload, **task_spec)

    def call(
        self, function: Any, *args: Any, watch: Any = None, **task_spec: Any
    ) -> Any:
        """Call the function; return its value or a `Failure`."""
        if codec.is_plain(args):
            order = self.order(function, CALL_PLAIN, args, **task_spec)
        else:
            frame, buffers = codec.encode((args, {}), "the arguments")
            order = self.order(function, CALL, frame, buffers=buffers, **task_spec)
        items, value = self._run(order, watch)
        assert items == 1
        return value

    def error(self, function: Any, *args: Any, **task_spec: Any) -> Any:
        """Call the function, which must fail; return its error."""
        outcome = self.call(function, *args, **task_spec)
        assert isinstance(outcome, Failure), outcome
        return outcome.error

    def map(
        self, function: Any, items: Iterable[Any], watch: Any = None, **task_spec: Any
    ) -> list[Any]:
        """Map a chunk; return values and `Failure`s."""
        items = items if isinstance(items, range) else list(items)
        if isinstance(items, range) or codec.all_plain(items):
            order = self.order(
                function, MAP_PLAIN, codec.encode_plain(items), **task_spec
            )
        else:
            frames = [codec.encode(item, "an item") for item in items]
            payload = [(frame, len(own)) for frame, own in frames]
            buffers = [buffer for _, own in frames for buffer in own]
            order = self.order(function, MAP, payload, buffers=buffers, **task_spec)
        number, values = self._run(order, watch)
        assert number == len(values)
        return list(values)

    def _run(
        self, order: SandboxRequest, watch: Callable[[], Any] | None
    ) -> tuple[int, Any]:
        kwargs = {} if watch is None else {"watch": watch}
        self.sandbox.run(order, **kwargs)
        outcomes = [
            decode_outcome(form, payload, list(buffers))
            for form, payload, buffers in self.sandbox.finished()
        ]
        if order.mode in (CALL_PLAIN, CALL):
            [outcome] = outcomes
            return 1, outcome
        return len(outcomes), outcomes
