"""Damage the package on purpose, one place at a time, and see whether a test notices.

    python tests/mutants.py mpitasks/scheduler mpitasks/wire/codec.py --count 300 --seed
    1

It first runs the tests that need no MPI, and notes which test ran which line. Then it
takes ``--count`` mutants by chance: the same ones for the same seed, as far as the code
is the same. For each of them it runs the tests that ran its line, the quickest first,
on a copy of the tree. A mutant that no test notices is shown. Either it cannot be told
from the sound program (leave it), or nobody needs the code (delete it), or no test
states how the code behaves (write one).

Texts for people are left alone: docstrings, messages of errors, f-strings. So are
annotations, and numbers that are as good as the next one. The tests of this program are
the mutants that it makes.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import dataclasses
import difflib
import hashlib
import itertools
import json
import os
import pickle
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAST_TESTS = ["tests", "--ignore=tests/mpi", "--ignore=tests/slurm"]
FAST_TESTS += ["-m", "not slow and not large"]
FAST_TESTS += ["--ignore=tests/test_limits.py"]  # it ends loops, and coverage goes on
SLOW_S = 20.0
"""A test that takes longer is left out."""

SWAPS: dict[type[ast.AST], list[type[Any]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.FloorDiv],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.LShift: [ast.RShift],
    ast.RShift: [ast.LShift],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.BitXor: [ast.BitAnd],
}


# The mutants of a file.


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: str
    source: bytes = dataclasses.field(repr=False)
    lines: list[int]
    """Those that tell whether a test came here."""
    place: str
    """Function and number of the place in it, so that it keeps its name."""
    start: int
    end: int
    text: bytes
    """What stands in the place of the bytes from start to end."""

    @property
    def name(self) -> str:
        return hashlib.sha256(f"{self.path} {self.place}".encode()).hexdigest()[:8]

    def rank(self, seed: int) -> bytes:
        return hashlib.sha256(f"{seed} {self.path} {self.place}".encode()).digest()

    @property
    def damaged(self) -> bytes:
        return self.source[: self.start] + self.text + self.source[self.end :]


class Finder(ast.NodeVisitor):
    """Collects the mutants of one file."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        ends = itertools.accumulate(len(line) for line in source.splitlines(True))
        self._starts = [0, *ends]
        self._scope: list[str] = []
        self._statement = 1
        self._setting = False
        self._seen: Counter[str] = Counter()
        self.found: list[Mutant] = []
        self.visit(ast.parse(source))

    def visit(self, node: ast.AST) -> None:
        before = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)
        self._statement = before

    # What is left alone.

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in [*node.defaults, *node.kw_defaults]:
            if default is not None:
                self.visit(default)

    def visit_Assert(self, node: ast.Assert) -> None:
        pass  # a test itself

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass", "delete")

    # Where something else is put.

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        self.visit(node.args)
        for child in node.body:
            self.visit(child)
        self._scope.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if "__all__" in names or "__slots__" in names:
            return
        if not names and not any(isinstance(t, ast.Tuple) for t in node.targets):
            self._replace(node, "pass", "delete")
        self._setting = any(name.isupper() for name in names)
        self.visit(node.value)
        self._setting = False
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass", "delete")
        for other in SWAPS.get(type(node.op), ()):
            self._swap(node, op=other())
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass", "delete")

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self._replace(node, "pass", "delete")
            self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._replace(node, "pass", "delete")
        else:
            if not isinstance(node.value, ast.Constant):
                self._replace(node, "return None", "none")
            self.visit(node.value)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue", "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break", "break")

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if not isinstance(node.test, ast.Constant):
            self._replace(node.test, f"(not ({ast.unparse(node.test)}))", "negate")
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._replace(test, f"(not ({ast.unparse(test)}))", "negate")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, op in enumerate(node.ops):
            for other in SWAPS.get(type(op), ()):
                self._swap(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        for operand in [node.left, *node.comparators]:
            self._text(operand)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._swap(node, op=SWAPS[type(node.op)][0]())
        for i in range(len(node.values)):
            self._swap(node, values=[*node.values[:i], *node.values[i + 1 :]])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub)):
            self._replace(node, f"({ast.unparse(node.operand)})", "drop")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        ):
            for other in SWAPS.get(type(node.op), ()):
                self._swap(node, op=other())
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                self._swap(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._text(node.slice)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for name in node.keys:
            self._text(name)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.type, ast.Tuple):
            for i in range(len(node.type.elts)):
                left = node.type.elts[:i] + node.type.elts[i + 1 :]
                self._swap(node.type, elts=left)
        for child in node.body:
            self.visit(child)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, repr(not value), "flip")
        elif isinstance(value, int) and self._setting and (value > 9 or self._scope):
            pass  # a setting, or a member: as good as the next number
        elif isinstance(value, int):
            self._replace(node, repr(value + 1), "+1")
            self._replace(node, f"({value - 1!r})", "-1")
        elif isinstance(value, float):
            self._replace(node, repr(value * 2 + 1), "more")

    def _text(self, node: ast.expr | None) -> None:
        """Change a text that is compared or looked up; others are for people."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            more = "~" if isinstance(node.value, str) else b"~"
            self._replace(node, repr(node.value + more), "text")

    def _swap(self, node: ast.expr | ast.stmt, **fields: Any) -> None:
        old = {name: getattr(node, name) for name in fields}
        for name, value in fields.items():
            setattr(node, name, value)
        text = ast.unparse(node)
        for name, value in old.items():
            setattr(node, name, value)
        if isinstance(node, ast.expr) and not isinstance(node, (ast.Call, ast.Tuple)):
            text = f"({text})"
        self._replace(node, text, "swap")

    def _replace(self, node: ast.expr | ast.stmt, text: str, kind: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        old = self._source[start:end].decode()
        place = f"{'.'.join(self._scope)} {kind} {old} {text}"
        self._seen[place] += 1
        place = f"{place} {self._seen[place]}"
        lines = sorted({self._statement, *range(node.lineno, node.end_lineno + 1)})
        self.found.append(
            Mutant(self._path, self._source, lines, place, start, end, text.encode())
        )


def mutants_of(paths: Collection[str]) -> Iterator[Mutant]:
    """Yield the mutants of the files and folders."""
    for path in paths:
        for file in sorted((ROOT / path).rglob("*.py")) or [ROOT / path]:
            yield from Finder(str(file.relative_to(ROOT)), file.read_bytes()).found


# In pytest: which test runs which line, and the tests of one mutant.


class Watch:
    """Notes the lines of each test, and how long it took."""

    def __init__(self, folder: str) -> None:
        import coverage

        self._file = Path(folder, f"{os.getpid()}.pickle")
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, source=[str(ROOT / "mpitasks")]
        )
        self._coverage.start()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._coverage.switch_context(item.nodeid)
        before = time.monotonic()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.monotonic() - before
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        if not self._seconds:  # xdist's master
            return
        data = self._coverage.get_data()
        lines = {
            (str(Path(file).relative_to(ROOT)), line): tests
            for file in data.measured_files()
            for line, tests in data.contexts_by_lineno(file).items()
        }
        good = {k: v for k, v in self._seconds.items() if k not in self._failed}
        self._file.write_bytes(pickle.dumps((good, lines)))


class Choice:
    """Runs some tests only, in this order, and none for long."""

    def __init__(self, file: str) -> None:
        wanted = json.loads(Path(file).read_text())
        self._limits = {test: 10 + 10 * seconds for test, seconds in wanted}
        self._order = {test: i for i, (test, _) in enumerate(wanted)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._order]
        items.sort(key=lambda item: self._order[item.nodeid])
        for item in items:
            item.add_marker(pytest.mark.timeout(self._limits[item.nodeid]))


def pytest_configure(config: pytest.Config) -> None:
    """Be a plugin (``-p mutants``) of the runs of pytest that `main` starts."""
    if folder := os.environ.get("MUTANTS_WATCH"):
        config.pluginmanager.register(Watch(folder))
    if file := os.environ.get("MUTANTS_CHOICE"):
        config.pluginmanager.register(Choice(file))


# The runs.


def run_pytest(
    tree: Path, arguments: list[str], limit_s: float | None, **variables: str
) -> tuple[int, str]:
    """Run pytest in a tree of the project; return its status and what it said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "-p", "mutants", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree}:{tree}/tests", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, "took too long"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes the pipe, and waits
            pass


