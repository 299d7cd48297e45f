"""Buffers for which a rank had no memory: received all the same, into nowhere.

A message that was sent must be received, or its sender would never be done with it. So
where a buffer does not fit into memory, its bytes go over one small piece again and
again, and `Missing` stands in its place: whatever it belongs to fails, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Missing", "check"]


class Missing:
    """In the place of a buffer that there was no memory for.

    Attributes:
        nbytes: How large it was.
        rank: Where it did not fit.
    """

    __slots__ = ("nbytes", "rank")

    def __init__(self, nbytes: int, rank: int) -> None:
        self.nbytes = nbytes
        self.rank = rank

    def __len__(self) -> int:
        return self.nbytes


def check(buffers: Iterable[object]) -> None:
    """Look whether all buffers are there.

    Raises:
        MemoryError: One of them is not.
    """
    for buffer in buffers:
        if type(buffer) is Missing:
            raise MemoryError(
                f"an array of {buffer.nbytes / 1e9:.3g} GB was sent to rank "
                f"{buffer.rank} and does not fit into its memory"
            )
