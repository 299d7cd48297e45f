"""What ranks of a host share takes the memory of one copy, as the kernel counts it."""

from __future__ import annotations

import pytest

from launching import Launch, Mpi

SCRIPT = """
import functools, time
import numpy as np
import mpitasks as mt

COUNT = 4_000_000  # 32 MB

def proportion():
    kib = 0
    with open("/proc/self/smaps") as smaps:
        ours = False
        for line in smaps:
            if "-" in line.split()[0]:
                ours = "memfd:mpitasks-" in line
            elif ours and line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib * 1024

def look(table, n):
    total = float(table.sum())  # each page
    time.sleep(0.3)  # so that each worker has one
    return mt.current_task().rank, total, proportion()

with mt.Executor() as ex:
    array = np.arange(float(COUNT))
    if HOW == "share":
        call = functools.partial(ex.submit, look, ex.share(array))
    else:
        call = functools.partial(ex.submit, functools.partial(look, array))
    seen = {}
    for _ in range(5):
        futures = [call(n) for n in range(2 * ex.num_workers)]
        for rank, total, nbytes in [future.result() for future in futures]:
            assert total == COUNT * (COUNT - 1) / 2
            seen[rank] = nbytes
        if _ and len(seen) == ex.num_workers:
            break
    print(len(seen), (sum(seen.values()) + proportion()) / (8 * COUNT))
"""


@pytest.mark.parametrize("options", [[], ["--isolate"]], ids=["", "isolated"])
@pytest.mark.parametrize("how", ["share", "function"])
def test_a_table_for_all_ranks(
    any_mpi: Mpi, launch: Launch, how: str, options: list[str]
) -> None:
    script = launch.script(SCRIPT.replace("HOW", repr(how)))
    outcome = launch(any_mpi.runner(5, *options, script), seconds=60)
    assert outcome.code == 0, outcome
    workers, copies = outcome.out.split()
    assert workers == "4", outcome
    assert 0.2 < float(copies) < 1.3, outcome
