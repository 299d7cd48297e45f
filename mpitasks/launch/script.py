"""The user's script: where it is, and running it as ``__main__``.

Every rank imports this on its way, so it does without pathlib, which is slow to import.
"""

# ruff: noqa: PTH100, PTH109, PTH112, PTH113, PTH110, PTH118, PTH120

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import runpy
import sys
import types
from typing import Protocol

from mpitasks.errors import ConfigurationError
from mpitasks.records import dataclass

__all__ = ["EVERYWHERE_VERBS", "LONE_VERBS", "VERBS", "Program", "Script"]

VERBS = {
    "bench": "mpitasks.launch.bench.command",
    "journal": "mpitasks.launch.journal.command",
    "status": "mpitasks.launch.slurm.show",
    "submit": "mpitasks.launch.slurm.command",
    "doctor": "mpitasks.launch.doctor.command",
}
"""Words that name a program of mpitasks itself in the place of a script, and where each
lives (`mpitasks.launch.verbs`). A script of such a name is reached as ``./name``."""

LONE_VERBS = frozenset({"journal", "status", "submit"})
"""Those of them that are programs of one process: they meet no other ranks, load no
MPI, and so work on a login node as well."""

EVERYWHERE_VERBS = frozenset({"doctor"})
"""Those that every copy runs, and that meet the other ranks themselves if they can: no
world is joined before, since it may be one that cannot be."""


class Program(Protocol):
    """What can stand on the command line to be run: a script, or a verb."""

    @property
    def is_module(self) -> bool:
        """Whether it is a module, which is found only once `sys.path` is set."""

    @property
    def is_lone(self) -> bool:
        """Whether it is a program of one process, which meets no other ranks."""

    @property
    def is_everywhere(self) -> bool:
        """Whether every copy runs it, and meets the others itself."""

    def words(self) -> list[str]:
        """Return the command line words that name it."""

    def prepare(self) -> None:
        """Set `sys.argv` and `sys.path`. For every rank."""

    def check(self) -> None:
        """Look whether it is there.

        Raises:
            ConfigurationError: It is not.
        """

    def execute(self) -> None:
        """Run it, in this process, now."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script or a module to run.

    Attributes:
        target: A path, or a module's dotted name.
        args: What follows it on the command line.
        is_module: Whether `target` is a module's name.
        is_lone: As in `Program`; a script never is.
        is_everywhere: As in `Program`; a script never is.
    """

    target: str
    args: tuple[str, ...]
    is_module: bool = False
    is_lone: bool = False
    is_everywhere: bool = False

    def words(self) -> list[str]:
        """Return the command line words that name it."""
        return [*(["-m"] if self.is_module else []), self.target, *self.args]

    def prepare(self) -> None:
        """Set `sys.argv` and `sys.path` as Python would. For every rank.

        Workers need the path as well: modules beside the script are imported there.
        """
        sys.argv[:] = [self.target, *self.args]
        if getattr(sys.flags, "safe_path", False):
            return
        if self.is_module:
            first = os.getcwd()
        elif os.path.isdir(self.target) or self.target.endswith((".zip", ".pyz")):
            first = self.target
        else:
            first = os.path.dirname(os.path.realpath(self.target))
        if sys.path:
            sys.path[0] = first
        else:
            sys.path.append(first)

    def check(self) -> None:
        """Look whether it is there.

        Raises:
            ConfigurationError: It is not.
        """
        if self.is_module:
            if not _is_module(self.target):
                raise ConfigurationError(
                    f"there is no module {self.target!r} that could be imported in "
                    f"{os.getcwd()}"
                )
            return
        if not os.path.exists(self.target):
            raise ConfigurationError(
                f"there is no script {self.target!r} in {os.getcwd()}"
            )
        inside = os.path.join(self.target, "__main__.py")
        if os.path.isdir(self.target) and not os.path.isfile(inside):
            raise ConfigurationError(
                f"{self.target!r} is a folder without a __main__.py, so there is no "
                f"script to run in it: name a script"
            )

    def execute(self) -> None:
        """Run it as ``__main__``, in this process, now.

        Raises:
            BaseException: Whatever it raises, SystemExit included.
        """
        if self.is_module:
            runpy.run_module(self.target, run_name="__main__", alter_sys=True)
            return
        if not os.path.isfile(self.target) or self.target.endswith((".zip", ".pyz")):
            runpy.run_path(self.target, run_name="__main__")
            return
        # Not runpy.run_path: it takes the module away again when the code ends, from
        # under threads and atexit functions of the script.
        path = os.path.abspath(self.target)
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        module = types.ModuleType("__main__")
        module.__file__ = path
        module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = module
        exec(code, module.__dict__)


def _is_module(name: str) -> bool:
    """Whether a module of that name can be found; imports the packages around it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        return not f"{name}.".startswith(f"{error.name}.")
    except Exception:  # a package around it raises; running it will show how
        return True
