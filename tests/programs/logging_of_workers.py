"""Records of workers reach the script's handlers with rank and task when
Executor(logging=True): levels, arguments, exceptions, none lost at the end.
"""

import logging

import mpitasks as mt
from checking import check, finish

SEEN = []


class Keep(logging.Handler):
    def emit(self, record):
        SEEN.append(
            (
                record.getMessage(),
                record.levelname,
                record.name,
                bool(record.exc_text or record.exc_info),
            )
        )


log = logging.getLogger("app.part")


def work(i):
    log.debug("debug %d", i)
    log.info("info %d", i)
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("app").exception("failed %s", {"i": i})
    return i


if __name__ == "__main__":
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(Keep())
    with mt.Executor(logging=True) as ex:
        check("values", list(ex.map(work, range(50))), list(range(50)))
        ex.submit(work, 50)
    check(
        "info",
        sorted(m for m, level, *_ in SEEN if level == "INFO" and m.startswith("info")),
        sorted(f"info {i}" for i in range(51)),
    )
    check("debug", [m for m, *_ in SEEN if m.startswith("debug")], [])
    errors = [s for s in SEEN if s[1] == "ERROR"]
    check(
        "errors",
        (len(errors), {s[2] for s in errors}, all(s[3] for s in errors)),
        (51, {"app"}, True),
    )
    finish()
