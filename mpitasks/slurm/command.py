"""The words of ``mpitasks submit``: what to run, as which job, and then."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mpitasks.launch.slurm.job import Job, Submission, make_plan, send
from mpitasks.launch.slurm.options import OPTIONS, checked_options
from mpitasks.launch.slurm.script import Plan, job_script
from mpitasks.launch.verbs import VerbParser

__all__ = ["main", "parse"]

EPILOG = """\
mpitasks submit -N 2 --ntasks-per-node=8 -t 1:00:00 script.py args
mpitasks submit -n 16 --dry-run script.py             shows the job script
mpitasks submit -n 16 --wait script.py && ...         exits as the job does
mpitasks submit -n 16 -t 30 --requeue script.py       goes on until all is done

Defaults of a site or a project: [tool.mpitasks.slurm] in pyproject.toml or
mpitasks.toml (docs/slurm.md). How far a job is: mpitasks status JOBID."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``submit`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks submit",
        usage="mpitasks submit [options] script.py [args] | [options] -m module [args]",
        description="Submit a script to SLURM as a batch job, to be run by this "
        "interpreter, with the launcher that fits its MPI library.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_job_options(parser)
    _add_own_options(parser)
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER)
    parser.add_argument("script", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.module is not None and not options.module:
        parser.error("-m needs the name of a module")
    if not options.module and not options.script:
        parser.error("which script? As in: mpitasks submit -n 8 script.py")
    if options.dry_run and options.wait:
        parser.error("--dry-run submits nothing, so there is nothing to --wait for")
    options.made_by = shlex.join(["mpitasks", "submit", *words])
    return options


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the job, as sbatch has it")
    for option in OPTIONS.values():
        flags = [f"-{option.flag}"] if option.flag else []
        group.add_argument(
            *flags,
            f"--{option.name}",
            dest=option.field,
            metavar=option.metavar,
            help=option.help,
        )
    group.add_argument(
        "--sbatch-arg",
        action="append",
        default=[],
        metavar="WORD",
        help="any other word for sbatch, as --sbatch-arg=--exclusive; may be repeated",
    )


def _add_own_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is run, and what is done meanwhile")
    group.add_argument(
        "--launcher",
        metavar="WORDS",
        help="what starts the ranks: srun, mpiexec, or a command, as "
        "'srun --mpi=pmix' (what fits the MPI library)",
    )
    group.add_argument(
        "--journal", metavar="FILE", help="keep finished results there, to go on from"
    )
    group.add_argument(
        "--requeue",
        action="store_true",
        help="before its time is up, the job puts itself into the queue again and "
        "continues from the journal (NAME.journal)",
    )
    group.add_argument(
        "--run-arg",
        action="append",
        default=[],
        metavar="WORD",
        help="a further option of python -m mpitasks in the job; may be repeated",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the job script, submit nothing"
    )
    group.add_argument(
        "--wait",
        action="store_true",
        help="show the log and the progress until the job is over; exit as it does",
    )


def main(options: argparse.Namespace) -> int:
    """Submit the job; return the exit code.

    Raises:
        ConfigurationError: What the job needs is not here.
        SlurmError: SLURM refuses it.
    """
    target, *args = options.module or options.script
    plan = make_plan(
        Submission(
            target,
            tuple(args),
            is_module=bool(options.module),
            options=checked_options(
                {
                    option.field: getattr(options, option.field)
                    for option in OPTIONS.values()
                }
            ),
            sbatch_args=tuple(options.sbatch_arg),
            run_words=tuple(options.run_arg),
            launcher=options.launcher,
            journal=options.journal,
            requeue=options.requeue,
            made_by=options.made_by,
        )
    )
    if options.dry_run:
        print(job_script(plan), end="")
        return 0
    job = send(plan)
    _tell(job, plan)
    if not options.wait:
        return 0
    from mpitasks.launch.slurm.follow import follow

    return follow(job, array="array" in plan.options)


def _tell(job: Job, plan: Plan) -> None:
    print(f"job {job.id}: {_near(job.script)}, log {_near(job.log)}", flush=True)
    ranks = ("ntasks", "ntasks-per-node")
    if not plan.extra and not any(name in plan.options for name in ranks):
        print(
            "mpitasks: sbatch gives one rank a node where it is told nothing else; "
            "--ntasks-per-node says how many",
            file=sys.stderr,
        )


def _near(path: Path) -> str:
    """Return a path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
