"""What is built to be published: it installs, it runs, and its metadata are sound."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mpitasks
from launching import Launch, Mpi

ROOT = Path(__file__).parents[2]
NEEDED_BY_TESTS = {"benchmarks", "docs", "examples", "slurm", "tests", "Makefile"}


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a wheel that was made from the sdist beside it."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel's package, without what it depends on."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
    run(*pip, "--target", target, wheel)
    return target


def test_metadata_are_sound(built: Path) -> None:
    pytest.importorskip("twine")
    said = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
    assert said.count("PASSED") == 2, said


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"mpitasks", f"mpitasks-{mpitasks.__version__}.dist-info"}
    assert "mpitasks/py.typed" in names


def test_the_sdist_has_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert {name.split("/")[1] for name in names} >= NEEDED_BY_TESTS


def test_the_wheel_runs(
    mpi: Mpi, launch: Launch, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = launch.script(
        "import mpitasks as mt\n"
        "with mt.Executor() as ex:\n"
        "    print(mt.__file__, ex.submit(pow, 2, 5).result())\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.fspath(installed))
    outcome = launch(mpi.runner(2, script))
    wanted = f"{installed / 'mpitasks' / '__init__.py'} 32\n"
    assert outcome.out == wanted, str(outcome)


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", text, re.MULTILINE) == [mpitasks.__version__]
