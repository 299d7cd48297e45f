"""What a site or a project always wants: a table in pyproject.toml or mpitasks.toml.

    [tool.mpitasks.slurm]
    modules = ["gcc/13", "mpich/4.2"]     # module load, in the job
    environment = "/home/me/venv"         # activated in the job, and its python is used
    setup = ["ulimit -c 0"]               # further lines of the job script
    launcher = "srun --mpi=pmix"          # instead of the one that is found
    sbatch-args = ["--hint=nomultithread"]
    partition = "short"                   # and any option of a job, by its long name

Its lines run in the job as this user. So a file that another user owns, or could have
written, is not obeyed, unless that is asked for (`mpitasks.files.distrust`).

In mpitasks.toml, which is all ours, the table may be called [slurm] as well. The files
are looked for in the current folder and those above it; the first that has the table
counts. What is said on the command line wins over it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.files import distrust, read_regular
from mpitasks.slurm.options import OPTIONS, checked_options
from mpitasks.slurm.quoting import checked_words
from mpitasks.text import printable

__all__ = ["Site", "find_site", "read_table"]

OWN = "mpitasks.toml"
FILES = (OWN, "pyproject.toml")
LISTS = ("modules", "setup", "sbatch-args")
WORDS = ("environment", "launcher")


@dataclass(frozen=True, slots=True)
class Site:
    """What the table says.

    Attributes:
        source: The file that it is from; None if there is none.
        modules: Names for ``module load``.
        environment: Folder of a virtual or conda environment.
        conda: Whether it is one of conda's.
        setup: Further lines of the job script.
        launcher: As on the command line.
        sbatch_args: Further words for sbatch.
        options: Defaults for the options of a job, by name.
    """

    source: Path | None = None
    modules: tuple[str, ...] = ()
    environment: str | None = None
    setup: tuple[str, ...] = ()
    launcher: str | None = None
    sbatch_args: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    conda: bool = False


def find_site(folder: Path, *, trust: bool = False) -> Site:
    """Return what the nearest table says, seen from a folder.

    Args:
        folder: Where to begin.
        trust: Whether to obey a file that another user could have written. Without, a
            line says which one is not obeyed, and why.

    Raises:
        ConfigurationError: A file cannot be read, or its table makes no sense.
    """
    for place in (folder, *folder.parents):
        for name in FILES:
            text = _read(place / name, trust=trust)
            # A file that does not mention us needs no parser, which 3.10 lacks.
            if text and (name == OWN or "mpitasks" in text):
                table = read_table(_parse(text, place / name), place / name)
                if table is not None:
                    return table
    return Site()


def _read(path: Path, *, trust: bool) -> str:
    """Return what is in a file that is to be obeyed; nothing if there is none.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if not os.path.isfile(path):  # noqa: PTH113  never raises
        return ""
    doubt = None
    try:
        doubt = None if trust else distrust(str(path))
        text = read_regular(str(path)).decode(errors="replace")
    except OSError as error:
        if doubt is not None:  # a stranger's file is no reason not to submit
            return ""
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if doubt is None:
        return text
    if "slurm" in text and "mpitasks" in f"{path.name} {text}":
        cure = f"{doubt.cure}, or " if doubt.cure else ""
        print(
            f"mpitasks: {printable(str(path))} is not obeyed, since its lines would "
            f"run in the job and {doubt.why}; to obey it: {cure}mpitasks submit "
            f"--trust",
            file=sys.stderr,
        )
    return ""


def read_table(document: Mapping[str, Any], source: Path) -> Site | None:
    """Return what a document's table says; None if it has none.

    Raises:
        ConfigurationError: A key is unknown, or a value of the wrong kind.
    """
    found = _tables(document, source)
    if not found:
        return None
    [(name, table), *more] = found.items()
    where = f"[{name}] in {source}"
    if more:
        raise ConfigurationError(f"{where} is there as [{more[0][0]}] too; keep one")
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where} must be a table")
    known = [*LISTS, *WORDS, *OPTIONS]
    for key in table:
        if key not in known:
            raise ConfigurationError(
                f"{where} has the unknown key {key!r}; known are {', '.join(known)}"
            )
    try:
        options = checked_options({k: v for k, v in table.items() if k in OPTIONS})
    except OptionError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    lists = {key: _list(table, key, where) for key in LISTS}
    words = {key: _word(table, key, where) for key in WORDS}
    for key, values in [*lists.items(), *((k, [w or ""]) for k, w in words.items())]:
        checked_words(f"{where}: {key}", values)
    environment, conda = words["environment"], False
    if environment is not None:
        folder = source.parent / Path(environment).expanduser()
        environment, conda = str(folder), (folder / "conda-meta").is_dir()
    return Site(
        source,
        lists["modules"],
        environment,
        lists["setup"],
        words["launcher"],
        lists["sbatch-args"],
        options,
        conda,
    )


def _tables(document: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return the tables of a document that are ours, by name.

    Raises:
        ConfigurationError: What would be ours has a name that nobody reads.
    """
    ours: dict[str, Any] = {}
    places = [("tool.mpitasks", _below(document, "tool", "mpitasks"))]
    if source.name == OWN:
        rest = {key: value for key, value in document.items() if key != "tool"}
        places.append(("", rest))
    for place, tables in places:
        if not isinstance(tables, Mapping):
            raise ConfigurationError(f"[{place}] in {source} must be a table")
        for key, table in tables.items():
            name = f"{place}.{key}".strip(".")
            if key != "slurm":
                raise ConfigurationError(
                    f"[{name}] in {source} is nothing that mpitasks reads; it reads "
                    f"[tool.mpitasks.slurm]"
                )
            ours[name] = table
    return ours


def _below(table: Any, *keys: str) -> Any:
    for key in keys:
        table = table.get(key, {}) if isinstance(table, Mapping) else {}
    return table


def _list(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigurationError(f"{where}: {key} must be a list of strings")
    return tuple(value)


def _word(table: Mapping[str, Any], key: str, where: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ConfigurationError(f"{where}: {key} must be a string")
    return value


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError:
        raise ConfigurationError(
            f"{path} can be read by Python 3.11 and later only; for this Python: "
            f"pip install 'mpitasks[slurm]'"
        ) from None
    try:
        return dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
