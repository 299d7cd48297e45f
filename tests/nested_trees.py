"""Random trees of tasks that have tasks, and what the same calls give as plain calls.

Hypothesis makes the trees. `tests/test_nested_trees.py` runs this as a script.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mpitasks as mt

Tree = Any
"""A number, "raise", or (how, children)."""

WAYS = (
    "submit",
    "backwards",
    "map",
    "unordered",
    "one by one",
    "chain",
    "done",
    "callback",
    "wait",
    "left",
    "cancel",
    "priority",
    "label",
    "two",
    "isolate",
)


class Failed(Exception):
    pass


def plain(tree: Tree) -> Any:
    """What the tree comes to, by plain calls."""
    if tree == "raise":
        raise Failed("leaf")
    if not isinstance(tree, tuple):
        return tree
    way, children = tree
    values = []
    for child in children:
        try:
            values.append(plain(child))
        except Failed as error:
            values.append(str(error))
    if "leaf" in values and way in ("map", "chain"):
        raise Failed("leaf")
    if way == "cancel":
        return sum(v for v in values[:1] if v != "leaf")
    if way == "left":
        return len(values)
    return sum(v for v in values if v != "leaf")


def outcome(future: Any) -> Any:
    try:
        return future.result()
    except Failed:
        return 0


def add(*values: Any) -> Any:
    return sum(values)


def task(tree: Tree) -> Any:
    """The same, by tasks: a task for each node."""
    if tree == "raise":
        raise Failed("leaf")
    if not isinstance(tree, tuple):
        return tree
    way, children = tree
    me = mt.current_task()
    with mt.Executor() as ex:
        total = WITH[way](ex, children)
    assert mt.current_task() == me
    return total


def _submitted(ex: Any, children: Any) -> list[Any]:
    return [ex.submit(task, child) for child in children]


def _submit(ex: Any, children: Any) -> Any:
    return sum(map(outcome, _submitted(ex, children)))


def _backwards(ex: Any, children: Any) -> Any:
    return sum(map(outcome, reversed(_submitted(ex, children))))


def _map(ex: Any, children: Any) -> Any:
    return sum(ex.map(task, children, chunksize=2))


def _unordered(ex: Any, children: Any) -> Any:
    found = dict(ex.map_unordered(task, children, return_exceptions=True))
    assert sorted(found) == list(range(len(children)))
    return sum(v for v in found.values() if not isinstance(v, Failed))


def _one_by_one(ex: Any, children: Any) -> Any:
    return sum(outcome(ex.submit(task, child)) for child in children)


def _chain(ex: Any, children: Any) -> Any:
    last = ex.submit(add)
    for child in children:
        last = ex.submit(add, last, ex.submit(task, child))
    return last.result()


def _done(ex: Any, children: Any) -> Any:
    futures = _submitted(ex, children)
    for future in futures:
        while not future.done():
            pass
    return sum(map(outcome, futures))


def _callback(ex: Any, children: Any) -> Any:
    called: list[Any] = []
    for future in _submitted(ex, children):
        future.add_done_callback(called.append)
    ex.shutdown()
    assert len(called) == len(children)
    return sum(map(outcome, called))


def _wait(ex: Any, children: Any) -> Any:
    futures = _submitted(ex, children)
    assert mt.wait(futures).not_done == set()
    return sum(map(outcome, mt.as_completed(futures)))


def _left(ex: Any, children: Any) -> Any:
    return len(_submitted(ex, children))


def _cancel(ex: Any, children: Any) -> Any:
    futures = _submitted(ex, children)
    rest = futures[1:]
    assert all(future.cancel() for future in rest)
    total = sum(map(outcome, futures[:1]))
    assert all(future.cancelled() for future in rest)
    return total


def _priority(ex: Any, children: Any) -> Any:
    views = [ex.with_options(priority=k % 3) for k in range(len(children))]
    both = zip(views, children, strict=True)
    return sum(map(outcome, [view.submit(task, child) for view, child in both]))


def _label(ex: Any, children: Any) -> Any:
    above = mt.current_task().label
    view = ex.with_options(label="x")
    assert view.submit(label).result() == ("x" if above is None else f"{above}/x")
    return _submit(view, children)


def label() -> Any:
    return mt.current_task().label


def _two(ex: Any, children: Any) -> Any:
    with mt.Executor() as other:
        pairs = [
            (ex if k % 2 else other).submit(task, child)
            for k, child in enumerate(children)
        ]
        return sum(map(outcome, pairs))


def _isolate(ex: Any, children: Any) -> Any:
    view = ex.with_options(isolate=True)
    return sum(map(outcome, _submitted(view, children[:1]))) + _submit(ex, children[1:])


WITH = dict(
    zip(
        WAYS,
        (
            _submit,
            _backwards,
            _map,
            _unordered,
            _one_by_one,
            _chain,
            _done,
            _callback,
            _wait,
            _left,
            _cancel,
            _priority,
            _label,
            _two,
            _isolate,
        ),
        strict=True,
    )
)

leaves = st.one_of(st.integers(0, 9), st.just("raise"))
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(WAYS), st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=20,
)


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(trees)
def check(tree: Tree) -> None:
    try:
        wanted = plain(tree)
    except Failed:
        wanted = Failed
    future = EXECUTOR.submit(task, tree)
    error = future.exception()
    if wanted is Failed:
        assert type(error) is Failed, (tree, error)
    else:
        assert error is None, (tree, error)
        assert future.result() == wanted, (tree, future.result(), wanted)


if __name__ == "__main__":
    with mt.Executor() as EXECUTOR:
        check()
    print("ok")
