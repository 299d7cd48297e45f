"""Files of others are looked at with care, and none is replaced that is not ours."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mpitasks.files import (
    create,
    distrust,
    distrust_open,
    open_regular,
    read_regular,
    replacing,
)

STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root makes files of others")


def make_socket(path: Path) -> None:
    # The name may be too long for one that is bound by its path.
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": make_socket,
}


def put(path: str | Path, content: bytes, **options: bool) -> None:
    with replacing(str(path), lambda head: head.startswith(b"ours"), **options) as file:
        file.write(content)


# Reading.


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "it")
    (tmp_path / "link").symlink_to("it")
    for name in ("it", "link"):
        with pytest.raises(OSError, match=f"{name} is {kind}, not a file"):
            read_regular(str(tmp_path / name))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/tty"])
def test_devices_are_not_opened(path: str) -> None:
    with pytest.raises(OSError, match=f"{path} is a device, not a file"):
        open_regular(path)


def test_content_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert read_regular(str(path), 100) == b"x" * 100
    with pytest.raises(OSError, match="has more than 99 bytes"):
        read_regular(str(path), 99)


def test_a_regular_file_is_read_to_its_end_whatever_it_was_opened_with(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    fd = open_regular(str(path), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"abc")
    os.close(fd)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_regular(str(path)) == b"abc"


# Whose it is.


def why(path: Path) -> str:
    found = distrust(str(path))
    return "" if found is None else found.why


@pytest.mark.parametrize(
    ("of_file", "of_folder", "told"),
    [
        (0o600, 0o700, ""),
        (0o644, 0o755, ""),
        (0o644, 0o1777, ""),
        (0o644, 0o1775, ""),
        (0o666, 0o700, "everybody may write it"),
        (0o602, 0o1777, "everybody may write it"),
        (0o600, 0o777, "everybody may put another file in its place, in "),
        (0o600, 0o703, "everybody may put another file in its place, in "),
    ],
)
def test_by_the_modes(tmp_path: Path, of_file: int, of_folder: int, told: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a"
    path.touch()
    path.chmod(of_file)
    folder.chmod(of_folder)
    assert why(path).startswith(told)
    assert bool(why(path)) == bool(told)
    assert why(folder / "none") == (why(path) if of_folder in (0o777, 0o703) else "")


def test_the_cure_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()
    path = folder / "a b"
    path.touch()
    path.chmod(0o666)
    folder.chmod(0o777)
    for _ in range(2):
        found = distrust(str(path))
        assert found is not None
        assert found.cure is not None
        subprocess.run(found.cure, shell=True, check=True)
    assert distrust(str(path)) is None


def test_a_group_of_its_owner_alone_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    path = tmp_path / "a"
    path.touch()
    path.chmod(0o664)
    own = pwd.getpwuid(path.stat().st_uid).pw_name

    def group(name: str, *members: str) -> None:
        made = grp.struct_group((name, "x", path.stat().st_gid, list(members)))
        monkeypatch.setattr(grp, "getgrgid", lambda number: made)

    for members in ((), (own,)):
        group(own, *members)
        assert why(path) == ""
    for name, member in ((own, "eve"), ("users", own)):
        group(name, member)
        assert why(path) == f"group {name} may write it"

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert why(path) == f"group {path.stat().st_gid} may write it"


def test_access_lists_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.touch()
    path.chmod(0o660)
    seen = {"system.posix_acl_access"}
    monkeypatch.setattr(os, "listxattr", lambda *words, **options: list(seen))
    assert why(path) == "its access control list says that others may write it"


@as_root
def test_by_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a"
    path.touch()
    os.chown(path, STRANGER, 0)
    assert why(path).endswith("(uid 65534) owns it")
    fd = os.open(path, os.O_RDONLY)
    found = distrust_open(fd, str(path))
    os.close(fd)
    assert found is not None
    assert (found.why, found.cure) == (why(path), None)
    os.chown(path, 0, 0)
    os.chown(folder, STRANGER, 0)
    assert f"(uid 65534) owns its folder {folder}" in why(path)
    folder.chmod(0o1777)
    assert f"(uid 65534) owns its folder {folder}" in why(path)


@as_root
def test_root_is_trusted_by_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert why(path) == ""
    path.chmod(0o666)
    found = distrust(str(path))
    assert found is not None
    assert found.cure is None  # it is not this user's to mend
    path.chmod(0o600)
    os.chown(path, STRANGER, 0)
    assert why(path) == ""
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER - 1)
    assert "owns it" in why(path)


@as_root
def test_a_link_counts_and_what_it_leads_to(tmp_path: Path) -> None:
    open_to_all, own = tmp_path / "open", tmp_path / "own"
    open_to_all.mkdir()
    own.mkdir()
    (own / "a").touch()
    (open_to_all / "link").symlink_to(own / "a")
    assert why(open_to_all / "link") == ""
    open_to_all.chmod(0o1777)
    assert why(open_to_all / "link") == ""
    os.chown(open_to_all / "link", STRANGER, 0, follow_symlinks=False)
    assert "owns it" in why(open_to_all / "link")
    (own / "back").symlink_to(open_to_all / "link")
    os.chown(open_to_all / "link", 0, 0, follow_symlinks=False)
    (own / "a").chmod(0o666)
    assert why(own / "back") == "everybody may write it"


# Writing.


def test_what_is_made_is_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        create(str(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0, 0o22, 0o77])
def test_results_are_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        put(tmp_path / "a", b"ours 1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_what_is_ours_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    for content in (b"ours 1", b"ours 2"):
        put(path, content)
        assert path.read_bytes() == content
    with pytest.raises(ZeroDivisionError), replacing(str(path), lambda head: True):
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"ours 2"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_user_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="was not written by mpitasks"):
        put(path, b"ours")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [*KINDS, "a link"])
def test_what_is_no_file_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    KINDS.get(kind, lambda path: path.symlink_to("b"))(path)
    (tmp_path / "b").write_bytes(b"ours")
    before = path.lstat()
    with pytest.raises(FileExistsError, match=f"a is {kind}, and is left as it is"):
        put(path, b"ours 2")
    assert os.path.samestat(path.lstat(), before)
    assert (tmp_path / "b").read_bytes() == b"ours"


@as_root
def test_a_file_of_another_user_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"ours")
    os.chown(path, STRANGER, 0)
    with pytest.raises(FileExistsError, match=r"is a file of .*\(?uid 65534"):
        put(path, b"ours 2")
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("streams", [False, True])
def test_the_null_device_takes_everything(tmp_path: Path, streams: bool) -> None:
    null = Path(os.devnull)
    put(null, b"anything", streams=streams)
    (tmp_path / "link").symlink_to(os.devnull)
    put(tmp_path / "link", b"anything", streams=streams)
    assert null.is_char_device()
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_can_be_written_to_where_that_makes_sense(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        put(path, b"ours", streams=True)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    put(path, b"ours", streams=True)
    assert os.read(reader, 100) == b"ours"
    os.close(reader)
    assert path.is_fifo()
