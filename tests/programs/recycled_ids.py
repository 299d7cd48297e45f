"""Large data made anew in a loop gets the address of the one before.

Identity by id() alone would take it for the same.
"""

import functools

import numpy as np

import mpitasks as mt
from checking import check, finish


def member(table, i):
    return float(table[i])


class Holder:
    def __init__(self, table):
        self.table = table

    def get(self, i):
        return float(self.table[i])


def read(i):
    return float(TABLE[i])


if __name__ == "__main__":
    with mt.Executor() as ex:
        seen = {"partial": [], "method": [], "global": [], "closure": [], "lambda": []}
        for n in range(12):
            seen["partial"].append(
                ex.submit(
                    functools.partial(member, np.full(200_000, float(n))), 5
                ).result()
            )
            seen["method"].append(
                ex.submit(Holder(np.full(200_000, float(n))).get, 5).result()
            )
            TABLE = None
            TABLE = np.full(200_000, float(n))
            seen["global"].append(ex.submit(read, 5).result())
            seen["closure"] += ex.map(Holder(np.full(300, float(n))).get, [5])
            seen["lambda"].append(
                ex.submit(lambda t=np.full(200_000, float(n)): float(t[7])).result()
            )
        for what, got in seen.items():
            check(what, got, [float(n) for n in range(12)])
    finish()
