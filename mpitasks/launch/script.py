"""The user's script: where it is, and running it as ``__main__``.

A file, a module, code, a folder or an archive, or what is read from a pipe. What
messages say of one that is not there is in `mpitasks.launch.hints`.

Every rank imports this on its way, so it does without pathlib, which is slow to import.
"""

# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH113, PTH118, PTH120, PTH123

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import types
import zipimport
from typing import Any, Protocol

from mpitasks.errors import ConfigurationError
from mpitasks.launch.environment import launch_hint
from mpitasks.records import dataclass, replace

__all__ = [
    "EVERYWHERE_VERBS",
    "LONE_VERBS",
    "SOURCE",
    "VERBS",
    "Program",
    "Script",
    "descriptor_of",
    "unpack_source",
]

VERBS = {
    "bench": "mpitasks.tools.bench.command",
    "jupyter": "mpitasks.integrations.jupyter",
    "journal": "mpitasks.tools.journal.command",
    "report": "mpitasks.tools.report.command",
    "status": "mpitasks.slurm.show",
    "submit": "mpitasks.slurm.command",
    "doctor": "mpitasks.tools.doctor.command",
    "top": "mpitasks.tools.top.command",
}
"""Words that name a program of mpitasks itself in the place of a script, and where each
lives (`mpitasks.launch.verbs`). A script of such a name is reached as ``./name``."""

LONE_VERBS = frozenset({"journal", "jupyter", "report", "status", "submit", "top"})
"""Those of them that are programs of one process: they meet no other ranks, load no
MPI, and so work on a login node as well."""

EVERYWHERE_VERBS = frozenset({"doctor"})
"""Those that every copy runs, and that meet the other ranks themselves if they can: no
world is joined before, since it may be one that cannot be."""


SOURCE = "--source"
"""The option before a script that gives the ranks what was read from it."""

LONGEST_WORD = 120_000  # Linux takes 128 KiB for one


class Program(Protocol):
    """What can stand on the command line to be run: a script, or a verb."""

    @property
    def args(self) -> tuple[str, ...]:
        """What follows it on the command line."""

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
    """A script, a module or some code to run.

    Attributes:
        target: A path; or a module's dotted name; or the code itself.
        args: What follows it on the command line.
        is_module: Whether `target` is a module's name.
        is_code: Whether `target` is the code.
        source: What was read from `target`, where only the process that has read it
            could: who starts mpiexec reads pipes, since not every one passes on the
            end of its standard input, and none other open files.
        is_lone: As in `Program`; a script never is.
        is_everywhere: As in `Program`; a script never is.
    """

    target: str
    args: tuple[str, ...]
    is_module: bool = False
    is_code: bool = False
    source: bytes | None = None
    is_lone: bool = False
    is_everywhere: bool = False

    @property
    def descriptor(self) -> int | None:
        """The open file that it is read from, as ``-`` and ``<(...)`` name one."""
        if self.is_module or self.is_code:
            return None
        return descriptor_of(self.target)

    @property
    def is_read_once(self) -> bool:
        """Whether nobody can read it again: an open file, or a pipe with a name."""
        if self.is_module or self.is_code or self.source is not None:
            return False
        if self.descriptor is not None:
            return True
        there = os.path.exists(self.target)
        return there and not (os.path.isfile(self.target) or os.path.isdir(self.target))

    def words(self) -> list[str]:
        """Return the command line words that name it."""
        option = ["-m"] if self.is_module else ["-c"] if self.is_code else []
        if self.source is not None:
            option = [SOURCE, pack_source(self.source)]
        return [*option, self.target, *self.args]

    def read_pipe(self) -> Script:
        """Return it with its source, if nobody could read that again."""
        if not self.is_read_once:
            return self
        place = self.target if self.descriptor is None else os.dup(self.descriptor)
        with open(place, "rb") as file:
            return replace(self, source=file.read())

    def prepare(self) -> None:
        """Set `sys.argv` and `sys.path` as Python would. For every rank.

        Workers need the path as well: modules beside the script are imported there.
        """
        sys.argv[:] = ["-c" if self.is_code else self.target, *self.args]
        packed = not (self.is_module or self.is_code) and _is_packed(self.target)
        if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
            if packed:  # Python adds it all the same: the script is in there
                sys.path.insert(0, os.path.abspath(self.target))
            return
        if self.is_module:
            first = os.getcwd()
        elif self.is_code or self.descriptor is not None:
            first = ""
        elif packed:
            first = os.path.abspath(self.target)
        else:
            first = os.path.dirname(os.path.realpath(self.target))
        if sys.path:
            sys.path[0] = first
        else:
            sys.path.append(first)

    def check(self) -> None:
        """Look whether it is there. Reads nothing of it: a pipe is read once.

        Raises:
            ConfigurationError: It is not.
        """
        if self.is_code or self.source is not None:
            return
        from mpitasks.launch import hints

        if self.is_module:
            if not _is_module(self.target):
                raise ConfigurationError(hints.no_module(self.target))
            if (spec := _package_without_main(self.target)) is not None:
                raise ConfigurationError(hints.no_main(self.target, spec))
            return
        if self.descriptor is not None:
            hint = launch_hint()
            if hint is not None and self.descriptor != 0:
                # It is something else here: MPI and its launcher have files open.
                raise ConfigurationError(hints.no_descriptor(self.target, hint))
            if hint is not None and hint.loses_end_of_input:
                raise ConfigurationError(hints.no_end_of_input(hint))
            if not _is_open(self.descriptor):
                raise ConfigurationError(f"{self.target!r} is no open file here")
            return
        if not os.path.exists(self.target):
            raise ConfigurationError(hints.no_script(self.target, VERBS))
        if self.target.endswith(".ipynb"):
            raise ConfigurationError(hints.notebook(self.target))
        if not _is_packed(self.target):
            return
        spec = _spec_in(self.target)
        if spec is None:
            kind = "a folder" if os.path.isdir(self.target) else "an archive"
            raise ConfigurationError(
                f"{self.target!r} is {kind} without a __main__.py, so there is no "
                f"script to run in it: name a script"
            )
        if (info := _pex_info(spec)) is not None:
            raise ConfigurationError(hints.pex(self.target, self.args, info))

    def execute(self) -> None:
        """Run it as ``__main__``, in this process, now.

        Raises:
            BaseException: Whatever it raises, SystemExit included.
        """
        if self.is_module:
            runpy.run_module(self.target, run_name="__main__", alter_sys=True)
        elif self.is_code:
            _execute(self.target.encode(), "<string>")
        elif (source := self.read_pipe().source) is not None:
            file = "<stdin>"
            if self.target != "-":
                file = os.path.abspath(self.target)
            # In angles: who shows a line would read a pipe again, and wait for ever.
            _execute(source, f"<{file.strip('<>')}>", file=file)
        elif _is_packed(self.target):
            spec = _spec_in(self.target)
            assert spec is not None  # it was checked
            _run(_code_of(spec.loader), file=spec.origin, spec=spec)
        elif self.target.endswith(".pyc"):
            path = os.path.abspath(self.target)
            loader = importlib.machinery.SourcelessFileLoader("__main__", path)
            _run(_code_of(loader), file=path)
        else:
            path = os.path.abspath(self.target)
            with io.open_code(path) as script:
                source = script.read()
            _execute(source, path, file=path)


