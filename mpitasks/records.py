"""Data classes that are cheap to define: for records that every start loads.

The standard library's decorator writes and compiles each method of a class when the
class is defined. With the forty records that a rank loads, and the modules that it
needs for that, this took a third of what a start costs beyond MPI's. Here all records
share their methods, except ``__init__``, which is compiled for the first record.
Type checkers see the decorator of the standard library, of which this is a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["as_dict", "dataclass", "field", "names_of", "replace"]

T = TypeVar("T")


class _Factory:
    """A default that each record gets anew."""

    def __init__(self, make: Any) -> None:
        self.make = make


def _field(*, default_factory: Any) -> Any:
    """Return the default of a field that is made for each record."""
    return _Factory(default_factory)


def _dataclass(*, slots: bool, frozen: bool = False) -> Any:
    """Decorate a class: its annotations are its fields, as ``__init__`` takes them.

    Args:
        slots: True: there are none without.
        frozen: Whether fields cannot be changed; only then records have a hash.
    """
    assert slots
    return lambda cls: _define(cls, frozen)


if TYPE_CHECKING:
    from dataclasses import dataclass, field
else:
    dataclass, field = _dataclass, _field


def _define(cls: Any, frozen: bool) -> Any:
    """Return a class with slots in the place of one with annotations."""
    own = cls.__annotations__
    fields: dict[str, Any] = {}  # name: (default,), or () if there is none
    for base in reversed(cls.__mro__[1:-1]):
        fields.update(base.__dict__.get("_fields", {}))
    slots = tuple(name for name in own if name not in fields)
    body = dict(cls.__dict__)
    for name in own:
        fields[name] = (body.pop(name),) if name in body else ()
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    body.update(__qualname__=cls.__qualname__, __slots__=slots)
    body.update(__match_args__=tuple(fields), _fields=fields)
    body.update(__repr__=_repr, __eq__=_eq, __hash__=_hash if frozen else None)
    if frozen:
        body.update(__setattr__=_refuse, __delattr__=_refuse, __reduce__=_reduce)
    made: Any = type(cls)(cls.__name__, cls.__bases__, body)
    made.__init__ = _first_init(made, frozen)
    return made


def names_of(record: Any) -> tuple[str, ...]:
    """Return the names of the fields of a record, or of a class of records."""
    names: tuple[str, ...] = record.__match_args__
    return names


def as_dict(record: Any) -> dict[str, Any]:
    """Return a record's fields by their names."""
    return {name: getattr(record, name) for name in record.__match_args__}


def replace(record: T, **changes: Any) -> T:
    """Return a record like that one, with other values in some fields."""
    return type(record)(**{**as_dict(record), **changes})


def _first_init(cls: Any, frozen: bool) -> Any:
    """Return an ``__init__`` that puts a compiled one in its own place."""

    def __init__(self: Any, *args: Any, **named: Any) -> None:
        cls.__init__ = _compile_init(cls, frozen)
        cls.__init__(self, *args, **named)

    return __init__


def _compile_init(cls: Any, frozen: bool) -> Any:
    """Return a function that takes a class's fields, and sets them."""
    known: dict[str, Any] = {"MISSING": object(), "put": object.__setattr__}
    words, lines = ["self"], []
    for name, default in cls._fields.items():
        value = word = name
        if default and isinstance(default[0], _Factory):
            known[f"make_{name}"] = default[0].make
            word = f"{name}=MISSING"
            value = f"make_{name}() if {name} is MISSING else {name}"
        elif default:
            known[f"default_{name}"] = default[0]
            word = f"{name}=default_{name}"
        words.append(word)
        lines.append(
            f" put(self, {name!r}, {value})" if frozen else f" self.{name} = {value}"
        )
    text = f"def __init__({', '.join(words)}):\n" + ("\n".join(lines) or " pass")
    # Not the text itself: that would make Python forget, where this is at its end, that
    # Ctrl-C is why it ends (its exit code).
    exec(compile(text, "<string>", "exec"), known)
    init = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _values(record: Any) -> tuple[Any, ...]:
    return tuple([getattr(record, name) for name in record.__match_args__])


def _repr(self: Any) -> str:
    pairs = zip(self.__match_args__, _values(self), strict=True)
    fields = ", ".join(f"{name}={value!r}" for name, value in pairs)
    return f"{type(self).__qualname__}({fields})"


def _eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, value: object = None) -> None:
    raise AttributeError(f"{type(self).__qualname__} cannot be changed: {name!r}")


def _reduce(self: Any) -> Any:
    return type(self), _values(self)
