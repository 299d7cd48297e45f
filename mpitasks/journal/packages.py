"""Installed packages: which one a file is of, and what tells it from another version.

A package is installed if a folder of the interpreter's own (site-packages) has its
RECORD, the list of its files with their digests. It counts by name and version. One
that was installed from a folder or a repository, or with ``--target``, keeps its
version while it changes, so the digests of its files count too; and files that are not
what the list says count in any case. A package installed in editable mode is in no such
list: it is the user's own code.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.machinery
import os
import re
import site
import sysconfig
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from mpitasks.journal.walk import digest

__all__ = ["Package", "package_of"]

_SUFFIXES = (
    *importlib.machinery.SOURCE_SUFFIXES,
    *importlib.machinery.EXTENSION_SUFFIXES,
)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package.

    Attributes:
        name: Its name.
        told: The digest of what counts of it.
    """

    name: str
    told: bytes


@functools.lru_cache(maxsize=4096)
def package_of(folder: str, file: str) -> Package | None:
    """Return the package that has installed a file, None if it is the user's.

    Args:
        folder: Where the package or module of the file lies.
        file: The file.
    """
    path = os.path.relpath(file, folder).replace(os.sep, "/")
    line = f"\n{path},".encode("utf-8", "surrogateescape")
    root = Path(folder)
    for info in sorted(root.glob("*.dist-info")):
        try:
            text = (info / "RECORD").read_bytes()
        except OSError:
            continue
        if line in b"\n" + text.replace(b"\r", b""):
            return _recorded(str(info))
    if os.path.realpath(folder) in _own_folders():
        return _eggs(root, path.partition("/")[0].partition(".")[0])
    return None


@functools.cache
def _own_folders() -> frozenset[str]:
    """Return the folders into which this interpreter installs packages."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= set(getattr(site, "getsitepackages", list)())
    if site.ENABLE_USER_SITE:
        folders.add(site.getusersitepackages())
    return frozenset(map(os.path.realpath, folders))


@functools.cache
def _recorded(info: str) -> Package:
    """Return the package of a folder ``NAME-VERSION.dist-info``."""
    folder = Path(info).parent
    name, _, version = Path(info).name.removesuffix(".dist-info").partition("-")
    record = Path(info, "RECORD")
    own = os.path.realpath(folder) in _own_folders()
    with record.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = sorted(row[:3] for row in csv.reader(file) if len(row) > 2)
    files = [row for row in rows if row[0].endswith(_SUFFIXES)]
    told = [name, version]
    if not own or Path(info, "direct_url.json").exists():
        told += [f"{path},{sum}" for path, sum, _ in files]
    written = record.stat().st_mtime_ns
    for path, sum, size in files:
        found = _changed(folder / path, sum, size, written)
        if found is not None:
            told.append(f"{path} is {found}")
    text = "\n".join(told)
    return Package(name, digest(text.encode("utf-8", "surrogateescape")))


def _changed(file: Path, sum: str, size: str, written: int) -> str | None:
    """Return the digest of an installed file if it is not what was installed.

    Args:
        file: The file.
        sum: Its digest in the list.
        size: Its size there.
        written: When the list was written. An older file of that size is not read.
    """
    try:
        if not sum:  # whoever wrote the list did not look at the file
            return hashlib.sha256(file.read_bytes()).hexdigest()
        found = file.stat()
        if str(found.st_size) == size and found.st_mtime_ns <= written:
            return None
        kind, _, expected = sum.partition("=")
        hashed = hashlib.new(kind, file.read_bytes()).digest()
    except (OSError, ValueError) as error:
        return type(error).__name__
    now = urlsafe_b64encode(hashed).rstrip(b"=").decode()
    return None if now == expected else now


def _eggs(root: Path, top: str) -> Package | None:
    """Return the package of a folder or file ``*.egg-info``, as distributions have."""
    for info in sorted(root.glob("*.egg-info")):
        name, _, version = info.name.removesuffix(".egg-info").partition("-")
        try:
            tops = (info / "top_level.txt").read_text("utf-8").split()
        except (OSError, ValueError):
            tops = []
        if top in tops or _plain(name) == _plain(top):
            return Package(name, digest(f"{name}\n{version}".encode()))
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
