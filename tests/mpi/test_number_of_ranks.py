"""``mpitasks -n``: how many ranks, wherever that stands, and whoever starts them."""

from __future__ import annotations

import os

import pytest

from launching import Launch, Mpi

CORES = len(os.sched_getaffinity(0))

SCRIPT = """
import sys
import mpitasks as mt
with mt.Executor() as ex:
    print(ex.num_workers, list(ex.map(abs, [-1])), sys.argv[1:])
"""

NOBODY = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"))


@pytest.mark.parametrize(
    ("words", "ranks"),
    [
        (["-n", "3"], 3),
        (["-np", "3"], 3),
        (["--np", "3"], 3),
        (["-n3"], 3),
        (["-n", "auto"], CORES),
    ],
)
def test_before_the_script(
    mpi: Mpi, launch: Launch, words: list[str], ranks: int
) -> None:
    launch.script(SCRIPT)
    outcome = launch([mpi.bin / "mpitasks", *words, "script.py", "-n", "9"])
    assert outcome.code == 0, str(outcome)
    assert outcome.out == f"{max(ranks - 1, 1)} [1] ['-n', '9']\n", str(outcome)


def test_of_the_job(mpi: Mpi, launch: Launch) -> None:
    launch.script(SCRIPT)
    environ = {"LSB_DJOB_NUMPROC": str(CORES + 1)}
    command = [mpi.bin / "mpitasks", "-n", "auto", "script.py"]
    outcome = launch(command, environ=environ)
    assert (outcome.code, outcome.out) == (0, f"{CORES} [1] []\n"), str(outcome)


@pytest.mark.parametrize("words", [["-n", "3"], ["-np", "3", "--json"]])
def test_behind_a_verb(any_mpi: Mpi, launch: Launch, words: list[str]) -> None:
    outcome = launch([any_mpi.bin / "mpitasks", "doctor", *words], seconds=60)
    assert outcome.code in (0, 1), str(outcome)  # 1: few cores
    assert "started one world of 3" in outcome.out, str(outcome)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, []),
        ({"PRTE_MCA_rmaps_default_mapping_policy": "node"}, []),
        ({"PRTE_MCA_rmaps_default_mapping_policy": "slot:PE=1"}, []),
        ({"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}, []),
        ({}, ["--mpiexec-args", "--map-by node"]),
        ({}, ["--mpiexec-args", "--map-by :OVERSUBSCRIBE"]),
        ({}, ["--mpiexec-args", "--oversubscribe --allow-run-as-root"]),
        ({}, ["--survive"]),
    ],
)
def test_open_mpi_takes_more_ranks_than_cores_and_root(
    mpi: Mpi, launch: Launch, environ: dict[str, str], words: list[str]
) -> None:
    """Root, if these tests are run by root; else it is tested in test_capacity.py."""
    if mpi.name == "mpich":
        pytest.skip("its mpiexec asks for none of that")
    launch.script(SCRIPT)
    command = [mpi.bin / "mpitasks", "-n", str(CORES + 2), *words, "script.py"]
    outcome = launch(command, environ={**NOBODY, **environ}, seconds=60)
    assert (outcome.code, outcome.out) == (0, f"{CORES + 1} [1] []\n"), str(outcome)


@pytest.mark.parametrize("how", ["variable", "option"])
def test_who_forbids_more_ranks_than_cores_has_it_so(
    mpi: Mpi, launch: Launch, how: str
) -> None:
    if mpi.name == "mpich":
        pytest.skip("its mpiexec knows no such thing")
    launch.script(SCRIPT)
    command = [mpi.bin / "mpitasks", "-n", str(CORES + 2)]
    environ = {}
    if how == "variable":
        environ = {"PRTE_MCA_rmaps_default_mapping_policy": ":nooversubscribe"}
    else:
        command += ["--mpiexec-args", "--map-by :NOOVERSUBSCRIBE"]
    outcome = launch([*command, "script.py"], environ=environ)
    assert outcome.code != 0, str(outcome)
    assert "not enough slots" in outcome.err, str(outcome)


def test_ranks_within_the_cores_stay_bound(mpi: Mpi, launch: Launch) -> None:
    """To let ranks share cores would unbind them all."""
    if mpi.name == "mpich" or CORES < 2:
        pytest.skip("Open MPI binds, where each rank has a core")
    launch.script(
        "import os, mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    print(len(ex.submit(os.sched_getaffinity, 0).result()))\n"
    )
    outcome = launch([mpi.bin / "mpitasks", "-n", "2", "script.py"], environ=NOBODY)
    assert (outcome.code, outcome.out) == (0, "1\n"), str(outcome)


@pytest.mark.parametrize("ranks", ["0", "-2", "two", "1.5", ""])
def test_no_number(any_mpi: Mpi, launch: Launch, ranks: str) -> None:
    launch.script(SCRIPT)
    outcome = launch([any_mpi.bin / "mpitasks", "-n", ranks, "script.py"])
    assert (outcome.code, outcome.out, len(outcome.said)) == (78, "", 1), str(outcome)
    assert "-n" in outcome.said[0], str(outcome)
