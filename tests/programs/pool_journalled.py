"""A Pool with a journal: what one has computed comes from there in the next."""

import pathlib
import tempfile

import mpitasks as mt
from checking import check, finish


def work(number):
    with open(LOG, "a") as log:
        log.write(f"{number}\n")
    return 2 * number


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        LOG = str(pathlib.Path(folder) / "log")
        for _ in range(2):
            with mt.Pool(journal=pathlib.Path(folder) / "journal") as pool:
                check("map", pool.map(work, range(20)), [2 * n for n in range(20)])
                check("imap", list(pool.imap(work, iter([30, 31]))), [60, 62])
                check("apply", pool.apply(work, (40,)), 80)
                check("unordered", sorted(pool.imap_unordered(work, [50])), [100])
                result = pool.map_async(work, [60, 61], callback=lambda values: None)
                check("map_async", result.get(120), [120, 122])
            lines = pathlib.Path(LOG).read_text().splitlines()
            check("computed", len(lines), 26)
        mt.Executor().shutdown()
    finish()
