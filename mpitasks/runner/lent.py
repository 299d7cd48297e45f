"""The ``__main__`` of a rank that has run the script itself, lent to a run.

While the rank serves, its module follows the one of rank 0 (`mpitasks.runner.mirror`):
so a global like ``rank = comm.Get_rank()`` has the value of rank 0. Afterwards the
program goes on there, with what is its own.
"""

from __future__ import annotations

import sys

from mpitasks.runner.mirror import script_main

__all__ = ["LentMain"]


class LentMain:
    """Remembers what is in the module ``__main__`` of this process.

    Attributes:
        module: The module, as one that can follow that of rank 0.
    """

    def __init__(self) -> None:
        main = sys.modules["__main__"]
        self._kind = type(main)
        self._names = vars(main).copy()
        self.module = script_main()

    def give_back(self) -> None:
        """Put back what was there, and nothing else."""
        names = vars(self.module)
        for name in names.keys() - self._names.keys():
            del names[name]
        names.update(self._names)
        self.module.__class__ = self._kind
        sys.modules["__main__"] = self.module
