"""Two versions of mpitasks side by side: whether a change has made something slower.

    python benchmarks/compare.py --base ../old --candidate . submit map
    python benchmarks/compare.py --base old/bin/python --candidate new/bin/python

A side is a folder that holds the package mpitasks, which goes on PYTHONPATH of the
interpreter that runs this program, or an interpreter that has mpitasks installed. The
same side twice tells how much of a difference is noise.

    submit       null tasks, a Future each, on 2, 3 and 8 ranks
    map          a map of 10^6 null tasks on 2 and 3 ranks
    latency      from submit to result, median
    arrays       64 MiB out and back; 1,000 arrays of 1 MiB: as results from one memory,
                 as new results, and one array as the argument of each
    journal      100,000 calls by submit, 300,000 by map: journalled, then coming back
    globals      submit and map of a function of the script that reads five globals
    dataclasses  a map of 20,000 that returns dataclasses, of the script and of a module
    partial      20 calls of a partial that holds 20 MB, and 20 more
    startup      an empty script on 2 ranks, from mpiexec to its end

Each value is that of a launch of its own. In a round both sides follow each other, and
take turns in going first; the ratio is that of the same round, and its median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import timed
from peers import adopt_orphans
from results import digits
from starting import HERE, clean_up

BASE, CANDIDATE = "base", "candidate"
SCRIPT = HERE / "compare_script.py"
STARTUP = "startup"
STARTS = 3
SECONDS = 180.0
LOWER = {"us", "ms"}
"""The units of which less is better."""

ASK = """
import compileall, json, pathlib, sys
sys.path.append(sys.argv[1])
import mpitasks
from results import commit, machine
from starting import mpiexec
folder = pathlib.Path(mpitasks.__file__).parent
compileall.compile_dir(folder, quiet=1)
print(json.dumps({
    "folder": str(folder),
    "mpitasks": mpitasks.__version__,
    "commit of mpitasks": commit(folder),
    "machine": machine(),
    "mpiexec": {n: mpiexec(n) for n in map(int, sys.argv[2:])},
}))
"""
"""What a side is. As pip does at an installation, it compiles the package."""


@dataclass(frozen=True)
class Program:
    """One program, launched with so many ranks.

    Attributes:
        name: Of `compare_script.PROGRAMS`, or `STARTUP`.
        ranks: How many.
        unit: Of its values.
    """

    name: str
    ranks: int
    unit: str


PLAN = [
    Program("submit", 2, "tasks/s"),
    Program("submit", 3, "tasks/s"),
    Program("submit", 8, "tasks/s"),
    Program("map", 2, "tasks/s"),
    Program("map", 3, "tasks/s"),
    Program("latency", 2, "us"),
    Program("arrays", 2, "arrays/s"),
    Program("journal", 2, "calls/s"),
    Program("globals", 2, "tasks/s"),
    Program("dataclasses", 2, "results/s"),
    Program("partial", 2, "ms"),
    Program(STARTUP, 2, "ms"),
]
UNITS = {"64 MiB out and back": "ms"}
"""Of values that have another one than their program."""


class LaunchError(Exception):
    """A side cannot be used, or a launch of it failed."""


class Side:
    """One of the two versions.

    Args:
        where: A folder with the package, or an interpreter.
        python: Runs a folder.

    Raises:
        LaunchError: It does not run mpitasks, or not the folder's.
    """

    def __init__(self, where: Path, python: str = sys.executable) -> None:
        self.environ = dict(os.environ)
        self.python = python
        if where.is_dir():
            self.environ["PYTHONPATH"] = str(where.resolve())
        else:
            # Not resolved: a virtual environment's interpreter is a link.
            self.python = str(where.absolute())
            self.environ.pop("PYTHONPATH", None)  # it would win over what is installed
        ranks = [str(n) for n in sorted({program.ranks for program in PLAN})]
        told = self._run([self.python, "-c", ASK, str(HERE), *ranks])
        self.about: dict[str, Any] = json.loads(told.splitlines()[-1])
        self._mpiexec = self.about.pop("mpiexec")
        if where.is_dir() and Path(self.about["folder"]).parent != where.resolve():
            raise LaunchError(
                f"{where} holds no mpitasks: {self.about['folder']} was imported"
            )

    def measure(self, program: Program, quick: bool) -> dict[str, float]:
        """Launch a program once; return its values by name.

        Raises:
            LaunchError: It failed, or did not end.
        """
        start = [*self._mpiexec[str(program.ranks)], self.python, "-m", "mpitasks"]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "values.json")
            if program.name == STARTUP:
                script = Path(folder, "empty.py")
                script.write_text("")
                words = [*start, str(script)]
                times = [timed(self._run, words) for _ in range(1 if quick else STARTS)]
                return {"empty script": 1e3 * statistics.median(times)}
            words = [*start, str(SCRIPT), program.name, "--out", str(out)]
            self._run([*words, "--quick"] if quick else words)
            told = json.loads(out.read_text())
        if told["folder"] != self.about["folder"]:
            raise LaunchError(f"measured was {told['folder']}, not {self.about}")
        values: dict[str, float] = told["values"]
        return values

    def _run(self, words: Sequence[str]) -> str:
        """Run a command to its end, return what it printed."""
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                words,
                env=self.environ,
                cwd=tempfile.gettempdir(),  # `-m` imports from there first
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            try:
                code: int | str = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                code = f"none after {SECONDS:.0f} s"
            finally:
                clean_up(process)
            said.seek(0)
            text = said.read()
        if code:
            raise LaunchError(f"exit code {code}: {' '.join(words)}\n{text}")
        return text


class Comparison:
    """The values of both sides, round by round."""

    def __init__(self) -> None:
        self.rounds: dict[tuple[str, str], dict[str, list[float]]]
        self.rounds = defaultdict(lambda: {BASE: [], CANDIDATE: []})
        self.failures: list[str] = []

    def run_round(
        self, plan: Sequence[Program], sides: dict[str, Side], number: int, quick: bool
    ) -> None:
        """Measure each program on both sides; a pair counts if both were measured."""
        order = [BASE, CANDIDATE] if number % 2 == 0 else [CANDIDATE, BASE]
        for program in plan:
            values = {}
            for who in order:
                try:
                    values[who] = sides[who].measure(program, quick)
                except LaunchError as error:
                    self.failures.append(f"{who}, {program.name}: {error}")
            if len(values) < len(order):
                continue
            for name in values[BASE]:
                unit = UNITS.get(name, program.unit)
                for who in order:
                    key = f"{name}, {program.ranks} ranks", unit
                    self.rounds[key][who].append(values[who][name])

    def figures(self) -> list[dict[str, Any]]:
        """Return a record of each figure."""
        return [
            {
                "name": name,
                "unit": unit,
                "lower is better": unit in LOWER,
                "rounds": pairs,
                "medians": {who: statistics.median(pairs[who]) for who in pairs},
                "ratios": [
                    new / old
                    for old, new in zip(pairs[BASE], pairs[CANDIDATE], strict=True)
                ],
            }
            for (name, unit), pairs in self.rounds.items()
        ]


def table(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Return a Markdown table, a line for each figure."""
    lines = [["figure", BASE, CANDIDATE, "ratio", "min", "max", "better"]]
    for figure in figures:
        ratios = figure["ratios"]
        numbers = [figure["medians"][BASE], figure["medians"][CANDIDATE]]
        shown = [statistics.median(ratios), min(ratios), max(ratios)]
        cells = [*map(digits, numbers), *(f"{ratio:.3f}" for ratio in shown)]
        better = "lower" if figure["lower is better"] else "higher"
        lines.append([f"{figure['name']} ({figure['unit']})", *cells, better])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = list(dict.fromkeys(program.name for program in PLAN))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    side = {"type": Path, "required": True, "metavar": "PYTHON_OR_PATH"}
    parser.add_argument("--base", **side, help="the version that is compared with")
    parser.add_argument("--candidate", **side, help="the version in question")
    parser.add_argument("--rounds", type=int, help="default: 5, and 1 with --quick")
    parser.add_argument("--ranks", type=int, help="only programs on so many ranks")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, default=Path("compare.json"))
    words = parser.parse_args()
    if unknown := set(words.names) - set(names):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if words.rounds is not None and words.rounds < 1:
        parser.error("--rounds must be at least 1")
    for where in (words.base, words.candidate):
        if not where.exists():
            parser.error(f"no such folder or interpreter: {where}")
    return words


