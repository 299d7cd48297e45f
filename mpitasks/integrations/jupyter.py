"""A Jupyter kernel with workers: ``mpitasks jupyter install``, and the kernel itself.

The kernel is ipykernel's, in a process of its own outside of MPI. Before its first cell
runs it calls `mpitasks.start` and puts the Executor under the name `ex`: so a kernel
that is only opened starts no ranks, and an error of the start shows in the cell.
How ranks are started, and end, is `mpitasks.launch.outside`'s.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpitasks.errors import ConfigurationError
from mpitasks.launch.verbs import VerbParser
from mpitasks.subprocesses import interpreter_options

__all__ = ["main", "parse", "run_kernel"]

MODULE = "mpitasks.integrations.jupyter"

MISSING = (
    "mpitasks jupyter needs ipykernel, in the environment that the kernel is to have: "
    "pip install 'mpitasks[jupyter]'"
)

EPILOG = """\
mpitasks jupyter install --workers 8    the kernel "Python with 8 workers"
mpitasks jupyter remove                 takes it away"""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words behind ``jupyter`` mean.

    Raises:
        UsageError: They are wrong.
    """
    parser = VerbParser(
        prog="mpitasks jupyter",
        description="Install a Jupyter kernel that has workers and an Executor, ex.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    install = verbs.add_parser("install", help="write the kernel", allow_abbrev=False)
    remove = verbs.add_parser("remove", help="take it away", allow_abbrev=False)
    for each in (install, remove):
        each.add_argument(
            "--name", default="mpitasks", help="the kernel's name (mpitasks)"
        )
    install.add_argument(
        "--workers", type=int, metavar="N", help="how many workers (one a core)"
    )
    install.add_argument(
        "--mpiexec-args", default="", metavar="WORDS", help="further words for mpiexec"
    )
    install.add_argument("--display-name", metavar="TEXT", help="what Jupyter shows")
    install.add_argument(
        "--prefix",
        metavar="FOLDER",
        help="install it into an environment, for all its users (your home)",
    )
    return parser.parse_args(words)


def main(options: argparse.Namespace) -> None:
    """Install the kernel, or remove it; print what was done.

    Raises:
        ConfigurationError: ipykernel is missing, or the words do not fit what is there.
    """
    if importlib.util.find_spec("ipykernel") is None:
        raise ConfigurationError(MISSING)
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    if options.verb == "install":
        _install(manager, options)
    else:
        _remove(manager, options.name)


def _install(manager: Any, options: argparse.Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        raise ConfigurationError(
            f"--workers needs a positive number, not {options.workers}"
        )
    there = _is_ours(manager, options.name)
    if there is False:
        raise ConfigurationError(
            f"there is a kernel {options.name!r} of another kind; choose a --name"
        )
    try:
        shlex.split(options.mpiexec_args)
    except ValueError as error:
        raise ConfigurationError(
            f"--mpiexec-args {options.mpiexec_args!r} cannot be split into words: "
            f"{error}; quote it as for a shell"
        ) from error
    python = [sys.executable, *interpreter_options()]
    words = [*python, "-m", MODULE]
    if options.workers is not None:
        words.append(f"--workers={options.workers}")
    if options.mpiexec_args:
        words.append(f"--mpiexec-args={options.mpiexec_args}")
    count = f"{options.workers} " if options.workers else ""
    spec = {
        "argv": [*words, "-f", "{connection_file}"],
        "display_name": options.display_name or f"Python with {count}workers",
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True},
    }
    with tempfile.TemporaryDirectory(prefix="mpitasks-") as folder:
        Path(folder, "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        try:
            where = manager.install_kernel_spec(
                folder,
                options.name,
                user=options.prefix is None,
                prefix=options.prefix,
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the kernel was not installed: {error}"
            ) from error
    print(f"{where}: {spec['display_name']}; `ex` is there in its first cell")


def _remove(manager: Any, name: str) -> None:
    there = _is_ours(manager, name)
    if not there:
        what = "no kernel" if there is None else "a kernel of another kind"
        raise ConfigurationError(
            f"{what} is named {name!r}, so nothing was removed; jupyter kernelspec "
            f"list shows all"
        )
    try:
        where = manager.remove_kernel_spec(name)
    except OSError as error:
        raise ConfigurationError(f"the kernel was not removed: {error}") from error
    print(f"{where}: removed")


def _is_ours(manager: Any, name: str) -> bool | None:
    """Whether a kernel was written by this module; None if there is none."""
    from jupyter_client.kernelspec import NoSuchKernel

    try:
        return MODULE in manager.get_kernel_spec(name).argv
    except NoSuchKernel:
        return None


class _FirstCell:
    """Starts the workers before the first cell.

    Args:
        shell: The kernel's shell.
        workers: How many workers; None for one a core.
        mpiexec_args: Further words for mpiexec.
    """

    def __init__(
        self, shell: Any, workers: int | None, mpiexec_args: Sequence[str]
    ) -> None:
        self._shell = shell
        self._workers = workers
        self._mpiexec_args = mpiexec_args
        shell.events.register("pre_run_cell", self)

    def __call__(self, info: object) -> None:
        """Start them. IPython shows in the cell what this raises."""
        self._shell.events.unregister("pre_run_cell", self)
        import mpitasks

        # Alone at first: if the workers do not start, this is how to try again.
        self._shell.push({"mpitasks": mpitasks}, interactive=False)
        executor = mpitasks.start(self._workers, mpiexec_args=self._mpiexec_args)
        self._shell.push({"ex": executor}, interactive=False)


def run_kernel(words: Sequence[str]) -> None:
    """Be the kernel: what the installed ``kernel.json`` starts.

    Args:
        words: Ours, then ipykernel's.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--mpiexec-args", default="")
    options, rest = parser.parse_known_args(words)
    try:
        from ipykernel.kernelapp import IPKernelApp
    except ImportError:
        sys.exit(f"mpitasks: {MISSING}")
    app: Any = IPKernelApp.instance()
    app.initialize(rest)
    _FirstCell(app.shell, options.workers, shlex.split(options.mpiexec_args))
    app.start()


if __name__ == "__main__":
    run_kernel(sys.argv[1:])