def descriptor_of(target: str) -> int | None:
    """Return the number of the open file that a path names, if it names one.

    Such a path means something else in each process.
    """
    if target in ("-", "/dev/stdin"):
        return 0
    folder, number = os.path.split(target)
    if folder in ("/dev/fd", "/proc/self/fd") and number.isdigit():
        return int(number)
    return None


def pack_source(source: bytes) -> str:
    """Return the source of a script as one word of a command line.

    Raises:
        ConfigurationError: It is too long for that.
    """
    import base64
    import zlib

    word = base64.b64encode(zlib.compress(source)).decode()
    if len(word) > LONGEST_WORD:
        raise ConfigurationError(
            f"the script that is read from a pipe is too long to be handed to the "
            f"ranks ({len(source)} bytes): write it to a file, and name that"
        )
    return word


def unpack_source(word: str) -> bytes:
    """Return what `pack_source` has packed."""
    import base64
    import zlib

    return zlib.decompress(base64.b64decode(word))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _execute(source: bytes, name: str, file: str | None = None) -> None:
    _run(compile(source, name, "exec", dont_inherit=True), file=file)


def _code_of(loader: Any) -> types.CodeType:
    code: types.CodeType = loader.get_code("__main__")
    return code


def _run(
    code: types.CodeType,
    *,
    file: str | None,
    spec: importlib.machinery.ModuleSpec | None = None,
) -> None:
    """Run code as ``__main__``.

    Not by runpy: it takes the module away again when the code ends, from under threads
    and atexit functions of the script.
    """
    module = types.ModuleType("__main__")
    if file is not None:
        module.__file__ = file
    if spec is not None:
        module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, ""
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _is_packed(path: str) -> bool:
    """Whether the script is a ``__main__.py`` in there: a folder or a zip archive."""
    if os.path.isdir(path):
        return True
    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


def _spec_in(path: str) -> importlib.machinery.ModuleSpec | None:
    return importlib.machinery.PathFinder.find_spec("__main__", [os.path.abspath(path)])


def _pex_info(spec: importlib.machinery.ModuleSpec) -> bytes | None:
    """Return what a PEX says of itself; None if that is another folder or archive."""
    loader: Any = spec.loader
    try:
        info: bytes = loader.get_data(
            os.path.join(os.path.dirname(spec.origin or ""), "PEX-INFO")
        )
    except OSError:
        return None
    return info


def _package_without_main(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return the package of that name, if there is one that cannot be run."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            return None
        runs = importlib.util.find_spec(f"{name}.__main__") is not None
    except Exception:  # running it will show what is wrong
        return None
    return None if runs else spec


def _is_module(name: str) -> bool:
    """Whether a module of that name can be found; imports the packages around it."""
    if name.endswith(".py") and os.path.isfile(name):
        return False  # to look for a module "py" in it would run it
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        return not f"{name}.".startswith(f"{error.name}.")
    except Exception:  # a package around it raises; running it will show how
        return True
