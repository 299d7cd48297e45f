"""The words of ``mpitasks submit``: what to run, as which job, and then."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mpitasks.launch.verbs import VerbParser
from mpitasks.slurm.inherited import left_out
from mpitasks.slurm.job import Submission, make_plan, send
from mpitasks.slurm.options import OPTIONS, checked_options
from mpitasks.slurm.script import Plan, job_script

__all__ = ["main", "parse"]

RANKS = ("ntasks", "ntasks-per-node")
RANK_WORDS = ("-n", "--ntasks")
"""Options of the table, and beginnings of other words, that say how many ranks."""

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
        "--trust",
        action="store_true",
        help="obey a mpitasks.toml, and use a journal, that another user owns or could "
        "write",
    )
    group.add_argument(
        "--survive",
        action="store_true",
        help="go on when a rank dies; needs Open MPI 5",
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
            trust=options.trust,
            survive=options.survive,
            made_by=options.made_by,
        )
    )
    _warn(plan)
    if options.dry_run:
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(job_script(plan)))
        sys.stdout.flush()
        return 0
    job = send(plan)
    print(f"job {job.id}: {_near(job.script)}, log {_near(job.log)}", flush=True)
    if not options.wait:
        return 0
    from mpitasks.slurm.follow import follow

    return follow(job, array="array" in plan.options)


def _warn(plan: Plan) -> None:
    """Say what the user may not have meant."""
    if not any(name in plan.options for name in RANKS) and not any(
        word.startswith(RANK_WORDS) for word in plan.extra
    ):
        how = "one rank a node" if "nodes" in plan.options else "one rank, so no worker"
        _say(
            f"warning: sbatch gives {how}, where it is told nothing else; "
            f"--ntasks-per-node or -n says how many"
        )
    if names := left_out(os.environ):
        _say(
            f"warning: the job gets nothing of {', '.join(names)}: name as an option, "
            f"or in mpitasks.toml, what it is to have"
        )


def _say(text: str) -> None:
    print(f"mpitasks: {text}", file=sys.stderr, flush=True)


def _near(path: Path) -> str:
    """Return a path as seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
