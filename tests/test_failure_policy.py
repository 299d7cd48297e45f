"""A worker is gone: what the event loop does about it, and how rank 0 finds out."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from mpitasks.errors import WorkerLost
from mpitasks.master import failure_detector as lookouts
from mpitasks.master.event_loop import EventLoop
from mpitasks.master.failure_detector import FailureDetector, describe
from mpitasks.master.future import Future
from mpitasks.master.payloads import Call
from mpitasks.options import DEFAULTS
from mpitasks.scheduler.heartbeat import SILENT_SECONDS
from mpitasks.wire.local_transport import LocalTransport, local_pair
from mpitasks.wire.messages import Goodbye, Heartbeat, Hello, Lost, Ping

SECONDS = 120.0


@pytest.fixture
def ends() -> tuple[LocalTransport, LocalTransport]:
    return local_pair()


@pytest.fixture
def event_loop(ends: tuple[LocalTransport, LocalTransport]) -> Iterator[EventLoop]:
    event_loop = EventLoop(ends[0], [1], threads=False)
    yield event_loop
    event_loop.close(0.0)


def submit(event_loop: EventLoop) -> Future:
    options = DEFAULTS.replace(label="fit", max_crashes=1)
    target = event_loop.functions.register(abs)
    call = Call(next(event_loop.engine.ids), target, (1,), {}, options, event_loop)
    event_loop.submit(call.task)
    return call


def test_what_a_lost_worker_held_fails_and_says_why(event_loop: EventLoop) -> None:
    future = submit(event_loop)
    event_loop.lose(1, "rank 1 on node7 (pid 12) was killed by SIGKILL")
    with pytest.raises(WorkerLost, match=r"rank 1 on node7 \(pid 12\) was killed"):
        future.result(timeout=SECONDS)
    assert event_loop.num_workers == 0
    assert event_loop.running_workers() == []
    with pytest.raises(WorkerLost, match="no worker is left"):
        submit(event_loop).result(timeout=SECONDS)


def test_a_loss_counts_once_and_goodbyes_of_the_dead_do_not(
    event_loop: EventLoop, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    event_loop.lose(1, "rank 1 died")
    event_loop.lose(1, "rank 1 died again")
    ends[1].send(0, Goodbye())
    ends[1].send(0, Lost())
    for _ in range(6):
        event_loop.nudge()
    assert event_loop.engine.losses == {1: "rank 1 died"}
    assert event_loop.close(SECONDS) == []


def test_a_transport_may_report_a_loss(
    event_loop: EventLoop, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    future = submit(event_loop)
    ends[1].send(0, Lost())
    with pytest.raises(WorkerLost, match="rank 1 died"):
        future.result(timeout=SECONDS)


def test_a_sign_of_life_is_heard(
    event_loop: EventLoop, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    event_loop.inquire([1])
    arrived = ends[1].poll()
    assert arrived is not None
    assert type(arrived[1]) is Ping
    ends[1].send(0, Heartbeat())
    assert event_loop.nudge()
    assert event_loop.engine.heard == {1}


def test_what_a_rank_was_doing(event_loop: EventLoop) -> None:
    assert describe([]) == " while it had no task"
    submit(event_loop)
    held = event_loop.held(1)
    expected = f" while it ran task {held[0].id} ('fit': abs)"
    assert describe(held) == expected
    assert describe(held * 3) == f"{expected} and held 2 more"


class Rank:
    """A process in the place of a worker's, and what rank 0 is told of it."""

    def __init__(self, event_loop: EventLoop, *, survives: bool) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        command = [sys.executable, "-I", "-c", "import sys; sys.stdin.read()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        hellos = [
            Hello(0, "node7", os.getpid(), [0], "3", "0", "MPI", machine="node7"),
            Hello(1, "node7", self.process.pid, [0], "3", "0", "MPI", machine="node7"),
        ]
        end_run = None if survives else self.ended.put
        self.failure_detector = FailureDetector(
            event_loop, hellos, end_run, self.said.put
        )

    def close(self) -> None:
        self.failure_detector.stop()
        self.process.kill()
        self.process.wait(SECONDS)
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("survives", [True, False])
def test_the_failure_detector_finds_the_dead(
    event_loop: EventLoop, survives: bool
) -> None:
    future = submit(event_loop)
    rank = Rank(event_loop, survives=survives)
    rank.failure_detector.start()
    try:
        rank.process.kill()
        died = f"rank 1 on node7 (pid {rank.process.pid}) was killed by SIGKILL"
        if survives:
            with pytest.raises(WorkerLost, match="was killed by SIGKILL"):
                future.result(timeout=SECONDS)
            assert event_loop.engine.losses == {1: died}
            told = rank.said.get_nowait()
            assert told.startswith(f"{died} while it ran task ")
            assert told.endswith("; no worker is left")
        else:
            told = rank.ended.get(timeout=SECONDS)
            assert told.startswith(f"{died} while it ran task ")
            assert event_loop.engine.losses == {}
    finally:
        rank.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("survives", [True, False])
def test_the_failure_detector_gives_the_frozen_up_or_tells_of_them(
    monkeypatch: pytest.MonkeyPatch, event_loop: EventLoop, survives: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr(lookouts.time, "monotonic", lambda: now)
    rank = Rank(event_loop, survives=survives)
    try:
        rank.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, rank.process.pid, os.WSTOPPED | os.WNOWAIT)
        while now < 1000.0 + 2 * SILENT_SECONDS:
            rank.failure_detector._look()
            now += 2.0
        event_loop.nudge()
        if survives:
            assert "was frozen" in event_loop.engine.losses[1]
            assert rank.process.wait(SECONDS) == -signal.SIGKILL
        else:
            assert event_loop.engine.losses == {}
            assert f"kill -CONT {rank.process.pid}" in rank.said.get_nowait()
        assert rank.said.empty()
        assert rank.ended.empty()
    finally:
        rank.close()


def test_losses_may_be_told_from_any_thread(event_loop: EventLoop) -> None:
    future = submit(event_loop)
    thread = threading.Thread(target=event_loop.lose, args=(1, "rank 1 died"))
    thread.start()
    with pytest.raises(WorkerLost):
        future.result(timeout=SECONDS)
    thread.join(SECONDS)
