"""The record of a finding, its lines in the table, and the exit code."""

from __future__ import annotations

import json

import pytest

from mpitasks.tools.doctor.findings import (
    Finding,
    Level,
    error,
    exit_code,
    lines,
    ok,
    summary,
    warning,
)

OK = ok("one", "fine")
WARNING = warning("two", "slow", "be quick")
ERROR = error("three", "broken", "mend it")


@pytest.mark.parametrize(
    ("findings", "code", "last"),
    [
        ([], 0, "all is well"),
        ([OK], 0, "all is well"),
        ([OK, WARNING], 1, "1 warning: a run starts"),
        ([WARNING, OK, WARNING], 1, "2 warnings: a run starts"),
        ([ERROR], 78, "1 error: a run would not start as it should"),
        (
            [ERROR, WARNING, ERROR],
            78,
            "2 errors, and 1 warning: a run would not start as it should",
        ),
    ],
)
def test_exit_code_and_summary(findings: list[Finding], code: int, last: str) -> None:
    assert exit_code(findings) == code
    assert summary(findings) == last


def test_what_is_ok_has_no_cure() -> None:
    assert lines(OK) == ["ok       one            fine"]


def test_what_is_wrong_has_a_line_with_the_cure() -> None:
    assert lines(WARNING) == [
        "warning  two            slow",
        "                        -> be quick",
    ]


def test_long_lines_are_folded_and_paths_are_not_cut() -> None:
    path = "/a" * 60
    shown = lines(error("mpiexec", f"there is none beside {path}", "do " * 40))
    assert path in {line.strip() for line in shown}
    folded = [line for line in shown if path not in line]
    assert max(map(len, folded)) <= 88
    assert all(line.startswith(" " * 24) for line in shown[1:])


def test_text_from_programs_becomes_one_line() -> None:
    assert error("a", "one\n  two\tthree", "x\ny") == Finding(
        "a", Level.ERROR, "one two three", "x y"
    )


def test_as_dict_is_json() -> None:
    assert json.loads(json.dumps(ERROR.as_dict())) == {
        "check": "three",
        "level": "error",
        "why": "broken",
        "cure": "mend it",
    }
