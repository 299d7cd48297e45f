"""What messages tell the user to type. Each command works where it is shown.

So it is made of what was typed: the interpreter as it was called, its options, the
script's arguments. Loaded only where something is to be said; decides nothing.
"""

# ruff: noqa: PTH100, PTH109, PTH113, PTH118, PTH119, PTH120, PTH122, PTH208

from __future__ import annotations

import importlib.util
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.errors import ConfigurationError
from mpitasks.launch.script import descriptor_of
from mpitasks.subprocesses import interpreter_options, split_command

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from mpitasks.launch.environment import LaunchHint

__all__ = [
    "alike",
    "install_mpi",
    "no_descriptor",
    "no_end_of_input",
    "no_main",
    "no_module",
    "no_script",
    "notebook",
    "pex",
    "ranks_behind",
    "runner",
    "under_launcher",
    "with_workers",
    "without_ranks",
]

FILE = "FILE.py"
RANKS = ("-n", "-np", "--np")
SHOWN_MODULES = 3
LONGEST_CODE = 200


def python_word() -> str:
    """Return what starts this interpreter: as it was typed, if that finds it."""
    typed = sys.orig_argv[0] if sys.orig_argv else ""
    found = shutil.which(typed) if typed else None
    if found and os.path.abspath(found) == sys.executable:
        return shlex.quote(typed)
    return shlex.quote(sys.executable)


def runner(*words: str) -> str:
    """Return the command ``mpitasks`` with these words."""
    options = interpreter_options()
    if not options:
        found = shutil.which("mpitasks")
        own = os.path.join(os.path.dirname(sys.executable), "mpitasks")
        if found and os.path.abspath(found) == own:
            return shlex.join(["mpitasks", *words])
    rest = shlex.join([*options, "-m", "mpitasks", *words])
    return f"{python_word()} {rest}"


def with_workers(ranks: int = 4) -> str:
    """Return how to start with workers what runs in this process without any.

    Also where it cannot be started so: what to do first.
    """
    before = install_mpi()
    before = f"{before} && " if before else ""
    if "ipykernel" in sys.modules or hasattr(sys, "ps1"):
        restart = "restart the kernel" if "ipykernel" in sys.modules else "start anew"
        what = f"{restart}, and begin with ex = mpitasks.start({ranks - 1})"
        return f"{before}{what}" if before else what
    words = _program()
    note = f" (with this code in {FILE})" if words[0] == FILE else ""
    return f"{before}{runner('-n', str(ranks), *words)}{note}"


def under_launcher(hint: LaunchHint, copies: int) -> str:
    """Return how the launcher starts this script with the other copies as workers."""
    word = "srun" if hint.launcher == "srun" else mpiexec_word()
    python = " ".join([python_word(), *map(shlex.quote, interpreter_options())])
    words = shlex.join(_program())
    return f"{word} -n {copies} {python} -m mpitasks {words}"


def install_mpi() -> str:
    """Return the command that installs what MPI lacks here; empty if there is all."""
    missing = []
    if importlib.util.find_spec("mpi4py") is None:
        missing.append("mpi4py")
    if _mpiexec() is None:
        missing.append("mpich")
    if not missing:
        return ""
    if importlib.util.find_spec("pip") is None:
        return shlex.join(["uv", "pip", "install", "-p", sys.executable, *missing])
    return f"{python_word()} -m pip install {' '.join(missing)}"


def alike(word: str, names: Iterable[str]) -> str:
    """Return the question whether one of these names was meant, if one is like it."""
    import difflib

    found = difflib.get_close_matches(word, [*names], n=1, cutoff=0.7)
    return f"did you mean {found[0]}?" if found else ""


def no_script(target: str, verbs: Iterable[str]) -> str:
    """Say that there is no such script, and which there is."""
    folder = os.path.dirname(target)
    try:
        there = [os.path.join(folder, entry) for entry in os.listdir(folder or ".")]
    except OSError:
        there = []
    question = alike(target, verbs) or alike(target, there)
    said = f"there is no script {target!r} in {os.getcwd()}"
    return f"{said}: {question}" if question else said


def no_descriptor(target: str, hint: LaunchHint) -> str:
    """Say that what was open where the launcher was started is not open here."""
    return (
        f"{target!r} means another file in a rank than where {hint.launcher} was "
        f"started: have mpitasks read the script before it starts the ranks, as "
        f"{runner('-n', str(hint.size or 4))} <(...)"
    )


