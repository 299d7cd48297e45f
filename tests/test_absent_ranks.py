"""Which host a rank must be on that was never heard from."""

from __future__ import annotations

import pytest

from mpitasks.errors import LaunchError
from mpitasks.launch.absent_ranks import (
    describe_absent,
    expand_nodes,
    place_by_hellos,
    place_by_srun,
)
from mpitasks.launch.handshake import check_hellos
from mpitasks.wire.messages import Hello
from mpitasks.wire.pmix import hosts_of_ranks


def hello(rank: int, host: str, place: tuple[int, int] | None = None) -> Hello:
    return Hello(rank, host, 1, [0], "3.12", "0.1.0", "an MPI", place=place)


SRUN = {
    "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "n[08-10]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
}


@pytest.mark.parametrize(
    ("hellos", "places"),
    [
        ([hello(0, "a")], {}),
        ([hello(0, "a", (0, 1))], {0: "a"}),
        ([hello(0, "a", (0, 3))], {0: "a", 1: "a", 2: "a"}),
        # One after the other, and the second host has one that was heard.
        (
            [hello(0, "a", (0, 2)), hello(3, "b", (1, 2))],
            {0: "a", 1: "a", 2: "b", 3: "b"},
        ),
        # Dealt in turn: two of one host tell.
        (
            [hello(0, "a", (0, 3)), hello(4, "a", (2, 3)), hello(1, "b", (0, 3))],
            {0: "a", 1: "b", 2: "a", 3: "b", 4: "a", 5: "b"},
        ),
        # Dealt in turn, but one of each host was heard: nothing is certain.
        ([hello(0, "a", (0, 2)), hello(1, "b", (0, 2))], {}),
        (
            [
                *(hello(0, "a", (0, 2)), hello(1, "a", (1, 2))),
                *(hello(2, "b", (0, 2)), hello(4, "b", (1, 2))),
            ],
            {},
        ),
    ],
)
def test_place_by_hellos(hellos: list[Hello], places: dict[int, str]) -> None:
    assert place_by_hellos(hellos) == places


def test_place_by_srun() -> None:
    names = ["n08", "n08", "n09", "n09", "n10"]
    assert place_by_srun(SRUN) == dict(enumerate(names))
    assert place_by_srun({**SRUN, "SLURM_DISTRIBUTION": "cyclic"}) == {}
    assert place_by_srun({**SRUN, "SLURM_STEP_NODELIST": "n1"}) == {}
    assert place_by_srun({}) == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12],login", ["n08", "n09", "n10", "n12", "login"]),
        ("rack1-n[1-2]-ib,gpu7", ["rack1-n1-ib", "rack1-n2-ib", "gpu7"]),
    ],
)
def test_expand_nodes(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


def test_missing_ranks_are_described_by_host() -> None:
    hellos = [hello(0, "a", (0, 2)), hello(3, "b", (1, 2))]
    said = describe_absent(6, hellos, {})
    assert said == "rank 1 on a; rank 2 on b; rank 4, 5 on a silent host"
    said = describe_absent(5, [hello(0, "n08")], SRUN)
    assert said == "rank 1 on n08; rank 2, 3 on n09; rank 4 on n10"


def test_a_world_with_missing_ranks_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"1 of 2 ranks .* 5 s: rank 1 on a\. "):
        check_hellos([hello(0, "a", (0, 2))], 2, 5.0)


def test_without_pmix_nobody_is_asked() -> None:
    assert hosts_of_ranks([0, 1], {}) == {}
    assert hosts_of_ranks([0, 1], {"PMIX_NAMESPACE": "prterun-a-1@1"}) == {}
