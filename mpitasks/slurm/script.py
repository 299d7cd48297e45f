"""The text of a job script. Pure: a plan in, text out; nothing is looked up here.

The script is to be read and edited by its user, so it is short, and says why where
something was chosen. No word of the user's gets in but through `quoting`; lines of
``setup`` are shell by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpitasks.slurm import quoting
from mpitasks.slurm.options import option_lines
from mpitasks.slurm.paths import shell_word
from mpitasks.slurm.site import Site

if TYPE_CHECKING:
    from mpitasks.slurm.probe import Launcher

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
        python_options: Its options, as ``-O``.
        program: The script and its arguments, as words of ``python -m mpitasks``.
        run_words: Options of ``python -m mpitasks``.
        status: Pattern of the status file.
        journal: Pattern of the journal; None for a job without.
        requeue: Whether the job continues itself.
        survive: Whether the run goes on when a rank dies.
        site: What is to be loaded, activated and set.
    """

    made_by: str
    options: Mapping[str, str]
    launcher: Launcher
    python: str
    program: tuple[str, ...]
    status: str
    python_options: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    run_words: tuple[str, ...] = ()
    journal: str | None = None
    requeue: bool = False
    survive: bool = False
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
    words = [*option_lines(plan.options), *plan.extra]
    if plan.requeue:
        words += ["--requeue", "--open-mode=append"]
    return [
        shell,
        quoting.comment(f"Written by: {plan.made_by}"),
        *(f"#SBATCH {quoting.sbatch_word(word)}" for word in words),
    ]


def _setup(site: Site) -> list[str]:
    lines: list[str] = []
    if site.modules:
        lines.append(f"module load {_joined(site.modules)} || exit 78")
    if site.environment is not None:
        lines += _activate(quoting.shell_word(site.environment), conda=site.conda)
    lines += site.setup
    if lines and site.source is not None:
        lines[:0] = [quoting.comment(f"From {site.source}.")]
    return lines


def _activate(folder: str, *, conda: bool) -> list[str]:
    if not conda:
        return [f"source {folder}/bin/activate || exit 78"]
    # What conda's own activation does, which needs a shell that was set up for it.
    return [
        f"export CONDA_PREFIX={folder}",
        'export PATH="$CONDA_PREFIX/bin:$PATH"',
        'for file in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do',
        '    [ ! -e "$file" ] || source "$file"',
        "done",
    ]


def _joined(words: Iterable[str]) -> str:
    return " ".join(map(quoting.shell_word, words))


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
        "# No task is started that cannot end in time: SLURM tells the end, or rank 0",
        "# asks for it. One that is over is of another job, which has left it here.",
        "export SLURM_JOB_END_TIME",
        '[ "$SLURM_JOB_END_TIME" -gt "$(date +%s)" ] 2>/dev/null ||',
        "    unset SLURM_JOB_END_TIME",
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
    lines = [quoting.comment(plan.launcher.why)]
    if plan.requeue:
        lines += [
            "# Before its time is up, the job puts itself into the queue again, and",
            "# continues from the journal.",
        ]
    start = [f"exec {_joined(plan.launcher.words)}"]
    python = f"{_joined([plan.python, *plan.python_options])} -m mpitasks"
    if plan.survive:
        start = []
        python = f'exec {python} -n "$SLURM_NTASKS" --survive'
        if plan.launcher.words[1:]:
            arguments = _joined(plan.launcher.words[1:])
            python += f" --mpiexec-args={quoting.shell_word(arguments)}"
    words = [*start, python, f"--status {shell_word(plan.status)}"]
    if plan.journal is not None:
        words.append(f"--journal {shell_word(plan.journal)}")
    if plan.requeue:
        words.append("--requeue")
    if plan.run_words:
        words.append(_joined(plan.run_words))
    words.append(_joined(plan.program))
    return [*lines, " \\\n    ".join(words)]
