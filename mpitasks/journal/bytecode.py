"""What a piece of bytecode reads: globals and how, imports, names, texts.

And its canonical bytes: what runs, without line numbers, file names and docstrings.
Code inside of code (lambdas, comprehensions, nested functions, classes) belongs to it.
"""

from __future__ import annotations

import dis
import functools
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpitasks.journal.walk import Walker

__all__ = ["DOC", "Import", "Uses", "uses_of", "walk_bytecode"]

HAS_DOCSTRING = 0x4000000  # a flag of code objects since Python 3.14

DOC = "__doc__"

_PLACES = frozenset({"__firstlineno__", "__static_attributes__"})

_GLOBAL_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_NOTHING = frozenset({"CACHE", "EXTENDED_ARG"})

# Names by which code reaches what it does not name, or looks at its own text.
_FINDERS = frozenset(
    {
        *("__import__", "_getframe", "currentframe", "eval", "exec", "exec_module"),
        *("find_spec", "findsource", "getline", "getlines", "getsource"),
        *("get_annotations", "get_type_hints"),
        *("getsourcelines", "globals", "import_module", "load_module", "modules"),
        *("reload", "resolve_name", "run_module", "run_path"),
    }
)
_FINDERS_HOMES = frozenset(
    {
        *("annotationlib", "builtins", "importlib", "inspect", "linecache", "pkgutil"),
        *("runpy", "sys", "typing", "typing_extensions"),
    }
)
_FINDING_ATTRIBUTES = frozenset(
    {"__globals__", "__loader__", "__subclasses__", "f_back", "f_globals"}
)

# Words by which code comes to docstrings.
_DOCSTRING_WORDS = frozenset(
    {
        *(DOC, "docopt", "doctest", "fire", "getdoc", "help", "inspect", "pydoc"),
        *("render_doc", "co_consts"),
    }
)

Import = tuple[str, int, tuple[str, ...]]
"""What an import names: the module, how many dots, and what is taken from it."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What a piece of code uses, by name.

    Attributes:
        reads: For each global, the attributes that are taken of it, one after another,
            at each place where it is read.
        imports: The imports in it.
        names: All names of globals, attributes and modules in it.
        texts: All text in it.
        docstrings: Whether it may look at docstrings, besides those of the globals
            that it reads.
    """

    reads: Mapping[str, frozenset[tuple[str, ...]]]
    imports: frozenset[Import]
    names: frozenset[str]
    texts: frozenset[str]
    docstrings: bool

    def finds(self, modules: Mapping[str, str]) -> bool:
        """Whether it may reach what it does not name: by `eval`, `sys.modules`, ...

        Args:
            modules: The modules among the globals that it reads: name, and own name.
        """
        taken = {name for _, _, names in self.imports for name in names}
        homes = {name.partition(".")[0] for name, _, _ in self.imports}
        homes |= {name.partition(".")[0] for name in modules.values()}
        return not (
            _FINDERS.isdisjoint(self.reads.keys() | taken)
            and _FINDING_ATTRIBUTES.isdisjoint(self.names | self.texts)
            and (
                _FINDERS.isdisjoint(self.names | self.texts)
                or _FINDERS_HOMES.isdisjoint(homes)
            )
        )


@functools.lru_cache(maxsize=4096)
def uses_of(code: types.CodeType) -> Uses:
    """Return what a piece of code uses, the code inside of it included."""
    reads: dict[str, set[tuple[str, ...]]] = {}
    imports: set[Import] = set()
    names, texts = set(code.co_names), set(_texts(code.co_consts))
    steps = [s for s in dis.get_instructions(code) if s.opname not in _NOTHING]
    hidden = sum(s.argval == DOC and s.opname in _ATTRIBUTES for s in steps)
    for at, step in enumerate(steps):
        if step.opname in _GLOBAL_READS:
            after = takewhile(
                lambda s: s.opname in _ATTRIBUTES, islice(steps, at + 1, None)
            )
            chain = tuple(follower.argval for follower in after)
            hidden -= chain[:1] == (DOC,)
            reads.setdefault(step.argval, set()).add(chain)
        elif step.opname == "IMPORT_NAME":
            level, taken = steps[at - 2].argval, steps[at - 1].argval
            imports.add((step.argval, level, tuple(taken or ())))
    docstrings = hidden > 0 or not _DOCSTRING_WORDS.isdisjoint(names - {DOC} | texts)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            uses = uses_of(inner)
            for name, chains in uses.reads.items():
                reads.setdefault(name, set()).update(chains)
            imports |= uses.imports
            names |= uses.names
            texts |= uses.texts
            docstrings |= uses.docstrings
    own = {name: frozenset(chains) for name, chains in reads.items()}
    return Uses(own, frozenset(imports), frozenset(names), frozenset(texts), docstrings)


def _texts(constants: Any) -> Any:
    """Yield the text among constants, that in tuples and sets too."""
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, (tuple, frozenset)):
            yield from _texts(constant)


def walk_bytecode(walker: Walker, code: types.CodeType, *, docstrings: bool) -> None:
    """Write what runs, and its docstrings if somebody may look at them."""
    walker.tag("code")
    flags = code.co_flags
    constants = list(code.co_consts)
    if not docstrings and (flags & HAS_DOCSTRING or _has_docstring(code)):
        constants[0] = None
    own, places = _without_places(code)
    for place in places:
        constants[place] = None
    walker.walk((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount))
    walker.walk((code.co_name, flags & ~HAS_DOCSTRING, own))
    walker.walk(getattr(code, "co_exceptiontable", b""))
    for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
        walker.walk(names)
    walker.walk(len(constants))
    for constant in constants:
        if isinstance(constant, types.CodeType):
            walk_bytecode(walker, constant, docstrings=docstrings)
        else:
            walker.walk(constant)


@functools.lru_cache(maxsize=4096)
def _without_places(code: types.CodeType) -> tuple[bytes, tuple[int, ...]]:
    """Return the bytecode of a class without its line number, and constants to omit.

    Since Python 3.13 the body of a class stores its line, and the attributes that its
    methods set, in no order.
    """
    data = bytearray(code.co_code)
    places = []
    if not _PLACES.isdisjoint(code.co_names):
        steps = [s for s in dis.get_instructions(code) if s.opname not in _NOTHING]
        used = Counter(step.arg for step in steps if step.opcode in dis.hasconst)
        for before, step in pairwise(steps):
            if step.opname != "STORE_NAME" or step.argval not in _PLACES:
                continue
            if before.opname == "LOAD_SMALL_INT":
                data[before.offset + 1] = 0
            elif before.opcode in dis.hasconst and used[before.arg] == 1:
                places.append(before.arg or 0)
    return bytes(data), tuple(places)


@functools.lru_cache(maxsize=4096)
def _has_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is a docstring, or serves nobody if it is not one.

    Before Python 3.14 nothing says so. A function without a docstring has None there,
    unless it is a lambda or a comprehension; a text that is used is loaded somewhere.
    """
    if not (code.co_consts and isinstance(code.co_consts[0], str)):
        return False
    return not any(
        step.opcode in dis.hasconst and step.arg == 0
        for step in dis.get_instructions(code)
    )
