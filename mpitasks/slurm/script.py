"""The text of a job script. Pure: a plan in, text out; nothing is looked up here.

The script is to be read and edited by its user, so it is short, and says why where
something was chosen.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpitasks.launch.slurm.options import option_lines
from mpitasks.launch.slurm.paths import shell_word
from mpitasks.launch.slurm.site import Site

if TYPE_CHECKING:
    from mpitasks.launch.slurm.probe import Launcher

__all__ = ["Plan", "job_script"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a job script depends on.

    Attributes:
        made_by: The command that asks for it, for the script's head.
        options: Options of the job, by name; job-name and output among them.
        extra: Further words for sbatch.
        launcher: What starts the ranks.
        python: The interpreter.
        program: The script and its arguments, as words of ``python -m mpitasks``.
        run_words: Options of ``python -m mpitasks``.
        status: Pattern of the status file.
        journal: Pattern of the journal; None for a job without.
        requeue: Whether the job continues itself.
        site: What is to be loaded, activated and set.
    """

    made_by: str
    options: Mapping[str, str]
    launcher: Launcher
    python: str
    program: tuple[str, ...]
    status: str
    extra: tuple[str, ...] = ()
    run_words: tuple[str, ...] = ()
    journal: str | None = None
    requeue: bool = False
    site: Site = field(default_factory=Site)


def job_script(plan: Plan) -> str:
    """Return the text of the job script."""
    parts = [
        _head(plan),
        _setup(plan.site),
        _threads(plan),
        _output(),
        _end_time(),
        _fresh_step(plan),
        _command(plan),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def _head(plan: Plan) -> list[str]:
    # Modules are shell functions, which some sites define for login shells only.
    shell = "#!/bin/bash -l" if plan.site.modules else "#!/bin/bash"
    lines = [shell, f"# Written by: {plan.made_by}"]
    words = [*option_lines(plan.options), *plan.extra]
    if plan.requeue:
        words += ["--requeue", "--open-mode=append"]
    return lines + [f"#SBATCH {shlex.quote(word)}" for word in words]


def _setup(site: Site) -> list[str]:
    lines: list[str] = []
    if site.modules:
        lines.append(f"module load {shlex.join(site.modules)} || exit 78")
    if site.environment is not None:
        folder = shlex.quote(site.environment)
        lines.append(f"source {folder}/bin/activate || exit 78")
    lines += site.setup
    if lines and site.source is not None:
        lines[:0] = [f"# From {site.source}."]
    return lines


def _threads(plan: Plan) -> list[str]:
    lines = [
        "# As many threads as each rank has cores, unless you have set another number.",
        "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}",
        "export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}",
        "export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}",
    ]
    if "cpus-per-task" in plan.options and plan.launcher.words[0] == "srun":
        lines += [
            "# Since SLURM 22.05, srun does not take this over from sbatch by itself.",
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
        ]
    return lines


def _output() -> list[str]:
    return [
        "# Output comes line by line, so that the log can be followed.",
        "export PYTHONUNBUFFERED=1",
    ]


def _end_time() -> list[str]:
    return [
        "# No task is started that cannot end in time. Older SLURMs do not say when.",
        'export SLURM_JOB_END_TIME=${SLURM_JOB_END_TIME:-$(date +%s -d "$(',
        '    squeue --noheader --format=%e --jobs="$SLURM_JOB_ID")" 2>/dev/null)}',
    ]


def _fresh_step(plan: Plan) -> list[str]:
    # Its name is a hash of job and step, and a requeued job begins with step 0 again:
    # the new ranks would find what the killed ones left, and wait for ever in MPI_Init.
    if plan.launcher.words[0] != "srun":
        return []
    return [
        "# MPICH names shared memory after the step, and killed ranks leave it behind:",
        "# when SLURM starts the job again, it takes a step of another number.",
        'for _ in $(seq "${SLURM_RESTART_COUNT:-0}"); do srun -N1 -n1 true; done',
    ]


def _command(plan: Plan) -> list[str]:
    lines = [f"# {plan.launcher.why}"]
    if plan.requeue:
        lines += [
            "# Before its time is up, the job puts itself into the queue again, and",
            "# continues from the journal.",
        ]
    words = [f"--status {shell_word(plan.status)}"]
    if plan.journal is not None:
        words.append(f"--journal {shell_word(plan.journal)}")
    if plan.requeue:
        words.append("--requeue")
    if plan.run_words:
        words.append(shlex.join(plan.run_words))
    words.append(shlex.join(plan.program))
    start = f"exec {shlex.join(plan.launcher.words)}"
    python = f"{shlex.quote(plan.python)} -m mpitasks"
    return [*lines, " \\\n    ".join([start, python, *words])]
