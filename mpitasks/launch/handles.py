"""Handles of actors, wherever they are unpickled: loads what makes them when one comes.

Most processes never see one, and what makes them is the whole room `mpitasks.api`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["handle_here"]


def handle_here(number: int, cls: type, label: str) -> Any:
    """Return a handle of an actor: see `mpitasks.api.actors.handle_here`."""
    from mpitasks.api import actors

    return actors.handle_here(number, cls, label)
