"""``mpitasks submit`` on a real SLURM of two nodes, from a first job to a lost node."""

from __future__ import annotations

import json
import re

import pytest

from launching import Mpi
from login import Login

WHERE = """
import os, sys
import mpitasks as mt

def where(_):
    return os.environ["SLURMD_NODENAME"]

if __name__ == "__main__":
    with mt.Executor() as ex:
        nodes = sorted(set(ex.map(where, range(200), chunksize=1)))
        print("workers", ex.num_workers, *nodes, sys.argv[1:])
"""

TWO_NODES = ("-N", "2", "--ntasks-per-node=2", "-t", "2")


@pytest.mark.parametrize(
    ("name", "launcher", "starts"),
    [
        ("mpich", None, "exec srun --mpi=pmi2 --kill-on-bad-exit=1 "),
        ("mpich", "mpiexec", "bin/mpiexec "),
        ("openmpi", None, "bin/mpiexec "),
    ],
)
def test_two_nodes(
    login: Login,
    request: pytest.FixtureRequest,
    name: str,
    launcher: str | None,
    starts: str,
) -> None:
    mpi: Mpi = request.getfixturevalue(name)
    login.script(WHERE)
    own = [] if launcher is None else ["--launcher", launcher]
    words = [*TWO_NODES, *own, "--wait", "fit.py", "a b", "$c"]
    outcome = login.mpitasks(mpi, "submit", *words)
    assert outcome.code == 0, str(outcome)
    job = re.match(r"job (\d+): ", outcome.out)
    assert job is not None, str(outcome)
    log = login.read(f"fit-{job[1]}.out")
    assert log == "workers 3 node1 node2 ['a b', '$c']\n", log
    assert outcome.out.endswith(log), str(outcome)
    assert starts in login.read(f"fit-{job[1]}.sh")
    status = json.loads(login.read(f"fit-{job[1]}.status"))
    assert (status["state"], status["done"], status["code"]) == ("finished", 200, 0)
    assert (status["job"], status["workers"]) == (job[1], 3)
    assert status["end"] - status["started"] == pytest.approx(120, abs=10)
    shown = login.mpitasks(mpi, "status", job[1])
    assert shown.code == 0, str(shown)
    assert f"job {job[1]} (fit): COMPLETED, exit code 0" in shown.out
    assert "200 done, 0 running, 0 failed, 0 waiting, of 200" in shown.out
