"""Whatever a task does, one outcome leaves; whatever arrives becomes one."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

import numpy as np
import pytest

from mpitasks.errors import RemoteError, RemoteTraceback, SerializationError
from mpitasks.wire import codec
from mpitasks.wire.codec import THRESHOLD
from mpitasks.wire.messages import ERROR, ITEMS, LIST, PLAIN, VALUE
from mpitasks.wire.outcomes import (
    Failure,
    Form,
    Sealed,
    decode_outcome,
    encode_error,
    encode_items,
    encode_result,
)

WHERE = "rank 3 on node7"


def _arrive(form: Form) -> Any:
    number, payload, buffers = form
    return decode_outcome(number, payload, [bytearray(b) for b in buffers])


def _raised(error: BaseException) -> BaseException:
    """Return the error as it looks when a worker caught it."""
    try:
        _user_code(error)
    except BaseException as caught:
        return caught
    raise AssertionError


def _user_code(error: BaseException) -> NoReturn:
    raise error


def _error_of(form: Form) -> BaseException:
    assert form[0] == ERROR
    outcome = _arrive(form)
    assert type(outcome) is Failure
    return outcome.error


# Values.


@pytest.mark.parametrize("value", [None, 3, 1.5, "text", b"bytes", True, 2j])
def test_a_plain_value_goes_as_it_is(value: Any) -> None:
    assert encode_result([value], WHERE) == (PLAIN, value, [])
    assert _arrive((PLAIN, value, [])) is value


@pytest.mark.parametrize("value", [[1, 2], (1,), {"a": 1}, "x" * 2000, b"x" * 2000])
def test_other_values_go_as_a_frame(value: Any) -> None:
    form = encode_result([value], WHERE)
    assert form[0] == VALUE
    assert _arrive(form) == value


def test_a_large_array_goes_as_a_buffer() -> None:
    array = np.arange(float(THRESHOLD))
    form = encode_result([array], WHERE)
    assert form[0] == VALUE
    assert len(form[2]) == 1
    assert np.array_equal(_arrive(form), array)


def test_a_value_that_cannot_be_pickled_fails_its_task() -> None:
    error = _error_of(encode_result([{"lock": threading.Lock()}], WHERE))
    assert type(error) is SerializationError
    assert "the result['lock'] is a _thread.lock" in str(error)


class _BreaksOnArrival:
    def __reduce__(self) -> Any:
        return _user_code, (OSError("gone"),)


def test_a_value_that_cannot_be_unpickled_fails_its_task() -> None:
    outcome = _arrive(encode_result([_BreaksOnArrival()], WHERE))
    assert type(outcome) is Failure
    assert type(outcome.error) is SerializationError
    assert str(outcome.error) == (
        "the result of a task cannot be unpickled on rank 0: OSError: gone"
    )
    assert isinstance(outcome.error.__cause__, OSError)


# Errors.


def test_an_error_keeps_its_type_and_brings_its_traceback() -> None:
    error = _error_of(encode_error(_raised(KeyError("k", 3)), WHERE))
    assert type(error) is KeyError
    assert error.args == ("k", 3)
    assert type(error.__cause__) is RemoteTraceback
    text = str(error.__cause__)
    assert text.startswith(f"\nTraceback from {WHERE}:\n")
    assert "in _user_code" in text
    assert "in _raised" not in text  # the worker's own frame
    assert text.endswith("KeyError: ('k', 3)")


def test_an_error_without_a_traceback() -> None:
    error = _error_of(encode_error(StopIteration(), WHERE))
    assert type(error) is StopIteration
    assert str(error.__cause__).endswith("StopIteration")


def test_a_chain_of_errors_is_in_the_text() -> None:
    def chained() -> None:
        try:
            raise OSError("first")
        except OSError as first:
            raise ValueError("second") from first

    try:
        chained()
    except ValueError as caught:
        error = _error_of(encode_error(caught, WHERE))
    text = str(error.__cause__)
    assert text.index("OSError: first") < text.index("ValueError: second")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_a_process_travels_as_well(error: BaseException) -> None:
    again = _error_of(encode_error(_raised(error), WHERE))
    assert type(again) is type(error)
    assert again.args == error.args


class _WithTwo(Exception):
    """Pickles, but does not unpickle by itself: the commonest kind there is."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


def test_an_error_with_an_init_of_its_own_keeps_its_type() -> None:
    error = _error_of(encode_error(_raised(_WithTwo(7, "boom")), WHERE))
    assert type(error) is _WithTwo
    assert error.args == ("7: boom",)
    assert "in _user_code" in str(error.__cause__)


