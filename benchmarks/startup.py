"""What starting costs: the import, and an empty script. It starts mpiexec itself.

python benchmarks/startup.py

import                what ``import mpitasks`` adds to a bare ``python -c pass``
empty script          ``mpiexec -n 8 python -m mpitasks empty.py``, all of it
raw MPI               ``mpiexec -n 8 python -c "from mpi4py import MPI"``
modules of MPI, NumPy how many of them the import has loaded; none is right
"""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import mpitasks
from bench import parser, timed
from pools import OURS, RAW
from results import Figure, publish
from starting import mpiexec

RANKS = 8
SECONDS = 60.0
IMPORT, EMPTY = "import", f"empty script, {RANKS} ranks"
LOADED = "modules of MPI, NumPy"
FIGURES = [
    Figure(IMPORT, "ms", lower=True, aim=30),
    Figure(EMPTY, "ms", lower=True, against={RAW: 1.5}),
    Figure(LOADED, "modules", lower=True, aim=0),
]
ASK = (
    "import sys, mpitasks; "
    "print(sum(name.split('.')[0] in ('mpi4py', 'numpy') for name in sys.modules))"
)


def run(*words: str) -> str:
    """Run a command to its end, return what it printed."""
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=SECONDS
    )
    return done.stdout


def import_seconds(repeat: int) -> float:
    """Return what the import adds, the median of pairs."""
    differences = []
    for _ in range(repeat):
        bare = timed(run, sys.executable, "-c", "pass")
        differences.append(timed(run, sys.executable, "-c", "import mpitasks") - bare)
    return statistics.median(differences)


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--ranks", type=int, default=RANKS, help="of the empty script")
    options = options.parse_args()
    start = [*mpiexec(options.ranks), sys.executable]
    repeat, launches = (1, 1) if options.quick else (10, 2)
    # As pip does when it installs; a checkout has it done by its first run, which may
    # not come to that (PYTHONDONTWRITEBYTECODE).
    compileall.compile_dir(Path(mpitasks.__file__).parent, quiet=1)
    rounds: dict[str, dict[str, list[float]]] = {
        IMPORT: {OURS: []},
        EMPTY: {OURS: [], RAW: []},
        LOADED: {OURS: [float(run(sys.executable, "-c", ASK))]},
    }
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "empty.py")
        script.write_text("")
        commands = {
            RAW: [*start, "-c", "from mpi4py import MPI"],
            OURS: [*start, "-m", "mpitasks", str(script)],
        }
        for _ in range(options.rounds or (1 if options.quick else 5)):
            rounds[IMPORT][OURS].append(1e3 * import_seconds(repeat))
            for who, words in commands.items():
                times = [timed(run, *words) for _ in range(launches)]
                rounds[EMPTY][who].append(1e3 * statistics.median(times))
    publish("startup", 1, FIGURES, rounds, options, [])


if __name__ == "__main__":
    main()
