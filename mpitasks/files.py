"""Files on a machine with other users: whose one is, how one is read, made, replaced.

All that opens a file which somebody else may have put there goes through here, and so
does every file that we write for the user. Four rules:

- What is read must be a regular file, so that a pipe or a device hangs nobody.
- What is made is new: never through a link, never into a file that is there.
- What is replaced is ours: of this user, and with content that we know. It is replaced
  at once and whole.
- What is obeyed, or unpickled, could have been written by nobody but this user or root;
  else `distrust` says why.

What files hold is not known here. Rank 0 imports this at each start, so it does without
pathlib and tempfile, which are slow to import.
"""

# ruff: noqa: PTH100, PTH105, PTH108, PTH116, PTH120, PTH123

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

__all__ = [
    "PRIVATE",
    "Distrust",
    "create",
    "distrust",
    "distrust_open",
    "open_regular",
    "read_regular",
    "refuse_other",
    "replacing",
    "require_regular",
]

PRIVATE = 0o600
"""The mode of files that hold results."""

HEAD_BYTES = 64 << 10
"""A file shows within this many bytes whether it is ours."""

READ_BYTES = 1 << 20
"""What is read as a whole has no more bytes than that."""

_KINDS: list[tuple[Callable[[int], bool], str]] = [
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
]

_ACL = "system.posix_acl_access"


class Distrust(NamedTuple):
    """Why others could have written a file.

    Attributes:
        why: As words, in which the file is "it".
        cure: The command that ends that; None where this user cannot.
    """

    why: str
    cure: str | None = None


# Reading.


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = PRIVATE) -> int:
    """Open a regular file, and nothing else; return its descriptor.

    Args:
        path: The file.
        flags: As for `os.open`.
        mode: That of a file that is made.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    with contextlib.suppress(FileNotFoundError):
        # Before it is opened: to open a device may do something.
        _refuse_kind(path, os.stat(path))
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, mode)
    try:
        _refuse_kind(path, os.fstat(fd))
    except OSError:
        os.close(fd)
        raise
    return fd


def read_regular(path: str, most: int = READ_BYTES) -> bytes:
    """Return what is in a regular file.

    Args:
        path: The file.
        most: How many bytes it may have.

    Raises:
        OSError: It cannot be read, is no regular file, or is longer.
    """
    with open(open_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"{path} has more than {most} bytes")
    return content


def require_regular(path: str) -> None:
    """Raise if something has that name that is no regular file: a link, say.

    Raises:
        OSError: Something has.
    """
    with contextlib.suppress(FileNotFoundError):
        _refuse_kind(path, os.lstat(path))


def _refuse_kind(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is {_kind(found)}, not a file")


def _kind(found: os.stat_result) -> str:
    return next((name for is_it, name in _KINDS if is_it(found.st_mode)), "no file")


# Whose it is.


def distrust(path: str, it: str = "it") -> Distrust | None:
    """Return why another user could have written a file; None if nobody could.

    This user and root are trusted. Everybody else must be kept from writing the file
    and from putting another one in its place: by its mode and by that of its folder. A
    folder with the sticky bit, as /tmp, does that for a file of our own. A link counts
    as well as what it leads to. A group may write if its owner is alone in it.

    Args:
        path: The file, which need not be there yet.
        it: What the answer calls the file.

    Raises:
        OSError: Nobody can tell.
    """
    real = os.path.realpath(path)
    for name in dict.fromkeys((os.path.abspath(path), real)):
        with contextlib.suppress(FileNotFoundError):
            found = _of_file(name, os.lstat(name), it)
            if found is not None:
                return found
        folder = os.path.dirname(name)
        found = _of_folder(folder, os.stat(folder))
        if found is not None:
            return found
    return None


def distrust_open(fd: int, path: str) -> Distrust | None:
    """Return why another user could have written an open file; None if nobody could.

    Args:
        fd: Its descriptor. Where the file is does not matter: it is this one.
        path: Its name, for messages.
    """
    return _of_file(path, os.fstat(fd), "it")


def _of_file(path: str, found: os.stat_result, it: str) -> Distrust | None:
    if not _is_trusted(found):
        return Distrust(f"{_user(found.st_uid)} owns {it}")
    writers = _writers(path, found)
    if writers is None:
        return None
    return Distrust(f"{writers} may write {it}", _cure(path, found))


def _of_folder(path: str, found: os.stat_result) -> Distrust | None:
    if not _is_trusted(found):
        return Distrust(f"{_user(found.st_uid)} owns its folder {path}")
    if found.st_mode & stat.S_ISVTX:
        return None
    writers = _writers(path, found)
    if writers is None:
        return None
    return Distrust(
        f"{writers} may put another file in its place, in {path}", _cure(path, found)
    )


def _is_trusted(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.geteuid())


def _writers(path: str, found: os.stat_result) -> str | None:
    """Return who may write besides the owner; None if nobody."""
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        return None  # a link has no rights of its own
    if mode & stat.S_IWOTH:
        return "everybody"
    if not mode & stat.S_IWGRP:
        return None
    with contextlib.suppress(OSError, AttributeError):  # Linux has it
        if _ACL in os.listxattr(path, follow_symlinks=False):
            return "its access control list says that others"
    return _shared_group(found.st_gid, found.st_uid)


def _shared_group(gid: int, uid: int) -> str | None:
    """Return a group; None if it is one that the user has for himself."""
    import grp
    import pwd

    try:
        group, owner = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return f"group {gid}"
    alone = group.gr_name == owner.pw_name and {owner.pw_name} >= set(group.gr_mem)
    return None if alone else f"group {group.gr_name}"


def _user(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _cure(path: str, found: os.stat_result) -> str | None:
    if found.st_uid != os.geteuid():
        return None
    import shlex

    return f"chmod go-w {shlex.quote(path)}"


# Writing.


def create(path: str, mode: int = PRIVATE) -> int:
    """Make a file that is not there yet; return its descriptor, to be written to.

    Raises:
        OSError: It cannot be made. Something of that name, a link too, is left alone.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, mode)


