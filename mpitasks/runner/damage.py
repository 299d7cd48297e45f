"""What a task does to what is ours in its process, and how that is noticed.

A task shares its process with us: it can replace builtins, close files, write into
memory. This module tells what was damaged. Others decide what follows: an isolated
task's child is replaced (`mpitasks.sandbox.child`); a rank goes on until something of
ours fails, and is then given up (`mpitasks.worker.fatal_error`). At the end of the run
it puts back what was replaced, since our code needs that to end. Nothing here ends
anything, and nothing here relies on what may be damaged: the functions have builtins
of their own.
"""

from __future__ import annotations

import builtins
import contextlib
import operator
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Damaged", "lift_limits", "put_back", "remember", "replaced", "restore"]

# Functions look for builtins where their module says so when they are made.
__builtins__ = dict(vars(builtins))  # type: ignore[assignment]  # not as typeshed says

_BUILTINS = (
    "BaseException",
    "Exception",
    "__import__",
    "bytes",
    "enumerate",
    "isinstance",
    "len",
    "list",
    "map",
    "max",
    "min",
    "next",
    "set",
    "super",
    "tuple",
    "type",
    "zip",
)
_PICKLE = ("dumps", "loads")
_MODULES = ("builtins", "mpitasks", "pickle", "threading")


class Damaged(Exception):
    """What came from a process, or was to be sent by it, is none of its messages."""


def _getter(*names: str) -> Callable[[Any], tuple[Any, ...]]:
    return operator.itemgetter(*names)


_WATCHED: list[tuple[str, tuple[str, ...], Callable[[Any], Any], dict[str, Any], Any]]
_WATCHED = [
    (prefix, names, getter, table, getter(table))
    for prefix, names, getter, table in (
        ("builtins.", _BUILTINS, _getter(*_BUILTINS), vars(builtins)),
        ("pickle.", _PICKLE, _getter(*_PICKLE), vars(pickle)),
        ("the module ", _MODULES, _getter(*_MODULES), sys.modules),
    )
    if all(map(table.__contains__, names))
]

_RECURSION = min(sys.getrecursionlimit(), 1000)
"""Python's own default, unless the process was begun with less."""


def replaced() -> list[str]:
    """Return what a task has replaced, or taken away, that our code needs.

    By identity; quick where all is well, since it is asked again and again.
    """
    found: list[str] = []
    for prefix, names, getter, table, was in _WATCHED:
        try:
            now = getter(table)
        except KeyError:
            now = ()
        if now == was:  # the same objects: no code of theirs is called
            continue
        for name, before in zip(names, was, strict=True):
            if table.get(name) is not before:
                found.append(prefix + name)
    if sys.modules is not _WATCHED[-1][3]:
        found.append("sys.modules")
    if sys.getrecursionlimit() < _RECURSION:
        found.append("the recursion limit")
    return found


_REMEMBERED = (builtins, contextlib, os, pickle, select, signal, socket, struct)
_memory: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
_limits: dict[int, int] = {}


def remember() -> None:
    """Take note of what is where, before tasks run: for `restore`."""
    modules = (*_REMEMBERED, threading, time)
    _memory[:] = [(m.__name__, vars(m), dict(vars(m))) for m in modules]
    _memory.append(("sys.modules", sys.modules, dict(sys.modules)))
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
        _limits[limit] = resource.getrlimit(limit)[0]


def restore() -> list[str]:
    """Put back what was replaced since, and let nobody trace our code any more.

    Our code needs that to say what has happened, and to end.

    Returns:
        What was replaced, or taken away.
    """
    sys.settrace(None)
    sys.setprofile(None)
    return put_back()


def put_back() -> list[str]:
    """Put back what was replaced or taken away since `remember`; return what that was.

    What was added stays.
    """
    found = lift_limits()
    if sys.getrecursionlimit() < _RECURSION:
        sys.setrecursionlimit(_RECURSION)
        found.append("the recursion limit")
    for name, table, before in _memory:
        for key, value in before.items():
            if table.get(key) is not value:
                table[key] = value
                found.append(f"{name}.{key}" if name != "sys.modules" else name)
    return list(dict.fromkeys(found))


def lift_limits() -> list[str]:
    """Allow this process the memory and the files again that it was begun with."""
    found = []
    for limit, before in _limits.items():
        soft, hard = resource.getrlimit(limit)
        if soft != before:
            # A hard limit that was lowered stays so.
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, (before, hard))
            found.append("a resource limit")
    return found
