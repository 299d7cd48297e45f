"""The worker's loop: receive a batch, run its calls, reply.

One thread, one call at a time. Nothing that user code does ends the loop: only the
master's `Shutdown` does. What there is to do stands in `mpitasks.worker.state`; user
code is run by `mpitasks.runner`; `mpitasks.worker.replies` decides when replies go.

The thread holds the worker's lock except while it runs user code. If that takes long,
the listener (`mpitasks.worker.listener`) takes the lock and speaks for the worker, by
what is in `mpitasks.worker.speaker`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import perf_counter  # a task may patch the module
from typing import TYPE_CHECKING, Any

from mpitasks.errors import DataLost
from mpitasks.forks import EndOfChild
from mpitasks.randomness import Draw, place_at, refuse_thread
from mpitasks.runner.chunks import Chunk
from mpitasks.runner.damage import put_back
from mpitasks.runner.execution import run_call, with_limit
from mpitasks.runner.nesting import spent, take_spent
from mpitasks.task_spec import TaskSpec, isolated
from mpitasks.wire.inputs import needs_kept, with_copies
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP,
    MASTER,
    STARMAP,
    Batch,
    Goodbye,
    Request,
)
from mpitasks.wire.missing_buffers import check
from mpitasks.wire.outcomes import Sealed, encode_error, encode_items
from mpitasks.worker.listener import Listener
from mpitasks.worker.speaker import Speaker
from mpitasks.worker.state import Leave, Open, Phase, Run

if TYPE_CHECKING:
    from types import ModuleType

    from mpitasks.runner.current_task import CurrentTask
    from mpitasks.task_spec import Place
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.kept import Kept
    from mpitasks.wire.messages import LogSetup, Message
    from mpitasks.wire.outcomes import Form
    from mpitasks.wire.transport import Transport
    from mpitasks.worker.actor_calls import ActorCalls
    from mpitasks.worker.isolation import Isolation
    from mpitasks.worker.state import Action

__all__ = ["Worker"]

_CALLS = (CALL_PLAIN, CALL)
_FRAMED = (CALL, MAP, STARMAP)
_IDLE = Phase.IDLE


class Worker(Speaker):
    """A worker rank.

    Args:
        transport: How to reach the master.
        where: Rank, host and process, for the head of tracebacks.
        rank: What isolated tasks call this rank, if not what the transport does.
        host: What they call its host.
        listens: Whether a second thread may use the transport while user code runs,
            which may itself call MPI: MPI_THREAD_MULTIPLE.
        own: Whether the process is its own, and not the script's.
        main: The module that is to follow the script; None for a new one.

    Attributes:
        degraded: Whether the run ends with ranks lost.
        on_leave: Called when the master has no more work for it.
    """

    def __init__(
        self,
        transport: Transport,
        where: str,
        *,
        rank: int | None = None,
        host: str = "",
        listens: bool = False,
        own: bool = True,
        main: ModuleType | None = None,
    ) -> None:
        super().__init__(transport, where, listens=listens, main=main)
        self._own = transport.rank if rank is None else rank, host
        self._has_process = own
        self.degraded = False
        self.on_leave: Callable[[], None] = lambda: None
        self._listener = Listener(self) if listens else None
        self._isolation: Isolation | None = None  # made for the first isolated task
        self._thread = 0
        self._forget_later: set[int] = set()  # once all that was kept is done

    def serve(self) -> None:
        """Run what the master sends until it says stop."""
        self._thread = threading.get_ident()
        with self.lock:
            try:
                self._serve()
            finally:
                if self._listener is not None:
                    self._listener.stop()
                if self._isolation is not None:
                    self._isolation.close()

    def _serve(self) -> None:
        transport = self._transport
        while self.state.phase is _IDLE:
            if not self._step():
                self.say_what_waits()
                transport.wait(1.0)

    def _step(self) -> bool:
        """Take one message in, and do what it says; return whether there was one."""
        state = self.state
        action = state.take()
        if action is not None:
            self._perform(action)
            return True
        arrived = self._transport.poll()
        if arrived is None:
            if self._forget_later:
                self._forget(self._forget_later)
                self._forget_later.clear()
            return False
        message = arrived[1]
        if type(message) is Request and not isolated(message.task_spec):
            self._run_single(message)
        else:
            self.receive(*arrived)
        return True

    def attend_here(self, thread: int) -> None:
        """Run tasks in this thread, when `step` is called, and not in a loop."""
        self._thread = thread

    def step(self) -> None:
        """Do what there is to do: for a task that waits for its children."""
        with self.lock:
            while self._step():
                pass
            self.say_what_waits()

    def hear(self) -> set[int]:
        """Take in what the master has sent, and run none of it yet.

        Returns:
            The calls and chunks that are not begun. None of them if the worker is
            between two tasks, as when a finalizer asks.
        """
        if not self.lock.acquire(blocking=False):
            return set()
        try:
            while self.take_in():
                pass
            return self.state.unbegun()
        finally:
            self.lock.release()

    def close_isolation(self) -> None:
        """End the child processes of this worker."""
        if self._isolation is not None:
            self._isolation.close()

    def _perform(self, action: Action) -> None:
        if type(action) is Run:
            self._run_batch(action.batch)
        elif type(action) is Open:
            self._follow_logs(action.logs)
        elif type(action) is Leave:
            self._leave(action)

    def _leave(self, action: Leave) -> None:
        self.degraded = action.degraded
        if self._has_process:
            put_back()  # what tasks have replaced, and the end needs
        self.on_leave()
        if self._isolation is not None:
            self._isolation.close()  # and what it prints comes before the end
        self._peer_failures.clear()
        self._follow_logs(None)
        self._transport.send(MASTER, Goodbye())
        self._transport.close()

    def _run_single(self, request: Request) -> None:
        """Run a call that came alone and needs no more: as `_run_batch`, for one."""
        state = self.state
        state.begin_request(request)  # before the look: see `Listener.run`
        if self._listener is not None and self._listener.asleep:
            self._listener.wake()
        task_id, function_id, mode, payload, _ = request.call
        replies = self.replies
        clock = perf_counter
        started = clock()
        form = self._call(function_id, mode, payload, [])
        seconds = clock() - started
        if spent:
            seconds -= take_spent()
        if state.spec is not None and state.spec.keep:
            form = self.kept.keep(task_id, form)
        if state.drew:
            state.drew = False
            replies.add(task_id, function_id, 1, form, seconds)
            replies.note_drawn(task_id)
            replies.flush(1)
        else:
            replies.answer(task_id, function_id, form, seconds)
        replies.settle()
        state.finish()

    def _run_batch(self, batch: Batch) -> None:
        # Taken from the end, so that each is let go with its call.
        buffers = list(reversed(batch.buffers)) if batch.buffers else []
        batch.buffers = ()
        if batch.functions or batch.forget:
            self._learn(batch, buffers)
        state = self.state
        state.begin(batch, buffers)  # before the look: see `Listener.run`
        if self._listener is not None and self._listener.asleep:
            self._listener.wake()
        clock = perf_counter
        replies = self.replies
        started = clock()
        replies.begin(started)
        while (call := state.next()) is not None:
            task_id, function_id, mode, payload, count = call
            if started > replies.due:
                replies.flush_due()
            own = state.take_buffers(count) if count else []
            if mode != CALL_PLAIN and mode in _FRAMED and _holds_kept(payload):
                try:
                    payload, own = self._with_copies(payload, own)
                except (DataLost, MemoryError) as error:
                    form, items = encode_error(error, self._where), 1
                    if mode != CALL:
                        items = len(payload)
                        form = encode_items([Sealed(form)] * items, self._where)
                    replies.add(task_id, function_id, items, form, 0.0)
                    continue
                state.replace(payload, len(own))
                started = clock()  # what it took to get them is not the task's
            spec = state.spec
            if spec is not None and spec.isolate:
                self._isolate(own)
                started = clock()
                continue
            if mode in _CALLS:
                form = self._call(function_id, mode, payload, own)
                items, ended = 1, clock()
                if spent:
                    started += take_spent()
                if spec is not None and spec.keep:
                    form = self.kept.keep(task_id, form)
            else:
                self._since = started
                values = self._map(function_id, mode, payload, own)
                items, form = len(values), encode_items(values, self._where)
                started, ended = self._since, clock()
                if spent:
                    started += take_spent()
                del values
            replies.add(task_id, function_id, items, form, ended - started)
            if state.drew:
                state.drew = False
                replies.note_drawn(task_id)
            del own, form  # arrays must not outlive their call here
            started = ended
        replies.flush(1)
        replies.settle()
        state.finish()

    def _with_copies(
        self, payload: Any, buffers: list[Buffer]
    ) -> tuple[Any, list[Buffer]]:
        """Return a call, or items of a chunk, with copies of the kept results in it."""
        taken: list[Kept] = []

        def obtain(kept: Kept) -> Any:
            taken.append(kept)
            return self.kept.obtain(kept, self.take_in)

        started = perf_counter()
        copies = with_copies(payload, buffers, obtain)
        self.replies.note_copies(
            perf_counter() - started, [(kept.rank, kept.nbytes) for kept in taken]
        )
        for kept in taken:
            if kept.is_last and kept.rank == self._transport.rank:
                self.kept.release(kept.id)  # only now: all others are there as well
        return copies

    def disown(self) -> None:
        """In a forked child: user code must not come back into the loop from there.

        It comes back by taking the lock, or to the next item of a chunk in C.
        """
        if self.state.chunk is not None:
            self.state.chunk.abandon()
        end: Any = EndOfChild()
        self.replies.send_by(end)
        self.lock = self._transport = self.replies = end

    def current_task(self, rank: int, host: str) -> CurrentTask | None:
        """Return the task that is running here, on this rank and host, if one is."""
        call = self.state.current()
        if call is None:
            return None
        spec = self.state.spec or TaskSpec()
        from mpitasks.runner.current_task import CurrentTask

        _, place = self._place(call[0]) or (0, ())
        return CurrentTask(call[0], spec.attempt, spec.label, rank, host, place)

    def draw(self) -> Draw | None:
        """Return where the task that is running here has its random numbers from."""
        call = self.state.current()
        if call is None:
            return None
        refuse_thread(self._thread)
        place = self._place(call[0])
        if place is None:
            return None
        self.state.drew = True
        return Draw("task", (call[0], place), *place)

    def name_task(self) -> tuple[int | None, str | None]:
        """Return number and label of the task that is running here, if one is."""
        call = self.state.current()
        if call is None:
            return None, None
        return call[0], None if self.state.spec is None else self.state.spec.label

    def _follow_logs(self, setup: LogSetup | None) -> None:
        """Have log records of tasks go to rank 0, or no more of them."""
        logs = self.replies.logs
        if logs is None and setup is not None:
            from mpitasks.runner.log_relay import Relay

            logs = self.replies.logs = Relay(
                self._transport,
                self.lock,
                lambda: (*self._own, *self.name_task()),
                own=self._has_process,
                listens=self._listener is not None,
            )
        if logs is not None:
            logs.follow(setup)
            logs.flush()

    def tell_helping(self) -> None:
        """The running task runs its children: have the master's clock start anew."""
        if self.is_limited:
            with self.lock:
                self.sign_helping()

    def place(self) -> Place | None:
        """Return where in the program the task stands that is running here."""
        call = self.state.current()
        return None if call is None else self._place(call[0])

    def _place(self, task_id: int) -> Place | None:
        chunk = self.state.chunk
        item = None if chunk is None else chunk.finished
        return place_at(self.state.places(task_id), item)

    def calls_of_actors(self) -> ActorCalls:
        """Return what tasks of this worker call actors by."""
        if self.actor_calls is None:
            from mpitasks.worker.actor_calls import ActorCalls

            self.actor_calls = ActorCalls(self)
        return self.actor_calls

    @property
    def rank(self) -> int:
        """The rank, as messages call it."""
        return self._transport.rank

    @property
    def thread(self) -> int:
        """The thread that runs tasks."""
        return self._thread

    def task_here(self) -> CurrentTask | None:
        """Return the task that is running here."""
        return self.current_task(*self._own)

    def send(self, message: Message) -> None:
        """Send the master a message. Under the lock."""
        self._transport.send(MASTER, message)

    def pause(self, seconds: float) -> None:
        """Pause until a message may have come, at most this long. Under the lock."""
        self._transport.wait(seconds)

    def run_inside(self, batch: Batch) -> None:
        """Run a batch while a task of this worker waits. Under the lock."""
        outer, since = self.state, self._since
        self.state = inner = outer.nested()
        try:
            self._run_batch(batch)
        finally:
            self.state, self._since = outer, since
            outer.resume(inner)

    def learn_early(self, batch: Batch) -> None:
        """Take in the functions of a batch that others came before.

        What it has the worker forget may be needed by these, and is forgotten later.
        """
        buffers = list(reversed(batch.buffers))
        for told in batch.functions:
            self.functions.learn(told, buffers)
            self._forget_later.discard(told[0])
        self._forget_later.update(batch.forget)
        batch.functions = batch.forget = ()
        batch.buffers = buffers[::-1]

    def _forget(self, ids: Iterable[int]) -> None:
        self.functions.forget(ids)
        if self._isolation is not None:
            self._isolation.forget([*ids])

    def _learn(self, batch: Batch, buffers: list[Buffer]) -> None:
        functions = self.functions
        self._forget(batch.forget)
        for told in batch.functions:
            functions.learn(told, buffers)
        for task_id, function_id, *_ in batch.calls:
            task_spec = (
                None if batch.task_spec is None else batch.task_spec.get(task_id)
            )
            if not isolated(task_spec):
                started = perf_counter()
                self._ready(function_id)  # before the clock runs
                self.replies.note_loading(perf_counter() - started)
                break

    def _ready(self, function_id: int) -> Callable[..., Any]:
        """Return a function, having loaded what it needs, which is the user's code."""
        self.lock.release()
        try:
            return self.functions.ready(function_id)
        finally:
            self.lock.acquire()

    def _call(
        self, function_id: int, mode: int, payload: Any, buffers: list[Buffer]
    ) -> Form:
        spec = self.state.spec
        self.lock.release()
        try:
            # Loading and pickling is user code, too: it may take long.
            functions = self.functions
            if function_id == functions.entered:
                function = functions[function_id]
            else:
                function = functions.ready(function_id)
            if spec is not None:
                function = with_limit(function, spec.timeout)
            return run_call(function, mode, payload, buffers, self._where)
        finally:
            self.lock.acquire()

    def _map(
        self, function_id: int, mode: int, payload: Any, buffers: list[Buffer]
    ) -> list[Any]:
        """Run a chunk; return the values that were not reported meanwhile."""
        state = self.state
        function = self._ready(function_id)
        if state.spec is not None:
            function = with_limit(function, state.spec.timeout)
        chunk = Chunk(mode, payload, buffers)
        state.enter(chunk)
        while not chunk.done:
            self.lock.release()
            try:
                chunk.run(function, self._where)
            finally:
                self.lock.acquire()
        state.leave()
        return chunk.rest()

    def _isolate(self, buffers: list[Buffer]) -> None:
        """Run the call that comes next in a child process of this rank."""
        try:
            check(buffers)
        except MemoryError as error:
            call = self.state.current()
            assert call is not None
            form = encode_error(error, self._where)
            self.replies.add(call[0], call[1], 1, form, 0.0)
            return
        if self._isolation is None:
            from mpitasks.worker.isolation import Isolation

            self._isolation = Isolation(self, *self._own, self._where)
            self.cut_inside = self._isolation.cut
        self._isolation.run(buffers)


def _holds_kept(payload: Any) -> bool:
    """Whether a payload with frames refers to results that workers keep."""
    return type(payload) is not bytes and needs_kept(payload)
