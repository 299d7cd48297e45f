"""On the rank: makes the children that isolated tasks run in, and ends them.

The children are forked by a server (`mpitasks.sandbox.forkserver`), a fresh interpreter
that this module executes when the first child is wanted. It gets the rank's
environment without what a launcher set to say "this process is a rank"
(`mpitasks.subprocesses`): an MPI library in a child would take itself for the rank. MPI
is not initialised there (`mpitasks.launch.light_mpi`), not even by
``from mpi4py import MPI``. `sys.path`, `sys.argv`, the working folder and the
environment are those of the rank at that moment.

Whoever calls `new` first must be a thread that lives as long as the rank: the server
ends with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpitasks.errors import InternalError
from mpitasks.sandbox.channel import PACKET_BYTES, Channel, receive_packet, send_packet
from mpitasks.sandbox.progress_page import ProgressPage, new_page
from mpitasks.subprocesses import interpreter_options, subprocess_environment
from mpitasks.wire.node_memory import anonymous_file

if TYPE_CHECKING:
    import subprocess

    from mpitasks.wire.messages import LogSetup

__all__ = ["Child", "ChildExit", "Children"]

START_SECONDS = 60.0
"""How long the server may take to start: Python from a slow file system."""

END_SECONDS = 10.0
"""How long the kernel may take to end a killed child."""

LEAVE_SECONDS = 1.0
"""How long a child gets to leave by itself, with its exit functions, at the end."""

IDLE_SECONDS = 0.05
"""How often the rank looks around while it waits for the server."""

HUNG_UP_SECONDS = 0.2
"""How long a child that closed its channel may take to be dead; else it is killed."""

REPORT_BYTES = 16 << 10


class Child:
    """A process that runs isolated tasks.

    Attributes:
        pid: Its process id, which stays its own until it was ended.
        channel: The way to it; does not block.
        progress page: Where it says how far it is.
        known: Ids of the functions that it has.
        requests: How many it was sent.
        has_numpy: Whether NumPy is loaded there, as far as is known.
        hung_up: Whether it closed its end of the channel.
        logs: How it was told to set up `logging`.
        begun: How many items it had begun, after its end.
        last_words: What the interpreter could still say of its crash, after its end.
    """

    def __init__(
        self, pid: int, channel: Channel, page: ProgressPage, report: int
    ) -> None:
        self.pid = pid
        self.channel = channel
        self.page = page
        self.known: set[int] = set()
        self.requests = 0
        self.has_numpy = False
        self.logs: LogSetup | None = None
        self.hung_up = False
        self.begun = 0
        self.last_words = ""
        self._report = report
        self._statm = -1
        self._handle = -1
        with contextlib.suppress(OSError, AttributeError):  # Linux 5.3, and a new libc
            self._handle = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        if self._handle >= 0:
            self._poll.register(self._handle, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Wait until it says something or dies, at most so long."""
        self._poll.poll(max(seconds, 0.0) * 1e3)

    def dead(self) -> bool:
        """Whether the process has ended."""
        if self._handle >= 0:
            return bool(select.select([self._handle], [], [], 0)[0])
        try:
            with open(f"/proc/{self.pid}/stat") as file:  # noqa: PTH123  hot enough
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    def resident(self) -> int:
        """Return the bytes of memory that it holds; 0 if it has ended."""
        try:
            if self._statm < 0:
                self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY)
            pages = os.pread(self._statm, 100, 0).split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """Kill the process, not what it has started; it may hold the server back."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def gone(self) -> bool:
        """Whether nothing more will come from it."""
        if self.hung_up:
            # It is dying. Or the task closed files that are not its own.
            end = time.monotonic() + HUNG_UP_SECONDS
            while not self.dead() and time.monotonic() < end:
                time.sleep(0.001)
            return True
        return self.dead()

    def close(self) -> None:
        """Let go of everything on this side. After its end."""
        self.begun = self.page.begun
        with contextlib.suppress(OSError):
            text = os.pread(self._report, REPORT_BYTES, 0)
            self.last_words = _shortened(text.decode(errors="replace"))
        self.channel.close()
        self.page.close()
        for fd in (self._report, self._statm, self._handle):
            if fd >= 0:
                os.close(fd)


def _shortened(report: str) -> str:
    """Return an interpreter's crash report without what is ours."""
    report, _, _ = report.partition("Extension modules:")
    ours = (
        "mpitasks/sandbox/child.py",
        "mpitasks/runner/execution.py",
        "mpitasks/launch/child.py",
        'File "<string>", line',
    )
    lines = [line for line in report.splitlines() if not any(o in line for o in ours)]
    return "\n".join(lines).strip()