class Coverage:
    """Which tests ran which line, without those that failed or took long."""

    def __init__(self, folder: Path) -> None:
        self.seconds: dict[str, float] = {}
        self._tests: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for file in folder.iterdir():
            seconds, lines = pickle.loads(file.read_bytes())
            self.seconds |= {k: v for k, v in seconds.items() if v < SLOW_S}
            for line, tests in lines.items():
                self._tests[line].update(tests)

    def of(self, mutant: Mutant) -> list[tuple[str, float]]:
        """Return the tests that ran the mutant's lines, the quickest first.

        A line that runs when its module is loaded is tested by whatever runs the
        module, and a module without other lines by whatever runs its neighbours.
        """
        tests = set[str]().union(
            *(self._tests.get((mutant.path, line), ()) for line in mutant.lines)
        )
        if "" in tests:
            tests |= self._matching(lambda path: path == mutant.path) or self._matching(
                lambda path: Path(path).parent == Path(mutant.path).parent
            )
        known = [(test, self.seconds[test]) for test in tests if test in self.seconds]
        return sorted(known, key=lambda pair: pair[1])

    def _matching(self, wanted: Callable[[str], bool]) -> set[str]:
        lists = (tests for (path, _), tests in self._tests.items() if wanted(path))
        return set[str]().union(*lists) - {""}


