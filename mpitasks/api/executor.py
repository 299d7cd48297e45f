"""`Executor`: the interface of `concurrent.futures.Executor`, and more."""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from mpitasks.api import early_traceback, filling, reducing, session
from mpitasks.api.progress import LeafProgress, known_length
from mpitasks.api.stream import Stream, results_of
from mpitasks.errors import (
    ConfigurationError,
    InitializerError,
    OptionError,
    SerializationError,
    Stopped,
)
from mpitasks.journal import open_journals
from mpitasks.master import sharing
from mpitasks.master.bulk_job import BulkJob
from mpitasks.master.future import Future, settle
from mpitasks.master.lost_tasks import SHUTDOWN_SECONDS
from mpitasks.master.payloads import Call
from mpitasks.options import DEFAULTS, TaskOptions
from mpitasks.values import integer
from mpitasks.wire import codec
from mpitasks.wire.messages import VALUE
from mpitasks.wire.outcomes import Encoded, Failure, Found

if TYPE_CHECKING:
    from mpitasks.api.actors import ActorGroup, ActorHandle
    from mpitasks.api.session import ExecutorHandle
    from mpitasks.journal.rows import Entry
    from mpitasks.master.functions import Function
    from mpitasks.observe.accounts import RunStatistics

__all__ = ["Executor"]

INTERRUPTS = (KeyboardInterrupt, Stopped)
"""What ends a script at once: Ctrl-C, and the end of the run."""

