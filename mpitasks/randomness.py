"""Random numbers that depend on a seed and on a task's place in the program only.

What runs tasks, or the script, in this process says here where it stands (`provide`);
`rng` makes a generator of that. So nothing of it depends on which rank runs a task,
with which others in a message, or in which attempt. Costs nothing unless it is asked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np

    from mpitasks.task_spec import Place

__all__ = [
    "DOMAINS",
    "Draw",
    "place_at",
    "provide",
    "provider",
    "put_back",
    "refuse_thread",
    "rng",
    "set_aside",
]

DOMAINS = {"task": 0x6D74736B, "script": 0x6D747363}
"""The first word of each key, so that no `SeedSequence` that a script makes of the same
seed, or spawns, has the numbers of a task."""

IN_THREAD = (
    "mpitasks.rng() was called in another thread than the one that runs the task (in "
    "the script: the main thread), where the order of draws would be left to chance: "
    "call it there, and give each thread one of the generators of rng().spawn(n)"
)

IN_PROCESS = (
    "mpitasks.rng() was called in a process that the task, or the script, has forked: "
    "each of them would draw the same numbers. Call it before, and give each process "
    "one of the generators of rng().spawn(n)"
)


class Draw(NamedTuple):
    """Who asks for random numbers.

    Attributes:
        kind: "task", or "script".
        owner: Equal for who goes on with the same generator.
        entropy: The seed.
        place: Where in the program that is.
    """

    kind: str
    owner: Any
    entropy: int
    place: tuple[int, ...]


_provider: Callable[[], Draw | None] = lambda: None  # noqa: E731
_process = 0
_made: dict[str, tuple[Any, Any]] = {}  # the latest of each kind, with its owner


def provide(provider: Callable[[], Draw | None]) -> None:
    """Say how to find out who asks in this process; None if nobody may."""
    global _provider, _process
    _provider = provider
    _process = os.getpid()
    _made.clear()  # ids are those of a run, and this may be another one


def provider() -> Callable[[], Draw | None]:
    """Return what finds out who asks in this process."""
    return _provider


def set_aside(kind: str) -> tuple[Any, Any] | None:
    """Return the generator that was made last of a kind; the next one starts anew."""
    return _made.pop(kind, None)


def put_back(kind: str, made: tuple[Any, Any] | None) -> None:
    """Let the generator that was set aside go on, if there was one."""
    if made is None:
        _made.pop(kind, None)
    else:
        _made[kind] = made


def rng() -> np.random.Generator:
    """Return the random generator of the task that is running here.

    It depends on the seed (``Executor(seed=...)``, ``--seed``) and on the place of the
    task in the program: the number of its `submit` or `map`, and in a map the index of
    the item. So a task draws the same numbers on any number of ranks, isolated or not,
    in each attempt, and after a resume. Called again in the same task, or item of a
    map, it returns the same generator, which goes on.

    In the script, while an Executor is open, it returns a generator of the script's
    own, of the same seed.

    Raises:
        ConfigurationError: The caller is neither a task nor a script with an open
            Executor; or a thread or a forked process of one.

    Example:
        >>> def estimate(n):
        ...     x, y = mpitasks.rng().random((2, n))
        ...     return 4 * (x * x + y * y < 1).mean()
    """
    if _process and os.getpid() != _process:
        raise ConfigurationError(IN_PROCESS)
    draw = _provider()
    if draw is None:
        raise ConfigurationError(
            "mpitasks.rng() was called outside a task and with no Executor open: it "
            "is for tasks, and for the script inside `with mpitasks.Executor()`; "
            "elsewhere numpy.random.default_rng(seed) does the same"
        )
    owner, generator = _made.get(draw.kind, (None, None))
    if owner is None or owner != draw.owner:
        import numpy as np

        key = DOMAINS[draw.kind], *draw.place
        seeds = np.random.SeedSequence(draw.entropy, spawn_key=key)
        generator = np.random.Generator(np.random.PCG64(seeds))
        _made[draw.kind] = draw.owner, generator
    return generator  # type: ignore[no-any-return]  # NumPy is loaded late


def refuse_thread(ident: int) -> None:
    """Raise if the caller is not that thread.

    Raises:
        ConfigurationError: It is another one.
    """
    if threading.get_ident() != ident:
        raise ConfigurationError(IN_THREAD)


def place_at(
    places: tuple[int, tuple[int, ...], Any] | None, item: int | None
) -> Place | None:
    """Return the place of a call, or of an item of a chunk.

    Args:
        places: As in `Batch.places`.
        item: Which item of the chunk; None for a call.
    """
    if places is None:
        return None
    entropy, key, indices = places
    if item is None or indices is None:
        return entropy, key
    index = indices + item if type(indices) is int else indices[item]
    return entropy, (*key, index)