@contextlib.contextmanager
def replacing(
    path: str,
    is_ours: Callable[[bytes], bool],
    *,
    mode: int = PRIVATE,
    streams: bool = False,
) -> Iterator[BinaryIO]:
    """Open a file that takes its place, at once and whole, when all is written.

    What is written to the null device goes nowhere.

    Args:
        path: Its name. A file of that name is replaced if it is ours, or is empty.
        is_ours: Told the beginning of that file; whether it is one of ours.
        mode: That of the file, of which the umask takes its part.
        streams: Whether a pipe, or a device such as a terminal, may be written to.

    Raises:
        FileExistsError: There is something else, which is left as it is.
        OSError: It cannot be written. Nothing is left of it.
    """
    stream = _opened_stream(path, streams=streams)
    if stream is not None:
        with stream:
            yield stream
        return
    refuse_other(path, is_ours)
    aside = f"{path}.{os.urandom(4).hex()}.new"
    try:
        with open(create(aside, mode), "w+b") as file:
            yield file
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _opened_stream(path: str, *, streams: bool) -> BinaryIO | None:
    """Open what is written to, not replaced; None if it is no such thing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    is_device = stat.S_ISCHR(found.st_mode)
    if is_device and found.st_rdev == os.stat(os.devnull).st_rdev:
        return io.BytesIO()
    if not (streams and (is_device or stat.S_ISFIFO(found.st_mode))):
        return None
    # A pipe that nobody reads is an error, not a wait without end.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(fd, True)
    return open(fd, "wb")


def refuse_other(path: str, is_ours: Callable[[bytes], bool]) -> None:
    """Raise if something is there that is not ours, and so would not be replaced.

    Args:
        path: Its name.
        is_ours: As for `replacing`.

    Raises:
        FileExistsError: There is.
        OSError: Nobody can tell.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise FileExistsError(
            f"{path} is {_kind(found)}, and is left as it is: name a file"
        )
    if found.st_uid != os.geteuid():
        raise FileExistsError(
            f"{path} is a file of {_user(found.st_uid)}, and is left as it is: take "
            f"another name"
        )
    if found.st_size == 0:
        return
    with open(open_regular(path), "rb") as file:
        head = file.read(HEAD_BYTES)
    if not is_ours(head):
        raise FileExistsError(
            f"{path} is there already and was not written by mpitasks, so it is left "
            f"as it is: take another name, or remove it"
        )
