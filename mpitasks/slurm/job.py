"""Submitting a job, and what is left in the hand: `Job`.

This is what `mpitasks.slurm` shows; the verb `submit` goes through it as well.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpitasks.errors import ConfigurationError, OptionError, SlurmError
from mpitasks.files import replacing
from mpitasks.launch.script import LONE_VERBS, VERBS, Script
from mpitasks.slurm import paths
from mpitasks.slurm.inherited import DEFAULTS, for_job
from mpitasks.slurm.job_records import Record, call, summary
from mpitasks.slurm.options import checked_options
from mpitasks.slurm.probe import choose_launcher, probe
from mpitasks.slurm.quoting import checked_words
from mpitasks.slurm.script import Plan, job_script
from mpitasks.slurm.show import ask
from mpitasks.slurm.site import find_site
from mpitasks.subprocesses import interpreter_options
from mpitasks.values import wait_seconds

__all__ = ["Job", "Submission", "make_plan", "send", "submit"]

FIRST_LOOK_SECONDS, MOST_SECONDS = 0.25, 5.0
"""How often a waiting program asks slurmctld: less and less often, to be polite."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be submitted, before anything is looked up.

    Attributes:
        target: The script, or a module's name.
        args: Its arguments.
        is_module: Whether it is a module.
        options: Options of the job, by name.
        sbatch_args: Further words for sbatch.
        run_words: Further options of ``python -m mpitasks``.
        launcher: See `mpitasks.slurm.probe.choose_launcher`.
        journal: Where finished results are kept.
        requeue: Whether the job is to continue itself.
        trust: Whether to use files that another user could have written: the site's
            table, the journal.
        survive: Whether the run is to go on when a rank dies.
        made_by: The command line, for the head of the script.
    """

    target: str
    args: tuple[str, ...] = ()
    is_module: bool = False
    options: dict[str, str] | None = None
    sbatch_args: tuple[str, ...] = ()
    run_words: tuple[str, ...] = ()
    launcher: str | None = None
    journal: str | None = None
    requeue: bool = False
    trust: bool = False
    survive: bool = False
    made_by: str = "mpitasks.slurm.submit"


class Job:
    """A job that was submitted.

    Attributes:
        id: Its number, as SLURM gave it.
        log: Where its output goes. In an array, that of one job has its index in the
            place of ``%a``.
        script: The job script.
    """

    def __init__(self, id: str, log: Path, script: Path) -> None:
        self.id = id
        self.log = log
        self.script = script

    def __repr__(self) -> str:
        return f"<mpitasks.slurm.Job {self.id}, log {self.log}>"

    def records(self) -> list[Record]:
        """Return what SLURM knows of it, one record for each job of an array.

        Raises:
            SlurmError: SLURM does not know it any more, or does not answer.
        """
        return ask(self.id)

    def state(self) -> str:
        """Return SLURM's name for where it is: PENDING, RUNNING, COMPLETED, FAILED ...

        For an array that of the job that has farthest to go.

        Raises:
            SlurmError: SLURM does not know it any more, or does not answer.
        """
        return summary(self.records())[0]

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it is over; return its exit code, or the highest of an array.

        A job that was ended from outside (cancelled, out of time, its node lost) has
        128 + n after signal n, else 1. A job that requeues itself is not over.

        Args:
            timeout: In seconds; None waits for ever.

        Raises:
            TimeoutError: It is not over by then; it goes on.
            SlurmError: SLURM does not know it any more, or does not answer.
        """
        end = None if timeout is None else time.monotonic() + wait_seconds(timeout)
        pause = FIRST_LOOK_SECONDS
        while True:
            records = self.records()
            if all(record.over for record in records):
                return summary(records)[1]
            if end is not None:
                if time.monotonic() >= end:
                    raise TimeoutError(f"job {self.id} is not over after {timeout} s")
                pause = min(pause, max(end - time.monotonic(), 0.0))
            time.sleep(pause)
            pause = min(pause * 1.5, MOST_SECONDS)

    def cancel(self) -> None:
        """End it, or take it out of the queue. One that is over stays as it is.

        Raises:
            SlurmError: SLURM says no, or does not answer.
        """
        call("scancel", self.id)


