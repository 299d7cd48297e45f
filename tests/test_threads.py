"""How many threads BLAS libraries are allowed, and what the user's word counts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mpitasks.launch.threads import (
    VARIABLES,
    asked_threads,
    limit_threads,
)


def test_nothing_set_means_the_share_everywhere() -> None:
    environ: dict[str, str] = {"HOME": "/"}
    limit_threads(3, environ)
    assert environ == {"HOME": "/", **dict.fromkeys(VARIABLES, "3")}


def test_openmp_of_the_user_decides_for_those_that_follow_it() -> None:
    environ = {"OMP_NUM_THREADS": "8"}
    limit_threads(2, environ)
    assert environ == {"OMP_NUM_THREADS": "8", "VECLIB_MAXIMUM_THREADS": "2"}


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_set_stays(name: str) -> None:
    environ = {name: "7"}
    limit_threads(2, environ)
    assert environ[name] == "7"


@pytest.mark.parametrize("name", [n for n in VARIABLES if n != "OMP_NUM_THREADS"])
def test_one_library_of_the_user_does_not_decide_for_others(name: str) -> None:
    environ = {name: "7"}
    limit_threads(2, environ)
    others = {n: value for n, value in environ.items() if n != name}
    assert others == {n: "2" for n in VARIABLES if n != name}


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": ""}, None),
        ({"OMP_NUM_THREADS": "all"}, None),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": " 4,2"}, 4),
        ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "6"}, 6),
        ({"HOME": "3"}, None),
    ],
)
def test_asked_threads(environ: dict[str, str], asked: int | None) -> None:
    assert asked_threads(environ) == asked


@pytest.mark.parametrize("first", ["", "import numpy; "])
def test_numpy_that_is_loaded_has_taken_all_cores(first: str) -> None:
    code = (
        f"{first}import importlib.util as u; "
        "from mpitasks.launch.threads import loaded_threads; "
        "print(loaded_threads(64), u.find_spec('threadpoolctl') is not None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    taken, has_control = done.stdout.split()
    assert taken == ("64" if first and has_control == "False" else "None")
