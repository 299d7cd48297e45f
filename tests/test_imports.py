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
VOCABULARY = {
    "exit_codes",
    "options",
    "task_spec",
    "errors",
    "records",
    "forks",
    "subprocesses",
    "files",
    "text",
    "values",
}

# What a room may import of the package; "" is mpitasks/__init__.py itself.
ALLOWED: dict[str, set[str]] = {
    "records": set(),
    "errors": {"exit_codes"},
    "exit_codes": set(),
    "task_spec": set(),
    "files": set(),
    "text": set(),
    "values": {"errors"},
    "options": {"task_spec", "errors", "values"},
    "settings": {"records", "errors", "options"},
    "walltime": set(),
    "randomness": {"errors", "task_spec"},
    "around": set(),
    "actor_objects": {"errors"},
    "reduction": set(),
    "row": set(),
    "subprocesses": set(),
    "forks": {"errors"},
    "scheduler": {"scheduler", *VOCABULARY},
    "wire": {"wire", "scheduler", *VOCABULARY},
    "runner": {"runner", "wire", "randomness", *VOCABULARY},
    "sandbox": {"sandbox", "runner", "wire", "randomness", "walltime", *VOCABULARY},
    "worker": {
        "worker",
        "sandbox",
        "runner",
        "wire",
        "scheduler",
        "randomness",
        *VOCABULARY,
    },
    "master": {"master", "wire", "scheduler", "actor_objects", *VOCABULARY},
    "journal": {"journal", "master", "wire", "scheduler", "settings", *VOCABULARY},
    "observe": {"observe", "wire", "scheduler", "settings", *VOCABULARY},
    "api": {
        "api",
        "journal",
        "master",
        "observe",
        "wire",
        "settings",
        "randomness",
        "actor_objects",
        "reduction",
        "row",
        *VOCABULARY,
    },
    "launch": {
        "",
        "actor_objects",
        "launch",
        "slurm",
        "api",
        "journal",
        "master",
        "observe",
        "worker",
        "sandbox",
        "runner",
        "wire",
        "scheduler",
        "settings",
        "randomness",
        "walltime",
        *VOCABULARY,
    },
    "futures": {
        "",
        "futures",
        "launch",
        "api",
        "master",
        "runner",
        "around",
        "__main__",
        *VOCABULARY,
    },
    "integrations": {"", "integrations", "launch", "api", "master", *VOCABULARY},
    "slurm": {"slurm", "launch", "journal", "observe", *VOCABULARY},
    "tools": {
        "",
        "tools",
        "slurm",
        "launch",
        "journal",
        "observe",
        "wire",
        *VOCABULARY,
    },
    "": {
        "slurm",
        "api",
        "master",
        "observe",
        "runner",
        "launch",
        "errors",
        "options",
        "randomness",
        "walltime",
        "subprocesses",
    },
    "__main__": {"launch"},
}

# The one import upwards, made late, inside a function.
EXCEPTION = ("mpitasks.api.session", "mpitasks.launch.local")

FORBIDDEN = {
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
    assert {"scheduler", "wire", "master", "worker", "launch"} <= rooms
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
    for room in ("worker", "runner", "sandbox"):
        assert room not in ALLOWED["master"]
        assert "master" not in ALLOWED[room]


def test_the_import_upwards_is_late_and_there_once() -> None:
    found = [edge for edge in EDGES if (edge.module, edge.target) == EXCEPTION]
    assert [edge.late for edge in found] == [True]


# Who may import a package, and whether only late, inside functions.
USERS = {
    "mpi4py": {
        "mpitasks.wire.mpi_transport": False,
        "mpitasks.wire.ulfm": False,
        "mpitasks.wire.inboxes": False,
        "mpitasks.wire.transfers": False,  # for types only
        "mpitasks.wire.world": False,
        "mpitasks.wire.mpi_library": True,
        "mpitasks.tools.bench.raw": True,
        "mpitasks.tools.doctor.command": True,
        "mpitasks.tools.doctor.measure": False,  # for types only
    },
    "matplotlib": {"mpitasks.tools.bench.plot": True},
    "dask": {"mpitasks.integrations.dask": False},
    "joblib": {"mpitasks.integrations.joblib": False},
    "ipykernel": {"mpitasks.integrations.jupyter": True},
    "jupyter_client": {"mpitasks.integrations.jupyter": True},
    "tqdm": {"mpitasks.observe.display": True},
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
        if edge.target == "mpitasks.wire.mpi_transport" and not edge.late
    ]
    assert early == []


@pytest.mark.parametrize("room", ["scheduler", "options"])
def test_the_scheduler_imports_nothing_that_waits_or_varies(room: str) -> None:
    offences = [
        str(edge)
        for edge in EDGES
        if _room(edge.module) == room and edge.target.split(".")[0] in FORBIDDEN
    ]
    assert offences == []


HEAVY = ["mpi4py", "numpy", "cloudpickle"]

# What a rank can do without at its start, and what costs more than all of ours.
SLOW = ["argparse", "dataclasses", "inspect", "logging", "pathlib", "traceback"]

# From Python 3.14 on, concurrent.futures loads these itself.
NOT_FOR_FUTURES = ["dataclasses", "inspect"] if sys.version_info < (3, 14) else []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import mpitasks", HEAVY),
        ("import mpitasks; dir(mpitasks); mpitasks.__version__", HEAVY),
        ("import mpitasks; mpitasks.MpiTasksError", HEAVY),
        ("import mpitasks; mpitasks.TaskOptions", HEAVY),
        ("import mpitasks.scheduler.scheduler", HEAVY),
        ("import mpitasks.launch.cli, mpitasks.launch.run", [*HEAVY, *SLOW]),
        ("import mpitasks.master.event_loop", [*HEAVY, *NOT_FOR_FUTURES]),
        ("import mpitasks.worker.loop, mpitasks.worker.peer_monitor", [*HEAVY, *SLOW]),
        ("import mpitasks.tools.bench.command", [*HEAVY, "matplotlib"]),
        ("import mpitasks.tools.doctor.command", HEAVY),
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


# Files that import each other, types included. Values hold code, and code holds values:
# so the walks of both lead to each other. Of the others, one import is late.
CIRCLES = {
    frozenset(
        f"mpitasks.journal.{name}"
        for name in (
            "arrays",
            "bytecode",
            "code",
            "modules",
            "objects",
            "packages",
            "reached",
            "sources",
            "used",
            "walk",
        )
    ),
    frozenset(
        {
            *EXCEPTION,
            "mpitasks.launch.nested",
            "mpitasks.launch.nested_session",
            "mpitasks.launch.task_session",
        }
    ),
    frozenset(
        {
            "mpitasks",
            "mpitasks.launch.handshake",
            "mpitasks.launch.outside",
            "mpitasks.launch.run",
            "mpitasks.launch.spmd",
            "mpitasks.launch.started_run",
        }
    ),
    frozenset({"mpitasks.launch.hints", "mpitasks.launch.script"}),
}


def _imported(path: Path, names: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else node.module)
    return found & names


def _reach(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    queue = [start]
    while queue:
        for name in graph[queue.pop()] - seen:
            seen.add(name)
            queue.append(name)
    return seen


def test_no_files_import_each_other_but_these() -> None:
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path
    graph = {name: _imported(path, set(paths)) - {name} for name, path in paths.items()}
    reached = {name: _reach(name, graph) for name in graph}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }
    assert circles == CIRCLES
