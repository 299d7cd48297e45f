"""Memory of another process: it is read as it is, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mpitasks.wire import peer_memory
from mpitasks.wire.peer_memory import Guard, Origin, read, span_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="process_vm_readv is Linux's"
)

OTHER = """
import sys
import numpy as np
from mpitasks.wire.peer_memory import Guard, allow_readers, span_of

allow_readers()
guard = Guard()
arrays = [np.arange(100_000.0) + n for n in range(3)]
print([tuple(guard.origin), [span_of(array) for array in arrays]], flush=True)
sys.stdin.readline()
guard.wipe()
print("wiped", flush=True)
sys.stdin.readline()
"""


class Other:
    """Another process, which has three arrays."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = eval(self.line())  # what we have just printed ourselves
        self.origin = Origin(*told[0])
        self.spans: list[tuple[int, int]] = told[1]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def other() -> Iterator[Other]:
    other = Other()
    yield other
    other.end()
    for end in (other.process.stdin, other.process.stdout):
        assert end is not None
        end.close()


def room(spans: list[tuple[int, int]]) -> list[Any]:
    return [np.zeros(nbytes, np.uint8) for _, nbytes in spans]


def values(into: list[Any]) -> list[float]:
    return [float(each.view(float).sum()) for each in into]


WANT = [sum(range(100_000)) + 100_000.0 * n for n in range(3)]


@pytest.mark.parametrize("at_once", [1 << 28, 1 << 16, 12_345])
def test_another_process_is_read(
    other: Other, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(peer_memory, "BYTES_AT_ONCE", at_once)
    into = room(other.spans)
    assert read(other.origin, other.spans, into)
    assert values(into) == WANT


def test_many_pieces_are_read(other: Other) -> None:
    ((start, nbytes), *_) = other.spans
    spans = [(start + at, 8) for at in range(0, nbytes // 40, 8)]
    assert len(spans) > 2 * peer_memory.SPANS_AT_ONCE
    into = room(spans)
    assert read(other.origin, spans, into)
    assert [float(each.view(float)[0]) for each in into] == list(range(len(spans)))


def test_what_is_given_away_is_not_read(other: Other) -> None:
    other.go_on()
    assert other.line() == "wiped\n"
    assert not read(other.origin, other.spans, room(other.spans))


def test_a_process_that_is_gone_is_not_read(other: Other) -> None:
    other.end()
    assert not read(other.origin, other.spans, room(other.spans))


def test_a_process_in_the_place_of_another_one_is_not_read(other: Other) -> None:
    spans = [span_of(np.arange(10.0))]
    stranger = other.origin._replace(pid=os.getpid())
    assert not read(stranger, spans, room(spans))


def test_another_machine_is_not_read(other: Other) -> None:
    elsewhere = other.origin._replace(machine="elsewhere")
    assert not read(elsewhere, other.spans, room(other.spans))


def test_memory_that_is_not_there_is_not_read(other: Other) -> None:
    spans = [*other.spans, (64, 100)]
    assert not read(other.origin, spans, room(spans))


def test_a_process_reads_itself() -> None:
    guard = Guard()
    array = np.arange(10.0)
    empty = np.zeros(0)
    spans = [span_of(array), span_of(empty)]
    into = room(spans)
    assert read(guard.origin, spans, into)
    assert values(into[:1]) == [45.0]
    assert guard.origin.is_here
    assert not guard.origin._replace(machine="elsewhere").is_here


def test_a_system_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_memory, "_system_call", lambda: None)
    array = np.arange(10.0)
    assert not read(Guard().origin, [span_of(array)], room([span_of(array)]))
