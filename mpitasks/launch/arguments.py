"""What the words of the command line mean. Runs nothing itself, but an mpiexec.

Every rank parses the words, so nothing here depends on anything but them.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mpitasks.errors import ConfigurationError
from mpitasks.launch import hints
from mpitasks.launch.mpiexec import exec_mpiexec
from mpitasks.launch.parser import MPIEXEC_ARGS, build_parser, parse_ranks
from mpitasks.launch.script import LONE_VERBS, VERBS, Program, Script
from mpitasks.launch.verbs import UsageError, find_verb
from mpitasks.settings import Settings

if TYPE_CHECKING:
    from mpitasks.launch.environment import LaunchHint

__all__ = ["FOR_RANKS", "understand"]

FOR_RANKS = (
    "start_timeout",
    "survive",
    "seed",
    "logging",
    "journal",
    "keep_failures",
    "journal_errors",
    "trust",
    "status",
    "progress",
    "trace",
    "report",
    "max_failures",
    "fail_fast",
    "node_memory",
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
    if options.script[:1] and options.script[0] in VERBS.keys() - LONE_VERBS:
        options = _with_ranks_of_verb(options)
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


def _with_ranks_of_verb(options: argparse.Namespace) -> argparse.Namespace:
    """Take ``-n N`` behind a verb as one before it: the verb has no such option."""
    ranks = hints.ranks_behind(options.script)
    if ranks is not None and options.n is None:
        options.n = parse_ranks(ranks)
        options.script = hints.without_ranks(options.script)
    return options


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
        trust=options.trust,
        status=options.status,
        trace=options.trace,
        report=options.report,
        max_failures=0 if options.fail_fast else options.max_failures,
        node_memory=options.node_memory,
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
        "progress": options.progress or None,
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
    if isinstance(program, Script):
        program = program.read_pipe()
    words = [*_restated(options), *program.words()]
    try:
        extra = shlex.split(options.mpiexec_args)
    except ValueError as error:
        raise ConfigurationError(
            f"{MPIEXEC_ARGS} {options.mpiexec_args!r} cannot be split into words: "
            f"{error}; quote it as for a shell"
        ) from error
    exec_mpiexec(options.n, extra, words, survive=options.survive, grace=options.grace)


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
    words = options.script
    for given, what in ((options.module, "module"), (options.code, "code")):
        if given is not None:
            # argparse leaves what follows to the others where no space is between.
            first, *rest = [*given, *words] or [""]
            if not first:
                needs = "the name of a module" if what == "module" else "some code"
                raise ConfigurationError(f"-{what[0]} needs {needs}")
            return Script(
                first,
                tuple(rest),
                is_module=what == "module",
                is_code=what == "code",
            )
    if options.source is not None:
        return Script(words[0], tuple(words[1:]), source=options.source)
    if not words:
        command = hints.runner("-n", "4", "script.py")
        raise ConfigurationError(f"which script? Type: {command}")
    first, *rest = words
    return find_verb(first, rest) or Script(first, tuple(rest))
