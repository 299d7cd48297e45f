"""Log records of tasks: packed where they are made, handled on rank 0 by user code."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from hands import Hands
from mpitasks.api.executor import Executor
from mpitasks.errors import Stopped
from mpitasks.launch.arguments import understand
from mpitasks.master.log_records import Logs
from mpitasks.runner.log_relay import (
    FULL_BYTES,
    ChildRelay,
    Relay,
    Setting,
    pack_record,
)
from mpitasks.sandbox.channel import LOG
from mpitasks.task_spec import TaskSpec
from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import Goodbye, Logged, Opening, Outcomes, Shutdown
from working import Gate, Running, hold, plain

HERE = (3, "node7", 8, "fit")
SETUP = ({"": logging.INFO, "quiet": logging.ERROR, "chatty": 5}, [], 0, False)


class Collect(logging.Handler):
    """A handler of the script."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def collected() -> Iterator[Collect]:
    """Gets what the logger "app" and those below it are given."""
    logger, handler = logging.getLogger("app"), Collect()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def record(msg: Any, *args: Any, name: str = "app", **more: Any) -> logging.LogRecord:
    """Return a record as a logger makes it."""
    made = logging.LogRecord(name, logging.INFO, __file__, 7, msg, args, None, "here")
    made.__dict__.update(more)
    return made


def packed(*args: Any, **more: Any) -> bytes:
    return pack_record(record(*args, **more), HERE)


def logs_of(called: list[Any] | None = None) -> Logs:
    called = [] if called is None else called
    return Logs(called.append, lambda: (None, None))


def through(*data: bytes, logs: Logs | None = None) -> None:
    logs = logs or logs_of()
    logs.take(3, data)
    logs.settle()


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __repr__(self) -> str:
        return f"Point({self.x})"


class BreaksThere:
    def __reduce__(self) -> Any:
        return _raise, (OSError("not here"),)


def _raise(error: BaseException) -> None:
    raise error


# A record.


def test_a_record_arrives_as_it_was_made(collected: Collect) -> None:
    value = [1]
    data = packed("%s and %d", value, 2, user=Point(4))
    value.append(9)
    through(data)
    (got,) = collected.records
    assert got.getMessage() == "[1] and 2"
    assert (got.name, got.levelno, got.lineno, got.funcName) == ("app", 20, 7, "here")
    told = got.__dict__
    assert (told["rank"], told["host"], told["task"], told["label"]) == HERE
    assert told["user"].x == 4
    assert logging.Formatter("%(rank)s %(message)s").format(got) == "3 [1] and 2"


def test_the_traceback_is_kept_as_text(collected: Collect) -> None:
    try:
        _raise(KeyError("gone"))
    except KeyError as error:
        info = type(error), error, error.__traceback__
    through(packed("oops", exc_info=info, stack_info="Stack:\n here"))
    (got,) = collected.records
    text = logging.Formatter().format(got)
    assert got.getMessage() == "oops"
    assert "in _raise" in text
    assert "KeyError: 'gone'" in text
    assert text.endswith("Stack:\n here")


def test_attributes_of_the_user_s_go_first_and_the_rest_is_text(
    collected: Collect,
) -> None:
    through(packed("it", task="mine", lock=threading.Lock(), point=Point(1)))
    told = collected.records[0].__dict__
    assert (told["task"], told["point"].x) == ("mine", 1)
    assert told["lock"].startswith("<unlocked _thread.lock")


