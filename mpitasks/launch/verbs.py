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
import sys
from collections.abc import Sequence
from typing import NoReturn

from mpitasks.errors import ConfigurationError, SlurmError
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.script import EVERYWHERE_VERBS, LONE_VERBS, VERBS
from mpitasks.records import dataclass

__all__ = ["UsageError", "Verb", "VerbParser", "find_verb"]


EXIT_SETUP = 78


class UsageError(ConfigurationError):
    """A verb was given words that it cannot work with."""

    exit_code = 2  # what argparse gives, so what scripts of users give as well


class VerbParser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, by raising `UsageError`."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong."""
        raise UsageError(f"{message} ({self.prog} --help shows the usage)")


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
        try:
            code = importlib.import_module(VERBS[self.name]).main(self.options)
        except (ConfigurationError, SlurmError) as error:
            print(f"mpitasks: {error}", file=sys.stderr, flush=True)
            code = getattr(error, "exit_code", EXIT_SETUP)
        if code:
            raise SystemExit(code)


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
