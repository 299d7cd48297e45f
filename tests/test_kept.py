"""What a kept result is to other ranks; which names of the script its frame has."""

from __future__ import annotations

import enum
import pickle
import sys
from typing import Any

import numpy as np
import pytest

from mpitasks.wire import codec
from mpitasks.wire.kept import Kept, copy_of, names_in, read
from mpitasks.wire.peer_memory import Guard, span_of


class Tile:
    """Stands for a class of the script; has another inside."""

    class Edge:
        """Is inside."""


class Colour(enum.Enum):
    """An enum of the script."""

    RED = "red"


@pytest.fixture(autouse=True)
def of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    for kind in (Tile, Tile.Edge, Colour):
        monkeypatch.setattr(kind, "__module__", "__main__")
    monkeypatch.setattr(main, "Tile", Tile, raising=False)
    monkeypatch.setattr(main, "Colour", Colour, raising=False)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([1, "text", "__main__", "lock"], ()),
        ("__main__", ()),
        (Tile(), ("Tile",)),
        ([Tile(), Tile(), Colour.RED], ("Tile", "Colour")),
        ([Colour.RED, [Tile.Edge(), Colour.RED]], ("Colour", "Tile")),
        ({"big": "x" * 70_000, "last": Tile()}, ("Tile",)),
        ([np.arange(5), [f"{n}" for n in range(3000)], Colour.RED], ("Colour",)),
    ],
)
def test_the_names_in_a_frame(value: Any, names: tuple[str, ...]) -> None:
    frame, _ = codec.encode(value, "it")
    assert set(names_in(frame)) == set(names)
    assert set(names_in(pickle.dumps(value, 5))) == set(names)


def kept_of(value: Any, guard: Guard, *, large: bool = False) -> tuple[Kept, Any]:
    frame, buffers = codec.encode(value, "it")
    spans = [span_of(buffer) for buffer in buffers]
    if large:
        spans.insert(0, span_of(frame))
    told = None if large else frame
    return Kept(7, 1, told, tuple(spans), guard.origin, ()), (frame, buffers)


@pytest.mark.parametrize("large", [False, True])
def test_reading_gives_a_copy(*, large: bool) -> None:
    guard = Guard()
    value = {"one": np.arange(20_000.0), "two": np.arange(30_000)[::-1]}
    kept, alive = kept_of(value, guard, large=large)
    assert kept.nbytes == len(alive[0]) + sum(each.nbytes for each in alive[1])
    parts = read(kept)
    assert parts is not None
    got = codec.decode(*parts)
    assert all(np.array_equal(got[key], value[key]) for key in value)
    got["one"][0] = -1
    assert value["one"][0] == 0
    guard.wipe()
    assert read(kept) is None


def test_the_last_one_gets_the_memory_itself() -> None:
    array = np.arange(20_000.0)
    parts = codec.encode(array, "it")
    copy = codec.decode(*copy_of(parts))
    itself = codec.decode(*copy_of(parts, is_last=True))
    assert not np.may_share_memory(copy, array)
    assert np.may_share_memory(itself, array)
    assert itself.flags.writeable


def test_memory_that_must_not_change_is_copied() -> None:
    frozen = bytearray(100_000)
    parts = (b"", [memoryview(frozen).toreadonly()])
    _, (buffer,) = copy_of(parts, is_last=True)
    assert not np.may_share_memory(buffer, np.frombuffer(frozen, np.uint8))
