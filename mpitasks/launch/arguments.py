"""The words of the command line and what they mean. Parses, and runs nothing itself.

Every rank parses the words, so nothing here depends on anything but them.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import mpitasks
from mpitasks.errors import ConfigurationError
from mpitasks.launch.duration import parse_duration
from mpitasks.launch.mpiexec import exec_mpiexec
from mpitasks.launch.script import Program, Script
from mpitasks.launch.size import parse_size
from mpitasks.launch.verbs import UsageError, find_verb
from mpitasks.settings import Settings

if TYPE_CHECKING:
    from mpitasks.launch.environment import LaunchHint

__all__ = ["build_parser", "understand"]

DESCRIPTION = """\
Run a Python script whose mpitasks.Executor has the other MPI ranks as workers.
Rank 0 runs the script; the other ranks serve."""

EPILOG = """\
start it under an MPI launcher:   mpiexec -n 8 python -m mpitasks script.py
or let it start one:              mpitasks -n 8 script.py
measure this machine:             mpitasks -n 8 bench fibonacci (bench --help)

exit codes: the script's own; 1 after an exception in it; 70 internal error;
69 a rank died and the MPI does not survive that;
75 stopped before the end, by the walltime, SIGTERM or SIGUSR1; 78 wrong set-up;
130 after Ctrl-C, 143 after SIGTERM once more"""


FOR_RANKS = (
    "start_timeout",
    "survive",
    "seed",
    "logging",
    "journal",
    "keep_failures",
    "journal_errors",
    "status",
    "max_failures",
    "fail_fast",
    "time_limit",
    "margin",
    "grace",
    "requeue",
    "requeue_rounds",
    "retries",
    "retry_delay",
    "timeout",
    "isolate",
    "memory_limit",
)
"""Options that each rank must know, and that ``-n`` therefore passes on."""


MPIEXEC_ARGS = "--mpiexec-args"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (mpitasks --help shows the usage)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="mpitasks",
        usage="mpitasks [options] script.py [args] | [options] -m module [args]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-n", type=int, metavar="N", help="start mpiexec with N ranks, then run"
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


def understand(
    words: Sequence[str], hint: LaunchHint | None
) -> tuple[Program, Settings]:
    """Return what is to be run, and what is asked of the run.

    Does not return where the words ask for an mpiexec: this process becomes it.

    Raises:
        ConfigurationError: The words make no sense.
        SystemExit: They asked for help or the version, which has been printed.
    """
    options = _parse(words)
    program = _program(options)
    settings = _settings(options)
    if options.n is not None:
        _start_mpiexec(options, program, hint)
    return program, settings


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words; what follows `MPIEXEC_ARGS` may begin with a dash."""
    parser = build_parser()
    if MPIEXEC_ARGS in words[:-1]:
        # argparse would take the word for an option of ours, unless a space is in it.
        at = list(words).index(MPIEXEC_ARGS)
        value = words[at + 1]
        joined = [*words[:at], f"{MPIEXEC_ARGS}={value}", *words[at + 2 :]]
        options = parser.parse_args(joined)
        if options.mpiexec_args == value:  # else it is an argument of the script
            return options
    return parser.parse_args(words)


def _settings(options: argparse.Namespace) -> Settings:
    """Check the options that concern the run, and return them."""
    if not options.start_timeout > 0:
        raise ConfigurationError(
            f"--start-timeout needs seconds above 0, not {options.start_timeout}"
        )
    if options.max_failures is not None and options.max_failures < 0:
        raise ConfigurationError(
            f"--max-failures needs a number from 0 on, not {options.max_failures}"
        )
    if options.time_limit is not None and not options.time_limit > 0:
        raise ConfigurationError("--time-limit needs a time above 0")
    if options.seed is not None and options.seed < 0:
        raise ConfigurationError(f"--seed needs a number from 0 on, not {options.seed}")
    if options.requeue_rounds < 1:
        raise ConfigurationError(
            f"--requeue-rounds needs a number above 0, not {options.requeue_rounds}"
        )
    return Settings(
        start_seconds=options.start_timeout,
        survive=options.survive,
        seed=options.seed,
        logging=options.logging,
        journal=options.journal,
        keep_failures=options.keep_failures,
        journal_errors=options.journal_errors,
        status=options.status,
        max_failures=0 if options.fail_fast else options.max_failures,
        time_limit=options.time_limit,
        margin=options.margin,
        grace=options.grace,
        requeue=options.requeue,
        requeue_rounds=options.requeue_rounds,
        task_options=_task_options(options),
    )


def _task_options(options: argparse.Namespace) -> dict[str, Any]:
    """Check the options of tasks, and return those that were given."""
    if options.retries is not None and options.retries < 0:
        raise ConfigurationError(
            f"--retries needs a number from 0 on, not {options.retries}"
        )
    if options.timeout is not None and not options.timeout > 0:
        raise ConfigurationError("--timeout needs a time above 0")
    given = {
        "retries": options.retries,
        "retry_delay": options.retry_delay,
        "timeout": options.timeout,
        "isolate": options.isolate or options.memory_limit is not None or None,
        "memory_limit": options.memory_limit,
    }
    return {name: value for name, value in given.items() if value is not None}


def _start_mpiexec(
    options: argparse.Namespace, program: Program, hint: LaunchHint | None
) -> NoReturn:
    if program.is_lone:
        name = program.words()[0]
        raise UsageError(
            f"{name} is one process and needs no ranks: leave out -n {options.n} "
            f"before it ({name} --help shows what may stand behind it)"
        )
    if hint is not None:
        raise ConfigurationError(
            f"-n starts an mpiexec, but {hint.launcher} already started this; leave "
            f"out one of the two"
        )
    if not program.is_module:  # where modules are found is set later
        program.check()
    words = [*_restated(options), *program.words()]
    try:
        extra = shlex.split(options.mpiexec_args)
    except ValueError as error:
        raise ConfigurationError(
            f"{MPIEXEC_ARGS} {options.mpiexec_args!r} cannot be split into words: "
            f"{error}; quote it as for a shell"
        ) from error
    exec_mpiexec(options.n, extra, words, survive=options.survive)


def _restated(options: argparse.Namespace) -> list[str]:
    """Return the words that make the same `Settings` on each rank."""
    parser = build_parser()
    words: list[str] = []
    for name in FOR_RANKS:
        value = getattr(options, name)
        if value == parser.get_default(name):
            continue
        option = "--" + name.replace("_", "-")
        words += [option] if value is True else [option, str(value)]
    return words


def _program(options: argparse.Namespace) -> Program:
    if options.module is not None:
        if not options.module:
            raise ConfigurationError("-m needs the name of a module")
        return Script(options.module[0], tuple(options.module[1:]), is_module=True)
    if not options.script:
        raise ConfigurationError("which script? Type: mpitasks -n 4 script.py")
    first, *rest = options.script
    return find_verb(first, rest) or Script(first, tuple(rest))