def measure(tree: Path, folder: Path, jobs: int, tests: list[str]) -> None:
    """Run the tests once, and note in the folder which ran which line."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    arguments = [*tests, "-n", str(jobs), "--basetemp", str(tree / ".tmp")]
    status, said = run_pytest(tree, arguments, None, MUTANTS_WATCH=str(folder))
    if status not in (0, 1) or not any(folder.iterdir()):
        sys.exit(f"mutants: the tests cannot be run:\n{said}")
    print(f"Tests without a mutant, {time.monotonic() - began:.0f} s:", flush=True)
    print(*said.splitlines()[-1:], *re.findall("^FAILED.*", said, re.M), sep="\n  ")


def verdict(
    tree: Path, mutant: Mutant, stamp: int, tests: list[tuple[str, float]]
) -> str:
    """Return what noticed the mutant, or nothing."""
    file = tree / mutant.path
    file.write_bytes(mutant.damaged)
    os.utime(file, (stamp, stamp))  # seconds: how Python tells a .pyc that is old
    try:
        return next(filter(None, (noticed(tree, part) for part in parts(tests))), "")
    finally:
        file.write_bytes(mutant.source)
        os.utime(file, (stamp, stamp))


def parts(tests: list[tuple[str, float]]) -> list[list[tuple[str, float]]]:
    """Part tests in those of the three files that have most, and the others.

    Most mutants are noticed by the first part, and need not wait for pytest to load the
    files of the second.
    """
    counts = Counter(test.partition("::")[0] for test, _ in tests)
    first = {file for file, _ in counts.most_common(3)}
    halves: tuple[list[tuple[str, float]], ...] = ([], [])
    for test, seconds in tests:
        halves[test.partition("::")[0] not in first].append((test, seconds))
    return list(halves)


def noticed(tree: Path, tests: list[tuple[str, float]]) -> str:
    """Run tests in a tree; return the first that failed, or nothing."""
    if not tests:
        return ""
    choice = tree / ".choice.json"
    choice.write_text(json.dumps(tests))
    files = sorted({test.partition("::")[0] for test, _ in tests})
    arguments = [*files, "-x", "--tb=no", "--basetemp", str(tree / ".tmp")]
    limit_s = 60 + 3 * sum(seconds for _, seconds in tests)
    status, said = run_pytest(tree, arguments, limit_s, MUTANTS_CHOICE=str(choice))
    if status == 0:
        return ""
    if status in (4, 5) and "rror" not in said:
        sys.exit(f"mutants: pytest ran no test, status {status}:\n{said}")
    found = re.search(r"^(FAILED|ERROR) (\S+)", said, re.M)
    return found[2] if found else f"status {status}"


def shown(mutant: Mutant) -> str:
    """Return the change as a diff, without its head."""
    lines = difflib.unified_diff(
        mutant.source.decode().splitlines(), mutant.damaged.decode().splitlines(), n=2
    )
    return "\n".join(f"    {line}" for line in list(lines)[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("paths", nargs="+", help="files and folders of the package")
    add("--count", type=int, default=100)
    add("--seed", type=int, default=1)
    add("--only", nargs="+", metavar="NAME", help="these mutants, by the names shown")
    add("--jobs", type=int, default=2)
    add("--coverage", type=Path, help="folder that keeps the first step for later")
    add("--tests", nargs="+", default=FAST_TESTS, help="for pytest; default: no MPI")
    options = parser.parse_args()

    mutants = sorted(mutants_of(options.paths), key=lambda m: m.rank(options.seed))
    if options.only:
        chosen = [mutant for mutant in mutants if mutant.name in options.only]
    else:
        chosen = mutants[: options.count]
    print(f"{len(chosen)} of {len(mutants)} mutants, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for job in range(options.jobs):
            tree = Path(place, str(job))
            ignored = shutil.ignore_patterns(".*", "__pycache__")
            shutil.copytree(ROOT, tree, ignore=ignored)
            trees.put(tree)
        folder = Path(options.coverage or Path(place, "coverage")).resolve()
        if not folder.exists():
            measure(tree, folder, options.jobs, options.tests)
        coverage = Coverage(folder)
        stamps = itertools.count(int(time.time()) + 10)

        def judge(mutant: Mutant) -> str:
            tree = trees.get()
            try:
                return verdict(tree, mutant, next(stamps), coverage.of(mutant))
            finally:
                trees.put(tree)

        counts: defaultdict[str, Counter[bool]] = defaultdict(Counter)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, killer in zip(chosen, pool.map(judge, chosen), strict=True):
                counts[mutant.path][bool(killer)] += 1
                where = f"{mutant.name} {mutant.path}:{mutant.lines[0]}"
                print(f"{where} {killer or 'SURVIVED'}", flush=True)
                if not killer:
                    few = len(coverage.of(mutant))
                    print(shown(mutant), f"    ({few} tests)", sep="\n", flush=True)
    for path, count in sorted(counts.items()):
        print(f"{path}: {count[True]} of {count.total()}")
    total = sum(counts.values(), Counter())
    print(f"{total[True]} of {total.total()}: {total[True] / total.total():.1%}")


if __name__ == "__main__":
    main()
