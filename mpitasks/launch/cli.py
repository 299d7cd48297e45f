"""The command line: ``python -m mpitasks`` and the installed command ``mpitasks``.

Parses, starts, turns errors into one line and an exit code. What a run is, is in
`mpitasks.launch.run`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import mpitasks
from mpitasks.errors import ConfigurationError, LaunchError
from mpitasks.launch.environment import LaunchHint, launch_hint
from mpitasks.launch.mpiexec import exec_mpiexec
from mpitasks.launch.script import Script
from mpitasks.launch.verbs import UsageError, Verb, find_verb

__all__ = ["EXIT_INTERNAL", "EXIT_SETUP", "main"]

EXIT_INTERNAL = 70
EXIT_SETUP = 78
EXIT_SIGNAL = 128  # plus the signal's number, as shells do

SPEAK_SECONDS = 0.5
"""Where every rank fails alike, rank 0 gets so long to say it: Open MPI's mpiexec ends
the others as soon as one has failed."""

DESCRIPTION = """\
Run a Python script whose mpitasks.Executor has the other MPI ranks as workers.
Rank 0 runs the script; the other ranks serve."""

EPILOG = """\
start it under an MPI launcher:   mpiexec -n 8 python -m mpitasks script.py
or let it start one:              mpitasks -n 8 script.py
measure this machine:             mpitasks -n 8 bench fibonacci (bench --help)

