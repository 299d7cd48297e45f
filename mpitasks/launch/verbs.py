"""Verbs: words of the command line that name a program of mpitasks itself.

``mpitasks bench ...`` stands where a script would, and runs as one: on rank 0, with the
other ranks as workers. A module of a verb has ``parse(words)``, which looks at nothing
but the words, since every rank calls it, and ``main(options)``, which rank 0 runs; what
it returns, if it is a number, becomes the exit code. A lone verb (`LONE_VERBS`) meets
no other ranks; where a launcher started several copies all the same, only the first
runs it. Of `EVERYWHERE_VERBS`, each copy runs ``main``, before any world is joined.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mpitasks import exit_codes
from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.launch import hints
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.output import finish_printing
from mpitasks.launch.script import EVERYWHERE_VERBS, LONE_VERBS, VERBS
from mpitasks.records import dataclass
from mpitasks.text import printable

__all__ = [
    "SUMMARIES",
    "HelpfulParser",
    "UsageError",
    "Verb",
    "VerbParser",
    "explain",
    "find_verb",
]


SUMMARIES = {
    "submit": "write and submit a SLURM job that runs a script",
    "status": "how far a SLURM job, or a run with --status, is",
    "top": "the same, live, with what each worker runs",
    "doctor": "look whether a run would start here, and say why not",
    "bench": "measure this machine: mpitasks -n 8 bench fibonacci",
    "journal": "show, export, verify or compact a journal",
    "report": "a page about a run, from its trace",
    "jupyter": "install a Jupyter kernel that has workers",
}
"""What each verb is for, in the order of the help."""


class UsageError(ConfigurationError):
    """A verb was given words that it cannot work with."""

    exit_code = 2  # what argparse gives, so what scripts of users give as well


class HelpfulParser(argparse.ArgumentParser):
    """A parser that says so if its help cannot be written, which argparse hides."""

    def _print_message(self, message: str, file: Any = None) -> None:
        try:
            (file or sys.stderr).write(message)
        except AttributeError:  # there is no such stream
            pass
        except OSError as error:
            raise SystemExit(finish_printing(error)) from None


class VerbParser(HelpfulParser):
    """A parser that says what is wrong in one line, by raising `UsageError`."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        raise UsageError(explain(message, self))


def explain(message: str, parser: argparse.ArgumentParser) -> str:
    """Return what argparse found wrong, with the option that may have been meant."""
    known = [name for name in parser._option_string_actions if name[:2] == "--"]
    typed = re.findall(r"--[a-z][\w-]*", message.partition("unrecognized")[2])
    questions = (hints.alike(word, known) for word in typed)
    question = next(filter(None, questions), "")
    usage = f"({parser.prog} --help shows the usage)"
    return f"{message}: {question} {usage}" if question else f"{message} {usage}"


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb and what follows it; stands where a `mpitasks.launch.script.Script` does.

    Attributes:
        name: The verb.
        args: The words behind it.
        options: What they mean.
        is_module: As that of a script; a verb is none.
    """

    name: str
    args: tuple[str, ...]
    options: argparse.Namespace
    is_module: bool = False

    def words(self) -> list[str]:
        """Return the command line words that name it."""
        return [self.name, *self.args]

    @property
    def is_lone(self) -> bool:
        """Whether it is a program of one process, which meets no other ranks."""
        return self.name in LONE_VERBS

    @property
    def is_everywhere(self) -> bool:
        """Whether every copy runs it, and meets the others itself."""
        return self.name in EVERYWHERE_VERBS

    def prepare(self) -> None:
        """Set `sys.argv`; messages of the launch name the program by it."""
        sys.argv[:] = [" ".join([self.name, *self.args[:1]]), *self.args[1:]]

    def check(self) -> None:
        """Whatever can be told early was, when the words were parsed."""

    def execute(self) -> None:
        """Run it, in this process, now.

        Raises:
            SystemExit: With its exit code, if it is not 0. Where the words do not fit
                what is there, one line has said so.
        """
        code: int | None = None
        failure = None
        try:
            code = self._main()
        except OSError as error:  # as by "| head -1", or a full disk
            if error.filename is not None:
                raise
            failure = error
        unwritten = finish_printing(failure)
        if code or unwritten:
            raise SystemExit(code or unwritten)

    def _main(self) -> int | None:
        if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the terminal can show
            sys.stdout.reconfigure(errors="backslashreplace")
        module = importlib.import_module(VERBS[self.name])
        main: Callable[[argparse.Namespace], int | None] = module.main
        try:
            return main(self.options)
        except (ConfigurationError, SlurmError) as error:
            told = printable(str(error), keep="\n\t")
            print(f"mpitasks: {told}", file=sys.stderr, flush=True)
            return getattr(error, "exit_code", exit_codes.SET_UP)


def find_verb(name: str, args: Sequence[str]) -> Verb | None:
    """Return the verb of that name, or None if it is none.

    Raises:
        UsageError: Its words are wrong.
        SystemExit: They asked for help, which has been printed.
    """
    if name not in VERBS:
        return None
    module = importlib.import_module(VERBS[name])
    hint = launch_hint()
    silent = hint is not None and hint.rank != 0  # one rank shows the help
    with contextlib.redirect_stdout(io.StringIO() if silent else sys.stdout):
        options = module.parse(list(args))
    return Verb(name, tuple(args), options)
