"""Tasks that play with the insides of their process, by name: one launch, many acts.

    insides.py PLACE [ACT ...]

PLACE is "isolated" or "plain". Each act runs as a call, then as an item of a chunk;
after each, others must still come to the right values. Prints a line for each act: what
became of it, and whether the others were right.
"""

# ruff: noqa: PTH106, PTH115, PTH123, PTH208

from __future__ import annotations

import builtins
import contextlib
import copyreg
import ctypes
import fcntl
import gc
import json
import mmap
import os
import pickle
import resource
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import mpitasks as mt

PTRACE_ATTACH = 16


def descriptors() -> Iterator[int]:
    """Yield all open files of this process but the standard streams."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            yield int(name)


def sockets() -> Iterator[int]:
    """Yield those that are sockets."""
    for fd in descriptors():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                yield fd


def shared_memory() -> Iterator[tuple[int, int]]:
    """Yield where shared memory is mapped that can be written to."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            where, rights, *_ = line.split()
            if rights == "rw-s":
                start, end = (int(word, 16) for word in where.split("-"))
                yield start, end


def write_junk() -> str:
    """Write what is no message to every socket."""
    for fd in sockets():
        os.write(fd, b"junk")
    return "done"


def write_pickles() -> str:
    """Write pickles that are no answers."""
    for fd in sockets():
        for value in (None, 7, ((1, 2), None), ((0, b"junk", 0, None, True, 0), None)):
            os.write(fd, pickle.dumps(value))
    return "done"


def write_nothing() -> str:
    """Write packets of no bytes, which look like the end."""
    for fd in sockets():
        os.write(fd, b"")
    return "done"


def forge_block() -> str:
    """Tell of shared memory that is not there."""
    for fd in sockets():
        told = (7, 1 << 30, [(4096, 1 << 29)], [])
        os.write(fd, pickle.dumps(((0, b"", 0, (1, b""), False, False), told)))
    return "done"


def forge_shrunk_block() -> str:
    """Tell of shared memory that is shorter than it says: reading it is a SIGBUS."""
    fd = os.memfd_create("short")
    os.ftruncate(fd, 4096)
    told = (7, 1 << 20, [(4096, 1 << 19)], [])
    frame = pickle.dumps(((0, b"", 0, (1, b"x"), False, False), told))
    for number in list(sockets()):
        end = socket.socket(fileno=os.dup(number))
        with end:
            socket.send_fds(end, [frame], [fd])
    os.close(fd)
    return "done"


def close_all() -> str:
    """Close everything, as daemons do."""
    os.closerange(3, 256)
    return "done"


def replace_all() -> str:
    """Put /dev/null in the place of everything."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in [*descriptors()]:
        with contextlib.suppress(OSError):
            os.dup2(null, fd)
    return "done"


def replace_by_sockets() -> str:
    """Put sockets in the place of all, at which nobody ever writes."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    copies = [socket.socket(fileno=os.dup(fd)) for fd in [*sockets()]]
    keep(one, other, *copies)
    own = {end.fileno() for end in kept}
    for fd in [*sockets()]:
        if fd not in own:
            os.dup2(one.fileno(), fd)
    return "done"


def read_all() -> str:
    """Read from everything, without waiting."""
    for fd in [*descriptors()]:
        with contextlib.suppress(OSError):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
            os.read(fd, 1000)
    return "done"


