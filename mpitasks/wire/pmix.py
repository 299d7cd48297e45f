"""Asks the PMIx library of a running Open MPI where ranks are.

mpi4py has no call for it. The library is loaded and at work already; this only calls
one more of its functions, and only for what it has at hand, so that it cannot wait.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["hosts_of_ranks"]

_BOOL = 1
_STRING = 3


class _Data(ctypes.Union):
    _fields_ = (
        ("flag", ctypes.c_bool),
        ("string", ctypes.c_char_p),
        ("room", ctypes.c_char * 24),
    )


class _Value(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint16), ("data", _Data))


class _Info(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char * 512),
        ("flags", ctypes.c_uint32),
        ("value", _Value),
    )


class _Process(ctypes.Structure):
    _fields_ = (("namespace", ctypes.c_char * 256), ("rank", ctypes.c_uint32))


def hosts_of_ranks(
    ranks: Iterable[int], environ: Mapping[str, str] = os.environ
) -> dict[int, str]:
    """Return the hosts of ranks, as far as PMIx knows them.

    Args:
        ranks: Ranks of the world.
        environ: The environment, which names the job.
    """
    namespace = environ.get("PMIX_NAMESPACE", "").encode()
    library = _loaded_library()
    if not namespace or library is None:
        return {}
    optional = _Info(key=b"pmix.optional")  # what is not here already, is not fetched
    optional.value.type = _BOOL
    optional.value.data.flag = True
    found = {}
    for rank in ranks:
        process = _Process(namespace, rank)
        value = ctypes.POINTER(_Value)()
        code = library.PMIx_Get(
            ctypes.byref(process),
            ctypes.c_char_p(b"pmix.hname"),
            ctypes.byref(optional),
            ctypes.c_size_t(1),
            ctypes.byref(value),
        )
        if code == 0 and value and value.contents.type == _STRING:
            found[rank] = value.contents.data.string.decode(errors="replace")
    return found


def _loaded_library() -> ctypes.CDLL | None:
    """Return the PMIx library that this process has loaded, if it has one."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
        for line in maps.splitlines():
            if "/libpmix.so" in line:
                return ctypes.CDLL(line[line.index("/") :])
    except OSError:
        return None
    return None
