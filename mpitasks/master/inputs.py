"""What a task lacks of the results of other tasks, and how a result gets there.

`Inputs` belongs to a task that has futures among its arguments. It is filled with what
these futures come to, in the form that a worker sent it: rank 0 does not unpickle what
it passes on. Two kinds of results must be looked into all the same: a value that the
script has already, and what refers to classes and functions of the script, which the
next worker may lack. `prepare` does that, and runs code of the user; everything else
here does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mpitasks.errors import DataLost, SerializationError
from mpitasks.master.kept_results import KeptResult
from mpitasks.master.sharing import Shared
from mpitasks.scheduler.events import Task, TaskState
from mpitasks.wire import codec
from mpitasks.wire.diagnose import describe
from mpitasks.wire.inputs import Reference
from mpitasks.wire.messages import KEPT, PLAIN, SHARED, VALUE
from mpitasks.wire.outcomes import (
    Encoded,
    Failure,
    Form,
    Name,
    Special,
    form_bytes,
    has_failed,
    not_run,
)
from mpitasks.wire.ownership import copied

if TYPE_CHECKING:
    from typing import Protocol

    from mpitasks.master.script_state import Definition
    from mpitasks.scheduler.events import ObjectId, Place
    from mpitasks.wire.codec import Buffer
    from mpitasks.wire.inputs import Collector

    class Needed(Protocol):
        """What it asks of a future.

        Attributes:
            named: Returns what messages call its call, if that has failed.
        """

        named: Name

        def need(self, user: User) -> ObjectId | None:
            """Have the result passed on; return its id, or None if it is there."""

        def outcome(self) -> Any:
            """Return what it came to, undecoded if nobody has asked for it."""


__all__ = [
    "CANCELLED",
    "NEVER",
    "SOME",
    "Arrived",
    "Inputs",
    "Prepared",
    "User",
    "pending_of",
    "prepare",
    "quick",
    "unnamed",
]

NEVER: ObjectId = -1
"""The id of a result of which it is known at once that it will never be there."""

SOME: Sequence[ObjectId] = (NEVER,)
"""Inputs of a task before the engine has looked which of them are there."""

_NO_BUFFERS: list[Buffer] = []

KEPT_BYTES = 256
"""What a reference to a kept result is taken to weigh in a message."""

_OVER = Task(NEVER, -1)
_OVER.state = TaskState.CANCELLED

CANCELLED: Any = object()
"""In the place of the outcome of a call that was cancelled."""


def unnamed() -> str:
    """Return what messages call a task of which nothing is known any more."""
    return "a task"


class Prepared(NamedTuple):
    """A result, ready to be sent to a worker.

    Attributes:
        form: As in a message, with its buffers.
        nbytes: What it weighs there.
        names: The globals of the script that it refers to.
        needs: The shared object that it is.
        place: The worker that keeps it, and its bytes there; None for other results.
    """

    form: Form
    nbytes: int = 0
    names: Iterable[str] = ()
    needs: tuple[Definition, ...] = ()
    place: Place | None = None


class Inputs:
    """The results that a task needs.

    Args:
        task: The task; None for an item that lacks nothing.

    Attributes:
        task: As given.
        ids: Those that are not there when the task is made.
        forms: What there is of each; None for what is not there.
        lost: What the task comes to, since one of them will never be there: an outcome
            or CANCELLED. None if that is not so.
        needs: The shared objects among them.
        places: The workers that keep one of them, and its bytes there.
        early: Those that came before the scheduler knew of the task.
    """

    __slots__ = (
        "_missing",
        "early",
        "forms",
        "ids",
        "lost",
        "needs",
        "places",
        "task",
        "token",
    )

    def __init__(self, task: Task | None = None) -> None:
        self.task: Any = task
        self.ids: list[ObjectId] = []
        self.forms: list[Form | None] = []
        self._missing = 0
        self.needs: tuple[Definition, ...] = ()
        self.places: tuple[Place, ...] = ()
        self.token = -1
        self.lost: Any = None
        self.early: Sequence[Arrived] = ()

    @classmethod
    def of_one(cls, task: Task, id: ObjectId) -> Inputs:
        """Return what a task needs whose only argument is a result of that id."""
        inputs = cls(task)
        inputs.ids = [id]
        inputs.forms = [None]
        inputs._missing = 1
        return inputs

    def require(self, found: Collector) -> set[str]:
        """Have results passed on to the task; take those that are there.

        This runs code of the user.

        Args:
            found: The futures that were met among its arguments.

        Returns:
            The globals of the script that these refer to.
        """
        names: set[str] = set()
        self.token = found.token
        futures: Sequence[Needed] = found.futures
        self.forms += [None] * len(futures)
        self._missing = len(futures)
        if found.fault is not None:
            self.lose(found.fault.outcome(), found.fault.named)
            return names
        for index, future in enumerate(futures):
            id = future.need((self, index))
            if id is not None:
                self.ids.append(id)
                continue
            outcome = future.outcome()
            pending = pending_of(outcome)
            if pending is not None:  # it is lost, and made again
                id = pending.need((self, index))
                if id is not None:
                    self.ids.append(id)
                    continue
                outcome = pending.outcome()
            if outcome is CANCELLED or has_failed(outcome):
                self.lose(outcome, future.named)
                break
            try:
                prepared = prepare(outcome)
            except (DataLost, SerializationError) as error:
                self.lose(Failure(error), future.named)
                break
            names.update(prepared.names)
            self.put(index, prepared)
        return names

    def lose(self, outcome: Any, named: Name) -> None:
        """Take note that a result will never be there.

        Args:
            outcome: What its call came to.
            named: Returns what messages call that.
        """
        if outcome is not CANCELLED:
            task = self.task
            own = unnamed if task is None else task.payload.name_of(task)
            outcome = not_run(outcome, named, own)
        if self.lost is None:
            self.lost = outcome

    @classmethod
    def again(
        cls, task: Task, parts: tuple[Any, ...], buffers: Sequence[Buffer]
    ) -> Inputs:
        """Return what went into a frame with inputs: the reverse of `around`.

        Args:
            task: The task that needs them.
            parts: The frame with its inputs.
            buffers: All their buffers.
        """
        inputs = cls(task)
        _, start, entries, inputs.token = parts
        for form, payload, count in entries:
            inputs.forms.append((form, payload, list(buffers[start : start + count])))
            start += count
            if form == KEPT and not payload.is_gone:
                inputs.places += ((payload.at.rank, payload.nbytes),)
        return inputs

    def wait_for(self, future: Needed, index: int) -> None:
        """Wait for one of them again, which was taken out. Under the lock."""
        self._missing += 1
        id = future.need((self, index))
        if id is not None:
            self.ids.append(id)
            return
        outcome = future.outcome()
        if outcome is CANCELLED or has_failed(outcome):
            self.lose(outcome, future.named)
        elif (prepared := quick(outcome)) is not None:
            self.put(index, prepared)
        else:
            error = SerializationError(
                "a result that was made again is of another kind"
            )
            self.lose(Failure(error), future.named)

    def clear(self) -> None:
        """Let go of everything: the task is over."""
        self.task = _OVER
        self.forms = []
        self.early = ()
        self.needs = ()

    @property
    def is_complete(self) -> bool:
        """Whether all of them are there."""
        return not self._missing

    def put(self, index: int, prepared: Prepared) -> None:
        """Take one in that is there now."""
        self.forms[index] = prepared.form
        self._missing -= 1
        if prepared.needs:
            self.needs += prepared.needs
        if prepared.place is not None:
            self.places += (prepared.place,)

    @property
    def nbytes(self) -> int:
        """What those that are there weigh in a message."""
        return sum(form_bytes(*form) for form in self.forms if form is not None)

    def into(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return arguments with the results in the place of their references.

        Args:
            args: Plain values and references, and nothing else.

        Returns:
            The arguments; None if a result is not plain.
        """
        forms: Any = self.forms
        if any(form[0] != PLAIN for form in forms):
            return None
        return tuple(
            [forms[arg.index][1] if type(arg) is Reference else arg for arg in args]
        )

    def around(
        self, frame: bytes, buffers: Sequence[Buffer]
    ) -> tuple[tuple[Any, ...], list[Buffer]]:
        """Return a frame with the results, all of which are there, and all buffers.

        Args:
            frame: The frame that refers to them.
            buffers: Its buffers.
        """
        entries = []
        every = [*buffers]
        for each in self.forms:
            assert each is not None
            form, payload, own = each
            entries.append((form, payload, len(own)))
            every += own
        return (frame, len(buffers), entries, self.token), every


