"""What the script has set up around its functions: taken on rank 0, for the workers.

`sys.path`, the working folder, environment variables, the recursion limit, the context
of `decimal` and NumPy's error state, as far as they differ from what every rank started
with. They are looked at when an Executor is opened.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from mpitasks.errors import ConfigurationError

__all__ = ["Start", "apply", "arithmetic", "changes"]

_LAUNCHERS = (
    *("HYD", "MPI", "MV2_", "OMPI_", "PALS_", "PMI", "PRTE_", "SLURM", "PWD", "OLDPWD"),
)
"""Variables with these beginnings are each rank's own."""


class Start:
    """What this process was set up with when the ranks met."""

    def __init__(self) -> None:
        self.path = sys.path.copy()
        self.folder = _folder()
        self.environment = dict(os.environ)
        self.recursion_limit = sys.getrecursionlimit()


def changes(start: Start, told: dict[str, Any]) -> dict[str, Any]:
    """Return what is different now; an empty dictionary if nothing is.

    Args:
        start: What every rank started with.
        told: What workers were told before, which they keep until they are told again.
    """
    found: dict[str, Any] = {}
    if sys.path != start.path or "path" in told:
        found["path"] = [entry for entry in sys.path if isinstance(entry, str)]
    folder = _folder()
    if folder != start.folder or "folder" in told:
        found["folder"] = folder
    environment = {
        name: os.environ.get(name)
        for name in {*os.environ, *start.environment}
        if os.environ.get(name) != start.environment.get(name)
        and not name.startswith(_LAUNCHERS)
    }
    environment.update(
        (name, os.environ.get(name)) for name in told.get("environment", ())
    )
    if environment:
        found["environment"] = environment
    if sys.getrecursionlimit() != start.recursion_limit or "recursion_limit" in told:
        found["recursion_limit"] = sys.getrecursionlimit()
    context = _decimal_context()
    if context is None and "decimal" in told:
        context = sys.modules["decimal"].DefaultContext.copy()
    if context is not None:
        found["decimal"] = context
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        errors = numpy.geterr()
        if errors != _NUMPY_ERRORS or "numpy_errors" in told:
            found["numpy_errors"] = errors
    return found


def arithmetic() -> dict[str, str]:
    """Return, as text, what of it changes how numbers are computed."""
    found: dict[str, str] = {}
    context = _decimal_context()
    if context is not None:
        found["decimal"] = repr(context)
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.geterr() != _NUMPY_ERRORS:
        found["numpy_errors"] = repr(sorted(numpy.geterr().items()))
    return found


def apply(found: dict[str, Any]) -> None:
    """Set this process, and the calling thread, up like that.

    Raises:
        ConfigurationError: The working folder cannot be entered here.
    """
    folder = found.get("folder")
    if folder is not None and folder != _folder():
        try:
            os.chdir(folder)
        except OSError as error:
            raise ConfigurationError(
                f"the script has changed to the folder {folder!r}, which this rank "
                f"cannot enter ({error}); use one that all hosts have"
            ) from error
    if "path" in found:
        sys.path[:] = found["path"]
    for name, value in found.get("environment", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "recursion_limit" in found:
        sys.setrecursionlimit(found["recursion_limit"])
    if "decimal" in found:
        import decimal

        decimal.setcontext(found["decimal"])
    if "numpy_errors" in found:
        import numpy as np

        np.seterr(**found["numpy_errors"])


_NUMPY_ERRORS = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
}


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  pathlib is slow to import
    except OSError:  # it was deleted
        return None


def _decimal_context() -> Any:
    """Return the context of `decimal`, unless a thread starts with the same."""
    decimal = sys.modules.get("decimal")
    if decimal is None:
        return None
    own, usual = decimal.getcontext(), decimal.DefaultContext
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
    if all(getattr(own, name) == getattr(usual, name) for name in names):
        return None
    context = own.copy()
    context.clear_flags()
    return context
