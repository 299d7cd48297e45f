"""Tracebacks, warnings, frames and the traceback's source line name the script's file
and line.
"""

import inspect
import traceback
import warnings

import mpitasks as mt
from checking import check, finish


class C:
    def method(self):
        return helper(0)  # method line


def helper(x):
    return 1 / x  # the failing line


def fails():
    return C().method()


def where():
    frame = inspect.currentframe()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.warn("look")  # warn line
    return (
        frame.f_code.co_filename,
        frame.f_lineno,
        seen[0].filename,
        seen[0].lineno,
        where.__code__.co_firstlineno,
    )


def text():
    try:
        fails()
    except ZeroDivisionError:
        return traceback.format_exc()


if __name__ == "__main__":
    with mt.Executor() as ex:
        check("where", ex.submit(where).result(), where())
        check(
            "lambda",
            ex.submit(lambda: inspect.currentframe().f_code.co_filename).result(),
            __file__,
        )
        said = ex.submit(text).result()
        check(
            "text",
            ("the failing line" in said, "method line" in said, said.count(__file__)),
            (True, True, text().count(__file__)),
        )
        e = ex.submit(fails).exception()
        told = "".join(traceback.format_exception(type(e), e, e.__traceback__))
        line = next(
            n for n, l in enumerate(open(__file__), 1) if "# the failing line" in l
        )
        check(
            "told",
            (f'{__file__}", line {line}' in told, "return 1 / x" in told),
            (True, True),
        )
    finish()
