"""Ranks that died, as the MPI library reports them: the fault tolerance of Open MPI 5.

Where it is on (`mpiexec --with-ft ulfm`), a call that needs a dead rank raises. Nothing
but point-to-point messages works afterwards, and what is used here: `Ack_failed`, after
which receives of any source go on, and `Get_failed`, which names the dead. What becomes
of messages from and to them, is in `mpitasks.wire.mpi_transport`.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpi4py import MPI

from mpitasks.errors import TransportError

__all__ = ["Failures", "Send", "is_over", "still_pending"]

Send = tuple[MPI.Request, object, int]
"""A send in flight: the request, the memory that it sends from, and the receiver."""


class Failures:
    """The dead ranks of a communicator.

    Args:
        comm: The communicator; its errors must be returned, not abort.

    Attributes:
        known: The ranks that MPI has reported.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self.known: set[int] = set()

    def learn(self, error: MPI.Exception) -> list[int]:
        """Return the ranks whose death is news, after a call raised `error`.

        Raises:
            TransportError: No rank has died; the error means something else.
        """
        # In this order: whoever dies in between is named without being acknowledged,
        # which raises once more and does no harm.
        self._comm.Ack_failed()
        failed = self._comm.Get_failed()
        own = self._comm.Get_group()
        ranks = failed.Translate_ranks(range(failed.Get_size()), own)
        failed.Free()
        own.Free()
        if not ranks:
            raise TransportError(f"MPI failed: {error}") from error
        news = [rank for rank in ranks if rank not in self.known]
        self.known.update(news)
        return news


def is_over(request: MPI.Request) -> bool:
    """Whether a send has ended or failed, so that it can be let go of."""
    try:
        return request.Test()
    except MPI.Exception:
        return True  # the receiver is dead, and MPI has let go of the memory


def still_pending(sends: Iterable[Send]) -> list[Send]:
    """Return the sends that go on."""
    return [send for send in sends if not is_over(send[0])]
