"""A peer in processes of its own, away from MPI, stopped while others are measured.

multiprocessing, Ray and Dask start processes and threads that never sleep quite
soundly, and forking a rank of an MPI is asking for trouble. So rank 0 starts this
file as a child before MPI is loaded, with none of the launcher's variables: the
guard. It starts the server, which has the pool, and hands it requests as lines of
JSON: to start the pool, to run the `measure` of a program. In between, all processes
below the guard are halted by SIGSTOP, so a peer that waits costs the others nothing,
and Ray and Dask start once a program instead of once a round. When rank 0 is gone,
however it went, the guard ends everything below it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pools import PEERS

ANSWER_SECONDS = 120.0
"""How long a peer may take to start, or to run one measurement."""

CLOSE_SECONDS = 10.0
"""How long a peer may take to end by itself."""

PR_SET_CHILD_SUBREAPER = 36

LAUNCHERS = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "SLURM_", "PALS_", "MPI_", "HYDRA_")


class PeerError(Exception):
    """The peer is not installed, broke, or took too long."""


class Peer:
    """Rank 0's end. The child runs only between a request and its answer.

    Args:
        name: One of `pools.PEERS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(LAUNCHERS)
        }
        self._guard = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )

    def start(self, workers: int) -> None:
        """Start the pool, then halt it.

        Raises:
            PeerError: It is not installed, or does not start.
        """
        self._ask({"start": self.name, "workers": workers})

    def measure(self, module: str, sizes: dict[str, Any]) -> dict[str, float]:
        """Let it run ``module.measure(pool, **sizes)``.

        Raises:
            PeerError: That failed.
        """
        return self._ask({"measure": module, "sizes": sizes})

    def close(self) -> None:
        """Let it end."""
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(2 * CLOSE_SECONDS)
        self._guard.kill()

    def _ask(self, request: dict[str, Any]) -> Any:
        stdin, stdout = self._guard.stdin, self._guard.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            if not select.select([stdout], [], [], ANSWER_SECONDS)[0]:
                raise PeerError(f"no answer within {ANSWER_SECONDS:.0f} s")
            line = stdout.readline()
        except OSError as error:
            raise PeerError(str(error)) from None
        if not line:
            raise PeerError("it ended")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["values"]


def descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes below one, parents before children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each of the processes that still is there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def adopt_orphans() -> None:
    """Become the parent of processes below this one that lose theirs (daemons)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def guard() -> None:
    """The child: let the server run from each request to its answer."""
    adopt_orphans()
    with contextlib.suppress(OSError):  # the launcher may have bound rank 0 to a core
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory(prefix="peer", ignore_cleanup_errors=True) as tmp:
        server = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": tmp},  # what peers leave there goes, too
        )
        try:
            for line in sys.stdin.buffer:
                answer = relay(server, line)
                sys.stdout.buffer.write(answer)
                sys.stdout.buffer.flush()
            dismiss(server)
        finally:
            while below := descendants(os.getpid()):
                send_signal(below, signal.SIGKILL)
                bury()


def relay(server: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Return the server's answer, which is halted before and after.

    Raises:
        EOFError: Rank 0 is gone.
    """
    assert server.stdin is not None
    assert server.stdout is not None
    send_signal(descendants(os.getpid()), signal.SIGCONT)
    server.stdin.write(request)
    server.stdin.flush()
    ready = select.select([server.stdout, sys.stdin], [], [])[0]
    if server.stdout not in ready:  # rank 0 has nothing to say before the answer
        raise EOFError
    answer = server.stdout.readline()
    send_signal(descendants(os.getpid()), signal.SIGSTOP)
    return answer


def dismiss(server: subprocess.Popen[bytes]) -> None:
    """Let the server end by itself."""
    assert server.stdin is not None
    send_signal(descendants(os.getpid()), signal.SIGCONT)
    server.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(CLOSE_SECONDS)


def bury() -> None:
    """Take leave of dead children; wait for one if all still live."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve() -> None:
    """The guard's child: answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peer prints is no answer
    pool = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "start" in request:
                pool = PEERS[request["start"]](request["workers"])
                answer: dict[str, Any] = {"values": {}}
            else:
                module = importlib.import_module(request["measure"])
                answer = {"values": module.measure(pool, **request["sizes"])}
        except ModuleNotFoundError as error:
            answer = {"error": f"{error.name} is not installed"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    if pool is not None:
        pool.close()


if __name__ == "__main__":
    serve() if sys.argv[1:] else guard()
