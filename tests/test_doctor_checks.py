"""Each judgement of the doctor, from facts that are invented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mpitasks.launch.environment import LaunchHint
from mpitasks.tools.doctor.checks_host import check_hosts, check_ranks, is_crowded
from mpitasks.tools.doctor.checks_mpi import (
    check_launch,
    check_mpi,
    check_python,
    check_slurm,
    check_start,
)
from mpitasks.tools.doctor.checks_world import check_missing, check_pair, check_pairs
from mpitasks.tools.doctor.facts import (
    CopyFacts,
    LauncherFacts,
    MpiFacts,
    PairFacts,
    ProbeFacts,
    RankFacts,
    SlurmFacts,
)
from mpitasks.tools.doctor.findings import Finding, Level

MPICH = "MPICH Version:      5.0.2\nMPICH Device:       ch4:ucx ofi"
OPEN5 = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution"
OPEN4 = "Open MPI v4.1.4, package: Debian OpenMPI"
ODD = "Some MPI 1.0"

HYDRA = LauncherFacts("/v/bin/mpiexec", "beside this Python", "MPICH", "5.0.2", "HYDRA")
PRTE = LauncherFacts("/usr/bin/mpiexec", "on PATH", "Open MPI", "5.0.11", "mpiexec")
UNKNOWN = LauncherFacts("/opt/bin/mpiexec", "on PATH", "", "", "flux 1.0")

GIB = 1 << 30


def mpi(**changes: Any) -> MpiFacts:
    usual = MpiFacts("4.1.2", MPICH, "/v/lib/libmpi.so.12", "", [HYDRA], ulfm=False)
    return replace(usual, **changes)


def rank(number: int = 0, host: str = "a", **changes: Any) -> RankFacts:
    usual = RankFacts(
        rank=number,
        host=host,
        pid=100 + number,
        python="3.12.1",
        executable="/v/bin/python",
        version="0.1.0",
        library="MPICH 5.0.2",
        cores=[0, 1, 2, 3],
        online=8,
        quota=None,
        threads={},
        shm_total=8 * GIB,
        shm_free=8 * GIB,
        copy=CopyFacts(True),
        thread_level="multiple",
    )
    return replace(usual, **changes)


def told(findings: Any, level: Level) -> list[Finding]:
    return [finding for finding in findings if finding.level is level]


def the(findings: Any, check: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def assert_ok(finding: Finding, *words: str) -> None:
    assert finding.level is Level.OK, finding
    assert finding.cure == ""
    for word in words:
        assert word in finding.why


def assert_told(finding: Finding, level: Level, why: str, cure: str) -> None:
    assert finding.level is level, finding
    assert why in finding.why, finding
    assert cure in finding.cure, finding


# mpi4py, the library, the mpiexec


def test_python_is_told() -> None:
    assert_ok(the(check_python(rank()), "Python"), "3.12.1", "/v/bin/python", "0.1.0")


def test_all_is_well() -> None:
    findings = list(check_mpi(mpi()))
    assert {finding.level for finding in findings} == {Level.OK}
    assert_ok(the(findings, "MPI library"), "MPICH 5.0.2", "/v/lib/libmpi.so.12")
    assert_ok(the(findings, "mpiexec"), "both belong together", "/v/bin/mpiexec")


def test_no_mpi4py() -> None:
    findings = list(check_mpi(mpi(mpi4py="", library="", problem="No module")))
    assert_told(the(findings, "mpi4py"), Level.ERROR, "No module", "pip install mpi4py")
    assert_ok(the(findings, "mpiexec"), "/v/bin/mpiexec")


def test_no_library() -> None:
    findings = list(check_mpi(mpi(library="", path="", problem="cannot load MPI")))
    finding = the(findings, "MPI library")
    assert_told(finding, Level.ERROR, "cannot load MPI", "mpitasks[mpich]")
    assert_ok(the(findings, "mpiexec"))  # nothing that it could not belong to


def test_no_mpiexec() -> None:
    finding = the(check_mpi(mpi(launchers=[])), "mpiexec")
    assert_told(finding, Level.ERROR, "there is none", "pip install")


@pytest.mark.parametrize(
    ("library", "launcher"), [(MPICH, PRTE), (OPEN5, HYDRA), (OPEN4, HYDRA)]
)
def test_mpiexec_of_another_family(library: str, launcher: LauncherFacts) -> None:
    finding = the(check_mpi(mpi(library=library, launchers=[launcher])), "mpiexec")
    assert_told(finding, Level.ERROR, "each copy would be alone", "on PATH")


def test_mpiexec_or_library_of_an_unknown_family() -> None:
    for facts in (mpi(launchers=[UNKNOWN]), mpi(library=ODD)):
        finding = the(check_mpi(facts), "mpiexec")
        assert_told(finding, Level.WARNING, "does not say what it is", "-n 2 python")


def test_another_mpiexec_on_path() -> None:
    finding = the(check_mpi(mpi(launchers=[HYDRA, PRTE])), "PATH")
    assert_told(finding, Level.WARNING, "/usr/bin/mpiexec", "/v/bin/mpiexec")
    same = replace(HYDRA, path="/usr/bin/mpiexec", where="on PATH")
    assert not told(check_mpi(mpi(launchers=[HYDRA, same])), Level.WARNING)


@pytest.mark.parametrize(
    ("library", "ulfm", "word"),
    [(MPICH, False, "not in MPICH"), (OPEN5, False, "off"), (OPEN5, True, "on:")],
)
def test_ulfm(library: str, ulfm: bool, word: str) -> None:
    assert_ok(the(check_mpi(mpi(library=library, ulfm=ulfm)), "ULFM"), word)


# Who launched it


def test_nothing_launched_it() -> None:
    assert_ok(the(check_launch(None, mpi(), None), "launch"), "one process")


def test_one_world() -> None:
    hint = LaunchHint(0, 4, "an mpiexec")
    assert_ok(the(check_launch(hint, mpi(), 4), "launch"), "one world of 4")


def test_a_world_of_one_that_was_meant() -> None:
    hint = LaunchHint(0, 1, "an mpiexec")
    assert_ok(the(check_launch(hint, mpi(), 1), "launch"), "one world of 1")


@pytest.mark.parametrize(
    ("launcher", "library", "launchers", "cure"),
    [
        ("srun", OPEN5, [PRTE], "srun --mpi=pmix"),
        ("srun", MPICH, [HYDRA], "srun --mpi=pmi2"),
        ("Open MPI's mpiexec", MPICH, [HYDRA], "/v/bin/mpiexec -n 4 python -m"),
        ("an mpiexec", OPEN5, [HYDRA], "mpitasks -n 4 script.py"),
    ],
)
def test_each_copy_is_alone(
    launcher: str, library: str, launchers: list[LauncherFacts], cure: str
) -> None:
    hint = LaunchHint(0, 4, launcher)
    facts = mpi(library=library, launchers=launchers)
    finding = the(check_launch(hint, facts, 1), "launch")
    assert_told(finding, Level.ERROR, "4 copies, and each is alone", cure)


def test_launched_without_any_mpi() -> None:
    hint = LaunchHint(0, None, "a PMIx launcher")
    finding = the(check_launch(hint, mpi(library=""), None), "launch")
    assert_told(finding, Level.ERROR, "started copies without MPI", "pip install")


# Starting it


def probe(**changes: Any) -> ProbeFacts:
    return replace(ProbeFacts("mpiexec -n 2 x", [2, 2], 0, "", 0.5), **changes)


def test_it_starts() -> None:
    facts = mpi(alone=probe(sizes=[1]), launched=probe())
    findings = list(check_start(facts))
    assert [finding.level for finding in findings] == [Level.OK, Level.OK]
    assert list(check_start(mpi())) == []


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            probe(sizes=[], code=15, said="no provider"),
            "exit code 15; it wrote: no pro",
        ),
        (probe(sizes=[], code=None, seconds=30.2), "no end after 30 s; it wrote: noth"),
        (probe(sizes=[], code=-11), "exit code -11"),
    ],
)
def test_mpi_does_not_start(found: ProbeFacts, why: str) -> None:
    finding = the(check_start(mpi(alone=found)), "MPI_Init")
    assert_told(finding, Level.ERROR, why, "from mpi4py import MPI")


@pytest.mark.parametrize(
    ("found", "level", "why", "cure"),
    [
        (probe(sizes=[1, 1]), Level.ERROR, "each is alone", "mpiexec"),
        (
            probe(sizes=[], code=1, said="an attempt to run as root."),
            Level.ERROR,
            "root",
            "export OMPI_ALLOW_RUN_AS_ROOT=1",
        ),
        (
            probe(sizes=[2], code=9, said="There are not enough slots"),
            Level.ERROR,
            "not enough slots",
            "mpiexec -n 2 x",
        ),
        (probe(seconds=45.0), Level.WARNING, "only after 45 s", "time mpiexec"),
    ],
)
def test_two_ranks_do_not_start(
    found: ProbeFacts, level: Level, why: str, cure: str
) -> None:
    facts = mpi(alone=probe(sizes=[1]), launched=found)
    assert_told(the(check_start(facts), "mpiexec -n 2"), level, why, cure)


# SLURM

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NTASKS": "4"}
KINDS = ["none", "pmi2", "cray_shasta"]


def slurm(**changes: Any) -> SlurmFacts:
    return replace(SlurmFacts("/usr/bin/srun", dict(JOB), list(KINDS)), **changes)


def test_no_slurm() -> None:
    finding = the(check_slurm(SlurmFacts(), mpi()), "SLURM")
    assert_ok(finding, "no srun", "in no job")


def test_srun_fits() -> None:
    finding = the(check_slurm(slurm(), mpi()), "SLURM")
    assert_ok(finding, "none, pmi2", "job 7 on n[1-2] with 4 tasks", "--mpi=pmi2 fits")
    open5 = mpi(library=OPEN5)
    with_pmix = slurm(kinds=["none", "pmi2", "pmix"])
    assert_ok(the(check_slurm(with_pmix, open5), "SLURM"), "--mpi=pmix fits")
    assert_ok(the(check_slurm(slurm(), mpi(library=OPEN4)), "SLURM"), "pmi2 fits")
    with_pmix_mpich = mpi(library=f"{MPICH}\nMPICH configure: --with-pmix=/opt")
    assert_ok(the(check_slurm(with_pmix, with_pmix_mpich), "SLURM"), "pmix fits")


def test_srun_cannot_start_the_library() -> None:
    finding = the(check_slurm(slurm(), mpi(library=OPEN5)), "SLURM")
    assert_told(finding, Level.WARNING, "v5.0.11 needs pmix", "mpiexec python -m")


def test_srun_for_an_unknown_library_or_none() -> None:
    for library in ("", ODD):
        finding = the(check_slurm(slurm(), mpi(library=library)), "SLURM")
        assert_ok(finding, "none, pmi2")


def test_srun_does_not_answer() -> None:
    silent = slurm(kinds=[], problem="Unable to contact")
    finding = the(check_slurm(silent, mpi()), "SLURM")
    assert_told(finding, Level.WARNING, "Unable to contact", "scontrol ping")
    outside = replace(silent, variables={})
    assert_ok(the(check_slurm(outside, mpi()), "SLURM"), "no cluster answers")


# Ranks and hosts


def test_ranks_are_told_by_host() -> None:
    ranks = [rank(number, f"n{number // 2}") for number in range(12)]
    findings = list(check_ranks(ranks, 12))
    assert_ok(findings[0], "12 ranks on 6 hosts: n0 2, n1 2, n2 2, n3 2 and 2 more")
    assert_ok(the(findings, "MPI threads"), "any thread")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"python": "3.11.9"}, "Python 3.12, rank 1 on b has 3.11"),
        ({"version": "0.2.0"}, "mpitasks 0.1.0, rank 1 on b has 0.2.0"),
        (
            {"library": "MPICH 4.3.0"},
            "MPI library MPICH 5.0.2, rank 1 on b has MPICH 4",
        ),
    ],
)
def test_unlike_ranks(changes: dict[str, Any], why: str) -> None:
    (finding,) = told(check_ranks([rank(), rank(1, "b", **changes)], 2), Level.ERROR)
    assert_told(finding, Level.ERROR, why, "same environment")


def test_another_patch_version_of_python_is_the_same() -> None:
    ranks = [rank(), rank(1, python="3.12.9")]
    assert not told(check_ranks(ranks, 2), Level.ERROR)


@pytest.mark.parametrize(
    ("level", "why"),
    [
        ("serialized", "give nothing back that waits behind a long task"),
        ("funneled", "callbacks run only while the script waits"),
        ("single", "MPI_THREAD_SINGLE only"),
    ],
)
def test_fewer_threads(level: str, why: str) -> None:
    findings = check_ranks([rank(), rank(1, thread_level=level)], 2)
    assert_told(the(findings, "MPI threads"), Level.WARNING, why, "THREAD_MULTIPLE")


def test_a_host_that_is_well() -> None:
    findings = list(check_hosts([rank(0), rank(1)]))
    assert {finding.level for finding in findings} == {Level.OK}
    assert_ok(the(findings, "cores"), "2 ranks, 4 of 8 cores usable, 2 for each, not b")
    assert_ok(the(findings, "BLAS threads"), "its share, 2")
    assert_ok(the(findings, "single copy"), "CMA")


def test_hosts_that_are_alike_are_one_line() -> None:
    ranks = [rank(number, f"n{number // 2}") for number in range(6)]
    findings = list(check_hosts(ranks))
    assert len(findings) == 4
    assert_ok(the(findings, "cores"), "all 3 hosts: 2 ranks, 4 of 8 cores")
    ranks[0] = replace(ranks[0], online=16)
    assert_ok(the(check_hosts(ranks), "cores"), "all 3 hosts are well, as n0: 2 ranks")


def test_only_the_host_that_is_wrong_is_named() -> None:
    ranks = [rank(0), rank(1), *(rank(number, "b") for number in range(2, 8))]
    finding = the(check_hosts(ranks), "cores")
    assert_told(finding, Level.WARNING, "b: 6 ranks take turns on 4 cores", "at most")


def test_one_rank_more_than_cores_is_no_harm_on_the_host_of_rank_0() -> None:
    ranks = [rank(number) for number in range(5)]
    assert_ok(the(check_hosts(ranks), "cores"))
    assert is_crowded(ranks, ["a"])  # but all of them spin while MPI is measured
    assert not is_crowded(ranks[:4], ["a", "b"])
    elsewhere = [rank(number) for number in range(1, 6)]
    assert the(check_hosts(elsewhere), "cores").level is Level.WARNING


def test_a_quota() -> None:
    assert_ok(the(check_hosts([rank(quota=1.5)]), "cores"), "quota of 1.5 cores")
    ranks = [rank(number, quota=1.5) for number in range(3)]
    finding = the(check_hosts(ranks), "cores")
    assert_told(finding, Level.WARNING, "3 ranks take turns on 1.5 cores", "at most 2")


def test_several_ranks_bound_to_one_core() -> None:
    bound = [[0], [0], [1], [2]]
    ranks = [rank(number, cores=cores) for number, cores in enumerate(bound)]
    finding = the(check_hosts(ranks), "cores")
    assert_told(finding, Level.WARNING, "to the same core", "--bind-to none")
    own = [rank(number, cores=[number]) for number in range(4)]
    assert_ok(the(check_hosts(own), "cores"), "1 for each, bound")


def test_a_storm_of_threads() -> None:
    ranks = [rank(number, threads={"OMP_NUM_THREADS": "4"}) for number in range(4)]
    finding = the(check_hosts(ranks), "BLAS threads")
    why = "OMP_NUM_THREADS asks for 4 threads in each of 4 ranks, on 4 cores"
    assert_told(finding, Level.WARNING, why, "export OMP_NUM_THREADS=1")


def test_threads_that_fit() -> None:
    ranks = [rank(number, threads={"OMP_NUM_THREADS": "1"}) for number in range(4)]
    finding = the(check_hosts(ranks), "BLAS threads")
    assert_ok(finding, "set by you: OMP_NUM_THREADS=1")
    assert_ok(the(check_hosts([rank()]), "BLAS threads"), "one process")


def test_shared_memory() -> None:
    small = rank(shm_total=64 << 20, shm_free=60 << 20)
    assert_ok(the(check_hosts([small]), "shared memory"), "60 MiB free of 64 MiB")
    ranks = [replace(small, rank=number) for number in range(8)]
    finding = the(check_hosts(ranks), "shared memory")
    assert_told(finding, Level.WARNING, "8 ranks may need 64 MiB", "--shm-size")
    assert_ok(the(check_hosts([rank(shm_total=None, shm_free=None)]), "shared memory"))


@pytest.mark.parametrize(
    ("copy", "why", "cure"),
    [
        (
            CopyFacts(False, "not permitted", 1),
            "ptrace_scope is 1",
            "sysctl kernel.yama",
        ),
        (CopyFacts(False, "not permitted", 0), "not permitted", "SYS_PTRACE"),
        (CopyFacts(False, "not permitted", None), "not permitted", "SYS_PTRACE"),
    ],
)
def test_no_single_copy(copy: CopyFacts, why: str, cure: str) -> None:
    finding = the(check_hosts([rank(copy=copy)]), "single copy")
    assert_told(finding, Level.WARNING, why, cure)


def test_single_copy() -> None:
    both = CopyFacts(True, xpmem=True)
    assert_ok(the(check_hosts([rank(copy=both)]), "single copy"), "CMA", "and XPMEM")
    only = CopyFacts(False, "not permitted", 1, xpmem=True)
    assert_ok(the(check_hosts([rank(copy=only)]), "single copy"), "XPMEM")
    untried = CopyFacts(None, "not Linux")
    assert_ok(the(check_hosts([rank(copy=untried)]), "single copy"), "not Linux")
    # One rank of a host has tried it for all.
    ranks = [rank(0, copy=CopyFacts(None)), rank(1, copy=CopyFacts(True))]
    assert_ok(the(check_hosts(ranks), "single copy"), "CMA")


# What was measured


def pair(one: str = "a", other: str = "a", **changes: Any) -> PairFacts:
    usual = PairFacts((0, 1), (one, other), 2e-6, 1.5e6, 8e9)
    return replace(usual, **changes)


def test_missing_ranks_are_named() -> None:
    finding = check_missing([2, 5], 8, 30.0)
    assert_told(finding, Level.ERROR, "2 of 8 ranks said nothing in 30 s", "hostname")
    assert "rank 2, 5" in finding.why


def test_a_good_pair() -> None:
    assert_ok(
        check_pair(pair(), crowded=False),
        "within a (ranks 0, 1): round trip 2 us, 1.5 million messages/s, 8 GB/s",
    )
    assert_ok(
        check_pair(pair("a", "b", rate=43210.0), crowded=False), "a - b", "43,000"
    )


@pytest.mark.parametrize(
    ("slow", "why"),
    [
        (pair(round_trip=90e-6), "slow for one host"),
        (pair(bandwidth=0.5e9), "slow for one host"),
        (pair("a", "b", round_trip=2e-3), "round trip 2 ms"),
        (pair("a", "b", bandwidth=0.05e9), "a slow network"),
    ],
)
def test_a_slow_pair(slow: PairFacts, why: str) -> None:
    assert_told(check_pair(slow, crowded=False), Level.WARNING, why, "UCX")
    assert_ok(check_pair(slow, crowded=True), "ranks share cores")


def test_a_network_may_be_slower_than_a_host() -> None:
    assert_ok(
        check_pair(pair("a", "b", round_trip=90e-6, bandwidth=5e8), crowded=False)
    )


def test_a_host_that_is_behind_the_others() -> None:
    good = [pair("a", name) for name in "bcd"]
    assert list(check_pairs(good)) == []
    late = pair("a", "e", round_trip=20e-6)
    thin = pair("a", "f", bandwidth=1e9)
    first, second = check_pairs([*good, late, thin])
    assert_told(first, Level.WARNING, "a - e: round trips 10 times", "--exclude=e")
    assert_told(second, Level.WARNING, "a - f: bandwidth 8 times", "--exclude=f")
    assert list(check_pairs([pair("a", "b"), late])) == []  # too few to compare
    assert list(check_pairs([*good[:2], pair("a", "a", round_trip=1.0)])) == []