def submit(
    script: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    sbatch_args: Sequence[str] = (),
    run_args: Sequence[str] = (),
    launcher: str | None = None,
    journal: str | os.PathLike[str] | None = None,
    requeue: bool = False,
    trust: bool = False,
    survive: bool = False,
    **options: str | int | None,
) -> Job:
    """Submit a script to SLURM, to be run by this interpreter; return at once.

    Args:
        script: The script; found from the current folder, where the job runs as well.
        args: Its arguments.
        sbatch_args: Further words for sbatch, as ``["--exclusive"]``.
        run_args: Further options of ``python -m mpitasks``.
        launcher: What starts the ranks, as ``"srun --mpi=pmix"``; None looks which
            MPI library there is, and takes what fits.
        journal: The file in which finished results are kept.
        requeue: Whether the job puts itself into the queue again when its time is
            nearly up, and continues from the journal.
        trust: Obey a ``mpitasks.toml`` or ``pyproject.toml``, and use a journal, that
            another user owns or could write.
        survive: Whether the run goes on when a rank dies; needs Open MPI 5.
        **options: As sbatch has them: nodes, ntasks, ntasks_per_node, cpus_per_task,
            time (minutes, or text as "1:30:00"), partition, account, qos, mem, gres,
            array, job_name, output.

    Raises:
        OptionError: An option is unknown or impossible.
        ConfigurationError: There is no such script, no SLURM, or no MPI library.
        SlurmError: sbatch refuses the job; its words are in the message.
    """
    words = [os.fspath(script), *args]
    return send(
        make_plan(
            Submission(
                os.fspath(script),
                tuple(args),
                options=checked_options(options),
                sbatch_args=tuple(sbatch_args),
                run_words=tuple(run_args),
                launcher=launcher,
                journal=None if journal is None else os.fspath(journal),
                requeue=requeue,
                trust=trust,
                survive=survive,
                made_by=f"mpitasks.slurm.submit({shlex.join(words)!r}, ...)",
            )
        )
    )


def make_plan(wanted: Submission) -> Plan:
    """Look up what the job script depends on.

    Raises:
        OptionError: An option is impossible.
        ConfigurationError: There is no such script, or no launcher that fits.
    """
    program = _program(wanted)
    site = find_site(Path.cwd(), trust=wanted.trust)
    asked = wanted.options or {}
    options = {**_defaults(os.environ), **site.options, **asked}
    array = "array" in options
    name = options.setdefault("job-name", _job_name(wanted))
    log = options.setdefault("output", paths.default_log(name, array=array))
    _check_log(log, program, array=array)
    python = sys.executable
    if site.environment is not None:
        python = str(Path(site.environment) / "bin" / "python")
    journal = wanted.journal
    if journal is None and wanted.requeue:
        journal = f"{name}.journal"
    checked_words("--journal", [journal or ""])
    checked_words("--launcher", [wanted.launcher or ""])
    survive = wanted.survive or "--survive" in wanted.run_words
    launcher = choose_launcher(
        wanted.launcher or site.launcher, probe(python), survive=survive
    )
    return Plan(
        made_by=wanted.made_by,
        options=checked_options(options),
        extra=checked_words("--sbatch-arg", (*site.sbatch_args, *wanted.sbatch_args)),
        launcher=launcher,
        python=python,
        python_options=checked_words("the option", interpreter_options()),
        program=program,
        run_words=(
            *(("--trust",) if wanted.trust else ()),
            *checked_words(
                "--run-arg", (word for word in wanted.run_words if word != "--survive")
            ),
        ),
        status=_status(log, name, array=array),
        journal=None if journal is None else paths.sweep(journal, array=array),
        requeue=wanted.requeue,
        survive=survive,
        site=site,
    )


