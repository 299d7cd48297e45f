"""An environment made of layers, as that of ``uv run --with 'mpitasks[mpich]'``.

The MPI wheel is in a layer below; beside the interpreter there is neither its library
nor its mpiexec.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launching import Launch, Mpi

SCRIPT = """
import mpitasks as mt

def library():
    from mpi4py import MPI
    return MPI.Get_library_version().split()[0], MPI.Is_initialized()

with mt.Executor() as ex:
    print(ex.num_workers, *ex.submit(library).result())
    print(*ex.with_options(isolate=True).submit(library).result())
"""


@pytest.fixture
def layered(mpi: Mpi, tmp_path: Path) -> Path:
    """Return the interpreter of an empty environment on top of that of an MPI.

    As uv makes it: a file of its site-packages names those of the layer below.
    """
    code = (
        "import sys, sysconfig; "
        "print(sys._base_executable, sysconfig.get_path('purelib'))"
    )
    told = subprocess.run([mpi.python, "-c", code], capture_output=True, check=True)
    base, below = told.stdout.decode().split()
    folder = tmp_path / "layer"
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    line = f"import site; site.addsitedir({below!r})\n"
    (site / "_uv_ephemeral_overlay.pth").write_text(line)
    return folder / "bin" / "python"


def test_the_wheel_of_a_layer_is_found(mpi: Mpi, launch: Launch, layered: Path) -> None:
    launch.script(SCRIPT)
    path = {"PATH": "/usr/bin:/bin"}
    own = launch([mpi.python, "-m", "mpitasks", "-n", "3", "script.py"], environ=path)
    assert own.code == 0, str(own)
    outcome = launch([layered, "-m", "mpitasks", "-n", "3", "script.py"], environ=path)
    assert (outcome.code, outcome.out) == (0, own.out), str(outcome)
    first, second = outcome.out.splitlines()
    assert (first[:2], first[-5:]) == ("2 ", " True"), str(outcome)
    assert second.endswith(" False"), str(outcome)


def test_the_doctor_finds_it(mpi: Mpi, launch: Launch, layered: Path) -> None:
    path = {"PATH": "/usr/bin:/bin"}
    command = [layered, "-m", "mpitasks", "doctor", "--json"]
    content = json.loads(launch(command, environ=path, seconds=60).out)
    levels = {one["check"]: one["level"] for one in content["findings"]}
    assert content["mpi"]["launched"]["sizes"] == [2, 2], content
    assert {levels[name] for name in ("MPI library", "mpiexec", "MPI_Init")} == {"ok"}
    assert Path(content["mpi"]["path"]).is_relative_to(mpi.bin.parent)


def test_what_the_user_names_comes_first(
    mpi: Mpi, launch: Launch, layered: Path
) -> None:
    launch.script(SCRIPT)
    environ = {"MPI4PY_LIBMPI": "/no/such/libmpi.so"}
    command = [*mpi.mpiexec(2), layered, "-m", "mpitasks", "script.py"]
    outcome = launch(command, environ=environ)
    assert outcome.code == 78, str(outcome)
    assert "/no/such/libmpi.so" in outcome.said[0], str(outcome)


def test_programs_of_tasks_are_not_told(
    mpi: Mpi, launch: Launch, layered: Path
) -> None:
    """They may belong to another environment, with another MPI."""
    launch.script(
        "import os, mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    print(ex.submit(os.environ.get, 'MPI4PY_LIBMPI').result())\n"
    )
    outcome = launch([layered, "-m", "mpitasks", "-n", "2", "script.py"])
    assert (outcome.code, outcome.out) == (0, "None\n"), str(outcome)


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_with_uv(any_mpi: Mpi, launch: Launch) -> None:
    """The real one; of what its cache holds, so that no test asks the network."""
    launch.script(SCRIPT)
    base = sys._base_executable  # type: ignore[attr-defined]  # it lacks all of these
    command = ["uv", "run", "--offline", "--no-project", "--python", base]
    for package in ("mpich", "mpi4py", "cloudpickle", "numpy"):
        command += ["--with", package]
    environ = {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = ["python", "-m", "mpitasks", "-n", "2", "script.py"]
    outcome = launch([*command, *words], environ=environ, seconds=120)
    if "No solution found" in outcome.err:
        pytest.skip("uv's cache does not hold what is needed")
    assert outcome.code == 0, str(outcome)
    assert outcome.out.startswith("1 MPICH True\n"), str(outcome)
