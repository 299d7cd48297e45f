"""Workers of a machine without rank 0 watch over each other."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from mpitasks.launch.handshake import welcomes_of
from mpitasks.scheduler import heartbeat
from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import Heartbeat, Hello, Message, PeerFailure, Shutdown
from mpitasks.worker import peer_monitor
from mpitasks.worker.loop import Worker
from mpitasks.worker.peer_monitor import watched_over

SECONDS = 120.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_each_watches_the_next_two_of_its_machine() -> None:
    machines = ["a", "a", "b", "b", "b", "b", "c"]
    hellos = [
        Hello(rank, name, 100 + rank, [0], "3.12.1", "0.1.0", "MPI", machine=name)
        for rank, name in enumerate(machines)
    ]
    watched = [[rank for rank, _ in w.peers] for w in welcomes_of(hellos)]
    assert watched == [[], [], [3, 4], [4, 5], [5, 2], [2, 3], []]
    assert list(welcomes_of(hellos)[2].peers) == [(3, 103), (4, 104)]
    assert [w.master for w in welcomes_of(hellos)] == [100, 100] + [None] * 5


@contextlib.contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    command = [sys.executable, "-I", "-c", "import sys; sys.stdin.read()"]
    started = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.wait(SECONDS)
        assert started.stdin is not None
        started.stdin.close()


@linux
def test_a_death_is_reported() -> None:
    told: queue.Queue[tuple[int, str]] = queue.Queue()
    with process() as fellow:
        pids = [(5, fellow.pid)]
        with watched_over(pids, lambda *word: told.put(word), survives=False):
            fellow.kill()
            assert told.get(timeout=SECONDS) == (5, "was killed by SIGKILL")


@linux
def test_the_frozen_are_killed_where_the_run_survives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: queue.Queue[tuple[int, str]] = queue.Queue()
    monkeypatch.setattr(peer_monitor, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat.SilenceMonitor.__init__, "__defaults__", (0.05,))
    with process() as fellow:
        fellow.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, fellow.pid, os.WSTOPPED | os.WNOWAIT)
        pids = [(5, fellow.pid)]
        with watched_over(pids, lambda *word: told.put(word), survives=True):
            assert told.get(timeout=SECONDS) == (5, "was killed by SIGKILL")


def received(end: object, kind: type, stop: threading.Event) -> Message:
    """Return the next message of that kind."""
    while not stop.is_set():
        arrived = end.poll()  # type: ignore[attr-defined]
        if arrived is not None and type(arrived[1]) is kind:
            return arrived[1]  # type: ignore[no-any-return]
    raise AssertionError(f"no {kind.__name__} came")


def test_an_idle_worker_tells_of_deaths_and_of_itself() -> None:
    master_end, worker_end = local_pair()
    worker = Worker(worker_end, "rank 1")
    worker.signs = True
    thread = threading.Thread(target=worker.serve, daemon=True)
    late = threading.Event()
    timer = threading.Timer(SECONDS, late.set)
    timer.start()
    thread.start()
    try:
        assert type(received(master_end, Heartbeat, late)) is Heartbeat
        worker.report(2, "died")
        assert received(master_end, PeerFailure, late) == PeerFailure(2, "died")
    finally:
        timer.cancel()
        master_end.send(1, Shutdown())
        thread.join(SECONDS)
    assert not thread.is_alive()
