"""Runs every check of the Executor's contract. Start it in any way, on any ranks.

Usage: contract.py [WORKERS [PART OF A CHECK'S NAME]]

Exits with 1 if a check failed, and then says which on stderr.
"""

from __future__ import annotations

import faulthandler
import sys

import contract_balance
import contract_errors
import contract_failures
import contract_functions
import contract_futures
import contract_lifecycle
import contract_map
import contract_options
import contract_pool
import contract_values
import contract_waiting
import support

MODULES = [
    contract_futures,
    contract_map,
    contract_waiting,
    contract_lifecycle,
    contract_options,
    contract_balance,
    contract_functions,
    contract_values,
    contract_errors,
    contract_failures,
    contract_pool,
]


def main() -> int:
    """Run the checks."""
    faulthandler.dump_traceback_later(100.0, exit=False)
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    if workers:
        import mpitasks

        with mpitasks.Executor() as executor:
            assert executor.num_workers == workers, executor.num_workers
    return support.run_checks(MODULES, sys.argv[2] if len(sys.argv) > 2 else "")


if __name__ == "__main__":
    sys.exit(main())
