"""The journal asks for keys: once for what is sent, and under no lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mpitasks.journal.recorder import Journal
from mpitasks.options import TaskOptions

OPTIONS = TaskOptions()


class Target:
    """A function as it is sent."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "run.db")
    yield made
    made.close()


def function_of(scope: dict[str, Any]) -> Any:
    exec("def f(x): return x * N", scope)
    return scope["f"]


def test_a_function_is_looked_at_once_for_what_is_sent(journal: Journal) -> None:
    function = function_of(scope := {"N": 1})
    one, other = Target(), Target()
    first = journal.meet(function, one)  # type: ignore[arg-type]
    scope["N"] = 2
    assert journal.meet(function, one) == first  # type: ignore[arg-type]
    second = journal.meet(function, other)  # type: ignore[arg-type]
    assert first is not None
    assert second is not None
    assert first[0].digest != second[0].digest
    assert first[1] != second[1]
    assert journal.meet(function, one) == first  # type: ignore[arg-type]
    assert journal.meet(function, one, renew=True) == first  # type: ignore[arg-type]


def test_another_journal_takes_what_was_sent_too(
    journal: Journal, tmp_path: Path
) -> None:
    function = function_of(scope := {"N": 1})
    target: Any = Target()
    first = journal.meet(function, target)
    scope["N"] = 2
    second = Journal(tmp_path / "other.db")
    met = second.meet(function, target)
    second.close()
    assert first is not None
    assert met is not None
    assert first[0].digest == met[0].digest


def test_a_target_that_is_gone_takes_its_identity_along(journal: Journal) -> None:
    function = function_of(scope := {"N": 1})
    digests = set()
    for value in range(20):
        scope["N"] = value
        met = journal.meet(function, Target())  # type: ignore[arg-type]
        assert met is not None
        digests.add(met[0].digest)
    assert len(digests) == 20


class Hooked:
    """Calls something when it is pickled, which is no part of it."""

    def __init__(self, hook: Callable[[], None]) -> None:
        self.hook = hook

    def __reduce__(self) -> Any:
        self.hook()
        return Hooked, (None,)


def test_hooks_may_use_the_journal(journal: Journal) -> None:
    met = journal.meet(function_of({"N": 1}))
    assert met is not None

    def use() -> None:
        journal.enter(met, (5,), {}, OPTIONS)
        other = Thread(target=journal.enter, args=(met, (6,), {}, OPTIONS), daemon=True)
        other.start()
        other.join(120)
        assert not other.is_alive(), "the keys are locked"
        used.append(1)

    used: list[int] = []
    entry, found = journal.enter(met, (Hooked(use),), {}, OPTIONS)
    assert used
    assert entry is not None
    assert not found


def test_what_has_no_key_is_said_and_nothing_escapes(
    journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    class Sour:
        def __reduce__(self) -> Any:
            raise SystemExit("no")

        def __repr__(self) -> str:
            raise SystemExit("no repr")

        def __call__(self) -> None:
            pass

    met = journal.meet(function_of({"N": 1}))
    assert met is not None
    assert journal.enter(met, (Sour(),), {}, OPTIONS) == (None, 0)
    assert journal.enter(met, (), {"x": Sour()}, OPTIONS) == (None, 0)
    keyed = OPTIONS.replace(key=("a", Sour()))
    assert journal.enter(met, (1,), {}, keyed) == (None, 0)
    assert journal.meet(Sour()) is None
    said = capsys.readouterr().err
    assert "argument 0 cannot be told apart: SystemExit: no" in said
    assert said.count("not kept in the journal") == 2  # each function once


def set_up(n: int) -> None:
    """Set a process up."""


def other_set_up(n: int) -> None:
    """Set a process up, and do something else."""
    print(n)


def test_a_result_depends_on_how_processes_are_set_up(journal: Journal) -> None:
    import decimal
    from types import SimpleNamespace

    import numpy as np

    event_loop: Any = SimpleNamespace(
        engine=SimpleNamespace(listen=lambda *_: None), abandon=None
    )
    function = function_of({"N": 1})

    def key(*initializer: Any) -> bytes:
        journal.attach(event_loop, *initializer)
        met = journal.meet(function, Target())  # type: ignore[arg-type]
        assert met is not None
        return met[0].digest

    plain = key()
    keys = {plain, key(set_up, (1,)), key(set_up, (2,)), key(other_set_up, (1,))}
    with decimal.localcontext() as context:
        context.prec = 50
        keys.add(key())
    with np.errstate(divide="raise"):
        keys.add(key())
    assert len(keys) == 6
    assert key() == plain
    assert key(set_up, (1,)) in keys


def test_with_an_initializer_that_cannot_be_told_nothing_is_recorded(
    journal: Journal,
) -> None:
    import threading
    from types import SimpleNamespace

    event_loop: Any = SimpleNamespace(
        engine=SimpleNamespace(listen=lambda *_: None), abandon=None
    )
    journal.attach(event_loop, set_up, (threading.Lock(),))
    function = function_of({"N": 1})
    for _ in range(2):
        assert journal.meet(function, Target()) is None  # type: ignore[arg-type]
