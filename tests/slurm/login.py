"""What a user does on the login node: scripts in a folder, commands, and files."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster
from launching import Mpi, Outcome

UNTIL_SECONDS = 40.0


@dataclass
class Login:
    """A shell on the login node, in a folder of the test's own."""

    cluster: Cluster
    folder: Path

    def script(self, text: str, name: str = "fit.py") -> Path:
        """Write a script into the folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def run(
        self,
        *words: object,
        seconds: float = 60.0,
        environ: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a command to its end."""
        return self.cluster.run(words, self.folder, seconds=seconds, environ=environ)

    def mpitasks(self, mpi: Mpi, *words: object, seconds: float = 60.0) -> Outcome:
        """Run ``python -m mpitasks``."""
        return self.run(mpi.python, "-m", "mpitasks", *words, seconds=seconds)

    def submit(self, mpi: Mpi, *words: object) -> str:
        """Submit a job; return its id."""
        outcome = self.mpitasks(mpi, "submit", *words)
        assert outcome.code == 0, str(outcome)
        match = re.match(r"job (\d+): ", outcome.out)
        assert match is not None, str(outcome)
        return match[1]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is the case; fail when time is up."""
        end = time.monotonic() + UNTIL_SECONDS
        while not condition():
            assert time.monotonic() < end, f"not before time was up: {what}"
            time.sleep(0.05)

    def field(self, job: str, name: str) -> str:
        """Return what SLURM has in a field of a job."""
        record = self.cluster.call("scontrol", "show", "job", "--oneliner", job)
        return dict(re.findall(r"(\w+)=(\S*)", record))[name]

    def read(self, name: str) -> str:
        """Return what is in a file of the folder."""
        return (self.folder / name).read_text()

    def files(self) -> set[str]:
        """Return the names in the folder."""
        return {path.name for path in self.folder.iterdir()}
