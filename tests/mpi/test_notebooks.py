"""Notebooks: a real Jupyter kernel starts its workers, uses them, and outlives them."""

from __future__ import annotations

import json
import sys

import pytest

from launching import SCRIPTS, Launch, Mpi

pytest.importorskip("ipykernel", reason="pip install 'mpitasks[jupyter]'")
pytest.importorskip("nbclient", reason="pip install nbclient")


def test_a_kernel(any_mpi: Mpi, launch: Launch) -> None:
    """The cells, and what each shows, are in the script, a client of Jupyter."""
    outcome = launch([sys.executable, SCRIPTS / "notebook.py"], seconds=60)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.endswith("all cells ran\n"), str(outcome)


def test_the_verb(any_mpi: Mpi, launch: Launch) -> None:
    """It writes the kernel that the script above uses, too; and takes it away."""
    home = {"JUPYTER_DATA_DIR": str(launch.folder), "HOME": str(launch.folder)}

    def jupyter(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "mpitasks", "jupyter", *words]
        outcome = launch(command, environ=home)
        return outcome.code, outcome.out + outcome.err

    code, told = jupyter("install", "--workers", "2", "--name", "two")
    assert (code, "Python with 2 workers" in told) == (0, True), told
    spec = json.loads((launch.folder / "kernels/two/kernel.json").read_text())
    assert spec["argv"][0] == sys.executable
    assert spec["argv"][-3:] == ["--workers=2", "-f", "{connection_file}"]
    assert jupyter("install", "--name", "two")[0] == 0  # again: others replace it
    assert jupyter("remove", "--name", "two")[0] == 0
    assert not (launch.folder / "kernels/two").exists()
    for words, part in [
        (["remove", "--name", "two"], "no kernel is named 'two'"),
        (["remove", "--name", "python3"], "a kernel of another kind"),
        (["install", "--name", "python3"], "choose a --name"),
        (["install", "--workers", "0"], "a positive number"),
        (["install", "--mpiexec-args", "'"], "cannot be split into words"),
        (["install", "--name", "a b"], "was not installed"),
    ]:
        code, told = jupyter(*words)
        assert (code, part in told) == (78, True), told
