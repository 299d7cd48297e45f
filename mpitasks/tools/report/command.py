"""The words of ``mpitasks report``: which trace, and where the page goes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpitasks.errors import ConfigurationError
from mpitasks.launch.verbs import VerbParser
from mpitasks.observe import report, trace
from mpitasks.observe.verdict import verdict_of

__all__ = ["main", "parse"]

EPILOG = """\
mpitasks -n 8 --trace run.json.gz script.py    writes a trace
mpitasks report run.json.gz                    makes run.html of it, says the verdict"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``report`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks report",
        description="Make a page about a run from its trace: what kept workers from "
        "computing, the timeline, durations, failures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("trace", metavar="TRACE", help="what --trace has written")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the page (named after the trace)"
    )
    return parser.parse_args(words)


def main(options: argparse.Namespace) -> None:
    """Make the page; print where it is, and the verdict.

    Raises:
        ConfigurationError: There is no such trace, or the page cannot be written.
    """
    found = trace.read(options.trace)
    output = options.output
    if output is None:
        path = Path(options.trace)
        output = str(path.with_name(path.name.split(".")[0] + ".html"))
    try:
        report.write(output, found)
    except OSError as error:
        raise ConfigurationError(f"no report: {error}") from error
    print(f"{output}: {verdict_of(found['otherData']).text}")
