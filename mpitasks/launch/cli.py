"""The command line: ``python -m mpitasks`` and the installed command ``mpitasks``.

Starts a run (`mpitasks.launch.run`) and turns errors into one line and an exit code.
`mpitasks.launch.arguments` knows what the options mean.

Every rank comes through here, so what is slow to import (argparse, pathlib, traceback)
is imported where it is needed: a script without options before it needs none of that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from mpitasks import exit_codes, forks
from mpitasks.errors import ConfigurationError, LaunchError, Stopped
from mpitasks.launch import signals
from mpitasks.launch.environment import launch_hint
from mpitasks.launch.exit import bound_exit, know_supervisor, tell_end
from mpitasks.launch.output import (
    buffer_lines,
    drop_unflushable,
    finish_printing,
    flush,
)
from mpitasks.launch.script import VERBS, Program, Script
from mpitasks.settings import Settings
from mpitasks.subprocesses import set_for_launch

if TYPE_CHECKING:
    from mpitasks.api.session import Session

__all__ = ["end_rank", "main", "run_program"]

BATCH = "SLURM_JOB_ID"  # set in a job, where a run tells how far it is

SPEAK_SECONDS = 1.0
"""Where every rank fails alike, rank 0 gets so long to say it, and the others to come
to the same end: launchers end all ranks as soon as one has failed."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    hint = launch_hint()
    leads = hint is None or hint.rank == 0
    signals.expect(leads=leads)
    know_supervisor(leads=leads)
    try:
        if words and not words[0].startswith("-") and words[0] not in VERBS:
            program: Program = Script(words[0], tuple(words[1:]))
            settings = Settings()
        else:
            from mpitasks.launch.arguments import understand

            program, settings = understand(words, hint)
    except ConfigurationError as error:
        # Every rank comes to the same end; one of them says so.
        _exit_with_line(error, quiet=hint is not None and hint.rank != 0)
    except SystemExit as shown:  # help, or the version
        sys.exit(finish_printing() or shown.code)
    run_program(program, settings)


def run_program(
    script: Program, settings: Settings, lead: Callable[..., NoReturn] | None = None
) -> NoReturn:
    """Meet the other ranks; run the script here, or serve.

    Args:
        script: The program.
        settings: What the command line asks.
        lead: As `mpitasks.launch.run.join` has it.
    """
    script.prepare()
    buffer_lines()
    forks.begin()
    forks.at_exit(drop_unflushable)
    # Our own message comes before, and is the one that helps.
    set_for_launch("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")
    if script.is_lone:
        _run_lone(script)
    if script.is_everywhere:
        _run_here(script, alone=True)
    from mpitasks.launch import run

    try:
        role = run.join(settings, lead=lead)
    except (ConfigurationError, LaunchError) as error:
        _end_with_line(error)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    except Exception:
        import traceback

        traceback.print_exc()
        end_rank(exit_codes.INTERNAL, abort=True)
    if role is run.Role.WORKER:
        # Rank 0 may be gone first. If its code is not 0, srun ends the others, and one
        # that dies of that hides the code; Python takes handlers away early.
        signals.ignore()
        signals.disarm()
        bound_exit()
        end_rank(0)
    alone = role is run.Role.ALONE
    try:
        _start_journal(settings)
        if settings.trace is not None or settings.report is not None:
            from mpitasks.launch import tracing

            tracing.start(settings)
        script.check()
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    except ConfigurationError as error:
        # The workers say goodbye: srun has another code for those that are ended.
        print(f"mpitasks: {error}", file=sys.stderr, flush=True)
        _end_here(exit_codes.SET_UP, None, alone=alone)
    if script.args and launch_hint() is None:
        _look_at_arguments(script)
    if settings.status is not None or (BATCH in os.environ and type(script) is Script):
        from mpitasks.launch import status_file

        status_file.start(settings.status)
    _run_here(script, alone=alone)


def _start_journal(settings: Settings) -> None:
    if settings.journal is not None:
        from mpitasks.journal import open_journals

        open_journals.start(settings)
    elif settings.requeue:
        print(
            "mpitasks: warning: --requeue without --journal FILE: unless an Executor "
            "of the script has a journal, the job does not go on when its time is up",
            file=sys.stderr,
            flush=True,
        )


def _look_at_arguments(script: Program) -> None:
    """Say that ``-n 4`` behind the script is the script's, which may have one."""
    from mpitasks.launch import hints

    ranks = hints.ranks_behind(script.args)
    if ranks is not None:
        line = (
            f"mpitasks: -n {ranks} stands behind the script, so it is an argument of "
            f"the script; ranks are asked for before it: "
            f"{hints.runner('-n', ranks, *hints.without_ranks(script.words()))}"
        )
        print(line, file=sys.stderr, flush=True)


def _run_lone(program: Program) -> NoReturn:
    """Run a program of one process: of several copies, the first."""
    hint = launch_hint()
    if hint is not None and hint.rank != 0:
        end_rank(0)
    _run_here(program, alone=True)


def _run_here(script: Program, *, alone: bool) -> NoReturn:
    """Run the script in this process; then let the workers go, and exit as it did."""
    raised: BaseException | None = None
    try:
        signals.lead()
        _execute(script)
        _join_threads()
        _finish_tasks()
        code = 0
    except SystemExit as leaving:
        code = _exit_code(leaving)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    except BaseException as error:
        code = 1
        raised = error
    _end_here(code, raised, alone=alone)