class ChildExit:
    """How a child ended.

    Attributes:
        signal: The signal that ended it, if one did.
        exit_code: What it exited with, else.
        peak: The most memory that it held, in bytes; 0 if not known.
    """

    def __init__(self, status: int | None, peak: int = 0) -> None:
        self.signal: int | None = None
        self.exit_code: int | None = None
        self.peak = peak
        if status is None:
            return
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            self.signal = -code
        else:
            self.exit_code = code


class Children:
    """The server, and the one child that it has at a time.

    Args:
        rank: The rank's number.
        where: Rank, host and process, for the head of tracebacks.
    """

    def __init__(self, rank: int, where: str) -> None:
        self._rank = rank
        self._where = where
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._room = bytearray(PACKET_BYTES)
        self._loaded = False

    def new(self, idle: Callable[[], object] = lambda: None) -> Child:
        """Return a fresh child.

        Args:
            idle: Called now and then while the server starts.

        Raises:
            InternalError: It does not start.
            OSError: The system has no room for it.
        """
        try:
            return self._new(idle)
        except (ConnectionError, TimeoutError):
            self._abandon()  # killed by somebody, or it hangs: one more attempt
        try:
            return self._new(idle)
        except (ConnectionError, TimeoutError) as error:
            self._abandon()
            raise InternalError(
                f"the process for isolated tasks of {self._where} does not start "
                f"({error!r}); look for what it wrote to stderr"
            ) from error

    def load_numpy(self) -> None:
        """Have NumPy loaded in the children to come."""
        if self._control is not None and not self._loaded:
            from mpitasks.sandbox.forkserver import LOAD

            self._loaded = True
            with contextlib.suppress(OSError):
                send_packet(self._control, LOAD)

    def end(self, child: Child) -> ChildExit:
        """Kill the child, and all that it has started; return how it had ended."""
        from mpitasks.sandbox.forkserver import END

        child.kill()
        try:
            status, peak = map(int, self._ask(END, (), END_SECONDS).split())
            return ChildExit(status, peak << 10)
        except (OSError, AttributeError):
            self._abandon()
            return ChildExit(None)

    def retire(self, child: Child) -> None:
        """Let the child end by itself, if it is quick; `end` it then in any case."""
        child.channel.close()
        self._await_exit(child)

    def close(self, child: Child | None = None) -> None:
        """End the server, and the child: by itself, if it is quick."""
        if child is not None:
            self.retire(child)
        self._abandon()

    def _await_exit(self, child: Child) -> None:
        end = time.monotonic() + LEAVE_SECONDS
        while not child.dead() and time.monotonic() < end:
            time.sleep(0.001)

    def _new(self, idle: Callable[[], object]) -> Child:
        from mpitasks.sandbox.forkserver import NEW

        self._start()
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        page, page_fd = new_page()
        report = anonymous_file("mpitasks-report")
        try:
            with other:
                fds = (other.fileno(), page_fd, report)
                pid = int(self._ask(NEW, fds, START_SECONDS, idle))
            own.setblocking(False)
            return Child(pid, Channel(own, wary=True), page, report)
        except BaseException:
            own.close()
            page.close()
            os.close(report)
            raise
        finally:
            os.close(page_fd)

    def _ask(
        self,
        order: bytes,
        fds: tuple[int, ...],
        seconds: float,
        idle: Callable[[], object] = lambda: None,
    ) -> bytes:
        """Return the server's answer."""
        control = self._control
        if control is None:
            raise ConnectionResetError("the server is gone")
        send_packet(control, order, fds)
        end = time.monotonic() + seconds
        while not select.select([control], [], [], IDLE_SECONDS)[0]:
            self._continue()
            idle()
            if time.monotonic() > end:
                raise TimeoutError(f"no answer in {seconds:g} s")
        packet = receive_packet(control, self._room)
        if packet is None:
            raise ConnectionResetError("the server is gone")
        return bytes(self._room[: packet[0]])

    def _start(self) -> None:
        if self._control is not None:
            return
        import subprocess

        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            code = (
                f"import sys; sys.path[:] = {sys.path!r}\n"
                f"from mpitasks.launch.child import main\n"
                f"main({other.fileno()}, {self._rank}, {self._where!r}, {sys.argv!r})"
            )
            self._process = subprocess.Popen(
                [sys.executable, *interpreter_options(), "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=subprocess_environment(),
                start_new_session=True,
            )
        self._control = own
        self._loaded = False
        if "numpy" in sys.modules:
            self.load_numpy()

    def _continue(self) -> None:
        """Have the server go on, if a task has stopped it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _abandon(self) -> None:
        """Leave the server to itself: it ends, and its children with it."""
        if self._control is not None:
            self._control.close()
        self._continue()
        process, self._control, self._process = self._process, None, None
        if process is not None:
            import subprocess

            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_SECONDS)
