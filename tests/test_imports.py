"""Imports point one way. Held against literal tables, by reading the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mpitasks

PACKAGE = Path(mpitasks.__file__).parent

# What every room but the lowest may import.
VOCABULARY = {"options", "terms", "errors", "records", "forks", "subprocesses"}

# What a room may import of the package; "" is mpitasks/__init__.py itself.
ALLOWED: dict[str, set[str]] = {
    "records": set(),
    "errors": set(),
    "terms": set(),
    "options": {"terms", "errors"},
    "settings": {"records", "errors", "options"},
    "walltime": set(),
    "randomness": {"errors", "terms"},
    "subprocesses": set(),
    "forks": {"errors"},
    "core": {"core", *VOCABULARY},
    "wire": {"wire", "core", *VOCABULARY},
    "master": {"master", "wire", "core", "settings", "randomness", *VOCABULARY},
    "worker": {"worker", "wire", "core", "settings", "randomness", *VOCABULARY},
    "observe": {"observe", "wire", "core", "settings", *VOCABULARY},
    "launch": {
        "",
        "launch",
        "master",
        "worker",
        "observe",
        "wire",
        "core",
        "settings",
        "randomness",
        "walltime",
        *VOCABULARY,
    },
    "slurm": {"launch"},
    "": {
        "slurm",
        "errors",
        "options",
        "randomness",
        "walltime",
        "master",
        "launch",
        "worker",
        "subprocesses",
    },
    "__main__": {"launch"},
}

# The one import upwards, made late, inside a function.
EXCEPTION = ("mpitasks.master.session", "mpitasks.launch.local")

FORBIDDEN_IN_CORE = {
    "cloudpickle",
    "logging",
    "mpi4py",
    "numpy",
    "os",
    "pickle",
    "queue",
    "random",
    "socket",
    "threading",
    "time",
}


@dataclass(frozen=True)
class Edge:
    """One import statement's one target."""

    module: str
    target: str
    line: int
    late: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _targets(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            inside = PACKAGE.parent.joinpath(*full.split("."))
            is_module = inside.is_dir() or inside.with_suffix(".py").exists()
            yield full if is_module else str(node.module)


def _edges_below(module: str, nodes: list[ast.AST], late: bool) -> Iterator[Edge]:
    for node in nodes:
        if isinstance(node, ast.stmt):
            for target in _targets(node):
                yield Edge(module, target, node.lineno, late)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _edges_below(
            module, list(ast.iter_child_nodes(node)), late or inside
        )


def _edges() -> list[Edge]:
    edges: list[Edge] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        edges += _edges_below(_name(path), [tree], False)
    return edges


EDGES = _edges()


def _room(module: str) -> str | None:
    """Return the room of a module of the package; None for other modules."""
    root, _, rest = module.partition(".")
    return rest.partition(".")[0] if root == "mpitasks" else None


def test_there_is_something_to_look_at() -> None:
    rooms = {_room(edge.module) for edge in EDGES}
    assert {"core", "wire", "master", "worker", "launch"} <= rooms
    assert any(edge.late for edge in EDGES)


def test_every_room_is_in_the_table() -> None:
    paths = [_name(path) for path in PACKAGE.rglob("*.py")]
    assert {_room(path) for path in paths} <= ALLOWED.keys()


def test_rooms_import_only_what_the_table_allows() -> None:
    offences = []
    for edge in EDGES:
        own, other = _room(edge.module), _room(edge.target)
        assert own is not None
        if other is None or (edge.module, edge.target) == EXCEPTION:
            continue
        if other not in ALLOWED[own]:
            offences.append(str(edge))
    assert offences == []


def test_master_and_worker_do_not_know_each_other() -> None:
    assert "worker" not in ALLOWED["master"]
    assert "master" not in ALLOWED["worker"]


def test_the_import_upwards_is_late_and_there_once() -> None:
    found = [edge for edge in EDGES if (edge.module, edge.target) == EXCEPTION]
    assert [edge.late for edge in found] == [True]


# Who may import a package, and whether only late, inside functions.
USERS = {
    "mpi4py": {
        "mpitasks.wire.mpi": False,
        "mpitasks.wire.failures": False,
        "mpitasks.wire.inboxes": False,
        "mpitasks.wire.world": False,
        "mpitasks.wire.library": True,
        "mpitasks.launch.bench.raw": True,
        "mpitasks.launch.doctor.command": True,
        "mpitasks.launch.doctor.measure": False,  # for types only
    },
    "matplotlib": {"mpitasks.launch.bench.plot": True},
}


@pytest.mark.parametrize("package", USERS)
def test_only_the_modules_in_the_table_import(package: str) -> None:
    edges = [edge for edge in EDGES if edge.target.split(".")[0] == package]
    found = {
        user: all(edge.late for edge in edges if edge.module == user)
        for user in {edge.module for edge in edges}
    }
    assert found == USERS[package]


def test_the_mpi_transport_is_imported_late() -> None:
    early = [
        str(edge)
        for edge in EDGES
        if edge.target == "mpitasks.wire.mpi" and not edge.late
    ]
    assert early == []


@pytest.mark.parametrize("room", ["core", "options"])
def test_the_core_imports_nothing_that_waits_or_varies(room: str) -> None:
    offences = [
        str(edge)
        for edge in EDGES
        if _room(edge.module) == room and edge.target.split(".")[0] in FORBIDDEN_IN_CORE
    ]
    assert offences == []


HEAVY = ["mpi4py", "numpy", "cloudpickle"]

# What a rank can do without at its start, and what costs more than all of ours.
SLOW = ["argparse", "dataclasses", "inspect", "logging", "pathlib", "traceback"]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import mpitasks", HEAVY),
        ("import mpitasks; dir(mpitasks); mpitasks.__version__", HEAVY),
        ("import mpitasks; mpitasks.MpiTasksError", HEAVY),
        ("import mpitasks; mpitasks.TaskOptions", HEAVY),
        ("import mpitasks.core.scheduler", HEAVY),
        ("import mpitasks.launch.cli, mpitasks.launch.run", [*HEAVY, *SLOW]),
        ("import mpitasks.master.pump", [*HEAVY, "dataclasses", "inspect"]),
        ("import mpitasks.worker.loop, mpitasks.worker.fellows", [*HEAVY, *SLOW]),
        ("import mpitasks.launch.bench.command", [*HEAVY, "matplotlib"]),
        ("import mpitasks.launch.doctor.command", HEAVY),
        ("import mpitasks; mpitasks.Executor", ["mpi4py", "numpy"]),
    ],
)
def test_importing_loads_no_more_than_is_used(
    statement: str, absent: list[str]
) -> None:
    code = (
        f"import sys; before = set(sys.modules); {statement}\n"
        f"print([m for m in {absent!r} if m in set(sys.modules) - before])"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names_are_there_and_no_others() -> None:
    for name in mpitasks.__all__:
        assert getattr(mpitasks, name) is not None
        assert name in dir(mpitasks)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        mpitasks.Nonsense  # noqa: B018
