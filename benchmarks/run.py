"""All programs, one after the other: `make bench`.

    python benchmarks/run.py            # everything, under 15 minutes on 2 cores
    python benchmarks/run.py --quick    # whether everything works, in two
    python benchmarks/run.py latency    # one program with all its launches

Every launch has a hard time limit. Files go to benchmarks/results: the JSON of each
launch, README.md with all tables, and the pictures. The exit code says how many
launches failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import report
from pools import MPI4PY, MULTIPROCESSING, PEERS
from starting import HERE, launch

NO_DAEMONS = f"{MPI4PY},{MULTIPROCESSING}"


@dataclass(frozen=True)
class Launch:
    """One start of one program.

    Attributes:
        program: Its name.
        ranks: How many; 0 if it does not run under mpiexec.
        seconds: When to kill it: some three times what it takes on 2 cores.
        peers: Whom to measure beside us, if not everybody.
        rounds: How many, if not the usual five: of what takes long and varies little.
    """

    program: str
    ranks: int
    seconds: float
    peers: str = ",".join([MPI4PY, *PEERS])
    rounds: int | None = None

    @property
    def file(self) -> str:
        """The name of its JSON."""
        return f"{self.program}-{self.ranks or 1}.json"


PLAN = [
    Launch("startup", 0, 100),
    Launch("latency", 2, 120),
    Launch("throughput", 2, 150),
    Launch("throughput", 3, 150),
    Launch("throughput", 8, 150, NO_DAEMONS),
    Launch("waiting", 2, 60),
    Launch("nested", 2, 30),
    Launch("actors", 2, 60),
    Launch("graphs", 2, 250, rounds=3),
    Launch("graphs", 3, 250, rounds=3),
    Launch("tiles", 2, 150, rounds=3),
    Launch("tiles", 3, 150, rounds=3),
    Launch("many", 2, 150, rounds=3),
    Launch("metg", 2, 250),
    Launch("makespan", 3, 300),
    Launch("makespan", 8, 120),
    Launch("fibonacci", 3, 150),
    Launch("bandwidth", 2, 300),
    Launch("memory", 2, 150),
    Launch("arguments", 2, 150, rounds=3),
    Launch("idle", 2, 250, rounds=3),
    Launch("isolate", 2, 120),
    Launch("scaling", 8, 80),
    Launch("core", 0, 250, rounds=1),
]


def main() -> None:
    """Run the plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = list(dict.fromkeys(step.program for step in PLAN))
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--rounds", type=int, help="default: 5, and 1 with --quick")
    parser.add_argument("--peers", help="as in the programs")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    if unknown := set(options.programs) - set(names):
        parser.error(f"no such program: {', '.join(unknown)}")
    if options.quick and options.results == HERE / "results":
        options.results = HERE / "results" / "quick"  # never among the figures
    plan = [step for step in PLAN if step.program in (options.programs or names)]
    failures = run(plan, options)
    report.write(options.results)
    for line in failures:
        print(f"failed: {line}")
    sys.exit(len(failures))


def run(plan: list[Launch], options: argparse.Namespace) -> list[str]:
    """Run the launches; return a line for each that failed."""
    failures = []
    begin = time.monotonic()
    for step in plan:
        (options.results / step.file).unlink(missing_ok=True)
        words = ["--results", str(options.results.absolute())]
        words += ["--peers", options.peers or step.peers]
        if options.quick:
            words.append("--quick")
        rounds = options.rounds or (None if options.quick else step.rounds)
        if rounds:
            words += ["--rounds", str(rounds)]
        start = time.monotonic()
        trouble = launch(step.program, step.ranks, words, step.seconds)
        now = time.monotonic()
        print(f"({now - start:.0f} s, {now - begin:.0f} s in all)\n", flush=True)
        if trouble:
            failures.append(f"{step.program} on {step.ranks} ranks: {trouble}")
    return failures


if __name__ == "__main__":
    main()
