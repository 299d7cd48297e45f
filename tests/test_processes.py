"""Deaths of real processes are told, with how they came about."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from mpitasks.wire import processes
from mpitasks.wire.processes import (
    Watch,
    children,
    environment,
    frozen,
    machine,
    parent,
    pending,
)

Start = Callable[..., "subprocess.Popen[bytes]"]
SECONDS = 120.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that run until their standard input ends."""
    with ExitStack() as stack:

        def start(
            code: str = "import sys; sys.stdin.read()",
        ) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-I", "-c", code]
            process = subprocess.Popen(command, stdin=subprocess.PIPE)
            stack.callback(process.wait, SECONDS)
            assert process.stdin is not None
            stack.enter_context(closing(process.stdin))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture(params=["woken", "looking"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's help and without."""
    if request.param == "looking":
        monkeypatch.delattr(os, "pidfd_open")
        monkeypatch.setattr(processes, "LOOK_SECONDS", 0.01)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this Python or kernel has no pidfd")


@pytest.mark.usefixtures("kernel")
def test_a_death_is_told_once(start: Start) -> None:
    told: queue.Queue[tuple[int, str]] = queue.Queue()
    one, other = start(), start()
    watch = Watch({1: one.pid, 2: other.pid}, lambda *word: told.put(word))
    watch.start()
    one.kill()
    assert told.get(timeout=SECONDS) == (1, "was killed by SIGKILL")
    assert watch.is_alive()
    assert other.stdin is not None
    other.stdin.close()
    assert told.get(timeout=SECONDS) == (2, "ended with exit code 0")
    watch.stop()
    watch.join(SECONDS)
    assert not watch.is_alive()
    assert told.empty()


@pytest.mark.usefixtures("kernel")
def test_nothing_is_told_after_the_end(start: Start) -> None:
    told: list[int] = []
    process = start()
    watch = Watch({1: process.pid}, lambda name, how: told.append(name))
    watch.start()
    watch.stop()
    process.kill()
    watch.join(SECONDS)
    assert not watch.is_alive()
    assert told == []


@pytest.mark.usefixtures("kernel")
def test_who_was_dead_before(start: Start) -> None:
    told: queue.Queue[tuple[int, str]] = queue.Queue()
    process = start()
    process.kill()
    process.wait(SECONDS)
    watch = Watch({7: process.pid}, lambda *word: told.put(word))
    watch.start()
    assert told.get(timeout=SECONDS) == (7, "died")
    watch.stop()
    watch.join(SECONDS)


@pytest.mark.usefixtures("kernel")
def test_it_looks_around_now_and_then(start: Start) -> None:
    looks: queue.Queue[int] = queue.Queue()
    watch = Watch(
        {1: start().pid}, lambda name, how: None, lambda: looks.put(1), period=0.01
    )
    watch.start()
    for _ in range(3):
        looks.get(timeout=SECONDS)
    watch.stop()
    watch.join(SECONDS)
    assert not watch.is_alive()


def test_frozen(start: Start) -> None:
    process = start()
    assert not frozen(process.pid)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert frozen(process.pid)
    process.kill()
    process.wait(SECONDS)
    assert not frozen(process.pid)  # it is not even there


def test_one_machine_has_one_name() -> None:
    command = "from mpitasks.wire.processes import machine; print(machine())"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == machine()


def test_a_process_and_what_it_has_started(start: Start) -> None:
    child = start("import sys; print('here', file=sys.stderr); sys.stdin.read()")
    assert child.pid in children(os.getpid())
    assert parent(child.pid) == os.getpid()
    child.kill()
    child.wait(SECONDS)
    assert children(child.pid) == []
    assert parent(child.pid) is None
    assert environment(child.pid) == {}
    assert pending(child.pid) == set()


def test_the_environment_that_a_process_was_started_with() -> None:
    code = "import os; os.environ.clear(); input()"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code],
        stdin=subprocess.PIPE,
        env={"NAME": "a=b", "OTHER": ""},
    ) as child:
        found = environment(child.pid)
        while "NAME" not in found:  # not executed yet
            found = environment(child.pid)
        child.kill()
    assert (found["NAME"], found["OTHER"]) == ("a=b", "")


def test_signals_that_are_blocked_are_pending() -> None:
    program = (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(  # where no other thread can take the signal
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            assert pending(child.pid) == set()
            child.send_signal(signal.SIGUSR1)
            assert pending(child.pid) == {signal.SIGUSR1}
        finally:
            child.kill()
