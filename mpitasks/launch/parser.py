"""The options of the command line, with the help that is shown for them.

What they mean for a run, and which go together, is in `mpitasks.launch.arguments`.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

import mpitasks
from mpitasks.errors import ConfigurationError
from mpitasks.launch.capacity import room_for_ranks
from mpitasks.launch.duration import parse_duration
from mpitasks.launch.hints import RANKS
from mpitasks.launch.script import SOURCE, unpack_source
from mpitasks.launch.verbs import SUMMARIES, HelpfulParser, explain
from mpitasks.values import parse_size

__all__ = ["MPIEXEC_ARGS", "build_parser", "parse_ranks"]

DESCRIPTION = """\
Run a Python script whose mpitasks.Executor has the other MPI ranks as workers.
Rank 0 runs the script; the other ranks serve."""

EPILOG = """\
verbs stand where a script would, each with a --help of its own:
{verbs}

start it under an MPI launcher:   mpiexec -n 8 python -m mpitasks script.py
or let it start one:              mpitasks -n 8 script.py
from a pipe, or as code:          mpitasks -n 8 - < script.py; mpitasks -n 8 -c CODE

exit codes: the script's own; 1 after an exception in it; 70 internal error;
69 a rank died and the MPI does not survive that;
75 stopped before the end, by the walltime, SIGTERM or SIGUSR1; 78 wrong set-up;
130 after Ctrl-C, 143 after SIGTERM once more"""


MPIEXEC_ARGS = "--mpiexec-args"


class _Parser(HelpfulParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(explain(message, self))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="mpitasks",
        usage="mpitasks [options] script.py [args] | -m module [args] | verb [args]",
        description=DESCRIPTION,
        epilog=EPILOG.format(
            verbs="\n".join(f"  {name:<10}{what}" for name, what in SUMMARIES.items())
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        *RANKS,
        dest="n",
        type=parse_ranks,
        metavar="N",
        help="start mpiexec with N ranks, then run; auto: as many as the job has, or "
        "as this machine has cores",
    )
    parser.add_argument(
        MPIEXEC_ARGS,
        default="",
        metavar="WORDS",
        help="further words for the mpiexec that -n starts, as one string",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        metavar="SECONDS",
        default=60.0,
        help="how long to wait for all ranks to be there (60)",
    )
    _add_journal(parser)
    parser.add_argument(
        "--survive",
        action="store_true",
        help="go on with the other ranks when one dies (Open MPI 5; see "
        "docs/failures.md)",
    )
    _add_ending(parser)
    parser.add_argument(
        "--status",
        metavar="FILE",
        help="keep a small file that tells how far the run is, for mpitasks status "
        "(in a SLURM job: mpitasks-JOBID.status)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write down what each rank did, for https://ui.perfetto.dev "
        "(run.json.gz, say)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page about the run: what kept workers from computing, the "
        "timeline, durations, failures (run.html, say)",
    )
    parser.add_argument(
        "--progress",
        action="store_true",
        help="show how far maps and calls are (bars need tqdm; see docs/observing.md)",
    )
    parser.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="stop the run when more than N tasks have failed",
    )
    parser.add_argument(
        "--fail-fast",
        action="store_true",
        help="stop the run when a task has failed",
    )
    _add_tasks(parser)
    parser.add_argument(
        "--version", action="version", version=f"mpitasks {mpitasks.__version__}"
    )
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, help="run a module as the script"
    )
    parser.add_argument(
        "-c", dest="code", nargs=argparse.REMAINDER, help="run this code as the script"
    )
    parser.add_argument(SOURCE, type=unpack_source, help=argparse.SUPPRESS)
    parser.add_argument("script", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add_journal(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "journal", "finished results on disk; the same command again has them at once"
    )
    group.add_argument("--journal", metavar="FILE", help="keep results in this file")
    group.add_argument(
        "--keep-failures",
        action="store_true",
        help="do not run again what failed in an earlier run",
    )
    group.add_argument(
        "--journal-errors",
        choices=["stop", "continue"],
        default="stop",
        help="what to do when the journal cannot be written: disk full, say (stop)",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="use a journal that another user owns or could write, and so could run "
        "code here",
    )


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add what tasks are asked that the script asks nothing else."""
    group = parser.add_argument_group(
        "tasks", "defaults; the script may say otherwise for some or all of them"
    )
    group.add_argument(
        "--retries",
        type=int,
        metavar="N",
        help="try a task that raised so many times again",
    )
    group.add_argument(
        "--retry-delay",
        type=parse_duration,
        metavar="TIME",
        help="before the second attempt; doubled for each further one (0)",
    )
    group.add_argument(
        "--timeout",
        type=parse_duration,
        metavar="TIME",
        help="end a task that takes longer",
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="what mpitasks.rng() depends on (that of the journal, else a fresh one)",
    )
    group.add_argument(
        "--logging",
        action="store_true",
        help="have log records of tasks handled by the script's handlers (see "
        "docs/workers.md)",
    )
    group.add_argument(
        "--isolate",
        action="store_true",
        help="run tasks in a child process of their rank, so that a crash costs one "
        "task (see docs/isolation.md)",
    )
    group.add_argument(
        "--memory-limit",
        type=parse_size,
        metavar="SIZE",
        help="end a task whose process holds more, as 2G; includes --isolate",
    )
    group.add_argument(
        "--node-memory",
        type=parse_size,
        metavar="SIZE",
        help="how much the workers of a host may keep of results, as 20G (half of what "
        "the job may use there; see docs/data.md)",
    )


def _add_ending(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of the end."""
    group = parser.add_argument_group("the job's end")
    group.add_argument(
        "--time-limit",
        type=parse_duration,
        metavar="TIME",
        help="how long the job may run: seconds, MM:SS, HH:MM:SS or D-HH:MM:SS (told "
        "by SLURM inside a job)",
    )
    group.add_argument(
        "--margin",
        type=parse_duration,
        metavar="TIME",
        help="be finished so long before (5%% of the time, at most 60 seconds)",
    )
    group.add_argument(
        "--grace",
        type=parse_duration,
        metavar="TIME",
        default=10.0,
        help="how long running tasks may go on after SIGTERM or SIGUSR1 (10)",
    )
    group.add_argument(
        "--requeue",
        action="store_true",
        help="in a SLURM job that is stopped before the end: go into the queue again, "
        "to continue from the journal",
    )
    group.add_argument(
        "--requeue-rounds",
        type=int,
        metavar="N",
        default=20,
        help="not more often than that, the first round included (20)",
    )


def parse_ranks(text: str) -> int:
    """Return a number of ranks; for ``auto``, as many as there are places for them."""
    if text == "auto":
        return room_for_ranks()
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a number of ranks or auto is needed, not {text!r}"
        ) from None
