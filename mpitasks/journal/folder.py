"""Large results in files beside the journal: one file a result, in FILE.d.

A file is written under a name of its own, synced and renamed before the row that tells
of it is committed; so a row never tells of a file that is not there in full. Each 4 MiB
have a checksum, which stands in the row. Reading goes straight into the memory
that the array will have, so that it is there once.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mpitasks.files import create, distrust_open, open_regular

__all__ = ["Damaged", "Folder"]

SEGMENT_BYTES = 4 << 20
_PARTIAL = ".part"


class Damaged(Exception):
    """What was written is not there any more as it was."""


class Folder:
    """The files of a journal.

    Args:
        journal: The journal's own file.
        trust: Whether to read files that another user could have written.
    """

    def __init__(self, journal: Path, *, trust: bool = False) -> None:
        self._trust = trust
        self.path = journal.with_name(journal.name + ".d")
        self._unsynced: set[Path] = set()

    def write(self, key: bytes, parts: Sequence[Any]) -> tuple[str, bytes]:
        """Write a result; return the name of its file, and the checksums.

        Raises:
            OSError: It cannot be written; nothing is left of it.
        """
        name = f"{key[:1].hex()}/{key[1:].hex()}-{os.urandom(4).hex()}"
        path = self.path / name
        if not path.parent.is_dir():
            for folder in (self.path, path.parent):
                folder.mkdir(0o700, exist_ok=True)
            self._unsynced |= {self.path, self.path.parent}
        partial = path.with_name(path.name + _PARTIAL)
        file = create(str(partial))
        try:
            sums = [_write(file, piece) for piece in _segments(parts)]
            os.fsync(file)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self._unsynced.add(path.parent)
        return name, struct.pack(f"<{len(sums)}I", *sums)

    def sync(self) -> None:
        """See to it that the files written so far are found after a power cut."""
        for path in self._unsynced:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        self._unsynced.clear()

    def read(self, name: str, sizes: Sequence[int], sums: bytes) -> list[Any]:
        """Return the parts of a result, each in writable memory of its own.

        Raises:
            Damaged: The file is gone, or is not what was written.
        """
        import numpy as np

        try:
            file = open_regular(str(self.path / name))
        except OSError as error:
            raise Damaged(
                f"its file {self.path / name} cannot be read: {error}"
            ) from error
        try:
            doubt = None if self._trust else distrust_open(file, str(self.path / name))
            if doubt is not None:
                raise Damaged(f"its file {self.path / name} is not read: {doubt.why}")
            size = os.fstat(file).st_size
            if size != sum(sizes):
                raise Damaged(
                    f"its file {self.path / name} has {size} bytes, not {sum(sizes)}"
                )
            parts = [np.empty(size, np.uint8).data for size in sizes]
            expected = iter(struct.unpack(f"<{len(sums) // 4}I", sums))
            for piece in _segments(parts):
                _read(file, piece)
                if zlib.crc32(piece) != next(expected, None):
                    raise Damaged(f"the content of its file {self.path / name} changed")
        except OSError as error:
            raise Damaged(
                f"its file {self.path / name} cannot be read: {error}"
            ) from error
        finally:
            os.close(file)
        return parts

    def remove(self, name: str) -> None:
        """Remove the file of a result that is not wanted any more."""
        (self.path / name).unlink(missing_ok=True)

    def names(self) -> Iterator[tuple[str, bool]]:
        """Yield the names of all files, and whether each is one that was cut off."""
        for path in self.path.glob("??/*"):
            name = f"{path.parent.name}/{path.name}"
            yield name, path.suffix == _PARTIAL


def _segments(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, view.nbytes, SEGMENT_BYTES):
            yield view[start : start + SEGMENT_BYTES]


def _write(file: int, piece: Any) -> int:
    done = 0
    while done < piece.nbytes:
        done += os.write(file, piece[done:])
    return zlib.crc32(piece)


def _read(file: int, piece: Any) -> None:
    done = 0
    while done < piece.nbytes:
        count = os.readv(file, [piece[done:]])
        if count == 0:
            raise Damaged("its file ended too early")
        done += count
