"""Random numbers by place: how places travel, and which generator they make."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mpitasks
from hands import Hands
from mpitasks import randomness
from mpitasks.api.executor import Executor
from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.launch.arguments import understand
from mpitasks.randomness import DOMAINS, Draw, place_at
from mpitasks.task_spec import Origin, TaskSpec
from mpitasks.wire.messages import ITEMS, MAP_PLAIN, Opening, Outcomes
from mpitasks.wire.outcomes import encode_error
from working import Running, chunk, error_of, framed_chunk, plain

ENTROPY = 2**100 + 1


def expected(seed: int, *place: int, draws: int = 1) -> list[float]:
    """Return what a task of that place draws, as documented."""
    key = DOMAINS["task"], *place
    seeds = np.random.SeedSequence(seed, spawn_key=key)
    return list(np.random.Generator(np.random.PCG64(seeds)).random(draws))


# Tasks.


def draw(_: Any = None) -> float:
    return float(mpitasks.rng().random())


def draw_twice(_: Any = None) -> list[float]:
    first = mpitasks.rng()
    values = [float(first.random())]
    assert mpitasks.rng() is first
    return [*values, float(mpitasks.rng().random())]


def draw_in_thread() -> str:
    caught: list[str] = []

    def inside() -> None:
        try:
            mpitasks.rng()
        except ConfigurationError as error:
            caught.append(str(error))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    return caught[0]


def draw_in_fork() -> bytes:
    out, back = os.pipe()
    child = os.fork()
    if not child:
        try:
            mpitasks.rng()
        except ConfigurationError as error:
            os.write(back, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(back)
    with os.fdopen(out, "rb") as end:
        return end.read()


def square(x: int) -> int:
    return x * x


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A master whose worker's tasks may ask."""
    # However busy the machine: nothing is given back because a child takes long.
    monkeypatch.setattr("mpitasks.worker.isolation.LOADING_SECONDS", 60.0)
    monkeypatch.setattr("mpitasks.sandbox.sandbox.TICK_SECONDS", 60.0)
    made = Running()
    randomness.provide(made.worker.draw)
    yield made
    randomness.provide(lambda: None)


@pytest.fixture
def hands() -> Iterator[Hands]:
    made = Hands(2)
    yield made
    made.close()


# The worker's side.


def test_calls_and_items_draw_by_their_places(master: Running) -> None:
    master.end.send(1, Opening([(10, (0,), 5), (20, (2,), ENTROPY)]))
    calls = [plain(18, draw), plain(20, draw), plain(26, draw_twice)]
    chunks = [chunk(7, draw, [0] * 3), framed_chunk(9, draw, [[], []])]
    again = [plain(11, draw), chunk(13, draw, [0])]
    places: dict[int, Any] = {
        7: (ENTROPY, (2, 4), 100),
        9: (ENTROPY, (2, 4), [3, 8]),
        11: 26,
        13: (ENTROPY, (2, 4), 101),
    }
    master.send(*calls, *chunks, *again, places=places)
    outcomes = master.finish()
    assert outcomes[18] == expected(5, 0, 4)[0]  # of the Executor before
    assert outcomes[20] == expected(ENTROPY, 2, 0)[0]
    assert outcomes[26] == expected(ENTROPY, 2, 3, draws=2)
    items = [expected(ENTROPY, 2, 4, 100 + at)[0] for at in range(3)]
    assert outcomes[7] == items
    assert outcomes[9] == [expected(ENTROPY, 2, 4, at)[0] for at in (3, 8)]
    assert outcomes[11] == outcomes[26][0]  # another attempt starts anew
    assert outcomes[13] == items[1]
    assert {id for reply in master.replies for id in reply.drawn} == set(outcomes)


def test_what_did_not_draw_is_not_said_to_have(master: Running) -> None:
    master.end.send(1, Opening([(0, (0,), 1)]))
    master.send(plain(0, square, 2), plain(2, draw), plain(4, square, 3))
    master.request(plain(6, square, 2))
    master.request(plain(8, draw))
    outcomes = master.finish()
    assert [id for reply in master.replies for id in reply.drawn] == [2, 8]
    assert outcomes[8] == expected(1, 0, 4)[0]


