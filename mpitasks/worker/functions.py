"""What was sent to be called: the functions of the run by their numbers, arguments.

A function is unpickled when it is first asked for, or when it is told to be: a rank
never unpickles a function that only its child calls, since importing the modules of a
function runs code, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mpitasks.errors import SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import Unsendable
from mpitasks.wire.diagnose import describe

if TYPE_CHECKING:
    from mpitasks.wire.codec import Buffer

__all__ = ["Functions", "unpickle"]


class Functions(dict[int, Callable[..., Any]]):
    """Functions by their numbers; those that were sent are loaded on demand.

    Attributes:
        sent: (frame, buffers) of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[int, tuple[Any, list[Buffer]]] = {}

    def learn(self, function_id: int, frame: Any, buffers: list[Buffer]) -> None:
        """Take in a function that was sent."""
        self.sent[function_id] = frame, buffers
        self.pop(function_id, None)

    def forget(self, function_ids: Iterable[int]) -> None:
        """Let go of functions; they are sent again if need be."""
        for function_id in function_ids:
            del self.sent[function_id]
            self.pop(function_id, None)

    def __missing__(self, function_id: int) -> Callable[..., Any]:
        frame, buffers = self.sent[function_id]
        try:
            function = codec.decode(frame, buffers)
        except BaseException as error:
            function = _Unloadable(error)
        self[function_id] = function
        return function  # type: ignore[no-any-return]


def unpickle(frame: Any, buffers: list[Buffer], what: str, where: str) -> Any:
    """Return what a task was sent.

    Raises:
        SerializationError: It cannot be unpickled here, or could not be pickled there.
    """
    try:
        value = codec.decode(frame, buffers)
    except MemoryError:
        raise
    except BaseException as error:
        raise SerializationError(
            f"{what} cannot be unpickled on {where}: {describe(error)}"
        ) from error
    if type(value) is Unsendable:
        raise value.error
    return value


class _Unloadable:
    """Stands for a function that could not be unpickled; fails each of its calls."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        error = self._error
        raise SerializationError(
            f"the function cannot be loaded: {describe(error)}"
        ) from error
