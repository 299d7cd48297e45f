"""``mpitasks jupyter``: it writes a kernel, and takes away its own only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mpitasks.errors import ConfigurationError
from mpitasks.integrations import jupyter
from mpitasks.launch.verbs import UsageError


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kernels are installed."""
    pytest.importorskip("ipykernel", reason="pip install 'mpitasks[jupyter]'")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return tmp_path / "kernels"


def run(*words: str) -> None:
    jupyter.main(jupyter.parse(words))


def test_a_kernel_is_installed_and_removed(
    kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("install", "--workers", "2", "--name", "two")
    assert "Python with 2 workers" in capsys.readouterr().out
    spec = json.loads((kernels / "two" / "kernel.json").read_text())
    assert spec["argv"][0] == sys.executable
    assert spec["argv"][-3:] == ["--workers=2", "-f", "{connection_file}"]
    assert spec["interrupt_mode"] == "signal"
    run("install", "--name", "two", "--mpiexec-args", "--bind-to none")  # in its place
    spec = json.loads((kernels / "two" / "kernel.json").read_text())
    assert spec["argv"][-3:] == [
        "--mpiexec-args=--bind-to none",
        "-f",
        "{connection_file}",
    ]
    run("remove", "--name", "two")
    assert not (kernels / "two").exists()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["remove", "--name", "two"], "no kernel is named 'two'"),
        (["remove", "--name", "python3"], "a kernel of another kind"),
        (["install", "--name", "python3"], "choose a --name"),
        (["install", "--workers", "0"], "a positive number"),
        (["install", "--mpiexec-args", "'"], "cannot be split into words"),
        (["install", "--name", "a b"], "was not installed"),
    ],
)
def test_what_does_not_fit(words: list[str], part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        run(*words)


def test_words_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="VERB"):
        jupyter.parse([])


def test_without_ipykernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mpitasks\[jupyter\]'"):
        run("remove")