User = tuple[Inputs, int]
"""Who waits for a result, and which of its inputs that is."""


class Arrived(NamedTuple):
    """A result for which tasks wait.

    Attributes:
        id: Its id.
        users: Who waits for it.
        outcome: What it came to; or CANCELLED.
        named: Returns what messages call its task.
    """

    id: ObjectId
    users: Sequence[User]
    outcome: Any
    named: Name


def quick(outcome: Any) -> Prepared | None:
    """Return a result that can be passed on as it is; None if it must be looked into.

    Args:
        outcome: What a future comes to: a value or an `Encoded` one.
    """
    if type(outcome) is Encoded:
        form = outcome.lend()
        if type(form[1]) is KeptResult:
            return None if form[1].lost or form[1].at.names else _kept(form[1])
        if type(form[1]) is Shared:
            made = form[1].definition
            own: Form = SHARED, made.id, _NO_BUFFERS
            return Prepared(own, 0, form[1].names, (made,))
        if (
            isinstance(form[1], Special)
            or b"__main__" in form[1]
            or codec.sends_by_value()
        ):
            return None
        return Prepared(form, form_bytes(*form))
    if codec.is_plain((outcome,)):
        return Prepared((PLAIN, outcome, _NO_BUFFERS))
    return None


def pending_of(outcome: Any) -> Needed | None:
    """Return what makes a result again that is lost, if that goes on."""
    if (
        type(outcome) is not Encoded
        or type(kept := outcome.lend()[1]) is not KeptResult
    ):
        return None
    pending: Any = kept.pending
    return None if kept.lost is None else pending


