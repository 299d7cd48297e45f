"""What ``submit`` makes of the words of its user, before anything is submitted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.slurm.command import main, parse
from mpitasks.slurm.job import Submission, make_plan

LAUNCHER = "aprun -n 2"  # so that no MPI library is needed


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script; of sbatch's variables none is set."""
    monkeypatch.chdir(tmp_path)
    for name in ("ACCOUNT", "PARTITION", "QOS"):
        monkeypatch.delenv(f"SBATCH_{name}", raising=False)
    (tmp_path / "fit.py").touch()
    return tmp_path


def test_who_says_what_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT", "PARTITION", "QOS", "TIMELIMIT"):
        monkeypatch.setenv(f"SBATCH_{name}", "environment")
    (place / "mpitasks.toml").write_text("[slurm]\nqos = 'table'\npartition = 'table'")
    asked = {"partition": "asked"}
    plan = make_plan(Submission("fit.py", launcher=LAUNCHER, options=asked))
    options = {"account": "environment", "partition": "asked", "qos": "table"}
    assert {name: plan.options[name] for name in options} == options
    assert "time" not in plan.options


@pytest.mark.parametrize("log", ["fit.py", "./fit.py"])
def test_the_log_is_not_the_script(log: str) -> None:
    with pytest.raises(OptionError, match="is the script, which the log would replace"):
        make_plan(Submission("fit.py", launcher=LAUNCHER, options={"output": log}))


def test_an_array_has_no_fixed_log() -> None:
    options = {"output": "fit.log", "array": "0-3"}
    with pytest.raises(OptionError, match=r"--output=fit-%A_%a\.log$"):
        make_plan(Submission("fit.py", launcher=LAUNCHER, options=options))


@pytest.mark.parametrize("script", ["", "none.py", "."])
def test_no_script(script: str) -> None:
    with pytest.raises(ConfigurationError, match="script"):
        make_plan(Submission(script, launcher=LAUNCHER))


@pytest.mark.parametrize(
    ("words", "warns"),
    [
        ([], "sbatch gives one rank, so no worker"),
        (["-N", "2"], "sbatch gives one rank a node"),
        (["-n", "2"], None),
        (["--ntasks-per-node=2"], None),
        (["--sbatch-arg=--ntasks-per-gpu=2", "--sbatch-arg=--gpus=2"], None),
        (["--sbatch-arg=-n4"], None),
        (["--sbatch-arg=--exclusive"], "sbatch gives one rank, so no worker"),
    ],
)
def test_no_number_of_ranks(
    capfdbinary: pytest.CaptureFixture[bytes], words: list[str], warns: str | None
) -> None:
    options = parse([*words, "--launcher", LAUNCHER, "--dry-run", "fit.py", "é\n"])
    assert main(options) == 0
    out, err = capfdbinary.readouterr()
    assert out.endswith(f"    fit.py $'{'é'}\\n'\n".encode())
    if warns is None:
        assert err == b""
    else:
        assert f"mpitasks: warning: {warns}" in err.decode()


def test_what_is_left_out_is_said(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    words = ["-n", "2", "--launcher", LAUNCHER, "--dry-run", "fit.py"]
    assert main(parse(words)) == 0
    assert b"gets nothing of SBATCH_TIMELIMIT" in capfdbinary.readouterr().err


def test_survive_as_an_option_of_the_run() -> None:
    wanted = Submission("fit.py", launcher="mpiexec", run_words=("--survive",))
    if "Open MPI" in _library():
        plan = make_plan(wanted)
        assert plan.survive
        assert plan.run_words == ()
    else:
        with pytest.raises(ConfigurationError, match="--survive needs Open MPI 5"):
            make_plan(wanted)


def _library() -> str:
    from mpitasks.slurm.probe import probe

    return probe(sys.executable).library