def main() -> None:
    """Compare; exit code 1 if a launch failed."""
    words = options()
    adopt_orphans()
    try:
        sides = {BASE: Side(words.base), CANDIDATE: Side(words.candidate)}
    except LaunchError as error:
        sys.exit(str(error))
    plan = [
        program
        for program in PLAN
        if (not words.names or program.name in words.names)
        and words.ranks in (None, program.ranks)
    ]
    comparison = Comparison()
    for number in range(words.rounds or (1 if words.quick else 5)):
        comparison.run_round(plan, sides, number, words.quick)
        # After each round, so that a run that is cut off has not been for nothing.
        record = {
            "benchmark": "compare",
            "quick": words.quick,
            "sides": {who: side.about for who, side in sides.items()},
            "failed": comparison.failures,
            "figures": comparison.figures(),
        }
        words.out.write_text(json.dumps(record, indent=1) + "\n")
        print(f"round {number + 1} done", file=sys.stderr, flush=True)
    for who, side in sides.items():
        about = side.about
        print(f"{who}: {about['commit of mpitasks'] or about['folder']}")
    print("compare" + (", quick: no figures" * words.quick))
    print("\n".join(table(comparison.figures())))
    for line in comparison.failures:
        print(f"failed: {line}", file=sys.stderr)
    sys.exit(bool(comparison.failures))


if __name__ == "__main__":
    main()