def _program(wanted: Submission) -> tuple[str, ...]:
    """Return the script, module or verb and its arguments, as words.

    Raises:
        ConfigurationError: There is no such script.
    """
    target = wanted.target
    module = ["-m"] if wanted.is_module else []
    if not wanted.is_module and target not in VERBS.keys() - LONE_VERBS:
        script = Script(target, wanted.args)
        if script.is_read_once:
            raise ConfigurationError(
                f"a job starts later, when what {target!r} names here can be read no "
                f"more: write the script to a file, and name that"
            )
        script.check()
        if target.startswith("-"):  # which would be an option
            target = f"./{target}"
    return checked_words("the argument", (*module, target, *wanted.args))


def _defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what sbatch's own variables say of options that nobody asks for."""
    return {
        option: environ[name]
        for option, name in DEFAULTS.items()
        if environ.get(name, "").strip()
    }


def _check_log(log: str, program: tuple[str, ...], *, array: bool) -> None:
    """Look whether a job can have that log.

    Raises:
        OptionError: Others would write over it, or it over the script.
    """
    paths.check_log(log, array=array)
    if program[0] != "-m" and Path(log).resolve() == Path(program[0]).resolve():
        raise OptionError(f"output {log!r} is the script, which the log would replace")


def _job_name(wanted: Submission) -> str:
    name = wanted.target if wanted.is_module else Path(wanted.target).stem
    return "".join(c if c.isprintable() else "_" for c in name).strip() or "job"


def _status(log: str, name: str, *, array: bool) -> str:
    """Return the pattern of the status file: beside the log, where that is a file."""
    if log.startswith("/dev/"):
        log = paths.default_log(name, array=array)
    return paths.companion(log, ".status", array=array)


def send(plan: Plan) -> Job:
    """Submit a job; its script is then beside its log.

    Raises:
        ConfigurationError: There is no SLURM, or nothing can be written there.
        SlurmError: sbatch refuses the job.
    """
    text = job_script(plan)
    folder = Path(plan.status).parent
    try:
        # A job whose log cannot be opened fails without a word.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"no folder for the log: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the log cannot be written to {folder.absolute()}; name another place "
            f"with --output"
        )
    try:
        answer = call("sbatch", "--parsable", text=text, environ=for_job(os.environ))
    except SlurmError as error:
        options = " ".join(
            line.removeprefix("#SBATCH ")
            for line in text.splitlines()
            if line.startswith("#SBATCH ")
        )
        said = str(error).partition("\n")[2]
        raise SlurmError(
            f"sbatch refuses the job:\n{said}\nThe command was: sbatch {options}"
        ) from error
    match = re.match(r"\d+", answer.strip())
    if match is None:
        raise SlurmError(f"sbatch gave no job id but {answer!r}")
    return _keep(plan, match[0], text)


def _keep(plan: Plan, id: str, text: str) -> Job:
    """Write the script beside the log, under the job's number."""
    values = {
        "%": "%",
        "j": id,
        "A": id,
        "x": plan.options["job-name"],
        "u": os.environ.get("USER", ""),
    }
    log = Path.cwd() / paths.fill(plan.options["output"], values)
    pattern = paths.beside(plan.status, ".sh")
    for index in ("_%a", "-%a", "%a"):
        pattern = pattern.replace(index, "")
    script = Path.cwd() / paths.fill(pattern, values)
    try:
        with replacing(str(script), _is_job_script, mode=0o755) as file:
            file.write(os.fsencode(text))
    except OSError as error:
        print(f"mpitasks: the job script is not kept: {error}", file=sys.stderr)
    return Job(id, log, script)


def _is_job_script(head: bytes) -> bool:
    """Whether a file that begins like that is a job script of ours."""
    return any(line.startswith(b"# Written by: ") for line in head.splitlines()[1:2])