def _kept(kept: KeptResult) -> Prepared:
    """Return a result that stays with its worker, ready to be referred to."""
    place = kept.at.rank, kept.nbytes
    return Prepared((KEPT, kept, _NO_BUFFERS), KEPT_BYTES, kept.at.names, (), place)


def prepare(outcome: Any) -> Prepared:
    """Return a result, ready to be sent. This runs code of the user.

    Args:
        outcome: As for `quick`.

    Raises:
        DataLost: Its worker kept it, and is gone.
        SerializationError: It cannot be unpickled here, or not be pickled.
    """
    found = quick(outcome)
    if found is not None:
        if type(outcome) is Encoded and type(outcome.lend()[1]) is Shared:
            outcome.lend()[1].check()
        return found
    if type(outcome) is Encoded and type(kept := outcome.lend()[1]) is KeptResult:
        kept.check()
        return _kept(kept)
    value = outcome.fetch() if type(outcome) is Encoded else outcome
    if type(value) is Failure:
        error = value.error
        if isinstance(error, SerializationError):
            raise error
        raise SerializationError(
            f"the result of another task cannot be passed on: {describe(error)}"
        ) from error
    frame, buffers, notes = codec.encode_noting(value, "the result of another task")
    own = [copied(buffer) for buffer in buffers]
    form: Form = VALUE, frame, own
    names = () if notes is None else notes.names
    return Prepared(form, form_bytes(*form), names)