def steal_requests() -> str:
    """Have a thread read what comes for others."""

    def read(fd: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                os.read(fd, 1 << 16)

    for fd in [*sockets()]:
        threading.Thread(target=read, args=(fd,), daemon=True).start()
    return "done"


def shrink_memory() -> str:
    """Cut off all shared memory: who reads it gets SIGBUS."""
    for fd in [*descriptors()]:
        with contextlib.suppress(OSError):
            if "memfd" in os.readlink(f"/proc/self/fd/{fd}"):
                os.ftruncate(fd, 0)
    for name in os.listdir("/proc/self/map_files"):
        with contextlib.suppress(OSError):
            path = f"/proc/self/map_files/{name}"
            if "memfd" in os.readlink(path):
                fd = os.open(path, os.O_RDWR)
                os.ftruncate(fd, 0)
    return "done"


def scribble(byte: int) -> Callable[[], str]:
    """Fill all shared memory."""

    def act() -> str:
        for start, end in shared_memory():
            ctypes.memset(start, byte, end - start)
        return "done"

    return act


def scribble_on_results() -> str:
    """Change single bytes of what is shared, but of its first words."""
    for start, end in shared_memory():
        room = (ctypes.c_ubyte * (end - start)).from_address(start)
        for at in range(128, 2000):
            room[at] ^= 1
    return "done"


def scribble_for_ever() -> str:
    """Have a thread fill all shared memory again and again."""

    def write() -> None:
        while True:
            for start, end in shared_memory():
                ctypes.memset(start, 0, end - start)
            time.sleep(0.001)

    threading.Thread(target=write, daemon=True).start()
    time.sleep(0.05)
    return "done"


def scribble_by_gc() -> str:
    """Find memory that is shared among all objects, and fill it."""
    for thing in gc.get_objects():
        for view in (thing, *gc.get_referents(thing)):
            if isinstance(view, mmap.mmap):
                view[:] = b"\7" * len(view)
    return "done"


def patch(module: Any, name: str, value: Any) -> Callable[[], str]:
    """Replace something of a module."""

    def act() -> str:
        setattr(module, name, value)
        return "done"

    return act


def no_pickle() -> str:
    """Put something else in the place of the module."""
    sys.modules["pickle"] = None  # type: ignore[assignment]
    return "done"


def no_modules() -> str:
    """Forget all modules."""
    sys.modules.clear()
    return "done"


def no_reducers() -> str:
    """Play with copyreg."""
    copyreg.dispatch_table.clear()
    copyreg.__reduce_ex__ = None  # type: ignore[attr-defined]
    copyreg._reconstructor = None  # type: ignore[attr-defined]
    return "done"


def no_streams() -> str:
    """Take the standard streams away, and close what is below them."""
    if sys.stdout is None:  # else it would close what others have opened since
        return "done"
    sys.stderr.close()
    sys.stdout = sys.stderr = sys.stdin = None  # type: ignore[assignment]
    os.closerange(0, 3)
    return "done"


def no_recursion() -> str:
    """Allow hardly any recursion."""
    sys.setrecursionlimit(40)
    return "done"


def no_files() -> str:
    """Allow no further files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    return "done"


def no_memory() -> str:
    """Allow no further memory."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, most))
    return "done"


def no_folder() -> str:
    """Go where nothing is."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    os.umask(0o777)
    return "done"


def no_signals() -> str:
    """Ignore all signals, and block them."""
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return "done"


def no_gc() -> str:
    """Switch the collector off."""
    gc.disable()
    gc.freeze()
    return "done"


def fail_in_trace(*_: Any) -> Any:
    """Raise wherever Python looks."""
    raise RuntimeError("of the trace function")


def trace_all() -> str:
    """Have threads and this one traced by what raises."""
    threading.settrace(fail_in_trace)
    threading.setprofile(fail_in_trace)
    sys.settrace(fail_in_trace)
    return "done"


def profile_all() -> str:
    """Have each call profiled by what raises."""
    sys.setprofile(fail_in_trace)
    return "done"


def raise_later() -> str:
    """Leave a timer whose handler raises, wherever that may be."""
    signal.signal(signal.SIGALRM, fail_in_trace)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    return "done"


def exit_at_once() -> str:
    """End the process without a word."""
    os._exit(0)


def kill_server(number: int) -> Callable[[], str]:
    """Send a signal to the parent process."""

    def act() -> str:
        os.kill(os.getppid(), number)
        if number == signal.SIGKILL:
            threading.Event().wait()
        return "done"

    return act


def trace_server() -> str:
    """Hold the parent process by ptrace, and never let it go."""
    libc = ctypes.CDLL(None)
    libc.ptrace(PTRACE_ATTACH, os.getppid(), None, None)
    return "done"


def lock_threads() -> str:
    """Take what Python's threads need."""
    threading.Lock = threading.Thread = None  # type: ignore[assignment, misc]
    threading._active.clear()  # type: ignore[attr-defined]
    return "done"


def junk(*args: Any, **options: Any) -> bytes:
    """Stand for functions of the standard library."""
    return b"junk"


kept: list[Any] = []


def keep(*things: Any) -> None:
    """Let nothing of it be closed."""
    kept.extend(things)


ACTS: dict[str, Callable[[], str]] = {
    "write junk": write_junk,
    "write pickles": write_pickles,
    "write nothing": write_nothing,
    "forge a block": forge_block,
    "forge a shrunk block": forge_shrunk_block,
    "close all": close_all,
    "replace all": replace_all,
    "replace by sockets": replace_by_sockets,
    "read all": read_all,
    "steal requests": steal_requests,
    "shrink memory": shrink_memory,
    "scribble 0": scribble(0),
    "scribble 255": scribble(255),
    "scribble on results": scribble_on_results,
    "scribble for ever": scribble_for_ever,
    "scribble by gc": scribble_by_gc,
    "pickle.dumps None": patch(pickle, "dumps", None),
    "pickle.loads junk": patch(pickle, "loads", junk),
    "pickle.dumps junk": patch(pickle, "dumps", junk),
    "pickle.Pickler None": patch(pickle, "Pickler", None),
    "no pickle": no_pickle,
    "no modules": no_modules,
    "no reducers": no_reducers,
    "len None": patch(builtins, "len", None),
    "len junk": patch(builtins, "len", lambda x: 1),
    "isinstance junk": patch(builtins, "isinstance", lambda *x: True),
    "BaseException None": patch(builtins, "BaseException", None),
    "print None": patch(builtins, "print", None),
    "import None": patch(builtins, "__import__", None),
    "monotonic None": patch(time, "monotonic", None),
    "monotonic 0": patch(time, "monotonic", lambda: 0.0),
    "monotonic_ns 0": patch(time, "monotonic_ns", lambda: 0),
    "perf_counter None": patch(time, "perf_counter", None),
    "sleep None": patch(time, "sleep", None),
    "Lock None": patch(threading, "Lock", None),
    "Event None": patch(threading, "Event", None),
    "Thread None": patch(threading, "Thread", None),
    "get_ident None": patch(threading, "get_ident", None),
    "os.write None": patch(os, "write", None),
    "os.getpid 1": patch(os, "getpid", lambda: 1),
    "no streams": no_streams,
    "no recursion": no_recursion,
    "no files": no_files,
    "no memory": no_memory,
    "no folder": no_folder,
    "no signals": no_signals,
    "no gc": no_gc,
    "trace": trace_all,
    "profile": profile_all,
    "raise later": raise_later,
    "exit": exit_at_once,
    "kill the server": kill_server(signal.SIGKILL),
    "stop the server": kill_server(signal.SIGSTOP),
    "trace the server": trace_server,
    "lock threads": lock_threads,
}


def act_at(what: tuple[str, int]) -> Any:
    """Item: the act at 3, else the square."""
    name, number = what
    return ACTS[name]() if number == 3 else number * number


def told(value: Any) -> str:
    """Return an outcome in a word."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}"
    return str(value)


def result(future: Any) -> Any:
    """Return value or exception."""
    try:
        return future.result(60)
    except BaseException as error:
        return error


def main() -> None:
    place, *names = sys.argv[1:]
    for name in names or ACTS:
        begun = time.monotonic()
        with mt.Executor(isolate=place == "isolated") as ex:
            if place == "isolated":
                result(ex.submit(os._exit, 0))  # settings of the last act end here
            future = ex.submit(ACTS[name])
            after = [ex.submit(pow, n, 2) for n in range(5)]
            outcome = result(future)
            values = [result(each) for each in after]
            items = list(
                ex.with_options(return_exceptions=True, chunksize=6).map(
                    act_at, [(name, n) for n in range(6)], timeout=100
                )
            )
            last = result(ex.submit(pow, 7, 2))
            while name == "raise later" and place == "plain":
                result(ex.submit(pow, 7, 2))  # until it does, which ends the run
        acted = items.pop(3)
        good = values == [0, 1, 4, 9, 16] and items == [0, 1, 4, 16, 25] and last == 49
        line = {
            "act": name,
            "call": told(outcome),
            "item": told(acted),
            "others": "right" if good else [*map(told, [*values, *items, last])],
        }
        if "-v" in os.environ.get("TEST_VERBOSE", ""):
            line["why"] = str(outcome)
            line["seconds"] = round(time.monotonic() - begun, 1)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