def test_what_cannot_be_unpickled_costs_the_attributes_only(
    collected: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = logs_of()
    through(
        packed("one", bad=BreaksThere()), packed("two", bad=BreaksThere()), logs=logs
    )
    assert collected.messages == ["one", "two"]
    assert capsys.readouterr().err.count("cannot be unpickled") == 1


def test_large_attributes(collected: Collect) -> None:
    through(packed("it", blob=bytearray(200_000)))
    assert len(collected.records[0].__dict__["blob"]) == 200_000


# Rank 0.


def test_levels_and_filters_of_rank_0_count_when_it_arrives(collected: Collect) -> None:
    logging.getLogger("app").setLevel(logging.WARNING)
    through(packed("too low"))
    assert collected.messages == []
    logging.getLogger("app").setLevel(logging.INFO)
    through(packed("enough"), packed("of a child", name="app.part"))
    assert collected.messages == ["enough", "of a child"]


def test_they_wait_until_no_lock_is_held(collected: Collect) -> None:
    called: list[Any] = []
    logs = logs_of(called)
    logs.take(1, [packed("one"), packed("two")])
    assert collected.messages == []
    called.pop()()
    assert collected.messages == ["one", "two"]


def test_a_handler_that_logs_and_one_that_waits_for_the_rest(
    collected: Collect,
) -> None:
    logs = logs_of()

    class Nested(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "app.outer":
                logging.getLogger("app.inner").info("of the handler")
                logs.settle()  # as an Executor's shutdown would

    handler = Nested()
    logging.getLogger("app").addHandler(handler)
    try:
        through(packed("a", name="app.outer"), packed("b"), logs=logs)
    finally:
        logging.getLogger("app").removeHandler(handler)
    assert collected.messages == ["a", "of the handler", "b"]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_a_handler_that_raises_costs_its_record(
    collected: Collect, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "bad":
                raise error

    handler = Raises()
    logging.getLogger("app").addHandler(handler)
    try:
        through(packed("bad"), packed("good"))
    finally:
        logging.getLogger("app").removeHandler(handler)
    assert collected.messages == ["bad", "good"]
    assert type(error).__name__ in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped()])
def test_an_interrupt_in_a_handler_ends_the_script(
    collected: Collect, error: BaseException
) -> None:
    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "bad":
                raise error

    handler, logs = Interrupted(), logs_of()
    logging.getLogger("app").addHandler(handler)
    try:
        with pytest.raises(type(error)):
            through(packed("bad"), packed("good"), logs=logs)
        logs.settle()
    finally:
        logging.getLogger("app").removeHandler(handler)
    assert collected.messages == ["bad", "good"]


def test_the_order_is_kept_whoever_handles(collected: Collect) -> None:
    logs = logs_of()
    first, go_on = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "0":
                first.set()
                assert go_on.wait(120)

    handler = Slow()
    logging.getLogger("app").addHandler(handler)
    try:
        logs.take(1, [packed("0")])
        other = threading.Thread(target=logs.settle)
        other.start()
        assert first.wait(120)
        logs.take(1, [packed("1"), packed("2")])
        logs._drain()  # another thread comes by, and leaves it to the first
        assert len(collected.records) <= 1
        go_on.set()
        logs.settle()  # and here it waits for it
        assert collected.messages == ["0", "1", "2"]
        other.join(120)
    finally:
        logging.getLogger("app").removeHandler(handler)


def test_what_the_workers_are_told(collected: Collect) -> None:
    logging.getLogger("app.quiet").setLevel(logging.ERROR)
    logging.getLogger("app.off").disabled = True
    try:
        levels, disabled, disable, captures = logs_of().setup()
    finally:
        logging.getLogger("app.quiet").setLevel(logging.NOTSET)
        logging.getLogger("app.off").disabled = False
    assert levels[""] == logging.root.level
    assert (levels["app"], levels["app.quiet"]) == (logging.DEBUG, logging.ERROR)
    assert "app.off" in disabled
    assert (disable, captures) == (logging.root.manager.disable, False)
    logging.getLogger("app").warning("own")
    assert collected.records[0].__dict__["rank"] == 0
    logging.getLogger("app").warning("own", extra={"host": "mine", "task": 1})
    told = collected.records[1].__dict__
    assert (told["host"], told["task"], told["label"]) == ("mine", 1, None)


def test_an_executor_tells_the_workers_only_if_asked(
    collected: Collect,
) -> None:
    hands = Hands(1)
    try:
        for options, wanted in (({}, False), ({"logging": True}, True), ({}, False)):
            executor = Executor(**options)
            future = executor.submit(abs, -1)
            (call,) = hands.calls(1)
            assert (hands.openings[1].logs is not None) == wanted
            if wanted:
                hands.say(1, Logged([packed("a"), packed("b")]))
                assert collected.messages == ["a", "b"]
            hands.reply(1, call, 1)
            assert future.result() == 1
            executor.shutdown()
    finally:
        hands.close()


@pytest.mark.parametrize("how", ["result", "exception", "map"])
def test_who_has_a_result_may_rely_on_its_records(
    monkeypatch: pytest.MonkeyPatch, collected: Collect, how: str
) -> None:
    """Another thread may have taken both in, and be in the middle of the handler."""
    handling, waited = threading.Event(), threading.Event()
    order = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handling.set()
            waited.wait(10)
            order.append("handled")

    def sleep(seconds: float) -> None:
        waited.set()
        time.sleep(seconds)

    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
    monkeypatch.setattr("mpitasks.master.log_records.time", clock)
    logger, slow = logging.getLogger("app"), Slow()
    hands = Hands(1)
    logger.addHandler(slow)
    try:
        executor = Executor(logging=True)
        results = executor.map(abs, [-1])
        future = executor.submit(abs, -1)
        chunk, *_ = hands.calls(1)
        other = threading.Thread(target=hands.say, args=(1, Logged([packed("a")])))
        other.start()
        assert handling.wait(10)
        hands.reply(1, chunk, [1])
        (call,) = hands.calls(1)
        hands.reply(1, call, 1)
        if how == "map":
            assert next(results) == 1
        else:
            getattr(future, how)()
        order.append(how)
        other.join()
        assert order == ["handled", how]
        assert list(results) == ([] if how == "map" else [1])
        executor.shutdown()
    finally:
        waited.set()
        logger.removeHandler(slow)
        hands.close()


@pytest.mark.parametrize("value", ["yes", 2])
def test_what_is_no_answer(value: Any) -> None:
    with pytest.raises(TypeError, match="logging must be"):
        Executor(logging=value)


def test_the_command_line() -> None:
    assert understand(["--logging", "a.py"], None)[1].logging
    assert not understand(["a.py"], None)[1].logging


# The worker.


def test_a_process_follows_the_setup_and_goes_back() -> None:
    root, quiet = logging.root, logging.getLogger("quiet")
    before = root.level, list(root.handlers), root.manager.disable
    taken: list[bytes] = []
    setting = Setting(taken.append, lambda: HERE)
    logging.getLogger("off").disabled = False
    setting.apply((SETUP[0], ["off"], 0, True))
    try:
        quiet.warning("no")
        quiet.error("quiet")
        logging.getLogger("chatty").log(5, "chatty")
        logging.getLogger("other").debug("no")
        logging.getLogger("off").error("no")
        root.removeHandler(setting._handler)  # as `dictConfig` in a module does
        setting.keep()
        setting.keep()
        root.info("root")
    finally:
        setting.undo()
    messages = [pickle.loads(data)[0]["msg"] for data in taken]
    assert messages == ["quiet", "chatty", "root"]
    assert (root.level, list(root.handlers), root.manager.disable) == before
    assert (quiet.level, logging.getLogger("off").disabled) == (logging.NOTSET, False)
    quiet.error("no more")
    assert len(taken) == 3


def test_a_forked_process_does_not_speak_for_the_worker() -> None:
    taken: list[bytes] = []
    setting = Setting(taken.append, lambda: HERE)
    setting.apply(SETUP)
    try:
        child = os.fork()
        if not child:
            logging.root.info("of a fork")
            os._exit(len(taken))
        assert os.waitpid(child, 0)[1] == 0
        logging.root.info("of the worker")
    finally:
        setting.undo()
    assert len(taken) == 1


def say(text: str) -> str:
    logging.getLogger("app").info(text)
    return text


class SaysOnTheWay:
    """What logs while it is pickled."""

    def __reduce__(self) -> Any:
        for number in range(3):
            say(f"on the way {number}")
        return int, ()


def make_that() -> SaysOnTheWay:
    return SaysOnTheWay()


def say_in_threads(count: int) -> None:
    threads = [threading.Thread(target=say, args=(f"{n}",)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def heard(master: Running) -> list[str]:
    """Return the messages that came before each result, and "" for a result."""
    found: list[str] = []
    for message in master._received:
        if isinstance(message, Logged):
            found += [pickle.loads(data)[0]["msg"] for data in message.records]
        elif not isinstance(message, Goodbye):
            found.append("")
    master.drop(Logged)
    return found


def test_records_go_before_the_result(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine: the results of a batch go together.
    monkeypatch.setattr("mpitasks.worker.replies.FLUSH_SECONDS", 120.0)
    master = Running()
    master.end.send(1, Opening([], SETUP))
    master.send(plain(1, say, "one"))
    master.receive(Outcomes)
    master.send(plain(3, make_that), plain(5, say_in_threads, 2))
    master.receive(Outcomes)
    master.request(plain(7, say, "four"))
    master.end.send(1, Shutdown())
    master.receive(Goodbye)
    got = heard(master)
    assert got[:2] == ["one", ""]
    assert got[2:5] == [f"on the way {n}" for n in range(3)]
    assert sorted(got[5:7]) == ["0", "1"]
    assert got[7:] == ["", "four", ""]
    master.thread.join(120)


def test_isolated_tasks_and_their_crash(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpitasks.worker.isolation.LOADING_SECONDS", 60.0)
    monkeypatch.setattr("mpitasks.sandbox.sandbox.TICK_SECONDS", 60.0)
    master = Running()
    isolated = TaskSpec("fit", isolate=True)
    master.send(plain(1, say, "before anybody asked"), task_spec={1: isolated})
    master.receive(Outcomes)
    master.end.send(1, Opening([], SETUP))
    master.send(
        plain(3, say, "one"),
        plain(5, say_and_die),
        task_spec={3: isolated, 5: isolated},
    )
    master.receive(Outcomes)
    master.end.send(1, Opening([], None))
    master.send(plain(7, say, "no more"), task_spec={7: isolated})
    master.end.send(1, Shutdown())
    master.receive(Goodbye)
    records = [
        pickle.loads(data)[0]
        for message in master._received
        if isinstance(message, Logged)
        for data in message.records
    ]
    assert [told["msg"] for told in records] == ["one", "last words"]
    assert [told["task"] for told in records] == [3, 5]
    assert {told["label"] for told in records} == {"fit"}
    last = max(at for at, m in enumerate(master._received) if isinstance(m, Logged))
    dead = [
        at
        for at, m in enumerate(master._received)
        if isinstance(m, Outcomes) and 5 in m.ids
    ]
    assert [last] < dead
    master.thread.join(120)


def say_and_die() -> None:
    say("last words")
    os.abort()


def test_records_leave_while_a_task_goes_on(collected: Collect) -> None:
    master = Running(listens=True)
    gate = Gate()
    master.end.send(1, Opening([], SETUP))
    master.send(plain(1, say_and_hold, gate.number))
    master.receive(Logged)  # the listener sends it
    gate.open()
    master.receive(Outcomes)
    master.drop(Logged)
    assert master.finish() == {1: None}


def say_and_hold(number: int) -> None:
    say("waiting")
    hold(number)


def test_records_of_a_thread_that_outlives_its_task(collected: Collect) -> None:
    master = Running()
    master.end.send(1, Opening([], SETUP))
    master.send(plain(1, say, "one"))
    master.receive(Outcomes)
    thread = threading.Thread(target=say, args=("late",))
    thread.start()
    master.drop(Logged)
    (data,) = master.receive(Logged).records
    assert pickle.loads(data)[0]["msg"] == "late"
    assert pickle.loads(data)[0]["task"] is None
    thread.join()
    master.drop(Logged)
    master.finish()


def test_what_rank_0_does_not_take_is_bounded_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mpitasks.runner.log_relay.FULL_SECONDS", 0.0)
    _, end = local_pair()
    lock = threading.Lock()
    relay = Relay(end, lock, lambda: HERE, own=False, listens=True)
    sent: list[Logged] = []
    monkeypatch.setattr(end, "sending", lambda: True)  # rank 0 takes nothing
    monkeypatch.setattr(end, "send", lambda to, message: sent.append(message))
    data = bytes(1 << 20)
    for _ in range(100):
        relay.take(data)
    assert sent == []
    assert FULL_BYTES <= relay._nbytes <= FULL_BYTES + 2 * len(data)
    kept = len(relay._queue)
    monkeypatch.setattr(end, "sending", lambda: False)
    relay.push()
    records = [one for message in sent for one in message.records]
    assert records[:kept] == [data] * kept
    (last,) = records[kept:]
    assert pickle.loads(last)[0]["msg"].startswith(f"{100 - kept} log records")
    relay.take(b"x")
    assert relay._nbytes == 1


def test_a_finalizer_that_logs_while_the_child_sends() -> None:
    sent: list[Any] = []

    def send(fields: Any, buffers: Any) -> None:
        if fields == ("answer",) and len(sent) < 2:
            relay.take(b"from a finalizer")  # the lock is held by this very thread
        sent.append(fields)

    relay = ChildRelay(send, lambda record: send((LOG, record), ()), lambda: HERE)
    relay.take(b"first")
    relay.send(("answer",))
    assert sent == [(LOG, b"first"), ("answer",), (LOG, b"from a finalizer")]