exit codes: the script's own; 1 after an exception in it; 70 internal error;
78 wrong set-up; 128 + n after signal n"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} (mpitasks --help shows the usage)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="mpitasks",
        usage="mpitasks [options] script.py [args] | [options] -m module [args]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-n", type=int, metavar="N", help="start mpiexec with N ranks, then run"
    )
    parser.add_argument(
        "--mpiexec-args",
        default="",
        metavar="WORDS",
        help="further words for the mpiexec that -n starts, as one string",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        metavar="SECONDS",
        help="how long to wait for all ranks to be there (60)",
    )
    parser.add_argument(
        "--version", action="version", version=f"mpitasks {mpitasks.__version__}"
    )
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, help="run a module as the script"
    )
    parser.add_argument("script", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    hint = launch_hint()
    try:
        options = build_parser().parse_args(words)
        script = _script(options)
        if options.start_timeout is not None and not options.start_timeout > 0:
            raise ConfigurationError(
                f"--start-timeout needs seconds above 0, not {options.start_timeout}"
            )
        if options.n is not None:
            _start_mpiexec(options, script, hint)
    except ConfigurationError as error:
        # Every rank comes to the same end; one of them says so.
        _exit_with_line(error, quiet=hint is not None and hint.rank != 0)
    _run(script, options.start_timeout)


def _start_mpiexec(
    options: argparse.Namespace, script: Script | Verb, hint: LaunchHint | None
) -> NoReturn:
    if hint is not None:
        raise ConfigurationError(
            f"-n starts an mpiexec, but {hint.launcher} already started this; leave "
            f"out one of the two"
        )
    if not script.is_module:  # where modules are found is set later
        script.check()
    words = script.words()
    if options.start_timeout:
        words = ["--start-timeout", str(options.start_timeout), *words]
    exec_mpiexec(options.n, shlex.split(options.mpiexec_args), words)


def _script(options: argparse.Namespace) -> Script | Verb:
    if options.module is not None:
        if not options.module:
            raise ConfigurationError("-m needs the name of a module")
        return Script(options.module[0], tuple(options.module[1:]), is_module=True)
    if not options.script:
        raise ConfigurationError("which script? Type: mpitasks -n 4 script.py")
    first, *rest = options.script
    return find_verb(first, rest) or Script(first, tuple(rest))


def _run(script: Script | Verb, start_seconds: float | None) -> NoReturn:
    """Meet the other ranks; run the script here, or serve."""
    script.prepare()
    _buffer_lines()
    _expect_signals()
    # Our own message comes before, and is the one that helps.
    os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    from mpitasks.launch import run

    try:
        role = run.join(start_seconds or run.START_SECONDS)
    except (ConfigurationError, LaunchError) as error:
        _end_with_line(error)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    except Exception:
        traceback.print_exc()
        _end(EXIT_INTERNAL, abort=True)
    if role is run.Role.WORKER:
        _end(0)
    alone = role is run.Role.ALONE
    try:
        script.check()
    except ConfigurationError as error:
        print(f"mpitasks: {error}", file=sys.stderr, flush=True)
        _end_here(EXIT_SETUP, None, alone=alone)
    _run_here(script, alone=alone)


def _run_here(script: Script | Verb, *, alone: bool) -> NoReturn:
    """Run the script in this process; then let the workers go, and exit as it did."""
    raised: BaseException | None = None
    try:
        script.execute()
        _join_threads()
        code = 0
    except SystemExit as leaving:
        code = _exit_code(leaving)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    except BaseException as error:
        code = 1
        raised = error
    _end_here(code, raised, alone=alone)


def _end_here(code: int, raised: BaseException | None, *, alone: bool) -> NoReturn:
    """Let the workers go and exit, after showing what the script raised."""
    from mpitasks.launch import run

    if alone:
        _show(raised)
        _end(code)
    try:
        clean = run.leave(failed=code != 0)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    _show(raised)  # last, so that it is not lost among the output of workers
    if not clean and code == 0:
        print("mpitasks: workers did not end in time", file=sys.stderr)
        code = EXIT_INTERNAL
    _end(code, abort=not clean)


def _end(code: int, *, abort: bool = False) -> NoReturn:
    """Leave MPI, if it was entered, and exit.

    Args:
        code: The exit code.
        abort: End the other ranks too, whatever they do.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    mpi = sys.modules.get("mpitasks.wire.mpi")
    if mpi is not None:
        if abort:
            from mpitasks.launch.run import FORWARD_SECONDS

            time.sleep(FORWARD_SECONDS)
            mpi.abort(code)
        mpi.finalize()
    sys.exit(code)


def _end_with_line(error: Exception) -> NoReturn:
    """Say what is wrong, on one rank, and end every rank."""
    hint = launch_hint()
    mpi = sys.modules.get("mpitasks.wire.mpi")
    alone = mpi is None or mpi.world().Get_size() == 1
    # A LaunchError elsewhere says that rank 0 is not there to say anything.
    if hint is None or hint.rank == 0 or isinstance(error, LaunchError):
        print(f"mpitasks: {error}", file=sys.stderr, flush=True)
    else:
        time.sleep(SPEAK_SECONDS)
    _end(EXIT_SETUP, abort=not alone)


def _end_interrupted(stop: KeyboardInterrupt) -> NoReturn:
    """Ctrl-C or SIGTERM: one line, and the whole job ends at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    number = stop.number if isinstance(stop, _Terminated) else signal.SIGINT
    print(f"mpitasks: stopped by {number.name}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if "mpitasks.wire.mpi" in sys.modules:
        _end(EXIT_SIGNAL + number, abort=True)
    os._exit(EXIT_SIGNAL + number)  # a task may be running in the worker thread


def _exit_code(leaving: SystemExit) -> int:
    """Return the exit code that Python would give for a SystemExit."""
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _show(error: BaseException | None) -> None:
    """Print the traceback as Python would, without the frames of the runner."""
    if error is None:
        return
    trace = error.__traceback__
    here = Path(__file__).parent  # but not the folders of verbs below it
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if Path(name).parent != here and "runpy" not in name:
            break
        trace = trace.tb_next
    # The hook prints the traceback that the error has, whatever it is given.
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _join_threads() -> None:
    """Wait for the script's threads, as Python does before it exits."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _buffer_lines() -> None:
    """Let output leave line by line: launchers read from pipes.

    Unbuffered (PYTHONUNBUFFERED), a line and its end would be two writes, and lines of
    several ranks would mix; workers have no prompts to show, so theirs stay whole.
    """
    hint = launch_hint()
    through = None if hint is None or hint.rank == 0 else False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=through)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, on rank 0; ends the run the way Ctrl-C does."""

    number = signal.SIGTERM


def _expect_signals() -> None:
    """Leave Ctrl-C to rank 0, and let SIGTERM end the run there in the same way."""
    hint = launch_hint()
    if hint is not None and hint.rank != 0:
        # A handler, not SIG_IGN: programs that a task starts must not inherit it.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)


def _exit_with_line(error: Exception, *, quiet: bool = False) -> NoReturn:
    if quiet:
        time.sleep(SPEAK_SECONDS)
    else:
        print(f"mpitasks: {error}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code if isinstance(error, UsageError) else EXIT_SETUP)
