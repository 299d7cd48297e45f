"""What a site or a project always wants: a table in pyproject.toml or mpitasks.toml.

    [tool.mpitasks.slurm]
    modules = ["gcc/13", "mpich/4.2"]     # module load, in the job
    environment = "/home/me/venv"         # activated in the job, and its python is used
    setup = ["ulimit -c 0"]               # further lines of the job script
    launcher = "srun --mpi=pmix"          # instead of the one that is found
    sbatch-args = ["--hint=nomultithread"]
    partition = "short"                   # and any option of a job, by its long name

The files are looked for in the current folder and those above it; the first that has
the table counts. What is said on the command line wins over it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.launch.slurm.options import OPTIONS, checked_options

__all__ = ["Site", "find_site", "read_table"]

FILES = ("mpitasks.toml", "pyproject.toml")
LISTS = ("modules", "setup", "sbatch-args")
WORDS = ("environment", "launcher")


@dataclass(frozen=True, slots=True)
class Site:
    """What the table says.

    Attributes:
        source: The file that it is from; None if there is none.
        modules: Names for ``module load``.
        environment: Folder of a virtual or conda environment.
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


def find_site(folder: Path) -> Site:
    """Return what the nearest table says, seen from a folder.

    Raises:
        ConfigurationError: A file cannot be read, or its table makes no sense.
    """
    for place in (folder, *folder.parents):
        for name in FILES:
            path = place / name
            # A file that does not mention us needs no parser, which 3.10 lacks.
            if path.is_file() and "mpitasks" in path.read_text(errors="replace"):
                table = read_table(_parse(path), path)
                if table is not None:
                    return table
    return Site()


def read_table(document: Mapping[str, Any], source: Path) -> Site | None:
    """Return what a document's table says; None if it has none.

    Raises:
        ConfigurationError: A key is unknown, or a value of the wrong kind.
    """
    table: Any = document
    for key in ("tool", "mpitasks", "slurm"):
        table = table.get(key) if isinstance(table, Mapping) else None
    if table is None:
        return None
    where = f"[tool.mpitasks.slurm] in {source}"
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
    environment = words["environment"]
    if environment is not None:
        environment = str(source.parent / Path(environment).expanduser())
    return Site(
        source,
        lists["modules"],
        environment,
        lists["setup"],
        words["launcher"],
        lists["sbatch-args"],
        options,
    )


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


def _parse(path: Path) -> dict[str, Any]:
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
        with path.open("rb") as file:
            return dict(tomllib.load(file))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