T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Runs calls on the worker ranks, or in this process if there are none.

    The contract is that of `concurrent.futures.Executor`. The workers serve until the
    script ends. Several Executors may be open, one after another or at a time; those
    that are open share the workers. What an Executor was given is done, also when
    nobody refers to it any more.
    Arguments and results travel as pickles, NumPy arrays as their own memory. Arguments
    are what they are when `submit`, or the iteration of `map`, takes them: a large
    array is sent to an idle worker before `submit` returns, or copied; with 1 GiB of
    copies that wait, `submit` and `map` wait, too.

    Args:
        max_workers: Use only so many of the workers, those of the lowest ranks; None
            for all there are. The number that it comes to is `num_workers`. While
            several Executors are open, all use as many as the one that wants most.
        mp_context: Taken, as by `concurrent.futures.ProcessPoolExecutor`, and not used:
            the workers are there already.
        initializer: Each process that runs tasks of this Executor calls it once, before
            the first of them; so does one that takes the place of another, and the
            child that isolated tasks run in. If it raises, the Executor is broken:
            what waits and what is submitted later fails with `InitializerError`.
        initargs: The arguments that it is called with.
        journal: A file for finished results: when the same script runs again, they
            come from there, and only what is missing is computed. None for the one
            of the command line's ``--journal``, if there is one. See
            ``docs/resume.md``.
        seed: What `mpitasks.rng` in its tasks depends on, an integer from 0 on. Two
            Executors with the same seed draw the same numbers. None for what the
            command line's ``--seed`` says, else what the journal has, else a fresh one;
            then each Executor of a run draws others.
        logging: Have log records of tasks handled here, by the script's handlers, with
            ``rank``, ``host``, ``task`` and ``label`` as attributes. Levels are those
            of this moment. None for what the command line says. See
            ``docs/workers.md``.
        keep_failures: Do not run again what failed in an earlier run; None for what
            the command line says.
        journal_errors: When the journal cannot be written any more (a full disk),
            "stop" with a `JournalError`, or "continue" without it, after a warning;
            None for what the command line says.
        trust: Use a `journal` that another user owns or could write. Its results are
            pickles, and so could run any code of theirs here. None for what the command
            line says. See ``docs/resume.md``.
        **options: Defaults for the tasks; see `with_options`.

    Raises:
        JournalError: The journal is in use, is no journal, or cannot be written.
        ConfigurationError: This is not the script's process on rank 0.
        OptionError: An option has a value that it cannot have.
        SerializationError: The initializer cannot be pickled.
        TypeError: The initializer cannot be called.

    Example:
        >>> with mpitasks.Executor() as executor:
        ...     future = executor.submit(pow, 2, 10)
        ...     squares = list(executor.map(math.sqrt, range(100)))
    """

    # As all views have them; those of one that was unpickled are these.
    _options = DEFAULTS
    _handle: ExecutorHandle

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        journal: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        logging: bool | None = None,
        keep_failures: bool | None = None,
        journal_errors: str | None = None,
        trust: bool | None = None,
        **options: Any,
    ) -> None:
        if max_workers is not None:
            max_workers = _number("max_workers", max_workers, 1)
        if seed is not None:
            seed = _number("seed", seed, 0)
        if logging not in (None, True, False):
            raise TypeError(f"logging must be True, False or None, not {logging!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        settings = session.settings_here()
        self._options = DEFAULTS.replace(**settings.task_options).replace(**options)
        opener = None
        if journal is not None:
            opener = functools.partial(
                open_journals.open_journal,
                journal,
                keep_failures=_told(keep_failures, settings.keep_failures),
                errors=_told(journal_errors, settings.journal_errors),
                trust=_told(trust, settings.trust),
            )
        self._handle = session.current(max_workers).open(
            max_workers,
            opener,
            initializer,
            tuple(initargs),
            seed=seed,
            logging=_told(logging, settings.logging),
        )
        self._hold = self._handle.hold()
        if self._handle.label_path is not None:
            self._options = self._options.replace(label=self._path(self._options.label))
        if self._options.progress:
            self._handle.show_calls()

    @property
    def num_workers(self) -> int:
        """How many workers take tasks: up to all ranks but rank 0; 1 in one process."""
        return self._handle.event_loop.num_workers

    @property
    def _max_workers(self) -> int:
        """The same, where clients of the standard library's executors look for it."""
        return self.num_workers

    @property
    def _processes(self) -> int:
        """The same, where clients of `multiprocessing.pool.Pool` look for it."""
        return self.num_workers

    def statistics(self) -> RunStatistics:
        """Return what the run has done so far: counts, seconds, by label and by link.

        It is about the whole run, since the Executors of a run share the workers. It
        asks no worker, and costs about as much as submitting a call.

        Example:
            >>> after = executor.statistics()
            >>> after.labels["simulate"].seconds / after.labels["simulate"].succeeded
            0.125
        """
        return self._handle.session.statistics()

    def with_options(self, **options: Any) -> Executor:
        """Return a view of this executor whose tasks have other options.

        The view has the whole interface and shares everything else with the
        executor, the shutdown too.

        Args:
            **options: Any of the fields of `mpitasks.TaskOptions`.

        Raises:
            TypeError: An option of that name does not exist.
            OptionError: An option has a value that it cannot have.

        Example:
            >>> urgent = executor.with_options(priority=10, label="pilot")
            >>> urgent.submit(simulate, 0.5)
        """
        if "label" in options:
            options["label"] = self._path(options["label"])
        view = self._view(self._options.replace(**options))
        if view._options.progress:
            self._handle.show_calls()
        return view

    def _path(self, label: Any) -> Any:
        """Return a label behind that of the task that has opened this executor."""
        above = self._handle.label_path
        if above is None or not (label is None or isinstance(label, str)):
            return label
        return above if label is None else f"{above}/{label}"

    def _view(self, options: TaskOptions) -> Executor:
        """Return a view with these options."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._options = options
        return view

    @property
    def options(self) -> TaskOptions:
        """The options of the tasks that are submitted here."""
        return self._options

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future:
        """Have a worker call ``fn(*args, **kwargs)``; return its `Future` at once.

        Function and arguments are pickled here and now. What cannot be pickled fails
        the future, with a `SerializationError` that names the part.

        Raises:
            ExecutorClosedError: The executor was shut down. (A RuntimeError.)
        """
        handle = self._handle
        if handle.closed:
            session.refuse_submit()
        event_loop = handle.event_loop
        id = next(handle.ids)  # its place in the program, also if it need not run
        entry = None
        try:
            function, target, is_same = handle.set_up.latest
            if function is not fn or (is_same is not None and not is_same()):
                target = event_loop.functions.register(fn, handle.set_up)
            if handle.journal is not None:
                entry, found = self._find(id, fn, target, args, kwargs)
                if found is not None:
                    return found
            call = Call(id, target, args, kwargs, self._options, event_loop, handle)
        except (SerializationError, InitializerError) as error:
            return self._unsent(error)
        if entry is not None:
            call.entry = entry
        if call.buffers:
            self._submit_large(call)
        else:
            event_loop.submit(call.task)
        return call

    def _submit_as(
        self, fn: Callable[..., Any], target: Function, *args: Any
    ) -> Future:
        """As `submit`, for a function that is sent as it was; for `reducing`.

        Args:
            fn: The function.
            target: How it is sent, as `_as_it_is` returned it.
            *args: Its arguments.
        """
        handle = self._handle
        if handle.closed:
            session.refuse_submit()
        id = next(handle.ids)
        entry = None
        try:
            if handle.journal is not None:
                entry, found = self._find(id, fn, target, args, {})
                if found is not None:
                    return found
            call = Call(id, target, args, {}, self._options, handle.event_loop, handle)
        except SerializationError as error:
            return self._unsent(error)
        call.entry = entry
        self._submit_large(call)
        return call

    def _as_it_is(self, fn: Callable[..., Any]) -> Function:
        """Return how a function is sent, as it is now, for `_submit_as`.

        Raises:
            SerializationError: It cannot be pickled.
        """
        if self._handle.closed:
            session.refuse_submit()
        functions = self._handle.event_loop.functions
        return functions.register(fn, self._handle.set_up, whole=True)

    def _urgent(self) -> Executor:
        """Return a view whose tasks go before others of this executor."""
        return self.with_options(priority=self._options.priority + 1)

    def _leaves_ahead(self) -> int:
        """Return how many leaves of a reduction are submitted ahead of those done."""
        return max(512, 64 * self.num_workers)

    def _wait_until_done(self, future: Future, timeout: float | None) -> None:
        """Drive the run until a future is done, whatever it came to.

        Raises:
            TimeoutError: It was not done within `timeout` seconds.
        """
        if not future.wait(timeout):
            raise concurrent.futures.TimeoutError

    def _unsent(self, error: SerializationError | InitializerError) -> Future:
        """Return the future of a call that cannot be sent."""
        if self._options.label is not None:
            error.args = (f"task {self._options.label!r}: {error}",)
        future = Future(self._handle.event_loop)
        settle([future], [Failure(error)])
        return future

    def _submit_large(self, call: Call) -> None:
        """Submit a call that may have large arguments."""
        event_loop = self._handle.event_loop
        if not call.buffers:
            event_loop.submit(call.task)
            return
        try:
            event_loop.argument_memory.submit(call.task)
        except MemoryError as error:  # there is no room for a copy
            settle([call], [Failure(error)])

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **options: Any,
    ) -> Iterator[T]:
        """Call `fn` with each item, or with items of each iterable; yield in order.

        Args:
            fn: The function.
            *iterables: Taken in full at the call, unless `buffersize` is given.
            timeout: Seconds from this call on after which waiting for a result
                raises `TimeoutError`.
            chunksize: Items per chunk; None lets the library choose.
            buffersize: If given, items are taken from the iterables only as results
                are yielded, this many ahead. (As in Python 3.14.)
            **options: Options of this map: `max_failures`, `fail_fast`,
                `return_exceptions` or any other of `with_options`, where a time limit
                for each item is to be given, since `timeout` is another one here.

        Raises:
            ExecutorClosedError: The executor was shut down.
            OptionError: `chunksize` or `buffersize` is no positive integer, or an
                option has a value that it cannot have.
            SerializationError: `fn` cannot be pickled; it is at the call, here.
            BaseException: Iterating raises what a call raised, at its place.
        """
        star = len(iterables) != 1
        items = zip(*iterables) if star else iterables[0]  # noqa: B905  as the stdlib
        stream = self._stream(
            fn,
            items,
            chunksize,
            options,
            star=star,
            timeout=timeout,
            total=known_length(iterables),
        )
        stream.start(_window(buffersize))
        return stream.values()

    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **options: Any,
    ) -> Iterator[T]:
        """As `map`, for items that are tuples of arguments: ``fn(*item)``."""
        items = map(tuple, iterable)
        stream = self._stream(
            fn,
            items,
            chunksize,
            options,
            star=True,
            timeout=timeout,
            total=known_length([iterable]),
        )
        stream.start(_window(buffersize))
        return stream.values()

    def map_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, T]]:
        """As `map`, but yield ``(index, result)`` as the results come.

        Items are taken from the iterables as the workers need them, so that an
        endless generator is fine; `buffersize` bounds how many ahead of the results,
        else a few chunks for each worker.
        """
        star = len(iterables) != 1
        items = zip(*iterables) if star else iterables[0]  # noqa: B905  as the stdlib
        stream = self._stream(
            fn,
            items,
            chunksize,
            options,
            star=star,
            timeout=timeout,
            total=known_length(iterables),
            ordered=False,
        )
        stream.start(_window(buffersize) or stream.window_for_workers)
        return stream.indexed_values()

    def map_into(
        self,
        out: Any,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        ordered: bool = True,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        **options: Any,
    ) -> Any:
        """Call `fn` with each item; write what it returns into the rows of an array.

        ``out[i] = fn(inputs[i])``, without a list of all results in memory.

        Args:
            out: The array, contiguous in C order and writable, with as many rows as
                there are items: of shape ``(n, ...)``. It may be a `numpy.memmap`, such
                as ``numpy.lib.format.open_memmap`` returns.
            fn: The function. Its result must have the shape of a row, and a type that
                NumPy converts to that of `out` by its rule "safe". Else the item fails
                with a `ValueError` or a `TypeError`.
            *iterables: As for `map`.
            ordered: Whether to return when all rows are there. If not, return an
                iterator that yields the number of each row once it is there.
            timeout: As for `map`.
            chunksize: As for `map`.
            buffersize: As for `map`.
            **options: As for `map`.

        Returns:
            `out`; or an iterator of numbers. The rows are written while it is iterated.

        Raises:
            TypeError: `out` is no array, or one of Python objects.
            ValueError: `out` is read-only or not contiguous; there are more or fewer
                items than rows; an input shares its memory with `out`, and `buffersize`
                is given.
            BaseException: What a call raised. Its row stays as it was; others may be
                written already.

        Example:
            >>> spectra = numpy.empty((len(samples), 4096))
            >>> executor.map_into(spectra, spectrum, samples)
        """
        filling.check_array(out)
        filling.check_inputs(out, iterables, lazy=buffersize is not None)
        if options.get("return_exceptions", self._options.return_exceptions):
            raise OptionError("map_into has no place for exceptions: they are raised")
        items: Iterator[Any] = zip(*iterables)  # noqa: B905  as the stdlib
        stream = self._stream(
            filling.row_function(fn, out),
            filling.counted(items, len(out)),
            chunksize,
            options,
            star=True,
            timeout=timeout,
            total=len(out),
            ordered=False,
        )
        stream.start(_window(buffersize))
        written = results_of(filling.fill(out, stream.indexed_values()), len(out))
        if not ordered:
            return written
        for _ in written:
            pass
        return out

    def map_reduce(
        self,
        fn: Callable[[Any], Any],
        inputs: Iterable[Any],
        op: Callable[[Any, Any], Any] | None = None,
        *,
        initial: Any = reducing.NOTHING,
        exact: bool = False,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        """Call `fn` with each item; combine what it returns on the workers.

        ``functools.reduce(op, map(fn, inputs), initial)``, for an `op` that is
        associative: values are combined along a tree. The tree depends on the numbers
        of the items alone, so the result has the same bits on any number of ranks,
        after retries, and after a resume. Arrays are combined in place if `op` is a
        function of NumPy such as ``np.add`` or ``np.maximum``.

        Args:
            fn: The function. The first 1,024 items are a task each; behind them a task
                has two items or more.
            inputs: The items.
            op: Takes two values and returns one. None for the sum, with `exact`.
            initial: Stands before the first value.
            exact: Return the sum of floats, or of arrays of floats by element, rounded
                only once, as `math.fsum` does. `op` must be `operator.add`,
                ``np.add`` or None.
            timeout: Seconds from this call on after which it raises `TimeoutError`, and
                cancels what has not begun.
            **options: As those of `with_options`, for each task.

        Returns:
            The combined value. With `exact`, a float or an array of float64.

        Raises:
            TypeError: There are no items, and no `initial`.
            ValueError: `exact` was asked for another operation than the sum.
            OptionError: An option was given that only single calls or maps have.
            OverflowError: An exact sum of finite numbers is larger than any float.
            RuntimeError: `fn` raises StopIteration.
            BaseException: What `fn` or `op` raised; nothing more is begun then.

        Example:
            >>> executor.map_reduce(simulate, range(10_000), op=np.add)
            >>> executor.map_reduce(abs, values, exact=True)
        """
        for name in ("return_exceptions", "max_failures", "fail_fast", "key"):
            if name in options:
                raise OptionError(f"map_reduce has no use for the option {name}")
        asked = self._options.replace(**options)
        executor = self._view(asked.replace(progress=False))
        if self._options.key is not None:
            raise OptionError("map_reduce has no use for a key: its tasks are many")
        progress = None
        if asked.progress:  # by items, not by tasks
            name = asked.label or "map_reduce"
            progress = LeafProgress(name, known_length([inputs]))
            self._handle.session.display.add(progress)
        try:
            return reducing.map_reduce(
                executor,
                fn,
                inputs,
                op,
                initial,
                exact=exact,
                timeout=timeout,
                progress=progress,
            )
        finally:
            if progress is not None:
                self._handle.session.display.end(progress)

    def reduce(
        self,
        op: Callable[[Any, Any], Any],
        values: Iterable[Any],
        *,
        initial: Any = reducing.NOTHING,
    ) -> Future:
        """Combine the results of futures on the workers; return a `Future` at once.

        As `map_reduce` does; the tree depends on the number of values alone.

        Args:
            op: Takes two values and returns one.
            values: Futures, or values.
            initial: Stands before the first value.

        Raises:
            TypeError: There are no values, and no `initial`.

        Example:
            >>> parts = [executor.submit(simulate, n) for n in range(100)]
            >>> total = executor.reduce(np.add, parts).result()
        """
        return reducing.reduce(self, op, values, initial)

    def share(self, value: Any) -> Future:
        """Have an object at hand on the workers; return a done `Future` of it.

        Pass the future as an argument, or in items of a map: the task gets the object.
        It is what it is now, and goes to each worker once, with the first task that
        needs it. Workers on the host of rank 0 map its large arrays, so all of them
        together take the memory of one copy. The workers let go of it some time after
        the last reference to the future is gone.

        The arrays are read-only in tasks, and in what `result()` returns here: writing
        raises NumPy's `ValueError`. Take a copy to change one. All else of the object
        is the task's own.

        A `numpy.memmap` goes by the path of its file instead, and tasks see what is in
        the file then.

        Args:
            value: The object: whatever can be pickled. Arrays, `bytes` and others that
                lend their memory to a pickle count as large from 1 MiB on.

        Raises:
            SerializationError: It cannot be pickled.
            MemoryError: There is no room for it.
            ExecutorClosedError: The executor was shut down.

        Example:
            >>> table = executor.share(numpy.load("table.npy"))
            >>> futures = [executor.submit(look_up, table, x) for x in inputs]
        """
        handle = self._handle
        if handle.closed:
            session.refuse_submit()
        future = Future(handle.event_loop)
        future.shared = sharing.share(handle.event_loop.functions, value)
        settle([future], [future.shared.outcome])
        return future

    def actor(
        self,
        cls: type,
        /,
        *args: Any,
        max_restarts: int = 0,
        checkpoint: int | None = None,
        exclusive: bool = False,
        label: str | None = None,
        isolate: bool | None = None,
        rank: int | None = None,
        node: str | None = None,
        **kwargs: Any,
    ) -> ActorHandle:
        """Make an object of a class on a worker; return a handle to call it by.

        The object stays there, with its state. Its calls run one after the other, in
        the order in which they were made, before other tasks of that worker. Each is
        run at most once: `retries` do not apply.

        Args:
            cls: The class.
            *args: Arguments of its constructor.
            max_restarts: If the actor's rank dies, and the run goes on, make the object
                again on another rank, this often. Calls that were not done fail with
                `ActorDied`; later ones run on the new object.
            checkpoint: Take the object's state after each so many calls. A new object
                begins with the last state that was taken, and the calls after it that
                had a result are run again. None for never: a new object begins with
                the constructor.
            exclusive: Run no other task on the actor's rank.
            label: A name for its calls, shown in messages about them.
            isolate: Must be False, if it is given: actors live in their rank.
            rank: The rank where it is to live; None for the one with the fewest actors.
            node: The host where it is to live.
            **kwargs: Keyword arguments of its constructor.

        Raises:
            OptionError: An option has a value that it cannot have, or there is no such
                rank.
            SerializationError: The class or an argument cannot be pickled.
            TypeError: `cls` is no class.
            ExecutorClosedError: The executor was shut down.

        Example:
            >>> counter = executor.actor(Counter, 0)
            >>> counter.add(1).result()
            1
        """
        from mpitasks.api import actors

        options = self._options
        if label is not None:
            options = options.replace(label=label)
        if isolate is not None:
            options = options.replace(isolate=isolate)
        return actors.open_actor(
            self._handle,
            options,
            cls,
            args,
            kwargs,
            max_restarts=max_restarts,
            checkpoint=checkpoint,
            exclusive=exclusive,
            ranks=actors.ranks_of(self._handle, rank, node),
        )

    def actors(
        self, cls: type, /, *args: Any, per: str = "rank", **kwargs: Any
    ) -> ActorGroup:
        """Make an actor on each rank, or one on each node.

        Args:
            cls: The class.
            *args: Arguments of its constructor.
            per: "rank" or "node".
            **kwargs: As for `actor`, but for `rank` and `node`.

        Returns:
            The handles, as a list that has `call` to call a method of all of them.

        Example:
            >>> tables = executor.actors(Table, "table.npy", per="node")
            >>> sizes = [future.result() for future in tables.call("size")]
        """
        from mpitasks.api import actors

        def make(rank: int) -> ActorHandle:
            return self.actor(cls, *args, rank=rank, **kwargs)

        return actors.open_group(self._handle, per, make)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the workers stay for the next Executor.

        Args:
            wait: Return when every call is done, driving the run meanwhile.
            cancel_futures: Cancel the calls that were not sent to a worker yet, and end
                those that run isolated. Others that run get 30 s; then their futures
                fail with `ExecutorClosedError`.
        """
        handle = self._handle
        if handle.event_loop.is_shut:  # the run is over, or this is a forked child
            handle.closed = True
            return
        handle.close()
        if cancel_futures:
            handle.event_loop.cancel_queue(handle, isolated=True)
        if wait:
            if handle.session.runs_tasks_here():
                raise ConfigurationError(session.IN_TASK)
            seconds = SHUTDOWN_SECONDS if cancel_futures else None
            if not handle.event_loop.finish(seconds, handle):
                handle.event_loop.abandon_running(handle)
            if handle.session.actors:
                handle.session.end_actors(handle)
            handle.end_calls()
            handle.close_journal()

    def _drop(self) -> None:
        """Take no more calls, and wait for none; for `Pool.terminate`."""
        self.shutdown(wait=False, cancel_futures=True)
        if not self._handle.event_loop.is_shut:
            self._handle.event_loop.abandon_running(self._handle)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Shut down, waiting for what is outstanding; if interrupted, not waiting.

        What was raised is shown before it waits for long.
        """
        interrupted = kind is not None and issubclass(kind, INTERRUPTS)
        handle = self._handle
        if (
            error is not None
            and not interrupted
            and not handle.session.is_nested
            and not handle.session.runs_tasks_here()
        ):
            handle.closed = True
            early_traceback.tell_and_wait(handle, error)
        self.shutdown(wait=not interrupted, cancel_futures=interrupted)

    def __copy__(self) -> Executor:
        return self

    def __deepcopy__(self, memo: Any) -> Executor:
        return self  # as a file or a lock in what is copied would be

    def __reduce__(self) -> Any:
        """Be something that refuses to be used, wherever it is unpickled.

        Objects that carry an Executor along can be arguments of tasks then.
        """
        return _unpickled, (type(self),)

    def _find(
        self,
        id: int,
        fn: Any,
        target: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Entry | None, Future | None]:
        """Return where a call is to be recorded, and its future if it is there."""
        from mpitasks.journal.recorder import MISSING

        handle = self._handle
        assert handle.journal is not None
        assert handle.origin is not None
        entry, outcome = handle.journal.find(
            fn,
            target,
            args,
            kwargs,
            self._options,
            handle.origin.place(id),
            handle.keyed_by,
        )
        if outcome is MISSING:
            return entry, None
        future = Future(self._handle.event_loop)
        future.entry = entry
        if type(outcome) is not Failure and not codec.is_plain((outcome,)):
            outcome = Encoded(VALUE, Found(outcome), [])
        settle([future], [outcome])
        return entry, future

    def _stream(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any],
        chunksize: int | None,
        changes: dict[str, Any],
        *,
        star: bool,
        timeout: float | None,
        total: int | None = None,
        ordered: bool = True,
    ) -> Stream:
        if self._handle.closed:
            session.refuse_submit()
        options = self._options
        if chunksize is not None:
            changes["chunksize"] = chunksize
        if changes:
            if "label" in changes:
                changes["label"] = self._path(changes["label"])
            options = options.replace(**changes)
        options.check_for_map()
        if options.key is not None and not callable(options.key):
            raise OptionError(
                f"a map needs a key for each item: a function of it, not "
                f"{options.key!r}"
            )
        handle = self._handle
        assert handle.origin is not None
        place = handle.origin.place(next(handle.ids))
        functions = handle.event_loop.functions
        target = functions.register(fn, handle.set_up, whole=True)
        kinds: dict[str, Any] = {
            "star": star,
            "ordered": ordered,
            "options": options,
            "owner": handle,
            "place": place,
        }
        met = None
        if handle.journal is not None:
            met = handle.journal.meet(fn, target, handle.keyed_by, renew=True)
        if handle.journal is None or met is None:
            job = BulkJob(
                target,
                items,
                argument_memory=handle.event_loop.argument_memory,
                **kinds,
            )
        else:
            from mpitasks.journal.recorded_job import RecordedJob

            job = RecordedJob(
                handle.journal, met, handle.event_loop, target, items, **kinds
            )
        return Stream(handle, job, timeout, total)


def _unpickled(kind: type[Executor]) -> Executor:
    executor = object.__new__(kind)
    executor._handle = session.NO_HANDLE
    return executor


def _number(name: str, value: Any, least: int) -> int:
    """Return the int that an argument was given which may be None, too."""
    return integer(name, value, least, wrong=TypeError, or_none=True)


def _told(value: T | None, default: T) -> T:
    return default if value is None else value


def _window(buffersize: int | None) -> Callable[[], int] | None:
    if buffersize is None:
        return None
    size = _number("buffersize", buffersize, 1)
    return lambda: size
