"""``mpitasks doctor``: in which order what is looked at, and who says it.

Every copy that a launcher started comes here, and no world has been joined: it may be
one that cannot be. What can be said before MPI is started is printed before that, since
a broken MPI may end the process there. Of several copies, rank 0 speaks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import mpitasks
from mpitasks import exit_codes
from mpitasks.errors import LaunchError
from mpitasks.launch.environment import LaunchHint, launch_hint, local_place, misfit
from mpitasks.launch.verbs import UsageError, VerbParser
from mpitasks.tools.doctor import measure
from mpitasks.tools.doctor.checks_host import (
    check_hosts,
    check_level,
    check_ranks,
    is_crowded,
)
from mpitasks.tools.doctor.checks_mpi import (
    check_launch,
    check_mpi,
    check_python,
    check_slurm,
    check_start,
)
from mpitasks.tools.doctor.checks_world import check_missing, check_pair, check_pairs
from mpitasks.tools.doctor.findings import (
    Finding,
    error,
    exit_code,
    lines,
    summary,
)
from mpitasks.tools.doctor.gather import look_here
from mpitasks.tools.doctor.gather_mpi import (
    level_of,
    library_of,
    look_at_mpi,
    try_start,
)
from mpitasks.tools.doctor.gather_slurm import look_at_slurm

if TYPE_CHECKING:
    from mpitasks.tools.doctor.facts import MpiFacts, PairFacts, RankFacts

__all__ = ["main", "parse"]

DESCRIPTION = "Look whether a run would start here as it should, and say why not."

EPILOG = """\
alone:               mpitasks doctor
with the ranks:      mpiexec -n 4 python -m mpitasks doctor    (or mpitasks -n 4 doctor)
in a SLURM job:      srun -n 4 python -m mpitasks doctor

exit codes: 0 all is well; 1 warnings: a run starts; 78 errors: it would not"""

HEAD_START_SECONDS = 1.5
"""The other ranks wait so long before they start MPI: the first that fails to ends the
job, and by then rank 0 must have said what it knows."""

FOLLOW_SECONDS = 300.0
"""How long a rank waits for a word of rank 0, which may be measuring with others."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``doctor`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks doctor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--json", action="store_true", help="print findings and facts as JSON"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to wait for the other ranks (30)",
    )
    options = parser.parse_args(words)
    if not options.timeout > 0:
        raise UsageError(f"--timeout needs seconds above 0, not {options.timeout}")
    return options


def main(options: argparse.Namespace) -> int:
    """Look, on every copy; return the exit code."""
    hint = launch_hint()
    if hint is None:
        report = Report(options.json)
        _look_alone(report)
        return report.end()
    mpi = look_at_mpi(briefly=hint.rank != 0)
    if not mpi.library or misfit(hint, mpi.library):
        return _report_copy(hint, mpi, None, options.json)
    report = Report(options.json, silent=hint.rank != 0)
    if hint.rank == 0:
        here = look_here(0, library_of(mpi), copies=True)
        report.add(_about_mpi(here, mpi))
        _look_at_slurm(report, mpi)
    else:
        time.sleep(HEAD_START_SECONDS)
    from mpitasks.wire import mpi_library

    mpi_library.initialize()
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if comm.Get_size() == 1:
        return _report_copy(hint, mpi, 1, options.json, begun=report)
    return _look_together(comm, hint, mpi, report, options.timeout)


class Report:
    """Prints findings as they come, or all together as JSON.

    Args:
        as_json: Whether as JSON.
        silent: Whether another copy speaks.
    """

    def __init__(self, as_json: bool, *, silent: bool = False) -> None:
        self._as_json = as_json
        self._silent = silent
        self.findings: list[Finding] = []
        self.facts: dict[str, Any] = {}
        if not (as_json or silent):
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"mpitasks doctor {mpitasks.__version__}, {when}", flush=True)

    def add(self, findings: Iterable[Finding]) -> None:
        """Take findings, and print them unless all are printed together."""
        for finding in findings:
            self.findings.append(finding)
            if not (self._as_json or self._silent):
                print("\n".join(lines(finding)), flush=True)

    def end(self) -> int:
        """Print what comes last; return the exit code, which rank 0 alone gives."""
        if self._silent:
            return 0
        code = exit_code(self.findings)
        if self._as_json:
            content = {
                "mpitasks": mpitasks.__version__,
                "exit_code": code,
                "findings": [finding.as_dict() for finding in self.findings],
                **self.facts,
            }
            print(json.dumps(content, indent=1), flush=True)
        else:
            print(summary(self.findings), flush=True)
        return code