def test_isolated_tasks_draw_the_same(master: Running) -> None:
    master.end.send(1, Opening([(0, (1,), 3)]))
    ids = [2, 4, 6, 9, 10]
    calls = [plain(id, draw) for id in ids if id != 9]
    calls.insert(3, chunk(9, draw_twice, [0, 0]))
    calls.append(plain(12, square, 3))
    task_spec = {id: TaskSpec(isolate=True) for id in [*ids, 12]}
    master.send(*calls, task_spec=task_spec, places={9: (3, (1, 7), [5, 2])})
    outcomes = master.finish()
    for id in (2, 4, 6, 10):
        assert outcomes[id] == expected(3, 1, id // 2)[0]
    assert outcomes[9] == [expected(3, 1, 7, at, draws=2) for at in (5, 2)]
    drawn = {id for reply in master.replies for id in reply.drawn}
    assert drawn >= set(ids)


def test_an_isolated_task_that_drew_and_one_that_did_not(master: Running) -> None:
    master.end.send(1, Opening([(0, (0,), 3)]))
    isolated = TaskSpec(isolate=True)
    master.send(plain(0, draw), task_spec={0: isolated})
    master.receive(Outcomes)
    master.send(plain(2, square, 3), task_spec={2: isolated})
    master.finish()
    assert [id for reply in master.replies for id in reply.drawn] == [0]


def test_another_run_in_the_same_process_begins_anew() -> None:
    drawn = []
    for _ in range(2):
        made = Running()
        randomness.provide(made.worker.draw)
        made.end.send(1, Opening([(0, (0,), 1)]))
        made.send(plain(0, draw))
        drawn.append(made.finish()[0])
    randomness.provide(lambda: None)
    assert drawn == expected(1, 0, 0) * 2


def test_the_place_is_told(master: Running) -> None:
    from mpitasks.runner import context

    context.provide(lambda: master.worker.current_task(1, "node7"))
    try:
        master.end.send(1, Opening([(0, (1,), 3)]))
        master.send(
            plain(4, _place),
            chunk(7, _place, [0, 0]),
            places={7: (3, (1, 5), 8)},
        )
        outcomes = master.finish()
    finally:
        context.provide(lambda: None)
    assert outcomes[4] == (1, 2)
    assert outcomes[7] == [(1, 5, 8), (1, 5, 9)]


def _place(_: Any = None) -> tuple[int, ...]:
    return mpitasks.current_task().place


def test_threads_and_forks_are_refused(master: Running) -> None:
    master.end.send(1, Opening([(0, (0,), 1)]))
    master.send(plain(0, draw_in_thread), plain(2, draw_in_fork))
    outcomes = master.finish()
    assert "another thread" in outcomes[0]
    assert b"forked" in outcomes[2]


def test_outside_a_task(master: Running) -> None:
    with pytest.raises(ConfigurationError, match="outside a task"):
        mpitasks.rng()
    master.send(plain(0, draw))  # by a master that did not say where
    assert "outside a task" in str(error_of(master.finish()[0]))


def test_place_at() -> None:
    assert place_at(None, 3) is None
    assert place_at((1, (2, 3), None), None) == (1, (2, 3))
    assert place_at((1, (2, 3), 10), 4) == (1, (2, 3, 14))
    assert place_at((1, (2, 3), [10, 20]), 1) == (1, (2, 3, 20))


def test_script_and_tasks_of_one_seed_draw_differently() -> None:
    drawn = []
    try:
        for kind in ("task", "script"):
            randomness.provide(lambda kind=kind: Draw(kind, object(), 1, (0,)))  # type: ignore[misc]
            drawn.append(mpitasks.rng().random())
    finally:
        randomness.provide(lambda: None)
    assert drawn[0] != drawn[1]
    assert drawn[0] == expected(1, 0)[0]
    assert not set(drawn) & {np.random.default_rng(1).random()}


# The master's side.


def test_calls_are_numbered_in_program_order(hands: Hands) -> None:
    executor = Executor(seed=7)
    executor.map(square, range(4), chunksize=2)
    executor.submit(square, 1)
    executor.map(square, range(2), chunksize=2)
    executor.submit(square, 2)
    found = []
    while hands.event_loop.outstanding:
        for rank in (1, 2):
            for batch in hands.batches(rank):
                for call in batch.calls:
                    is_chunk = call[2] == MAP_PLAIN
                    found.append((batch.places or {}).get(call[0], call[0]))
                    hands.reply(rank, call, [0, 0] if is_chunk else 0)
    (fields,) = hands.openings[1].origins
    origin = Origin._make(fields)
    assert (origin.path, origin.entropy) == ((0,), 7)
    calls = [origin.place(id) for id in found if isinstance(id, int)]
    assert calls == [(7, (0, 1)), (7, (0, 3))]
    chunks = [place for place in found if not isinstance(place, int)]
    assert sorted(chunks) == [(7, (0, 0), 0), (7, (0, 0), 2), (7, (0, 2), 0)]


def _fail(hands: Hands, rank: int, call: Any) -> None:
    form, frame, _ = encode_error(OSError(), "there")
    costs = [(call[1], 1, 1e-5, 0)]
    report = Outcomes(rank, 1, [call[0]], [call[0]], costs, [frame], {0: (form, 0)})
    hands.say(rank, report)


def _next(hands: Hands) -> tuple[int, Any]:
    [(rank, batch)] = [(r, b) for r in (1, 2) for b in hands.batches(r)]
    return rank, batch


def test_another_attempt_keeps_the_place_of_the_first(hands: Hands) -> None:
    executor = Executor(retries=2)
    executor.submit(square, 1)
    rank, batch = _next(hands)
    (first,) = batch.calls
    assert not batch.places
    for _ in range(2):
        _fail(hands, rank, batch.calls[0])
        rank, batch = _next(hands)
        (call,) = batch.calls
        assert batch.places == {call[0]: first[0]}
        assert call[0] % 2


def test_another_attempt_at_an_item(hands: Hands) -> None:
    executor = Executor(seed=1, retries=1)
    results = executor.map(square, range(10, 13), chunksize=3)
    rank, batch = _next(hands)
    (call,) = batch.calls
    error = encode_error(OSError(), "there")
    entries = [(0, 100, 0), (error[0], error[1], 0), (0, 144, 0)]
    costs = [(call[1], 3, 1e-5, 0)]
    hands.say(rank, Outcomes(rank, 1, [call[0]], [], costs, [entries], {0: (ITEMS, 0)}))
    rank, batch = _next(hands)
    assert batch.places == {batch.calls[0][0]: (1, (0, 0), 1)}
    hands.reply(rank, batch.calls[0], [121])
    assert list(results) == [100, 121, 144]


def test_a_worker_is_told_once_and_of_all_that_may_have_calls(hands: Hands) -> None:
    first = Executor(max_workers=1, seed=1)
    first.submit(square, 1)
    first.submit(square, 2)
    (one, *_) = hands.calls(1)
    assert [o[2] for o in hands.openings.pop(1).origins] == [1]
    first.shutdown(wait=False)
    second = Executor(max_workers=1, seed=2)  # while the other's calls are queued
    hands.reply(1, one, 0)
    (two,) = hands.calls(1)
    assert [o[2] for o in hands.openings.pop(1).origins] == [1, 2]
    hands.reply(1, two, 0)
    second.shutdown()
    third = Executor(max_workers=1, seed=3)
    third.submit(square, 3)
    (three,) = hands.calls(1)
    assert [o[2] for o in hands.openings.pop(1).origins] == [3]
    hands.reply(1, three, 0)
    third.submit(square, 3)
    hands.calls(1)
    assert hands.openings == {}


def test_the_executors_of_a_run(hands: Hands) -> None:
    def origin(**options: Any) -> Origin:
        executor = Executor(**options)
        executor.shutdown()
        found = executor._handle.origin
        assert found is not None
        return found

    first, second = origin(), origin()
    assert first.entropy == second.entropy > 2**32
    assert (first.path, second.path) == ((0,), (1,))
    own = origin(seed=np.int64(7))
    assert (own.path, own.entropy, type(own.entropy)) == ((0,), 7, int)
    assert origin(seed=7)[1:] == own[1:]
    assert origin().path == (2,)


def test_the_script_draws_while_an_executor_is_open(hands: Hands) -> None:
    session = mpitasks.api.session.peek()  # type: ignore[attr-defined]
    randomness.provide(session.draw)
    try:
        drawn = []
        for seed in (1, 1, 2):
            with Executor(seed=seed):
                drawn.append(list(mpitasks.rng().random(2)))
                assert mpitasks.rng() is mpitasks.rng()
            with pytest.raises(ConfigurationError, match="no Executor open"):
                mpitasks.rng()
    finally:
        randomness.provide(lambda: None)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, OptionError), (1.0, TypeError), ("1", TypeError), (True, TypeError)],
)
def test_seeds_that_are_none(hands: Hands, seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be"):
        Executor(seed=seed)
    Executor().shutdown()  # nothing was opened


def test_the_command_line() -> None:
    assert understand(["--seed", "12", "a.py"], None)[1].seed == 12
    assert understand(["a.py"], None)[1].seed is None
    for words in (["--seed", "-1", "a.py"], ["--seed", "x", "a.py"]):
        with pytest.raises(ConfigurationError, match="seed"):
            understand(words, None)
