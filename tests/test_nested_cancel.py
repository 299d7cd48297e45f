"""What a task cancels of its children, and what an error in it cancels: all not begun.

Each test is a task of the size-1 mode. A module holds what the children note, since
they run in the process of the test.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

NOTES = """
    import builtins
    import mpitasks as mt

    NOTES = builtins.NOTES = []

    def note(k):
        builtins.NOTES.append(k)
        return k
"""


def run(script: str) -> str:
    code = textwrap.dedent(NOTES) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("count", [1, 2, 100])
def test_error_cancels_children_that_are_not_begun(count: int) -> None:
    script = f"""
        def parent():
            executor = mt.Executor()
            first = executor.submit(note, -1)
            first.result()
            for k in range({count}):
                executor.submit(note, k)
            raise ValueError

        with mt.Executor() as executor:
            assert type(executor.submit(parent).exception()) is ValueError
        print(NOTES)
    """
    assert run(script) == "[-1]"


def test_error_cancels_items_of_a_map() -> None:
    script = """
        def parent():
            executor = mt.Executor()
            next(executor.map(note, range(1000), chunksize=1))
            raise ValueError

        with mt.Executor() as executor:
            assert type(executor.submit(parent).exception()) is ValueError
        print(NOTES)
    """
    # It was handed two batches at most, of one item each, when the first was there.
    assert run(script) in ("[0]", "[0, 1]")


def test_every_call_that_is_not_begun_can_be_cancelled() -> None:
    script = """
        def parent():
            with mt.Executor() as executor:
                futures = [executor.submit(note, k) for k in range(20)]
                assert futures[0].result() == 0
                begun = len(builtins.NOTES)
                cancelled = [future.cancel() for future in futures]
                assert cancelled == [False] * begun + [True] * (20 - begun), cancelled
                assert all(f.cancelled() for f in futures[begun:])
                last = executor.submit(note, 99)
                assert not last.cancel() or last.cancelled()
                assert executor.submit(note, 100).result() == 100
            return begun

        with mt.Executor() as executor:
            begun = executor.submit(parent).result()
        assert NOTES == [*range(begun), 100], NOTES
        print("ok")
    """
    assert run(script) == "ok"


def test_shutdown_cancels_what_is_not_begun() -> None:
    script = """
        def parent():
            executor = mt.Executor()
            futures = [executor.submit(note, k) for k in range(20)]
            executor.shutdown(cancel_futures=True)
            return [future.cancelled() for future in futures]

        with mt.Executor() as executor:
            assert executor.submit(parent).result() == [True] * 20
        print(NOTES)
    """
    assert run(script) == "[]"


def test_finalizer_may_cancel_anywhere() -> None:
    script = """
        import gc

        class Cancels:
            def __init__(self, future):
                self.future, self.me = future, self

            def __del__(self):
                self.future.cancel()

        def parent():
            gc.set_threshold(5)
            with mt.Executor() as executor:
                for _ in range(200):
                    Cancels(executor.submit(note, 1))
                    executor.submit(note, 2).result()
            gc.set_threshold(700)
            return "ok"

        with mt.Executor() as executor:
            print(executor.submit(parent).result())
    """
    assert run(script) == "ok"


def test_child_that_waits_for_a_call_of_its_parent_is_refused() -> None:
    script = """
        def child():
            try:
                return builtins.OTHER.result()
            except mt.ConfigurationError as error:
                return str(error)

        def parent():
            with mt.Executor() as executor:
                first = executor.submit(child)
                builtins.OTHER = executor.submit(note, 1)
                return first.result(), builtins.OTHER.result()

        with mt.Executor() as executor:
            said, value = executor.submit(parent).result()
        assert "waits for a task of its parent" in said, said
        print(value)
    """
    assert run(script) == "1"


def test_origins_are_forgotten_while_another_executor_is_open() -> None:
    script = """
        from mpitasks.launch import nested

        def parent():
            with mt.Executor() as outer:
                for k in range(50):
                    with mt.Executor() as executor:
                        executor.submit(note, k).result()
                outer.submit(note, 50).result()
                level = nested._levels[0]
                return len(level.session.event_loop.engine._origins)

        with mt.Executor() as executor:
            print(executor.submit(parent).result())
    """
    assert run(script) == "2"
