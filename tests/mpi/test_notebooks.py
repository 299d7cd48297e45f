"""Notebooks: a real Jupyter kernel starts its workers, uses them, and outlives them."""

from __future__ import annotations

import sys

import pytest

from launching import SCRIPTS, Launch, Mpi

pytest.importorskip("ipykernel", reason="pip install 'mpitasks[jupyter]'")
pytest.importorskip("nbclient", reason="pip install nbclient")


def test_a_kernel(any_mpi: Mpi, launch: Launch) -> None:
    """The cells, and what each shows, are in the script, a client of Jupyter."""
    outcome = launch([sys.executable, SCRIPTS / "notebook.py"], seconds=60)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.endswith("all cells ran\n"), str(outcome)
