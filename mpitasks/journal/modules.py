"""Whose a module is, and what it counts by where a walk cannot see what is used of it.

Modules are Python's own, of an installed package, or the user's: all others, wherever
they lie. One of the user's that is used as a whole (held by a closure, passed along,
imported inside a function) counts by its file, and by those of all modules of the user
that it imports, as the files tell. Nothing is imported to find that out.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

from mpitasks.journal.packages import Package, package_of
from mpitasks.journal.sources import Source, scan
from mpitasks.journal.walk import digest

if TYPE_CHECKING:
    from mpitasks.journal.bytecode import Import

# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH120  asked for each function of a walk

__all__ = [
    "Home",
    "cover",
    "file_of",
    "folder_of",
    "has_code",
    "holder_of",
    "home_of",
    "imported",
    "is_compiled",
    "is_users",
    "named",
    "package_name",
]

_SCRIPT = ("__main__", "__mp_main__")

PYTHON, PACKAGE, USER, MISSING = "python", "package", "user", "missing"

_MODULE_NAME = re.compile(r"\.*[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.?|\.+")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a module comes from.

    Attributes:
        kind: Whose it is: `PYTHON`, `PACKAGE`, `USER`; `MISSING` if there is none.
        path: Its file, None if it has none: made by hand, or a folder.
        package: The package that it is of.
        search: Where its submodules are, if it can have some.
    """

    kind: str
    path: str | None = None
    package: Package | None = None
    search: tuple[str, ...] | None = None


def home_of(name: str) -> Home:
    """Return where a module comes from, loaded or not."""
    module = sys.modules.get(name)
    if module is None:
        return _find(name)
    spec = getattr(module, "__spec__", None)
    path = getattr(module, "__file__", None)
    search = getattr(module, "__path__", None)
    found = None if search is None else tuple(search)
    return _home(name, path, getattr(spec, "origin", None), found)


def is_users(name: Any) -> bool:
    """Whether a module is the user's own: neither installed nor Python's."""
    return not isinstance(name, str) or home_of(name).kind in (USER, MISSING)


def is_compiled(name: Any) -> bool:
    """Whether a module is an extension of the user, which has a file but no source."""
    path = home_of(name).path if isinstance(name, str) else None
    return path is not None and path.endswith(tuple(EXTENSION_SUFFIXES))


def holder_of(value: Any, name: str) -> str | None:
    """Return the name of the module in which a value has a name, None if in none.

    Not that of the user: what it imports, it has as well. Among others the shortest,
    since which are loaded differs.
    """
    module = getattr(value, "__module__", None)
    if isinstance(module, str):
        return module
    holders = [
        key
        for key, found in list(sys.modules.items())
        if isinstance(found, types.ModuleType) and vars(found).get(name) is value
    ]
    return min(holders, key=lambda key: (is_users(key), len(key), key), default=None)


def package_name(scope: dict[str, Any]) -> str:
    """Return the package from which a module's relative imports start."""
    package = scope.get("__package__")
    if isinstance(package, str):
        return package
    name = scope.get("__name__")
    if not isinstance(name, str) or "__path__" in scope:
        return name if isinstance(name, str) else ""
    return name.rpartition(".")[0]


def file_of(scope: dict[str, Any]) -> str | None:
    """Return the file from which a namespace was made, if there is one."""
    path = scope.get("__file__")
    return _real_file(path) if isinstance(path, str) else None


def folder_of(scope: dict[str, Any]) -> str:
    """Return the folder in which a module is."""
    path = scope.get("__file__")
    return os.path.dirname(path) if isinstance(path, str) else ""


def has_code(name: str, code: types.CodeType) -> bool:
    """Whether a function of a module is in its file as it is in memory.

    It is not if the file was edited since it was loaded, or the function was changed.
    """
    path = name if _is_file(name) else home_of(name).path
    if path is None or code.co_filename != path or name in _SCRIPT:
        return True  # its code was made at run time, or does not come from the file
    return code in scan(path).codes


def imported(what: Import, package: str) -> list[str]:
    """Return the modules that an import loads; ``NAME.*`` for all of a package."""
    name, level, taken = what
    try:
        base = importlib.util.resolve_name("." * level + name, package)
    except ImportError:  # it goes too far up
        return []
    found = [base]
    if taken and home_of(base).search is not None:
        for part in taken:
            own = f"{base}.{part}"
            if part == "*" or home_of(own).kind != MISSING:
                found.append(own)
    return found


def named(texts: Iterable[str], package: str, folder: str) -> list[str]:
    """Return the user's modules and files that text names.

    Args:
        texts: Names of modules; starts of names, which end with a dot; paths.
        package: Where relative names start.
        folder: Where relative paths start, besides the current folder.
    """
    found = []
    for text in texts:
        if text.endswith(".py"):
            paths = [os.path.join(start, text) for start in (folder, "")]
            found += [path for path in paths if os.path.isfile(path)]
        elif _MODULE_NAME.fullmatch(text):
            whole = text.endswith(".")
            try:
                name = importlib.util.resolve_name(text.rstrip("."), package)
            except ImportError:
                continue
            home = home_of(name.rstrip("."))
            if home.kind == USER and (home.path or home.search):
                found.append(name.rstrip(".") + ".*" * whole)
    return found


