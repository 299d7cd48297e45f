"""What user code finds in its environment: nothing that mpitasks has put there."""

from __future__ import annotations

import json

import pytest

from launching import Launch, Mpi, clean_environment
from mpitasks.launch.threads import VARIABLES

SCRIPT = """
import ctypes, json, os, subprocess, sys
import mpitasks as mt

def of_c():
    "The environment as C code sees it, and so what each program inherits."
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    names, at = [], 0
    while environ[at] is not None:
        names.append(environ[at].partition(b"=")[0].decode())
        at += 1
    return names

def look(where):
    code = "import os, json; print(json.dumps(sorted(os.environ)))"
    program = [sys.executable, "-c", code]
    run = lambda **more: json.loads(subprocess.check_output(program, **more))
    return {
        f"{where}, os.environ": sorted(os.environ),
        f"{where}, C": of_c(),
        f"{where}, a program": run(),
        f"{where}, a program with our environment": run(
            env=mt.subprocess_environment()
        ),
    }

if __name__ == "__main__":
    found = look("script")
    with mt.Executor() as ex:
        found |= ex.submit(look, "task").result()
        found |= ex.with_options(isolate=True).submit(look, "isolated").result()
    print(json.dumps(found))
"""

PLACES = ("OMPI_COMM_WORLD_", "PMI_RANK", "PMI_SIZE", "MPI_LOCAL")
"""What launchers tell of a rank's place, which scripts choose their GPU by."""

OF_OTHERS = {
    "GFORTRAN_UNBUFFERED_PRECONNECTED",  # MPICH's mpiexec, for Fortran programs
    "LD_LIBRARY_PATH",  # the mpiexec of Open MPI's wheel
    "OPAL_PREFIX",  # the same
    "HFI_NO_BACKTRACE",  # Open MPI itself, in MPI_Init
    "IPATH_NO_BACKTRACE",  # the same
    "PMIX_MCA_psec",  # the same
    "LC_CTYPE",  # Python itself, in the C locale
}

HOWS = ["mpich plain", "mpich -n", "openmpi plain", "openmpi -n", "openmpi --survive"]


@pytest.mark.parametrize("how", HOWS)
def test_no_variable_of_ours_reaches_user_code(
    request: pytest.FixtureRequest, launch: Launch, how: str
) -> None:
    name, _, way = how.partition(" ")
    mpi: Mpi = request.getfixturevalue(name)
    script = launch.script(SCRIPT)
    command = mpi.runner(2, script)
    if way != "plain":
        command = [str(mpi.python), "-m", "mpitasks", "-n", "2"]
        command += ["--survive"] if way == "--survive" else []
        command.append(str(script))
    outcome = launch(command)
    assert outcome.code == 0, outcome
    found = json.loads(outcome.out)
    assert len(found) == 12
    given = {*clean_environment(), *VARIABLES, *OF_OTHERS, "TEST_JOB_OF_MPITASKS"}
    for where, names in found.items():
        new = set(names) - given
        if where.endswith("os.environ"):
            new = {name for name in new if not name.startswith(PLACES)}
        assert new == set(), where
