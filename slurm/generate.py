"""Writes the job scripts of this folder, with the code that ``mpitasks submit`` uses.

Run it by ``make scripts`` after a change of that code; a test compares.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mpitasks.slurm.probe import Launcher
from mpitasks.slurm.script import Plan, job_script
from mpitasks.slurm.site import Site

FOLDER = Path(__file__).parent

SITE = Site(
    setup=(
        "# What the job needs, before it can find python and the MPI: edit this.",
        "# module load mpich",
        "# source ~/venv/bin/activate",
    )
)

SRUN = Launcher(
    ("srun", "--mpi=pmi2", "--kill-on-bad-exit=1"),
    "MPICH knows PMI-2 (others: srun --mpi=list). If one rank fails, all end.",
)

MPIEXEC = Launcher(
    ("mpiexec",),
    "Open MPI 5 knows PMIx only; its own mpiexec knows SLURM's nodes and ranks.",
)


def plan(name: str, launcher: Launcher, **options: str) -> Plan:
    """Return the plan of a job script of that name."""
    array = "array" in options
    job = "%A_%a" if array else "%j"
    log = {"job-name": name, "output": f"{name}-{job}.out"}
    sizes = {key.replace("_", "-"): value for key, value in options.items()}
    return Plan(
        made_by="slurm/generate.py; edit it, then: sbatch " + f"{name}.sh",
        options={**log, **sizes},
        launcher=launcher,
        python="python",
        program=("script.py",),
        status=f"{name}-{job}.status",
        site=SITE,
    )


def plans() -> dict[str, Plan]:
    """Return the plans of all the scripts, by file name."""
    one = plan("one-node", SRUN, nodes="1", ntasks_per_node="8", time="1:00:00")
    several = plan(
        "several-nodes",
        SRUN,
        nodes="4",
        ntasks_per_node="4",
        cpus_per_task="2",
        time="2:00:00",
    )
    array = plan("array", SRUN, ntasks="8", time="1:00:00", array="0-9")
    requeue = plan("requeue", SRUN, nodes="2", ntasks_per_node="8", time="4:00:00")
    two = {"nodes": "2", "ntasks_per_node": "8", "time": "1:00:00"}
    return {
        "one-node.sh": one,
        "several-nodes.sh": several,
        "array.sh": array,
        "requeue.sh": replace(requeue, requeue=True, journal="requeue.journal"),
        "mpich-srun.sh": plan("mpich-srun", SRUN, **two),
        "openmpi-mpiexec.sh": plan("openmpi-mpiexec", MPIEXEC, **two),
    }


def main() -> None:
    """Write all of them."""
    for name, made in plans().items():
        path = FOLDER / name
        path.write_text(job_script(made))
        path.chmod(0o755)


if __name__ == "__main__":
    main()
