"""What a file of the user says, read once as long as it stays as it is."""

from __future__ import annotations

import ast
import functools
import os
import types
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpitasks.journal.bytecode import Import, uses_of
from mpitasks.journal.walk import digest

__all__ = ["Source", "scan"]


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and what it says if it is Python.

    Attributes:
        path: The file.
        digest: Of its bytes.
        imports: What it imports, inside of functions too.
        texts: The text in it, if it may find modules by name.
        codes: The bytecode of each function in it.
        literals: The names that it binds once, to a value that it spells out.
    """

    path: str
    digest: bytes
    imports: frozenset[Import] = frozenset()
    texts: frozenset[str] = frozenset()
    codes: frozenset[types.CodeType] = frozenset()
    literals: Mapping[str, Any] = field(default_factory=dict)


def scan(path: str) -> Source:
    """Return what a file says.

    Raises:
        OSError: It cannot be read.
    """
    found = os.stat(path)  # noqa: PTH116
    return _scan(path, found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=1024)
def _scan(path: str, *_stamp: int) -> Source:
    with open(path, "rb") as file:  # noqa: PTH123
        data = file.read()
    own = digest(data)
    if b"\0" in data:  # an archive, or compiled
        return Source(path, own)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data, path)
            code = compile(tree, path, "exec", dont_inherit=True)
        uses = uses_of(code)
        return Source(
            path,
            own,
            uses.imports,
            uses.texts if uses.finds({}) else frozenset(),
            frozenset(_codes(code)),
            _literals(tree),
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source(path, own)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _literals(tree: ast.Module) -> dict[str, Any]:
    bound = Counter(_bound(tree))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name) and bound[target.id] == 1:
            try:
                found[target.id] = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
    return found


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield each name that is bound or declared somewhere, each time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            yield from node.names
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
