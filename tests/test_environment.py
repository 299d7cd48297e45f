"""What launchers leave in the environment, and which of them fit which library."""

from __future__ import annotations

import pytest

from mpitasks.errors import ConfigurationError, LaunchError
from mpitasks.launch.environment import (
    LaunchHint,
    launch_hint,
    local_place,
    misfit,
    refuse_lone_copy,
    refuse_misfit,
    short_name,
)

MPICH = "MPICH Version:      5.0.2\nMPICH Device:       ch4:ucx ofi\n"
MPICH_PMIX = f"{MPICH}MPICH configure:    --with-pmix=/opt/pmix\n"
INTEL = "Intel(R) MPI Library 2021.13 for Linux* OS\n"
OPEN4 = "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4"
OPEN5 = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution"

# As seen with MPICH 5.0.2, Open MPI 5.0.11 and SLURM 22.05, less what says nothing.
HYDRA = {
    "HYDI_CONTROL_FD": "7",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "1",
    "PMI_FD": "11",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
}
PRTE = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-vm-20027@1",
    "PMIX_RANK": "1",
    "PRTE_LAUNCHED": "1",
}
BARE_PRTERUN = {
    "PMIX_NAMESPACE": "prterun-vm-20027@1",
    "PMIX_RANK": "1",
    "PRTE_LAUNCHED": "1",
}
SRUN_NONE = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
SRUN_PMI2 = {**SRUN_NONE, "PMI_FD": "9", "PMI_RANK": "1", "PMI_SIZE": "4"}
SRUN_PMIX = {**SRUN_NONE, "PMIX_NAMESPACE": "slurm.pmix.7.0", "PMIX_RANK": "1"}
BATCH = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({}, None),
        (BATCH, None),
        ({"SLURM_PROCID": "0"}, None),
        (HYDRA, LaunchHint(1, 2, "an mpiexec of the MPICH family")),
        (PRTE, LaunchHint(1, 4, "Open MPI's mpiexec")),
        (BARE_PRTERUN, LaunchHint(1, None, "a PMIx launcher")),
        (SRUN_NONE, LaunchHint(1, 4, "srun")),
        (SRUN_PMI2, LaunchHint(1, 4, "srun")),
        (SRUN_PMIX, LaunchHint(1, 4, "srun")),
        # An mpiexec inside a job, whose helpers srun started.
        ({**HYDRA, **SRUN_NONE}, LaunchHint(1, 2, "an mpiexec of the MPICH family")),
        ({**PRTE, **SRUN_NONE}, LaunchHint(1, 4, "Open MPI's mpiexec")),
        ({**BARE_PRTERUN, **SRUN_NONE}, LaunchHint(1, None, "a PMIx launcher")),
        ({"PMI_RANK": "x", "PMI_SIZE": "2"}, None),
        ({"PMI_RANK": "1"}, LaunchHint(1, None, "an mpiexec of the MPICH family")),
    ],
)
def test_launch_hint(environ: dict[str, str], hint: LaunchHint | None) -> None:
    assert launch_hint(environ) == hint


@pytest.mark.parametrize(
    ("environ", "place"),
    [(HYDRA, (1, 2)), (PRTE, (1, 2)), (SRUN_PMI2, None), ({}, None)],
)
def test_local_place(environ: dict[str, str], place: tuple[int, int] | None) -> None:
    assert local_place(environ) == place


@pytest.mark.parametrize(
    ("library", "environ", "expected"),
    [
        (MPICH, HYDRA, False),
        (MPICH, SRUN_NONE, False),  # Cray's has a PMI of its own; seen once it starts
        (MPICH, SRUN_PMI2, False),
        (MPICH, SRUN_PMIX, True),
        (MPICH, PRTE, True),
        (MPICH, BARE_PRTERUN, True),
        (MPICH_PMIX, PRTE, False),
        (INTEL, PRTE, False),
        (INTEL, HYDRA, False),
        (OPEN4, HYDRA, False),  # may have been built with PMI
        (OPEN5, HYDRA, True),
        (OPEN5, SRUN_NONE, True),
        (OPEN5, SRUN_PMI2, True),
        (OPEN5, SRUN_PMIX, False),
        (OPEN5, PRTE, False),
        (OPEN5, BARE_PRTERUN, False),
    ],
)
def test_misfit(library: str, environ: dict[str, str], expected: bool) -> None:
    hint = launch_hint(environ)
    assert hint is not None
    assert misfit(hint, library, environ) is expected


def test_one_copy_is_no_misfit_for_open_mpi() -> None:
    hint = LaunchHint(0, 1, "srun")
    assert not misfit(hint, OPEN5, {})
    assert misfit(hint, MPICH, PRTE)  # it would not even start


def test_a_misfit_is_refused_with_the_right_srun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hint = LaunchHint(0, 4, "srun")
    for name in ("PMIX_RANK", "PMIX_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="srun --mpi=pmix") as caught:
        refuse_misfit(hint, OPEN5)
    assert "srun started 4 copies, but each is alone" in str(caught.value)
    assert "(Open MPI v5.0.11)" in str(caught.value)
    monkeypatch.setenv("PMIX_RANK", "0")
    refuse_misfit(hint, OPEN5)
    monkeypatch.delenv("PMI_RANK", raising=False)
    monkeypatch.delenv("PMI_FD", raising=False)
    with pytest.raises(ConfigurationError, match="srun --mpi=pmi2"):
        refuse_misfit(hint, MPICH)


@pytest.mark.parametrize("library", [MPICH, INTEL, OPEN4, OPEN5])
def test_a_lone_copy_of_several_is_refused(library: str) -> None:
    refuse_lone_copy(LaunchHint(0, 1, "srun"), library)
    with pytest.raises(ConfigurationError, match="2 copies"):
        refuse_lone_copy(LaunchHint(0, 2, "an mpiexec"), library)


def test_a_lone_copy_where_nobody_tells_how_many_there_are() -> None:
    refuse_lone_copy(LaunchHint(0, None, "a PMIx launcher"), OPEN5)
    with pytest.raises(LaunchError, match="several copies"):
        refuse_lone_copy(LaunchHint(1, None, "a PMIx launcher"), OPEN5)
    for rank in (0, 1):
        with pytest.raises(ConfigurationError, match="several copies"):
            refuse_lone_copy(LaunchHint(rank, None, "a PMIx launcher"), INTEL)


@pytest.mark.parametrize(
    ("library", "name"),
    [(MPICH, "MPICH 5.0.2"), (OPEN5, "Open MPI v5.0.11"), (INTEL, INTEL.strip())],
)
def test_short_name(library: str, name: str) -> None:
    assert short_name(library) == name
