"""How many threads BLAS and OpenMP libraries start in each rank.

They start one for each core they see, and read how many they may from variables, once,
when they are loaded. With several ranks on a host that is a storm of threads: so each
rank sets the variables to its share of the cores before NumPy is loaded, unless the
user has set them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, MutableMapping

__all__ = [
    "VARIABLES",
    "asked_threads",
    "limit_threads",
    "limit_to_share",
    "loaded_threads",
]

OPENMP = "OMP_NUM_THREADS"

FOLLOWERS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Variables of libraries that go by `OPENMP` where their own is not set."""

VARIABLES = (OPENMP, *FOLLOWERS, "VECLIB_MAXIMUM_THREADS")


def asked_threads(environ: Mapping[str, str]) -> int | None:
    """Return the most threads that a variable asks for; None if none says a number."""
    asked = [_count(environ.get(name, "")) for name in VARIABLES]
    return max((count for count in asked if count), default=None)


def limit_threads(share: int, environ: MutableMapping[str, str]) -> None:
    """Set each variable to this many threads, except those that the user has set.

    Who sets OMP_NUM_THREADS has decided for those that follow it, too.
    """
    decided = environ.get(OPENMP)
    for name in VARIABLES:
        if decided and name in FOLLOWERS:
            continue
        if not environ.get(name):
            environ[name] = str(share)


def limit_to_share(share: int) -> None:
    """Limit this rank; with threadpoolctl also libraries that are loaded already.

    Args:
        share: How many cores the rank may keep busy.
    """
    free = asked_threads(os.environ) is None
    limit_threads(share, os.environ)
    if free and "numpy" in sys.modules:  # only where the script calls mpitasks.run
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return
        threadpool_limits(share)


def loaded_threads(cores: int) -> int | None:
    """Return how many threads NumPy took, if it was loaded before anybody limited it.

    Args:
        cores: How many cores this process may use.
    """
    if "numpy" not in sys.modules or importlib.util.find_spec("threadpoolctl"):
        return None
    return cores


def _count(value: str) -> int | None:
    """Return what a variable says; OpenMP takes a list, a number for each level."""
    first = value.partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else None
