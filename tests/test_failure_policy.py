"""A worker is gone: what the pump does about it, and how rank 0 finds out."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from mpitasks.core.vigil import SILENT_SECONDS
from mpitasks.errors import WorkerLost
from mpitasks.master import lookout as lookouts
from mpitasks.master.calls import Call
from mpitasks.master.future import Future
from mpitasks.master.lookout import Lookout, describe
from mpitasks.master.pump import Pump
from mpitasks.options import DEFAULTS
from mpitasks.wire.local import LocalTransport, local_pair
from mpitasks.wire.messages import Goodbye, Hello, Inquiry, Lost, Sign

SECONDS = 20.0


@pytest.fixture
def ends() -> tuple[LocalTransport, LocalTransport]:
    return local_pair()


@pytest.fixture
def pump(ends: tuple[LocalTransport, LocalTransport]) -> Iterator[Pump]:
    pump = Pump(ends[0], [1], threads=False)
    yield pump
    pump.close(0.0)


def submit(pump: Pump) -> Future:
    options = DEFAULTS.replace(label="fit", max_crashes=1)
    call = Call(next(pump.ids), pump.functions.register(abs), (1,), {}, options)
    call.future = Future(call, pump)
    pump.submit(call)
    return call.future


def test_what_a_lost_worker_held_fails_and_says_why(pump: Pump) -> None:
    future = submit(pump)
    pump.lose(1, "rank 1 on node7 (pid 12) was killed by SIGKILL")
    with pytest.raises(WorkerLost, match=r"rank 1 on node7 \(pid 12\) was killed"):
        future.result(timeout=SECONDS)
    assert pump.num_workers == 0
    assert pump.running_workers() == []
    with pytest.raises(WorkerLost, match="no worker is left"):
        submit(pump).result(timeout=SECONDS)


def test_a_loss_counts_once_and_goodbyes_of_the_dead_do_not(
    pump: Pump, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    pump.lose(1, "rank 1 died")
    pump.lose(1, "rank 1 died again")
    ends[1].send(0, Goodbye())
    ends[1].send(0, Lost())
    for _ in range(6):
        pump.nudge()
    assert pump.engine.losses == {1: "rank 1 died"}
    assert pump.close(SECONDS) == []


def test_a_transport_may_report_a_loss(
    pump: Pump, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    future = submit(pump)
    ends[1].send(0, Lost())
    with pytest.raises(WorkerLost, match="rank 1 died"):
        future.result(timeout=SECONDS)


def test_a_sign_of_life_is_heard(
    pump: Pump, ends: tuple[LocalTransport, LocalTransport]
) -> None:
    pump.inquire([1])
    arrived = ends[1].poll()
    assert arrived is not None
    assert type(arrived[1]) is Inquiry
    ends[1].send(0, Sign())
    assert pump.nudge()
    assert pump.engine.heard == {1}


def test_what_a_rank_was_doing(pump: Pump) -> None:
    assert describe([]) == " while it had no task"
    submit(pump)
    held = pump.held(1)
    expected = f" while it ran task {held[0].id} ('fit': abs)"
    assert describe(held) == expected
    assert describe(held * 3) == f"{expected} and held 2 more"


class Rank:
    """A process in the place of a worker's, and what rank 0 is told of it."""

    def __init__(self, pump: Pump, *, survives: bool) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        command = [sys.executable, "-I", "-c", "import sys; sys.stdin.read()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        hellos = [
            Hello(0, "node7", os.getpid(), [0], "3", "0", "MPI", machine="node7"),
            Hello(1, "node7", self.process.pid, [0], "3", "0", "MPI", machine="node7"),
        ]
        end_run = None if survives else self.ended.put
        self.lookout = Lookout(pump, hellos, end_run, self.said.put)

    def close(self) -> None:
        self.lookout.stop()
        self.process.kill()
        self.process.wait(SECONDS)
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("survives", [True, False])
def test_the_lookout_finds_the_dead(pump: Pump, survives: bool) -> None:
    future = submit(pump)
    rank = Rank(pump, survives=survives)
    rank.lookout.start()
    try:
        rank.process.kill()
        died = f"rank 1 on node7 (pid {rank.process.pid}) was killed by SIGKILL"
        if survives:
            with pytest.raises(WorkerLost, match="was killed by SIGKILL"):
                future.result(timeout=SECONDS)
            assert pump.engine.losses == {1: died}
            told = rank.said.get_nowait()
            assert told.startswith(f"{died} while it ran task ")
            assert told.endswith("; no worker is left")
        else:
            told = rank.ended.get(timeout=SECONDS)
            assert told.startswith(f"{died} while it ran task ")
            assert pump.engine.losses == {}
    finally:
        rank.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("survives", [True, False])
def test_the_lookout_gives_the_frozen_up_or_tells_of_them(
    monkeypatch: pytest.MonkeyPatch, pump: Pump, survives: bool
) -> None:
    now = 1000.0
    monkeypatch.setattr(lookouts.time, "monotonic", lambda: now)
    rank = Rank(pump, survives=survives)
    try:
        rank.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, rank.process.pid, os.WSTOPPED | os.WNOWAIT)
        while now < 1000.0 + 2 * SILENT_SECONDS:
            rank.lookout._look()
            now += 2.0
        pump.nudge()
        if survives:
            assert "was frozen" in pump.engine.losses[1]
            assert rank.process.wait(SECONDS) == -signal.SIGKILL
        else:
            assert pump.engine.losses == {}
            assert f"kill -CONT {rank.process.pid}" in rank.said.get_nowait()
        assert rank.said.empty()
        assert rank.ended.empty()
    finally:
        rank.close()


def test_losses_may_be_told_from_any_thread(pump: Pump) -> None:
    future = submit(pump)
    thread = threading.Thread(target=pump.lose, args=(1, "rank 1 died"))
    thread.start()
    with pytest.raises(WorkerLost):
        future.result(timeout=SECONDS)
    thread.join(SECONDS)
