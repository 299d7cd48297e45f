"""os.fork in tasks.

The child that leaves by return, exception, sys.exit, os._exit, os.abort; in a map;
with threads; output of the parent is right and later tasks too.
"""

import os
import sys
import time

import mpitasks as mt
from checking import check, finish


def child(how):
    pid = os.fork()
    if pid == 0:
        if how == "return":
            return "child"
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise ValueError("child")
        if how == "_exit":
            os._exit(4)
        if how == "exec":
            os.execvp("true", ["true"])
        if how == "exec fails":
            os.execvp("/no/such/program", ["x"])
        if how == "interrupt":
            raise KeyboardInterrupt
    _, status = os.waitpid(pid, 0)
    return "parent"


def leave_zombie(i):
    if os.fork() == 0:
        time.sleep(0.05)
        return -i
    return i


if __name__ == "__main__":
    with mt.Executor() as ex:
        for how in (
            "return",
            "exit",
            "raise",
            "_exit",
            "exec",
            "exec fails",
            "interrupt",
        ):
            check(how, ex.submit(child, how).result(120), "parent")
            check(
                "after",
                [f.result(120) for f in [ex.submit(abs, -i) for i in range(10)]],
                list(range(10)),
            )
        check(
            "map",
            list(ex.map(leave_zombie, range(1, 30), timeout=30)),
            list(range(1, 30)),
        )
        check(
            "after",
            list(ex.map(abs, range(-50, 0), timeout=20)),
            list(range(50, 0, -1)),
        )
    finish()