def no_end_of_input(hint: LaunchHint) -> str:
    """Say that a script cannot be read from the standard input of rank 0."""
    return (
        f"rank 0 cannot read the script from its standard input: {hint.launcher} does "
        f"not tell where that ends. Have mpitasks read it before it starts the ranks: "
        f"{runner('-n', str(hint.size or 4), '-')} < script.py"
    )


def no_module(name: str) -> str:
    """Say that there is no such module."""
    said = f"there is no module {name!r} that could be imported in {os.getcwd()}"
    if os.path.isfile(name):
        return f"{said}, but a script of that name: leave out -m"
    return said


def no_main(name: str, spec: ModuleSpec) -> str:
    """Say that a package cannot be run, and name modules of it that may be."""
    import pkgutil

    inside = pkgutil.iter_modules(spec.submodule_search_locations)
    modules = [f"{name}.{module.name}" for module in inside if not module.ispkg]
    said = f"{name!r} is a package without a __main__.py, so -m has nothing to run"
    if not modules:
        return f"{said}: write one, or name a script"
    more = " ..." if len(modules) > SHOWN_MODULES else ""
    names = ", ".join(modules[:SHOWN_MODULES]) + more
    first = runner("-m", modules[0])
    return f"{said}: write one, or name a module in it, as {first} ({names})"


def pex(path: str, args: Sequence[str], info: bytes) -> str:
    """Say that a PEX does not run in a rank, and what does.

    Args:
        path: The PEX.
        args: What it is to be given.
        info: What it says of itself, as JSON.
    """
    import json

    entry = str(json.loads(info).get("entry_point") or "MODULE").partition(":")[0]
    words = shlex.join([path, "-m", "mpitasks", "-m", entry, *args])
    return (
        f"{path!r} is a PEX, which puts another process in the place of its own, and "
        f"rank 0 would be gone; have it run mpitasks, which must be in it: "
        f"PEX_INTERPRETER=1 {mpiexec_word()} -n 4 {python_word()} {words}"
    )


def notebook(path: str) -> str:
    """Say that a notebook is no script, and how it becomes one."""
    script = os.path.splitext(path)[0] + ".py"
    return f"{path!r} is a notebook; {_convert(path)} makes {script!r} of it: run that"


def ranks_behind(args: Sequence[str]) -> str | None:
    """Return the number of ranks that arguments of a script look like asking for."""
    found = [*_ranks_in(args)]
    return args[found[0] + 1] if found else None


def without_ranks(words: Sequence[str]) -> list[str]:
    """Return the words without those by which `ranks_behind` finds a number."""
    at = next(iter(_ranks_in(words)))
    return [*words[:at], *words[at + 2 :]]


def _ranks_in(words: Sequence[str]) -> Iterator[int]:
    for at, (word, value) in enumerate(itertools.pairwise(words)):
        number = value.isascii() and value.isdigit() and int(value) > 0
        if word in RANKS and (number or value == "auto"):
            yield at


def _convert(path: str) -> str:
    return shlex.join(["jupyter", "nbconvert", "--to", "python", path])


def _program() -> list[str]:
    """Return the words that name what this process runs; `FILE` for what is in none."""
    words = split_command(sys.orig_argv)[1]
    if words[:2] in (["-m", "mpitasks"], ["-m", "mpitasks.futures"]):
        words = words[2:]
    elif words and os.path.basename(words[0]) == "mpitasks":
        words = words[1:]
    if words[:1] == ["-c"] and ("\n" in words[1] or len(words[1]) > LONGEST_CODE):
        return [FILE, *words[2:]]
    if not words or descriptor_of(words[0]) is not None:
        return [FILE, *words[1:]]
    return words


def mpiexec_word() -> str:
    """Return what starts the mpiexec that fits: its name, if that finds it."""
    found = _mpiexec() or "mpiexec"
    return "mpiexec" if shutil.which("mpiexec") == found else shlex.quote(found)


def _mpiexec() -> str | None:
    from mpitasks.launch.mpiexec import find_mpiexec

    try:
        return str(find_mpiexec())
    except ConfigurationError:
        return None