def _look_alone(report: Report) -> None:
    """Nothing launched this: try what a launch would do."""
    mpi = look_at_mpi()
    here = look_here(0, library_of(mpi), copies=True)
    report.add(_about_mpi(here, mpi))
    _look_at_slurm(report, mpi)
    report.add(check_launch(None, mpi, None))
    if mpi.library:
        alone, launched = try_start(mpi)
        mpi = replace(mpi, alone=alone, launched=launched)
        report.add(check_start(mpi))
        here = replace(here, thread_level=level_of(alone))
        report.add(check_level([here]))
    report.add(check_hosts([here]))
    report.facts.update(mpi=asdict(mpi), ranks=[asdict(here)], pairs=[])


def _report_copy(
    hint: LaunchHint,
    mpi: MpiFacts,
    size: int | None,
    as_json: bool,
    begun: Report | None = None,
) -> int:
    """Report from a copy that meets no others, because they are alone as well.

    Args:
        hint: What the launcher's variables say.
        mpi: What there is of MPI.
        size: The size of the world; None if MPI was not started.
        as_json: Whether to report as JSON.
        begun: The report, if it has begun.
    """
    if hint.rank != 0:
        return 0
    here = look_here(0, library_of(mpi), copies=True)
    report = begun or Report(as_json)
    if begun is None:
        report.add(_about_mpi(here, mpi))
        _look_at_slurm(report, mpi)
    report.add(check_launch(hint, mpi, size))
    report.add(check_hosts([here]))
    report.facts.update(mpi=asdict(mpi), ranks=[asdict(here)], pairs=[])
    return report.end()


def _look_together(
    comm: Any, hint: LaunchHint, mpi: MpiFacts, report: Report, seconds: float
) -> int:
    """One world: hear every rank, and measure. Rank 0 reports."""
    from mpitasks.wire import mpi_library

    rank, size = comm.Get_rank(), comm.Get_size()
    place = local_place()
    own = replace(
        look_here(rank, library_of(mpi), copies=place is None or place[0] == 0),
        thread_level=mpi_library.thread_level(),
    )
    if rank != 0:
        measure.send_facts(comm, own)
        measure.follow(comm, seconds + FOLLOW_SECONDS)
        return 0
    report.add(check_launch(hint, mpi, size))
    ranks, missing = measure.gather_ranks(comm, own, seconds)
    if missing:
        report.add([check_missing(missing, size, seconds)])
        report.facts.update(mpi=asdict(mpi), ranks=_dicts(ranks), pairs=[])
        code = report.end()
        time.sleep(0.1)  # launchers drop what is on its way after an abort
        comm.Abort(code)
    report.add(check_ranks(ranks, size))
    report.add(check_hosts(ranks))
    pairs: list[PairFacts] = []
    try:
        for pair in measure.measure_pairs(comm, [one.host for one in ranks]):
            pairs.append(pair)
            report.add([check_pair(pair, crowded=is_crowded(ranks, pair.hosts))])
    except LaunchError as silence:
        cure = "mpiexec -n N hostname; can the hosts reach each other?"
        report.add([error("measured", str(silence), cure)])
        report.end()
        time.sleep(0.1)
        comm.Abort(exit_codes.SET_UP)
    report.add(check_pairs(pairs))
    report.facts.update(mpi=asdict(mpi), ranks=_dicts(ranks), pairs=_dicts(pairs))
    return report.end()


def _about_mpi(here: RankFacts, mpi: MpiFacts) -> Iterable[Finding]:
    yield from check_python(here)
    yield from check_mpi(mpi)


def _look_at_slurm(report: Report, mpi: MpiFacts) -> None:
    slurm = look_at_slurm()
    report.add(check_slurm(slurm, mpi))
    report.facts["slurm"] = asdict(slurm)


def _dicts(records: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(record) for record in records]
