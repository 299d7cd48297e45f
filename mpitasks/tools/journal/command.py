"""The words of ``mpitasks journal``: which file, and what to do with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mpitasks.launch.verbs import VerbParser
from mpitasks.tools.journal import export, show
from mpitasks.tools.journal.reader import Reader
from mpitasks.tools.journal.upkeep import compact, verify

__all__ = ["main", "parse"]

ACTIONS = ("count", "list", "export", "verify", "compact")

EPILOG = """\
mpitasks journal run.db                        how many results, of which functions
mpitasks journal run.db list --failed          one line for each that failed
mpitasks journal run.db export --csv out.csv   arguments and results as a table
mpitasks journal run.db export --npz out.npz   arrays, by key
mpitasks journal run.db verify                 reads all, says what is damaged
mpitasks journal run.db compact                gives back room that nothing needs

Export unpickles what the tasks returned, which can run any code. So it refuses a
journal that another user owns or could write, unless --trust is there."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``journal`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks journal",
        description="Show, export, verify or compact a journal of finished results.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="the journal")
    parser.add_argument("action", nargs="?", choices=ACTIONS, help="what to do (count)")
    which = parser.add_argument_group("which results: for count, list and export")
    which.add_argument("--function", metavar="NAME", help="of this function")
    which.add_argument(
        "--key",
        action="append",
        metavar="KEY",
        help="of this key: the user's own, or the beginning of ours; may be repeated",
    )
    which.add_argument("--failed", action="store_true", help="that failed")
    where = parser.add_argument_group("where exported results go (- is the terminal)")
    for name in export.FORMATS:
        where.add_argument(f"--{name}", metavar="OUT", help=f"as {name.upper()}")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="export or compact a journal that another user owns or could write, and "
        "so could run code here",
    )
    drop = parser.add_argument_group("what compact drops besides")
    drop.add_argument("--drop-failures", action="store_true", help="what failed")
    drop.add_argument(
        "--drop-changed",
        action="store_true",
        help="results of all but the latest version of each function",
    )
    options = parser.parse_args(words)
    outputs = [name for name in export.FORMATS if getattr(options, name)]
    if options.action is None:
        options.action = "export" if outputs else "count"
    if (options.action == "export") != bool(outputs):
        parser.error("export needs --csv, --json or --npz, and these need export")
    return options


def main(options: argparse.Namespace) -> int:
    """Do it; return the exit code.

    Raises:
        JournalError: The journal is in use, or is none.
    """
    if options.action == "compact":
        return compact(
            options.file,
            failures=options.drop_failures,
            changed=options.drop_changed,
            trust=options.trust,
        )
    with Reader(options.file, trust=options.trust) as reader:
        if options.action == "verify":
            return verify(reader)
        rows = reader.select(options.function, options.key, failed=options.failed)
        if options.action == "export":
            reader.refuse_doubt(f"mpitasks journal {options.file} export --trust")
            return export.write(reader, rows, options)
        if options.action == "list":
            show.show_list(reader, rows)
        else:
            show.show_counts(reader, rows)
    return 0
