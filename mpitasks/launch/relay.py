"""Rank 0 of a job that `mpitasks.start` has started: it hands messages on.

The script is outside of MPI, and drives the run from there (`mpitasks.launch.outside`).
Here the ranks meet as in any run. Then whatever comes over the socket goes to the
worker that it is for, and whatever workers send goes over the socket; the values in it
are not looked at. When the script's end of the socket closes, the job ends: by itself
if all workers have said goodbye, else at once. No task is known here, and no scheduler.
"""

from __future__ import annotations

import select
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from mpitasks import exit_codes
from mpitasks.errors import LaunchError
from mpitasks.records import as_dict
from mpitasks.wire.messages import Goodbye, Hello, Welcome
from mpitasks.wire.rendezvous import join_meeting, send_greeting
from mpitasks.wire.socket_transport import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpitasks.wire.transport import Transport

__all__ = ["Relay", "RelayProgram"]

LOOK_SECONDS = 0.05
"""No pause is longer."""

MOST_UNSENT_BYTES = 256 << 20
"""With more that the script has not taken, workers keep what they have to send."""


class Relay:
    """Hands messages on between the script and the workers.

    Args:
        script: The transport to the script.
        workers: The transport to the workers.
        ranks: The workers.
    """

    def __init__(
        self, script: SocketTransport, workers: Transport, ranks: Sequence[int]
    ) -> None:
        self._script = script
        self._workers = workers
        self._present = set(ranks)

    @property
    def all_left(self) -> bool:
        """Whether every worker has said goodbye."""
        return not self._present

    def step(self) -> bool:
        """Hand on one message each way, at most; return whether there was any."""
        moved = False
        arrived = self._script.poll()
        if arrived is not None:
            rank, message = arrived
            self._workers.send(rank, message)
            moved = True
        if self._script.unsent_bytes < MOST_UNSENT_BYTES:
            arrived = self._workers.poll()
            if arrived is not None:
                rank, message = arrived
                self._script.send(rank, message)
                if type(message) is Goodbye:
                    self._present.discard(rank)
                moved = True
        if not moved:
            self._workers.sending()
        return moved

    def run(self) -> None:
        """Hand messages on until the script's end is closed."""
        while not self._script.is_closed:
            if self.step():
                continue
            if self._script.sending():
                select.select([self._script], [self._script], [], 1e-3)
            else:
                self._workers.wait(LOOK_SECONDS)


class RelayProgram:
    """What the ranks of such a job run; stands where a script does.

    Args:
        name: The name of the meeting.
        host: The host that the script runs on.
    """

    args: tuple[str, ...] = ()
    is_module = False
    is_lone = False
    is_everywhere = False

    def __init__(self, name: str, host: str) -> None:
        self._name = name
        self._host = host

    def words(self) -> list[str]:
        """Return nothing: nobody types this."""
        return []

    def prepare(self) -> None:
        """Hide the words of the command line, which are not the script's."""
        sys.argv[:] = [""]

    def check(self) -> None:
        """There is nothing to look for."""

    def execute(self) -> None:
        """Rank 0 alone comes here, and only if there is no other."""
        raise LaunchError("a job of mpitasks.start needs at least two ranks")

    def lead(
        self,
        transport: Transport,
        hellos: Sequence[Hello],
        answer: Welcome,
        *,
        listens: bool,
    ) -> NoReturn:
        """On rank 0, once all ranks have met: hand messages on, and exit.

        Args:
            transport: The transport to the workers.
            hellos: Who is there.
            answer: Rank 0's own welcome.
            listens: Whether workers can answer while user code runs.

        Raises:
            LaunchError: The script cannot be reached.
        """
        from mpitasks.launch import cli

        connection = self._connect()
        ranks = [hello.rank for hello in hellos[1:]]
        greeting = {
            "hellos": [as_dict(hello) for hello in hellos],
            "welcome": as_dict(answer),
            "listens": listens,
        }
        try:
            send_greeting(connection, greeting)
        except OSError as error:
            raise LaunchError(
                f"the script that started this is gone: {error}"
            ) from error
        script = SocketTransport(connection)
        transport.also_wakes(script.fileno())  # type: ignore[attr-defined]
        forwarder = Relay(script, transport, ranks)
        forwarder.run()
        if not forwarder.all_left:
            cli.end_rank(exit_codes.LOST, abort=True)
        transport.close()
        cli.end_rank(0)

    def _connect(self) -> socket.socket:
        try:
            return join_meeting(self._name)
        except OSError as error:
            own = socket.gethostname()
            if own == self._host:
                raise LaunchError(
                    f"the script that started this job is gone, or in another "
                    f"container ({error})"
                ) from error
            raise LaunchError(
                f"rank 0 is on {own}, and the script that started the job on "
                f"{self._host}: they talk over a socket of one host, since nothing of "
                f"mpitasks listens on a port. Start the notebook on {own}, or have "
                f"rank 0 on {self._host}: srun --nodelist={self._host},..., or "
                f"mpiexec with that host first"
            ) from error


def main() -> NoReturn:
    """Run one rank of such a job, as ``-m mpitasks.launch.relay NAME HOST SECONDS``."""
    from mpitasks.launch import cli, signals
    from mpitasks.launch.environment import launch_hint
    from mpitasks.launch.exit import know_supervisor
    from mpitasks.settings import Settings

    name, host, seconds = sys.argv[1:4]
    hint = launch_hint()
    signals.expect(leads=hint is None or hint.rank == 0)
    know_supervisor(leads=False)
    program = RelayProgram(name, host)
    cli.run_program(program, Settings(start_seconds=float(seconds)), lead=program.lead)


if __name__ == "__main__":
    main()
