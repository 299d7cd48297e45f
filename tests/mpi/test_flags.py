"""Options of the interpreter reach every rank, and the children of isolated tasks."""

from __future__ import annotations

import pytest

import mpitasks
from launching import Launch, Mpi

SHOW = """
import sys
import mpitasks as mt

def flags():
    import sys
    return tuple(sys.flags), sys.warnoptions, sorted(sys._xoptions)

with mt.Executor() as ex:
    isolated = ex.with_options(isolate=True)
    print(flags() == ex.submit(flags).result() == isolated.submit(flags).result())
    print(*flags(), sys.flags.optimize)
"""


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize(
    "words", ["-O -X dev -W error", "-OO -B -u -s -X mine=3", "-X utf8=0 -W ignore"]
)
def test_flags_reach_all(mpi: Mpi, launch: Launch, words: str, starts: bool) -> None:
    launch.script(SHOW)
    plain = launch([mpi.python, *words.split(), "script.py"])
    python = [mpi.python, *words.split(), "-m", "mpitasks"]
    start = [*python, "-n", "2"] if starts else [*mpi.mpiexec(2), *python]
    outcome = launch([*start, "script.py"])
    assert (outcome.code, outcome.unforeseen) == (0, ""), str(outcome)
    assert outcome.out == plain.out, str(outcome)
    assert outcome.out.startswith("True\n")


def test_isolated_python(mpi: Mpi, launch: Launch) -> None:
    """With -I modules beside the script are not found, as Python does not find them."""
    tell = "import mpitasks; print(mpitasks.__file__)"
    if launch([mpi.python, "-I", "-c", tell]).out != f"{mpitasks.__file__}\n":
        pytest.skip("PYTHONPATH names what is tested, and -I hides that")
    launch.script("", "beside.py")
    launch.script("import sys; print(sys.flags.isolated, sys.argv)\nimport beside\n")
    command = [mpi.python, "-I", "-m", "mpitasks", "-n", "2", "script.py", "a"]
    outcome = launch(command)
    assert (outcome.code, outcome.out) == (1, "1 ['script.py', 'a']\n"), str(outcome)
    assert "No module named 'beside'" in outcome.err


def test_a_job_script_has_them(any_mpi: Mpi, launch: Launch) -> None:
    launch.script(SHOW)
    python = [any_mpi.python, "-O", "-X", "dev", "-m", "mpitasks"]
    words = ["submit", "--launcher", "mpiexec", "--dry-run", "script.py"]
    outcome = launch([*python, *words])
    assert outcome.code == 0, str(outcome)
    assert f"{any_mpi.python} -O -X dev -m mpitasks " in outcome.out, str(outcome)
