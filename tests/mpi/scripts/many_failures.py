"""Some of the tasks fail; the script looks at each future by itself."""

from __future__ import annotations

import sys

import mpitasks


def picky(x: int) -> int:
    """Fail for each tenth number."""
    if x % 10 == 3:
        raise ValueError(x)
    return x


if __name__ == "__main__":
    failed = 0
    with mpitasks.Executor() as executor:
        futures = [executor.submit(picky, x) for x in range(int(sys.argv[1]))]
        for future in futures:
            try:
                future.result()
            except ValueError:
                failed += 1
    print(f"{failed} failed")
