"""The options of a job, as sbatch knows them: one table for command line, file and API.

Values are passed on as they are: sbatch knows best which of them it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mpitasks.errors import OptionError
from mpitasks.values import integer

__all__ = ["OPTIONS", "Option", "checked_options", "option_lines"]


class Option(NamedTuple):
    """One of sbatch's options.

    Attributes:
        name: Its long name.
        flag: Its short one, if it has one.
        metavar: What its value is called.
        help: What it says.
    """

    name: str
    flag: str | None
    metavar: str
    help: str

    @property
    def field(self) -> str:
        """Its name in Python."""
        return self.name.replace("-", "_")


OPTIONS = {
    option.name: option
    for option in [
        Option("job-name", "J", "NAME", "name of the job (the script's)"),
        Option("output", "o", "FILE", "the log; %%j is the job id (NAME-%%j.out)"),
        Option("nodes", "N", "N", "nodes"),
        Option("ntasks", "n", "N", "ranks in all"),
        Option("ntasks-per-node", None, "N", "ranks on each node"),
        Option("cpus-per-task", "c", "N", "cores for each rank"),
        Option(
            "time", "t", "TIME", "walltime: minutes, or [DAYS-]HOURS:MINUTES:SECONDS"
        ),
        Option("partition", "p", "NAME", "partition"),
        Option("account", "A", "NAME", "account to charge"),
        Option("qos", "q", "NAME", "quality of service"),
        Option("mem", None, "SIZE", "memory on each node, as 16G"),
        Option("gres", None, "LIST", "further resources on each node, as gpu:2"),
        Option("array", None, "INDEXES", "one job for each index, as 0-9 or 1,3%%2"),
    ]
}
"""By name, in the order in which they stand in a job script."""


def checked_options(values: Mapping[str, object]) -> dict[str, str]:
    """Return the options that were given, by name, as text, in the table's order.

    Args:
        values: By name, with - or _; None means not given.

    Raises:
        OptionError: An option is unknown, or its value is none that fits on a line.
    """
    given = {name.replace("_", "-"): value for name, value in values.items()}
    for name in given:
        if name not in OPTIONS:
            raise OptionError(
                f"there is no job option {name!r}; there are {', '.join(OPTIONS)}; "
                f"any other goes through sbatch-args"
            )
    return {
        name: _text(name, given[name])
        for name in OPTIONS
        if given.get(name) is not None
    }


def _text(name: str, value: object) -> str:
    try:
        text = value if isinstance(value, str) else str(integer(name, value))
    except OptionError:
        raise OptionError(
            f"{name} must be text or a whole number, not {value!r}"
        ) from None
    if not text.strip() or not text.isprintable():
        raise OptionError(f"{name} needs a value, not {value!r}")
    return text


def option_lines(values: Mapping[str, str]) -> list[str]:
    """Return the words that give sbatch these options."""
    return [f"--{name}={value}" for name, value in values.items()]
