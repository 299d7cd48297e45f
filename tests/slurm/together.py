"""Jobs of several tests that run at the same time: most of their time they wait."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cluster import Cluster
from launching import Outcome
from login import Login

MOST_JOBS = 20


class Together:
    """Commands on the login node, each in a folder of its own, and what came of them.

    Args:
        cluster: Where; no test may use it otherwise meanwhile.
        folders: Makes the folders.
    """

    def __init__(self, cluster: Cluster, folders: pytest.TempPathFactory) -> None:
        self._cluster = cluster
        self._folders = folders
        self._pool = ThreadPoolExecutor(MOST_JOBS)
        self._started: dict[str, tuple[Login, Future[Outcome]]] = {}

    def login(self, name: str) -> Login:
        """Return a login node with a folder for the command of that name."""
        return Login(self._cluster, self._folders.mktemp(name))

    def start(self, name: str, login: Login, *words: object, **options: object) -> None:
        """Start a command; it must end within the time of one test."""
        run = self._pool.submit(login.run, *words, **options)  # type: ignore[arg-type]
        self._started[name] = (login, run)

    def ended(self, name: str) -> tuple[Login, Outcome]:
        """Wait until a command is over."""
        login, run = self._started[name]
        return login, run.result()

    def close(self) -> None:
        """End what a failed test has left; all must be gone without a trace."""
        self._cluster.clear()
        self._pool.shutdown()
        left = self._cluster.settled()
        assert not left, f"left running: {left}"