def _execute(script: Program) -> None:
    """Run the script; a child that it forked ends with it."""
    try:
        script.execute()
    except BaseException as error:
        forks.leave(error)
        raise
    forks.leave()


def _end_here(code: int, raised: BaseException | None, *, alone: bool) -> NoReturn:
    """Let the workers go and exit, after showing what the script raised."""
    from mpitasks.api import session as sessions

    session = sessions.peek()
    sessions.end()
    if alone:
        _show(raised)
        _end_round(code, session)
        end_rank(code)
    from mpitasks.launch import run

    flush()  # mpiexec may end this rank with the others, and read nothing more
    try:
        left = run.leave(failed=code != 0)
    except KeyboardInterrupt as stop:
        _end_interrupted(stop)
    signals.end_at_once()
    _show(raised)  # last, so that it is not lost among the output of workers
    if left is run.Leaving.LATE and code == 0:
        print("mpitasks: workers did not end in time", file=sys.stderr)
        code = exit_codes.INTERNAL
    _end_round(code, session)
    sys.modules["mpitasks.wire.world"].bound_farewell()
    end_rank(code, abort=left is not run.Leaving.CLEAN)


def _end_round(code: int, session: Session | None) -> None:
    """Have the job continue itself, if that was asked and its time is up."""
    from mpitasks.api import session as sessions

    if code == Stopped.status and sessions.settings().requeue:
        from mpitasks.slurm import requeue

        signals.ignore()  # a job that is queued again is ended first
        tell_end(code)
        done = 0 if session is None else session.event_loop.statistics().succeeded
        requeue.end_round(done, sessions.settings().requeue_rounds)


def end_rank(code: int, *, abort: bool = False) -> NoReturn:
    """Leave MPI, if it was entered, and exit.

    Args:
        code: The exit code.
        abort: End the other ranks too, whatever they do.
    """
    flush()
    tell_end(code, leaving=abort)
    mpi = sys.modules.get("mpitasks.wire.mpi_transport")
    if mpi is not None:
        signals.end_at_once()
        if abort:
            from mpitasks.launch.run import FORWARD_SECONDS

            time.sleep(FORWARD_SECONDS)
            mpi.abort(code)
        if mpi.degraded():
            _end_degraded(code)
    sys.exit(code)  # exit functions, the last of which ends MPI


def _end_degraded(code: int) -> NoReturn:
    """Exit without MPI's farewell, for which ranks are missing."""
    import atexit

    atexit._run_exitfuncs()
    flush()
    os._exit(code)


def _end_with_line(error: Exception) -> NoReturn:
    """Say what is wrong, on one rank, and end every rank."""
    hint = launch_hint()
    mpi = sys.modules.get("mpitasks.wire.mpi_transport")
    alone = mpi is None or mpi.world().Get_size() == 1
    # A LaunchError elsewhere says that rank 0 is not there to say anything.
    if hint is None or hint.rank == 0 or isinstance(error, LaunchError):
        print(f"mpitasks: {error}", file=sys.stderr, flush=True)
    if hint is not None and alone:
        _end_with_others(exit_codes.SET_UP)
    if hint is not None and hint.rank != 0:
        time.sleep(SPEAK_SECONDS)
    end_rank(exit_codes.SET_UP, abort=not alone)


def _end_with_others(code: int) -> NoReturn:
    """End one of several copies with this code, whichever of them ends first.

    The exit code of srun is the highest there is, and what srun ends has a signal's,
    also while Python or a library is on its way out; so there is no farewell.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(code))
    time.sleep(SPEAK_SECONDS)
    flush()
    os._exit(code)


def _end_interrupted(stop: KeyboardInterrupt) -> NoReturn:
    """Ctrl-C or a second SIGTERM: one line, and the whole job ends at once."""
    signals.ignore()
    number = stop.number if isinstance(stop, signals.Terminated) else signal.SIGINT
    print(f"mpitasks: stopped by {number.name}", file=sys.stderr, flush=True)
    flush()
    journals = sys.modules.get("mpitasks.journal.open_journals")
    if journals is not None:
        journals.end_journals()
    if "mpitasks.wire.mpi_transport" in sys.modules:
        end_rank(exit_codes.SIGNAL + number, abort=True)
    tell_end(exit_codes.SIGNAL + number)
    os._exit(exit_codes.SIGNAL + number)  # a task may be running in the worker thread


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
    from pathlib import Path

    here = Path(__file__).parent  # but not the folders of verbs below it
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if Path(name).parent != here and "runpy" not in name:
            break
        trace = trace.tb_next
    # The hook prints the traceback that the error has, whatever it is given.
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _finish_tasks() -> None:
    """Wait for what was submitted; what is raised meanwhile is the script's."""
    from mpitasks.launch import run

    run.finish()


def _join_threads() -> None:
    """Wait for the script's threads, as Python does before it exits.

    It first has the pools of `concurrent.futures` end theirs, which wait for work.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # not in the stubs


def _exit_with_line(error: Exception, *, quiet: bool = False) -> NoReturn:
    code = getattr(error, "exit_code", exit_codes.SET_UP)
    if not quiet:
        with contextlib.suppress(BrokenPipeError):
            print(f"mpitasks: {error}", file=sys.stderr, flush=True)
    finish_printing()
    if launch_hint() is not None:
        _end_with_others(code)
    sys.exit(code)