def cover(name: str) -> bytes:
    """Return the digest of a module's file, and of all of the user that it imports.

    Args:
        name: The module; ``NAME.*`` for a package and all files in it; or a file.
    """
    told: dict[str, bytes] = {}
    queue = [name]
    seen = set(queue)
    while queue:
        for following in _told(queue.pop(), told):
            if following not in seen:
                seen.add(following)
                queue.append(following)
    return digest(b"".join(_line(name, told[name]) for name in sorted(told)))


def _is_file(name: str) -> bool:
    return os.sep in name or name.endswith(".py")


def _line(name: str, told: bytes) -> bytes:
    data = name.encode("utf-8", "surrogatepass")
    return b"%d:%s%d:%s" % (len(data), data, len(told), told)


def _told(name: str, told: dict[str, bytes]) -> Iterator[str]:
    """Tell what a module is; yield those that it imports."""
    if _is_file(name):
        source = scan(name)
        told[f"file {os.path.basename(name)}"] = source.digest
        yield from _imports("", Home(USER, name), source)
        return
    name, whole, _ = name.partition(".*")
    if "." in name:
        yield name.rpartition(".")[0]
    home = home_of(name)
    if home.package is not None:
        told[f"package {home.package.name}"] = home.package.told
    elif home.kind == MISSING:
        told[name] = b"missing"
    elif home.kind == USER:
        if home.path is not None:
            source = scan(home.path)
            told[name] = source.digest + _loaded(name, source)
            yield from _imports(name, home, source)
        for folder in (home.search or ()) if whole else ():
            for path in _files(folder):
                inner = os.path.relpath(path, folder)
                told[f"{name} {inner}"] = scan(path).digest


def _imports(name: str, home: Home, source: Source) -> Iterator[str]:
    module = sys.modules.get(name)
    scope: dict[str, Any] = {"__name__": name}
    if isinstance(module, types.ModuleType):
        scope = vars(module)
    elif home.search is not None:
        scope["__path__"] = home.search
    package = package_name(scope)
    for what in source.imports:
        yield from imported(what, package)
    yield from named(source.texts, package, os.path.dirname(home.path or ""))


def _files(folder: str) -> Iterator[str]:
    for place, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                yield os.path.join(place, name)


def _loaded(name: str, source: Source) -> bytes:
    """Return what a loaded module has that its file has not: it was edited since."""
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return b""
    codes = [
        value.__code__
        for value in list(vars(module).values())
        if isinstance(value, types.FunctionType)
        and value.__code__.co_filename == source.path
        and value.__code__ not in source.codes
    ]
    return b"".join(sorted(digest(code.co_code) for code in codes))


def _find(name: str) -> Home:
    """Return where a module would come from if it were imported."""
    parent = name.rpartition(".")[0]
    search = None
    if parent:
        found = home_of(parent).search
        if found is None:
            return Home(MISSING)
        search = list(found)
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, search, None) if find else None
        except Exception:  # somebody else's hook
            continue
        if spec is not None:
            inner = spec.submodule_search_locations
            path = spec.origin if spec.has_location else None
            return _home(name, path, spec.origin, inner and tuple(inner))
    return Home(MISSING)


def _home(
    name: str, path: Any, origin: Any, search: tuple[str, ...] | None = None
) -> Home:
    if not isinstance(path, str):
        if name in sys.builtin_module_names or origin in ("built-in", "frozen"):
            return Home(PYTHON)
        top = name.partition(".")[0]
        if top == name or search is not None:
            return Home(USER, search=search)
        above = home_of(top)  # made by hand, by a module of a package, say
        return Home(above.kind, package=above.package)
    kind, package = _owner(name, path)
    return Home(kind, _real_file(path), package, search)


@functools.lru_cache(maxsize=8192)
def _owner(name: str, path: str) -> tuple[str, Package | None]:
    """Return whose a file is, and of which package."""
    if name in _SCRIPT:
        return USER, None
    real = os.path.realpath(path)
    for start in _python_folders():
        inner = real[len(start) :]
        if real.startswith(start) and not re.match(r"(site|dist)-packages/", inner):
            return PYTHON, None
    folder = os.path.dirname(path)
    if os.path.basename(path).partition(".")[0] == "__init__":
        folder = os.path.dirname(folder)
    for _ in range(name.count(".")):
        folder = os.path.dirname(folder)
    package = package_of(folder, path)
    return (USER, None) if package is None else (PACKAGE, package)


@functools.cache
def _python_folders() -> tuple[str, ...]:
    """Return the folders of Python's own modules, and our own."""
    ours = os.path.dirname(os.path.dirname(__file__))  # the package, not its folder
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [os.path.dirname(os.__file__), ours]
    return tuple({os.path.realpath(path) + os.sep for path in paths})


def _real_file(path: str) -> str | None:
    """Return the file on disk in which a module is: an archive, if it is in one."""
    while path and not os.path.isfile(path):
        above = os.path.dirname(path)
        if above == path or os.path.isdir(above):
            return None
        path = above
    return path or None
