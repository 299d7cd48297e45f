"""A sandbox with a master by hand: encodes calls, decodes what comes of them."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mpitasks.wire import codec
from mpitasks.wire.messages import CALL, CALL_PLAIN, MAP, MAP_PLAIN
from mpitasks.wire.outcomes import Failure, decode_outcome
from mpitasks.worker.mirror import Sent
from mpitasks.worker.order import Order
from mpitasks.worker.sandbox import Sandbox

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

    def order(self, function: Any, mode: int, payload: Any, **terms: Any) -> Order:
        """Return an order for it."""
        if function not in self._functions:
            self._functions.append(function)
        number = self._functions.index(function)
        frame, own = codec.encode(function, "the function")
        sent = Sent(number, None, frame, None, own, (), ())
        return Order(number, [sent], mode, payload, **terms)

    def call(self, function: Any, *args: Any, watch: Any = None, **terms: Any) -> Any:
        """Call the function; return its value or a `Failure`."""
        if codec.is_plain(args):
            order = self.order(function, CALL_PLAIN, args, **terms)
        else:
            frame, buffers = codec.encode((args, {}), "the arguments")
            order = self.order(function, CALL, frame, buffers=buffers, **terms)
        items, value = self._run(order, watch)
        assert items == 1
        return value

    def error(self, function: Any, *args: Any, **terms: Any) -> Any:
        """Call the function, which must fail; return its error."""
        outcome = self.call(function, *args, **terms)
        assert isinstance(outcome, Failure), outcome
        return outcome.error

    def map(
        self, function: Any, items: Iterable[Any], watch: Any = None, **terms: Any
    ) -> list[Any]:
        """Map a chunk; return values and `Failure`s."""
        items = items if isinstance(items, range) else list(items)
        if isinstance(items, range) or codec.all_plain(items):
            order = self.order(function, MAP_PLAIN, codec.encode_plain(items), **terms)
        else:
            frames = [codec.encode(item, "an item") for item in items]
            payload = [(frame, len(own)) for frame, own in frames]
            buffers = [buffer for _, own in frames for buffer in own]
            order = self.order(function, MAP, payload, buffers=buffers, **terms)
        number, values = self._run(order, watch)
        assert number == len(values)
        return list(values)

    def _run(self, order: Order, watch: Callable[[], Any] | None) -> tuple[int, Any]:
        kwargs = {} if watch is None else {"watch": watch}
        items, (form, payload, buffers) = self.sandbox.run(order, **kwargs)
        return items, decode_outcome(form, payload, list(buffers))
