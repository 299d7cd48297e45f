"""The worker's loop: receive a batch, run its calls, reply.

One thread, one call at a time. Nothing that user code does ends the loop: only the
master's `Dismissal` does. When replies go, is in `mpitasks.worker.replies`.

The thread holds the worker's lock, but while it runs user code. If that takes long,
the listener (`mpitasks.worker.listener`) takes the lock and calls `give_back`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpitasks import forks
from mpitasks.errors import InternalError
from mpitasks.forks import EndOfChild
from mpitasks.randomness import Draw, place_at, refuse_thread
from mpitasks.terms import Origin, Terms, isolated
from mpitasks.wire import codec
from mpitasks.wire.messages import (
    CALL,
    CALL_PLAIN,
    MAP_PLAIN,
    MASTER,
    PLAIN,
    STARMAP,
    STARMAP_PLAIN,
    Batch,
    Dismissal,
    Goodbye,
    Inquiry,
    Lost,
    Obituary,
    Opening,
    Request,
    Returned,
    Revocation,
    Sign,
)
from mpitasks.wire.missing import check
from mpitasks.wire.outcomes import (
    Form,
    Sealed,
    encode_error,
    encode_items,
    encode_result,
)
from mpitasks.worker.chunks import cut, map_plain
from mpitasks.worker.listener import Listener
from mpitasks.worker.mirror import Functions, Unloadable, unpickle
from mpitasks.worker.orphan import perish
from mpitasks.worker.replies import Replies

if TYPE_CHECKING:
    from types import ModuleType

    from mpitasks.terms import Place
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.messages import LogSetup, Message
    from mpitasks.wire.transport import Transport
    from mpitasks.worker.current import CurrentTask
    from mpitasks.worker.isolation import Isolation

__all__ = ["Worker"]

SIGN_SECONDS = 3.0
"""Between two signs of life that nobody asks for."""

_CALLS = (CALL_PLAIN, CALL)
_PLAIN_MAPS = (MAP_PLAIN, STARMAP_PLAIN)


class Worker:
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
        lock: Held by the thread of the loop, but while it runs user code.
        busy: Whether it works on a batch.
        begun: How often it began to run user code.
        functions: Those that were sent.
        replies: What it says of its calls.
        revoked: Calls that are not to be run, or to be ended.
        maimed: Whether the run ends with ranks lost.
        signs: Whether it is to give signs of life without being asked.
        drew: Whether the task that runs has asked for random numbers of ours.
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
        self._transport = transport
        self._where = where
        self._own = transport.rank if rank is None else rank, host
        self._has_process = own
        self.functions = Functions(main)
        self.replies = Replies(transport)
        self.signs = False
        self._signed = 0.0
        self._obituaries: deque[Obituary] = deque()
        self._arrived: deque[Message] = deque()  # what the listener took in
        self._listener = Listener(self) if listens else None
        # What is being done, for the listener: see `give_back`.
        self.lock = threading.Lock()
        self.busy = False
        self.begun = 0
        self.maimed = False
        self._calls: list[Any] = []
        self._at = 0
        self._chunk: tuple[list[Any], list[Any]] | None = None
        self._terms: Terms | None = None  # of the call; None for the default
        self._isolation: Isolation | None = None  # made for the first isolated task
        self.revoked: set[int] = set()
        self._origins: list[Origin] = []
        self._places: dict[int, Any] | None = None  # as in the batch
        self.drew = False
        self._thread = 0

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
        while True:
            if self._arrived:
                message = self._arrived.popleft()
            else:
                arrived = transport.poll()
                if arrived is None:
                    if self._obituaries:
                        self._send_obituaries()
                    if self.signs:
                        self._give_sign()
                    if self.replies.logs is not None:
                        self.replies.logs.flush()
                    transport.wait(1.0)
                    continue
                message = arrived[1]
            if type(message) is Batch:
                self._run_batch(message)
            elif type(message) is Request:
                self._run_single(message)
            elif type(message) is Dismissal:
                self.maimed = message.maimed
                if self._isolation is not None:
                    self._isolation.close()  # and what it prints comes before the end
                self._obituaries.clear()
                self._follow_logs(None)
                transport.send(MASTER, Goodbye())
                transport.close()
                return
            elif type(message) is Opening:
                self._origins = [Origin._make(fields) for fields in message.origins]
                self._follow_logs(message.logs)
            elif type(message) in (Inquiry, Lost, Revocation):
                self._take_in(message)
            else:
                raise InternalError(f"a worker was sent {message!r}")

    def _run_single(self, request: Request) -> None:
        """Run a call that came alone and needs no more: as `_run_batch`, for one."""
        if isolated(request.terms):
            self._run_batch(_batch_of(request))
            return
        self.busy = True  # before the look: see `Listener.run`
        if self._listener is not None and self._listener.asleep:
            self._listener.wake()
        self._calls = [request.call]
        self._at = 1
        self._places = None
        if request.terms is not None:
            self._terms = Terms(*request.terms)
        task_id, function_id, mode, payload, _ = request.call
        clock = time.perf_counter
        started = clock()
        form = self._call(function_id, mode, payload, [])
        seconds = clock() - started
        if self.drew:
            self.drew = False
            self.replies.add(task_id, function_id, 1, form, seconds)
            self.replies.note_drawn(task_id)
            self.replies.flush(1)
        else:
            self.replies.answer(task_id, function_id, form, seconds)
        self._terms = None
        self.replies.settle()
        self.busy = False

    def _run_batch(self, batch: Batch) -> None:
        # Taken from the end, so that each is let go with its call.
        buffers = list(reversed(batch.buffers)) if batch.buffers else []
        batch.buffers = ()
        if batch.functions or batch.forget:
            self._learn(batch, buffers)
        self.busy = True  # before the look: see `Listener.run`
        if self._listener is not None and self._listener.asleep:
            self._listener.wake()
        clock = time.perf_counter
        replies = self.replies
        started = clock()
        replies.begin(started)
        self._calls = batch.calls
        self._places = batch.places
        self._at = 0
        for task_id, function_id, mode, payload, count in batch.calls:
            self._at += 1
            if started > replies.due:
                replies.flush_due()
            own = [buffers.pop() for _ in range(count)] if count else []
            if batch.terms is not None:
                terms = batch.terms.get(task_id)
                self._terms = None if terms is None else Terms(*terms)
                if task_id in self.revoked:
                    self.revoked.discard(task_id)
                    continue
                if isolated(terms):
                    self._isolate(batch, own)
                    started = clock()
                    continue
            items = 1
            if mode in _CALLS:
                form = self._call(function_id, mode, payload, own)
            else:
                items, form = self._map(function_id, mode, payload, own)
            ended = clock()
            replies.add(task_id, function_id, items, form, ended - started)
            if self.drew:
                self.drew = False
                replies.note_drawn(task_id)
            del own, form  # arrays must not outlive their call here
            started = ended
        self._terms = None
        replies.flush(1)
        replies.settle()
        self.busy = False

    def disown(self) -> None:
        """In a forked child: user code must not come back into the loop from there.

        It comes back by taking the lock, or to the next item of a chunk in C.
        """
        if self._chunk is not None:
            self._chunk[0].clear()
        end: Any = EndOfChild()
        self.replies.send_by(end)
        self.lock = self._transport = self.replies = end

    def current_task(self, rank: int, host: str) -> CurrentTask | None:
        """Return the task that is running here, on this rank and host, if one is."""
        if not self.busy or not self._at:
            return None
        terms = self._terms or Terms()
        task_id = self._calls[self._at - 1][0]
        from mpitasks.worker.current import CurrentTask

        _, place = self._place(task_id) or (0, ())
        return CurrentTask(task_id, terms.attempt, terms.label, rank, host, place)

    def draw(self) -> Draw | None:
        """Return where the task that is running here has its random numbers from."""
        if not self.busy or not self._at:
            return None
        refuse_thread(self._thread)
        task_id = self._calls[self._at - 1][0]
        place = self._place(task_id)
        if place is None:
            return None
        self.drew = True
        return Draw("task", (task_id, place), *place)

    def name_task(self) -> tuple[int | None, str | None]:
        """Return number and label of the task that is running here, if one is."""
        if not self.busy or not self._at:
            return None, None
        label = None if self._terms is None else self._terms.label
        return self._calls[self._at - 1][0], label

    def _follow_logs(self, setup: LogSetup | None) -> None:
        """Have log records of tasks go to rank 0, or no more of them."""
        logs = self.replies.logs
        if logs is None and setup is not None:
            from mpitasks.worker.logs import Relay

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

    def _place(self, task_id: int) -> Place | None:
        chunk = self._chunk
        return place_at(self.places(task_id), None if chunk is None else len(chunk[1]))

    def places(self, task_id: int) -> tuple[int, tuple[int, ...], Any] | None:
        """Return the place of a call of the batch, or of the items of a chunk of it."""
        first = task_id if self._places is None else self._places.get(task_id, task_id)
        if type(first) is tuple:
            return first
        for origin in reversed(self._origins):
            if origin.first <= first and not first % 2:
                return (*origin.place(first), None)
        return None

    def progress(self) -> tuple[int, int]:
        """Return what changes with each call, or item of a chunk, that is done."""
        chunk = self._chunk
        return self.begun, 0 if chunk is None else len(chunk[1])

    def sending(self) -> bool:
        """Return whether results are still on their way. Under the lock."""
        return self._transport.sending()

    def give_back(self) -> None:
        """Return what is not begun to the master, and send the results that are there.

        For the listener, under the lock, when a call takes long: others may be idle.
        """
        begun, split = self._at, None
        inside = None if self._isolation is None else self._isolation.cut(begun)
        if inside is not None:
            begun, split = inside
        elif self._chunk is not None and cut(*self._chunk):
            split = self._calls[self._at - 1][0], len(self._chunk[0])
        ids = [call[0] for call in self._calls[begun:]]
        del self._calls[begun:]
        self.take_in()
        for message in self._arrived:
            if type(message) is Batch:
                ids += [call[0] for call in message.calls]
                message.calls.clear()
        self.replies.flush(0)
        if ids or split:
            self._transport.send(MASTER, Returned(self._transport.rank, ids, split))

    def report(self, rank: int, how: str) -> None:
        """Tell the master that a fellow worker has died. From any thread.

        Takes until the loop comes by, or runs user code that lets go of the GIL.
        """
        self._obituaries.append(Obituary(rank, how))
        self._transport.wake()
        while self._obituaries:
            if self._listener is not None and self.lock.acquire(timeout=0.05):
                try:
                    self._send_obituaries()
                finally:
                    self.lock.release()
            else:
                time.sleep(0.05)

    def _give_sign(self) -> None:
        """Give a sign of life, if the last was some time ago."""
        now = time.monotonic()
        if now - self._signed > SIGN_SECONDS:
            self._signed = now
            self._transport.send(MASTER, Sign())

    def _send_obituaries(self) -> None:
        while self._obituaries:
            self._transport.send(MASTER, self._obituaries.popleft())

    def take_in(self) -> None:
        """Look for a message, while a task runs, and say what is to be said."""
        if self._obituaries:
            self._send_obituaries()
        if self.signs:
            self._give_sign()
        if self.replies.logs is not None:
            self.replies.logs.flush()
        arrived = self._transport.poll()
        if arrived is not None:
            self._take_in(arrived[1])

    def _take_in(self, message: Message) -> None:
        """Answer what cannot wait for the end of a task, and keep the rest."""
        if type(message) is Inquiry:
            self._transport.send(MASTER, Sign())
        elif type(message) is Lost:
            perish()
        elif type(message) is Revocation:
            self._revoke(message.ids)
        elif type(message) is Request:
            self._arrived.append(_batch_of(message))  # which can be given back
        else:
            self._arrived.append(message)

    def _revoke(self, ids: list[int]) -> None:
        """Remember which of the calls that are here nobody waits for any more."""
        held = self._calls[max(self._at - 1, 0) :]
        for message in self._arrived:
            if type(message) is Batch:
                held += message.calls
        self.revoked.update({call[0] for call in held}.intersection(ids))

    def _learn(self, batch: Batch, buffers: list[Buffer]) -> None:
        functions = self.functions
        functions.forget(batch.forget)
        if self._isolation is not None:
            self._isolation.forget(batch.forget)
        for told in batch.functions:
            functions.learn(told, buffers)
        for task_id, function_id, *_ in batch.calls:
            terms = None if batch.terms is None else batch.terms.get(task_id)
            if not isolated(terms):
                self._ready(function_id)  # before the clock runs
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
        self.begun += 1
        self.lock.release()
        try:
            # Pickling is user code, too: it may take long, and raise anything.
            functions = self.functions
            if function_id == functions.entered:
                function = functions[function_id]
            else:
                function = functions.ready(function_id)
                if type(function) is Unloadable:
                    function()  # or the arguments are blamed, which need the same
            if self._terms is not None:
                function = self._within_limits(function)
            args, kwargs = payload, None
            if mode != CALL_PLAIN:
                args, kwargs = unpickle(payload, buffers, "the arguments", self._where)
                buffers.clear()
            value = function(*args, **kwargs) if kwargs else function(*args)
            forks.leave()
            if id(type(value)) in codec.SCALAR_IDS:
                return PLAIN, value, []
            del args, kwargs  # what they still refer to dies before the value is sent
            box = [value]
            del value
            return encode_result(box, self._where)
        except BaseException as error:  # whatever it is, it belongs to the task
            forks.leave(error)
            return encode_error(error, self._where)
        finally:
            self.lock.acquire()

    def _map(
        self, function_id: int, mode: int, payload: Any, buffers: list[Buffer]
    ) -> tuple[int, Form]:
        function = self._ready(function_id)
        if self._terms is not None:
            function = self._within_limits(function)
        values: list[Any] = []
        if mode in _PLAIN_MAPS:
            # A list, since the listener may take the end of it away.
            items = list(codec.decode(payload))
            self._chunk = items, values
            while len(values) < len(items):
                self.begun += 1
                self.lock.release()
                try:
                    map_plain(mode, function, items, values, self._where)
                finally:
                    self.lock.acquire()
            self._chunk = None
            return len(items), encode_items(values, self._where)
        buffers.reverse()
        self._chunk = payload, values
        for frame, count in payload:
            own = [buffers.pop() for _ in range(count)]
            self.begun += 1
            self.lock.release()
            try:
                values.append(self._item(function, mode, frame, own))
            finally:
                self.lock.acquire()
        self._chunk = None
        return len(payload), encode_items(values, self._where)

    def _item(
        self, function: Callable[..., Any], mode: int, frame: Any, buffers: list[Buffer]
    ) -> Any:
        """Return what an item came to: a value that cannot change, or `Sealed`."""
        try:
            if type(function) is Unloadable:
                function()  # or the item would be blamed, which needs the same
            item = unpickle(frame, buffers, "an item", self._where)
            buffers.clear()
            value = function(*item) if mode == STARMAP else function(item)
            forks.leave()
            if id(type(value)) in codec.SCALAR_IDS:
                return value
            del item
            box = [value]
            del value
            return Sealed(encode_result(box, self._where))
        except BaseException as error:  # whatever it is, it belongs to the item
            return Sealed(encode_error(error, self._where))

    def _isolate(self, batch: Batch, buffers: list[Buffer]) -> None:
        """Run the call that comes next in a child process of this rank."""
        try:
            check(buffers)
        except MemoryError as error:
            task_id, function_id, *_ = batch.calls[self._at - 1]
            form = encode_error(error, self._where)
            self.replies.add(task_id, function_id, 1, form, 0.0)
            return
        if self._isolation is None:
            from mpitasks.worker.isolation import Isolation

            self._isolation = Isolation(self, *self._own, self._where)
        self._isolation.run(batch, self._at - 1, buffers)

    def _within_limits(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as the terms of this call want it to be called."""
        assert self._terms is not None
        if self._terms.timeout is None:
            return function
        from mpitasks.worker.limits import Limited

        return Limited(function, self._terms.timeout)


def _batch_of(request: Request) -> Batch:
    """Return a request as a batch."""
    terms = None if request.terms is None else {request.call[0]: request.terms}
    return Batch([request.call], terms=terms)
