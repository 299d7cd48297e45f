"""A run with a journal, as the executor and the event loop see it, without workers."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mpitasks.journal.recorder import MISSING, Journal
from mpitasks.journal.rows import encode_failure
from mpitasks.options import DEFAULTS, TaskOptions
from mpitasks.wire.outcomes import Failure, encode_result

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Target:
    """In the place of a function as it is sent."""


def stopped(error: BaseException) -> None:
    raise AssertionError("the journal stopped the run") from error


def opened(path: Path, **options: Any) -> Journal:
    """Open a journal for a run that must not be stopped by it."""
    journal = Journal(path, **options)
    engine = types.SimpleNamespace(listen=lambda *_: None)
    journal.attach(types.SimpleNamespace(engine=engine, abandon=stopped))  # type: ignore[arg-type]
    return journal


def call(
    journal: Journal,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: TaskOptions = DEFAULTS,
) -> Any:
    """Return what a call returns, or its Failure: found, or run and noted."""
    targets = vars(journal).setdefault("targets", {})  # each function is looked at once
    target = targets.setdefault(function, Target())
    entry, outcome = journal.find(function, target, args, {}, options)
    if outcome is not MISSING:
        return outcome
    try:
        value = function(*args)
    except Exception as error:
        form = encode_failure(error)
        value = Failure(error)
    else:
        form = encode_result([value], "here")
    if entry is not None:
        journal.note(entry, *form)
    return value


def session(path: Path, calls: Iterable[Call], **options: Any) -> tuple[list[Any], int]:
    """Make the calls in one run; return their outcomes, and how many were run."""
    journal = opened(path, **options)
    try:
        outcomes = [call(journal, *words) for words in calls]
    finally:
        well = journal.close()
    assert well, journal.error
    assert journal.summary.written == journal.summary.ran
    return outcomes, journal.summary.ran