class _Unfit(Exception):
    """Cannot be made again: its args are not what arrives."""

    def __init__(self) -> None:
        super().__init__(_BreaksOnArrival())


def test_an_error_that_does_not_unpickle_is_sent_as_text() -> None:
    error = _error_of(encode_error(_raised(_Unfit()), WHERE))
    assert type(error) is RemoteError
    assert "_Unfit: " in str(error)
    assert "[sent as text: OSError: gone]" in str(error)
    assert "in _user_code" in str(error.__cause__)


def test_an_error_that_does_not_pickle_is_sent_as_text() -> None:
    error = _error_of(encode_error(_raised(ValueError(threading.Lock())), WHERE))
    assert type(error) is RemoteError
    assert "ValueError: " in str(error)
    assert "[sent as text: SerializationError: the exception" in str(error)


def test_the_attribute_is_named_for_which_an_error_does_not_pickle() -> None:
    locked = ValueError("busy")
    locked.lock = threading.Lock()  # type: ignore[attr-defined]
    error = _error_of(encode_error(_raised(locked), WHERE))
    assert "the exception.lock is a _thread.lock" in str(error)


class _Mute(Exception):
    def __str__(self) -> str:
        raise OSError("no words")


def test_an_error_that_cannot_be_printed() -> None:
    error = _error_of(encode_error(_raised(_Mute()), WHERE))
    assert type(error) is _Mute


class _Rude(Exception):
    """Raises an error without words, at each attempt to look at it."""

    def __reduce__(self) -> Any:
        raise _Mute

    def __str__(self) -> str:
        raise _Mute


def test_an_error_that_can_be_neither_printed_nor_pickled() -> None:
    error = _error_of(encode_error(_raised(_Rude(threading.Lock())), WHERE))
    assert type(error) is RemoteError
    assert "_Rude" in str(error)


class _MuteOnArrival(Exception):
    def __reduce__(self) -> Any:
        return _user_code, (_Mute(),)


def test_an_error_that_arrives_as_one_without_words() -> None:
    error = _error_of(encode_error(_raised(_MuteOnArrival("x")), WHERE))
    assert type(error) is _MuteOnArrival  # made without asking it
    assert error.args == ("x",)


def test_a_value_that_arrives_as_an_error_without_words() -> None:
    frame, buffers = codec.encode(_MuteOnArrival("x"), "it")
    outcome = decode_outcome(VALUE, frame, buffers)
    assert type(outcome) is Failure
    assert type(outcome.error) is SerializationError


def test_an_error_that_cannot_be_unpickled_at_the_master_only() -> None:
    outcome = decode_outcome(ERROR, b"damaged", [])
    assert type(outcome) is Failure
    assert type(outcome.error) is SerializationError
    assert str(outcome.error).startswith("the exception of a task cannot be unpickled")


# Chunks.


def test_plain_results_go_as_one_list() -> None:
    form = encode_items([1, "a", None, 2.5], WHERE)
    assert form[0] == LIST
    assert _arrive(form) == [1, "a", None, 2.5]


def test_other_results_go_one_by_one() -> None:
    large = np.arange(float(THRESHOLD))
    values = [
        1,
        [2],
        large,
        Sealed(encode_error(_raised(KeyError("k")), WHERE)),
        threading.Lock(),
        large * 2,
        _BreaksOnArrival(),
        "end",
    ]
    form = encode_items(values, WHERE)
    assert form[0] == ITEMS
    assert len(form[2]) == 2
    assert [item[0] for item in form[1]] == [
        PLAIN,
        VALUE,
        VALUE,
        ERROR,
        ERROR,
        VALUE,
        VALUE,
        PLAIN,
    ]
    again = _arrive(form)
    assert (again[0], again[1], again[7]) == (1, [2], "end")
    assert np.array_equal(again[2], large)
    assert np.array_equal(again[5], large * 2)
    errors = [again[at].error for at in (3, 4, 6)]
    assert [type(error) for error in errors] == [
        KeyError,
        SerializationError,
        SerializationError,
    ]


def test_a_list_that_cannot_be_decoded_fails_as_a_whole() -> None:
    outcome = decode_outcome(LIST, b"damaged", [])
    assert type(outcome) is Failure
    assert type(outcome.error) is SerializationError


def test_a_label_heads_the_traceback() -> None:
    form, payload, _ = encode_error(ValueError("bad"), "rank 1")
    outcome = decode_outcome(form, payload, [], "fit")
    assert str(outcome.error.__cause__).strip().startswith("Task 'fit': Traceback from")
