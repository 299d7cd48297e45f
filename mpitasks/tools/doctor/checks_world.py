"""Judges what was measured between hosts. Pure: figures in, findings out.

The limits are wide: what is named here is wrong by a factor, not by a few percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpitasks.tools.doctor.findings import Finding, error, ok, warning

if TYPE_CHECKING:
    from mpitasks.tools.doctor.facts import PairFacts

__all__ = ["check_missing", "check_pair", "check_pairs"]

HOST_TRIP_SECONDS = 50e-6
HOST_BYTES = 1e9
NET_TRIP_SECONDS = 200e-6
NET_BYTES = 0.1e9
ODD_FACTOR = 4.0

NETWORK = (
    "look which network the library took: UCX_LOG_LEVEL=info, FI_LOG_LEVEL=info, or "
    "OMPI_MCA_pml_base_verbose=10"
)


def check_missing(missing: Sequence[int], size: int, seconds: float) -> Finding:
    """Name the ranks that said nothing."""
    names = ", ".join(map(str, missing))
    return error(
        "hosts, ranks",
        f"{len(missing)} of {size} ranks said nothing in {seconds:g} s: rank {names}",
        "mpiexec -n N hostname; does each host answer, and have the same Python?",
    )


def check_pair(pair: PairFacts, *, crowded: bool) -> Finding:
    """Judge one pair of ranks.

    Args:
        pair: What was measured.
        crowded: Whether a host of the two has more ranks than cores, so that figures
            say more about taking turns than about the network.
    """
    one, other = pair.hosts
    name = f"{one} - {other}" if one != other else f"within {one}"
    figures = (
        f"{name} (ranks {pair.ranks[0]}, {pair.ranks[1]}): round trip "
        f"{_time(pair.round_trip)}, {_rate(pair.rate)} messages/s, "
        f"{pair.bandwidth / 1e9:.2g} GB/s"
    )
    if crowded:
        return ok("measured", f"{figures}; ranks share cores, so these say little")
    if one == other:
        if pair.round_trip > HOST_TRIP_SECONDS or pair.bandwidth < HOST_BYTES:
            why = f"{figures}: slow for one host; is shared memory used?"
            cure = (
                "unset UCX_TLS OMPI_MCA_btl OMPI_MCA_pml FI_PROVIDER, if they are set"
            )
            return warning("measured", why, cure)
    elif pair.round_trip > NET_TRIP_SECONDS or pair.bandwidth < NET_BYTES:
        return warning("measured", f"{figures}: a slow network", NETWORK)
    return ok("measured", figures)


def check_pairs(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    """Name the hosts whose network is far behind that of the others."""
    between = [pair for pair in pairs if pair.hosts[0] != pair.hosts[1]]
    if len(between) < 3:
        return
    trip = statistics.median(pair.round_trip for pair in between)
    bandwidth = statistics.median(pair.bandwidth for pair in between)
    for pair in between:
        slow_trip = pair.round_trip / trip
        slow_bytes = bandwidth / pair.bandwidth
        if max(slow_trip, slow_bytes) < ODD_FACTOR:
            continue
        what = "round trips" if slow_trip > slow_bytes else "bandwidth"
        yield warning(
            "measured",
            f"{pair.hosts[0]} - {pair.hosts[1]}: {what} "
            f"{max(slow_trip, slow_bytes):.0f} times worse than between other hosts",
            f"leave one out and measure again: SLURM --exclude={pair.hosts[1]}",
        )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def _rate(rate: float) -> str:
    if rate >= 1e6:
        return f"{rate / 1e6:.2g} million"
    return f"{float(f'{rate:.2g}'):,.0f}"
