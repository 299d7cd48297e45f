"""What rank 0 makes of the hellos: welcomes, and warnings of what is slow."""

from __future__ import annotations

import pytest

from mpitasks.errors import LaunchError
from mpitasks.launch.handshake import check_hellos, own_hello, warnings_of, welcomes_of
from mpitasks.wire.messages import Hello


def hello(
    rank: int,
    host: str = "a",
    cores: int | list[int] = 4,
    quota: float | None = None,
    threads: int | None = None,
) -> Hello:
    numbers = list(range(cores)) if isinstance(cores, int) else cores
    return Hello(
        rank=rank,
        host=host,
        pid=100 + rank,
        cores=numbers,
        python="3.12",
        version="0.1.0",
        library="MPICH 5",
        machine=host,
        quota=quota,
        threads=threads,
    )


def test_own_hello_is_about_this_process() -> None:
    own = own_hello(3, "a library")
    assert (own.rank, own.library) == (3, "a library")
    assert own.cores


def test_welcomes_tell_the_share_and_spare_cores() -> None:
    hellos = [hello(0), hello(1), hello(2, "b", 1), hello(3, "b", 1)]
    welcomes = welcomes_of(hellos)
    assert [w.share for w in welcomes] == [2, 2, 1, 1]
    assert [w.spare_cores for w in welcomes] == [True, True, False, False]
    assert {w.size for w in welcomes} == {4}
    assert [w.master for w in welcomes] == [100, 100, None, None]
    assert len({w.run for w in welcomes}) == 1


def test_unlike_ranks_are_refused() -> None:
    odd = hello(1, "b")
    odd.version = "0.2.0"
    with pytest.raises(LaunchError, match=r"rank 1 on b has 0\.2\.0"):
        check_hellos([hello(0), odd], 2, 60.0)
    check_hellos([hello(0), hello(1)], 2, 60.0)


@pytest.mark.parametrize(
    "hellos",
    [
        [hello(rank) for rank in range(4)],
        [hello(rank) for rank in range(5)],  # rank 0 mostly waits
        [hello(rank, threads=1) for rank in range(5)],
        [hello(0), *(hello(rank, threads=2) for rank in (1, 2))],
        [hello(0, cores=[0]), hello(1, cores=[1])],
        [hello(0), hello(1, "b", threads=4)],
        [hello(0), hello(1, "b", quota=1.0)],
    ],
)
def test_no_warning_of_what_is_well(hellos: list[Hello]) -> None:
    assert warnings_of(hellos) == []


def test_oversubscription_is_one_line_about_the_worst_host() -> None:
    hellos = [hello(rank) for rank in range(6)]
    hellos += [hello(rank, "b", 2) for rank in range(6, 14)]
    (line,) = warnings_of(hellos)
    assert "8 ranks on b take turns on 2 cores" in line


def test_a_quota_counts_as_well() -> None:
    (line,) = warnings_of([hello(rank, quota=1.5) for rank in range(3)])
    assert "3 ranks on a take turns on 1.5 cores" in line


def test_bound_to_one_core_all_of_them() -> None:
    (line,) = warnings_of([hello(rank, cores=[0]) for rank in range(3)])
    assert "3 ranks on a take turns on 1 core;" in line


def test_a_storm_of_threads_is_one_line() -> None:
    hellos = [hello(rank, threads=4) for rank in range(4)]
    hellos += [hello(4 + rank, "b", threads=3) for rank in range(4)]
    (line,) = warnings_of(hellos)
    assert "may start 4 threads in each of 4 ranks on a, which has 4 cores" in line
    assert "its share (1)" in line


def test_both_can_be_wrong() -> None:
    crowded, storm = warnings_of([hello(rank, threads=4) for rank in range(9)])
    assert "take turns" in crowded
    assert "OMP_NUM_THREADS" in storm
