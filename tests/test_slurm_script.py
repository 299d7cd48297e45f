"""The job script: what is in it, quoted so that a shell reads what was meant."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpitasks.errors import ConfigurationError, OptionError
from mpitasks.slurm import paths
from mpitasks.slurm.options import checked_options
from mpitasks.slurm.probe import Facts, Launcher, choose_launcher, parse_types
from mpitasks.slurm.script import Plan, job_script
from mpitasks.slurm.site import Site, find_site

PLAN = Plan(
    made_by="mpitasks submit -n 4 fit.py",
    options={"job-name": "fit", "output": "fit-%j.out", "ntasks": "4"},
    launcher=Launcher(("srun", "--mpi=pmi2"), "It fits."),
    python="/opt/a b/python",
    program=("fit.py", "it's", "$HOME", "two\nlines"),
    status="fit-%j.status",
)

JOB = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
PATH = {"PATH": "/usr/bin:/bin"}


def shell(text: str, **environ: str) -> str:
    """Run bash and return what it prints; SLURM's programs are not there."""
    script = "srun() { printf '%s|' \"$@\"; }\n"
    return subprocess.run(
        ["bash", "-c", script + text],
        env={**PATH, **JOB, **environ},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def runnable(plan: Plan) -> str:
    """Return the script with the last command as a call of the shell's own srun."""
    return job_script(plan).replace("exec srun", "srun")


def test_words_arrive_as_they_were_given() -> None:
    words = shell(runnable(PLAN)).split("|")
    assert words[:4] == ["--mpi=pmi2", "/opt/a b/python", "-m", "mpitasks"]
    assert words[4:6] == ["--status", "fit-12.status"]
    assert words[6:] == ["fit.py", "it's", "$HOME", "two\nlines", ""]


def test_options_of_the_interpreter_come_first() -> None:
    options = ("-O", "-W", "error::user warning", "-X", "mine=$HOME")
    words = shell(runnable(replace(PLAN, python_options=options))).split("|")
    assert words[:2] == ["--mpi=pmi2", "/opt/a b/python"]
    assert words[2:9] == [*options, "-m", "mpitasks"]


def test_options_stand_at_the_head() -> None:
    plan = replace(PLAN, extra=("--comment=a b", "--exclusive"))
    lines = job_script(plan).splitlines()
    end = lines.index("")
    assert lines[0] == "#!/bin/bash"
    assert lines[2:end] == [
        "#SBATCH --job-name=fit",
        "#SBATCH --output=fit-%j.out",
        "#SBATCH --ntasks=4",
        "#SBATCH '--comment=a b'",
        "#SBATCH --exclusive",
    ]
    assert not any(line.startswith("#SBATCH") for line in lines[end:])


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({}, "1 1 1"),
        ({"SLURM_CPUS_PER_TASK": "8"}, "8 8 8"),
        ({"OMP_NUM_THREADS": "2", "SLURM_CPUS_PER_TASK": "8"}, "2 2 2"),
        ({"MKL_NUM_THREADS": "5"}, "1 1 5"),
    ],
)
def test_threads(environ: dict[str, str], threads: str) -> None:
    shows = "\necho $OMP_NUM_THREADS $OPENBLAS_NUM_THREADS $MKL_NUM_THREADS"
    assert shell(runnable(PLAN) + shows, **environ).endswith(f"|{threads}\n")


def test_cores_of_a_rank_reach_srun_only_if_told() -> None:
    told = replace(PLAN, options={**PLAN.options, "cpus-per-task": "2"})
    line = "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
    assert line in job_script(told)
    assert line not in job_script(PLAN)
    mpiexec = replace(told, launcher=Launcher(("mpiexec",), "It fits."))
    assert line not in job_script(mpiexec)


@pytest.mark.parametrize(
    ("told", "end"),
    [(None, ""), ("77", ""), ("19:05", ""), ("a[$(exit)]", ""), ("9" * 10, "9" * 10)],
)
def test_an_end_that_is_over_is_of_another_job(told: str | None, end: str) -> None:
    script = runnable(PLAN) + "\necho end $SLURM_JOB_END_TIME"
    environ = {} if told is None else {"SLURM_JOB_END_TIME": told}
    assert shell(script, **environ).endswith(f"|end {end}".rstrip() + "\n")


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_each_round_takes_another_step(count: int | None) -> None:
    rounds = {} if count is None else {"SLURM_RESTART_COUNT": str(count)}
    steps = shell(runnable(PLAN), **rounds)
    assert steps.startswith("-N1|-n1|true|" * (count or 0) + "--mpi=pmi2|")


def test_requeueing_array_job() -> None:
    plan = replace(
        PLAN,
        requeue=True,
        journal="fit-%a.journal",
        status="fit-%A_%a.status",
        run_words=("--start-timeout", "9"),
    )
    words = shell(runnable(plan)).split("|")
    assert words[4:11] == [
        "--status",
        "fit-12_3.status",
        "--journal",
        "fit-3.journal",
        "--requeue",
        "--start-timeout",
        "9",
    ]
    assert "#SBATCH --requeue\n#SBATCH --open-mode=append\n" in job_script(plan)


def test_site_lines(tmp_path: Path) -> None:
    (tmp_path / "my env" / "bin").mkdir(parents=True)
    (tmp_path / "my env" / "bin" / "activate").write_text("echo activated")
    site = Site(
        source=Path("pyproject.toml"),
        modules=("gcc/13", "mpich"),
        environment=str(tmp_path / "my env"),
        setup=("echo set up",),
    )
    script = job_script(replace(PLAN, site=site))
    assert script.startswith("#!/bin/bash -l\n")  # where sites define `module`
    said = shell("module() { echo $*; }\n" + script.replace("exec srun", "srun"))
    assert said.startswith("load gcc/13 mpich\nactivated\nset up\n--mpi=pmi2|")


def test_script_ends_where_a_module_is_missing() -> None:
    site = Site(source=Path("pyproject.toml"), modules=("none",))
    with pytest.raises(subprocess.CalledProcessError) as failed:
        shell("module() { return 1; }\n" + runnable(replace(PLAN, site=site)))
    assert failed.value.returncode == 78
    assert failed.value.stdout == ""


# Patterns.


@pytest.mark.parametrize(
    ("pattern", "becomes"),
    [
        ("fit-%j.out", "fit-12.out"),
        ("%x/%A_%a.out", "name/12_3.out"),
        ("%jx%%", "12x%"),
        ('a"b$c`d\\e', 'a"b$c`d\\e'),
    ],
)
def test_patterns(pattern: str, becomes: str) -> None:
    word = paths.shell_word(pattern)
    assert shell(f"printf %s {word}", SLURM_JOB_NAME="name") == becomes
    values = {"j": "12", "A": "12", "a": "3", "x": "name", "%": "%"}
    assert str(paths.fill(pattern, values)) == becomes


def test_pattern_that_only_sbatch_knows() -> None:
    with pytest.raises(OptionError, match="%N in 'fit-%N'"):
        paths.shell_word("fit-%N")
    assert str(paths.fill("fit-%N-%5j", {"j": "12"})) == "fit-%N-00012"


@pytest.mark.parametrize(
    ("log", "other"),
    [("a/b-%j.out", "a/b-%j.sh"), ("log", "log.sh"), ("run.sh", "run.sh.sh")],
)
def test_files_beside_the_log(log: str, other: str) -> None:
    assert paths.beside(log, ".sh") == other


@pytest.mark.parametrize(
    ("log", "array", "status"),
    [
        ("a/b-%j.out", False, "a/b-%j.status"),
        ("run.out", False, "run-%j.status"),
        ("fit.log", False, "fit-%j.status"),
        ("%x", False, "%x-%j.status"),
        ("100%%j.out", False, "100%%j-%j.status"),
        ("fit-%A_%a.out", True, "fit-%A_%a.status"),
        ("fit-%j.out", True, "fit-%j.status"),
        ("%A/fit-%a.out", True, "%A/fit-%a-%A_%a.status"),
    ],
)
def test_a_jobs_other_files_have_its_id(log: str, array: bool, status: str) -> None:
    assert paths.companion(log, ".status", array=array) == status
    paths.check_log(log, array=array)


@pytest.mark.parametrize(
    ("log", "better"),
    [
        ("run.out", "run-%A_%a.out"),
        ("logs/%x", "logs/%x-%A_%a"),
        ("run-%A.out", "run-%A_%a.out"),
        ("run-%%a.out", "run-%%a-%A_%a.out"),
    ],
)
def test_jobs_of_an_array_share_no_log(log: str, better: str) -> None:
    with pytest.raises(OptionError, match=re.escape(f"--output={better}") + "$"):
        paths.check_log(log, array=True)
    paths.check_log(log, array=False)


def test_a_log_in_which_sbatch_fills_nothing_in() -> None:
    with pytest.raises(OptionError, match="backslash"):
        paths.check_log("a\\b-%j.out", array=False)


@pytest.mark.parametrize(
    ("pattern", "array", "swept"),
    [
        ("a/fit.db", True, "a/fit-%a.db"),
        ("a/fit.db", False, "a/fit.db"),
        ("fit-%a.db", True, "fit-%a.db"),
    ],
)
def test_each_job_of_an_array_has_its_own(
    pattern: str, array: bool, swept: str
) -> None:
    assert paths.sweep(pattern, array=array) == swept


def test_names_that_are_no_file_names() -> None:
    assert paths.default_log("a/b c", array=False) == "a_b_c-%j.out"
    assert paths.default_log("fit", array=True) == "fit-%A_%a.out"


# Options.


def test_options_are_text_in_the_order_of_the_table() -> None:
    checked = checked_options(
        {
            "time": np.int64(30),
            "ntasks_per_node": 4,
            "nodes": "2-4",
            "mem": None,
        }
    )
    assert list(checked.items()) == [
        ("nodes", "2-4"),
        ("ntasks-per-node", "4"),
        ("time", "30"),
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tasks": 3}, "'tasks'"),
        ({"nodes": 2.5}, "nodes"),
        ({"nodes": np.float64(2)}, "nodes"),
        ({"nodes": np.True_}, "nodes"),
        ({"nodes": True}, "nodes"),
        ({"partition": ""}, "partition"),
        ({"partition": "a\n#SBATCH --x"}, "partition"),
    ],
)
def test_impossible_options(options: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        checked_options(options)


# The site's table.


def test_the_nearest_table_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.mpitasks.slurm]\npartition = "far"\nntasks-per-node = 4\n'
        'modules = ["mpich"]\nenvironment = "venv"\nlauncher = "srun"\n'
        'setup = ["ulimit -c 0"]\nsbatch-args = ["--exclusive"]\n'
    )
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'mpitasks'\n")
    site = find_site(below)
    assert site == Site(
        tmp_path / "pyproject.toml",
        ("mpich",),
        str(tmp_path / "venv"),
        ("ulimit -c 0",),
        "srun",
        ("--exclusive",),
        {"ntasks-per-node": "4", "partition": "far"},
    )
    (below / "mpitasks.toml").write_text("[tool.mpitasks.slurm]\npartition = 'near'\n")
    assert find_site(below).options == {"partition": "near"}


@pytest.mark.parametrize("table", ["slurm", "tool.mpitasks.slurm"])
def test_own_file_needs_no_long_name(tmp_path: Path, table: str) -> None:
    (tmp_path / "mpitasks.toml").write_text(f"[{table}]\naccount = 'climate'\n")
    assert find_site(tmp_path).options == {"account": "climate"}


def test_a_conda_environment_has_no_activate(tmp_path: Path) -> None:
    (tmp_path / "env" / "conda-meta").mkdir(parents=True)
    (tmp_path / "mpitasks.toml").write_text("[slurm]\nenvironment = 'env'\n")
    site = find_site(tmp_path)
    assert site.conda
    script = job_script(replace(PLAN, site=site))
    assert "bin/activate" not in script
    assert f"export CONDA_PREFIX={tmp_path}/env\n" in script
    said = shell(
        script.replace("exec srun", "echo $CONDA_PREFIX ${PATH%%:*} && srun"),
    )
    assert said.startswith(f"{tmp_path}/env {tmp_path}/env/bin\n--mpi=pmi2|")


def test_no_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert find_site(tmp_path) == Site()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[tool.mpitasks.slurm]\nnods = 2", "'nods'.*known are.*nodes"),
        ("[tool.mpitasks.slurm]\nnodes = 2.5", "nodes must be"),
        ("[tool.mpitasks.slurm]\nmodules = 'a'", "modules must be a list"),
        ("[tool.mpitasks.slurm]\nlauncher = 3", "launcher must be a string"),
        ("[tool.mpitasks]\nslurm = 3", "must be a table"),
        ("slurm = 3", r"\[slurm\] in .* must be a table"),
        ("[slrum]\naccount = 'a'", r"\[slrum\] in .* is nothing that mpitasks reads"),
        ("[tool.mpitasks.slrum]\nx = 1", r"\[tool.mpitasks.slrum\] in .* is nothing"),
        ("[slurm]\n[tool.mpitasks.slurm]", r"is there as \[slurm\] too"),
        ('[slurm]\nmodules = ["a\\u0000b"]', "modules .* cannot stand in a job"),
        ("[tool.mpitasks.slurm\n", "cannot be read"),
    ],
)
def test_wrong_table_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "mpitasks.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=f"(?s){named}") as refused:
        find_site(tmp_path)
    assert str(tmp_path / "mpitasks.toml") in str(refused.value)


TABLE = "[tool.mpitasks.slurm]\nsetup = ['echo owned']\n"


@pytest.mark.parametrize("name", ["mpitasks.toml", "pyproject.toml"])
@pytest.mark.parametrize(
    ("of_file", "of_folder", "why"),
    [
        (0o666, 0o755, "everybody may write it; to obey it: chmod go-w "),
        (0o644, 0o777, "everybody may put another file in its place, in "),
        (0o644, 0o1777, None),
    ],
)
def test_a_table_that_others_could_write_is_not_obeyed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    of_file: int,
    of_folder: int,
    why: str | None,
) -> None:
    folder = tmp_path / "shared"
    below = folder / "mine"
    below.mkdir(parents=True)
    (tmp_path / "mpitasks.toml").write_text("[tool.mpitasks.slurm]\nqos = 'far'\n")
    (folder / name).write_text(TABLE)
    (folder / name).chmod(of_file)
    folder.chmod(of_folder)
    obeyed = Site(folder / name, setup=("echo owned",))
    assert find_site(below, trust=True) == obeyed
    assert capsys.readouterr().err == ""
    found = find_site(below)
    said = capsys.readouterr().err
    if why is None:
        assert (found, said) == (obeyed, "")
        return
    assert found.options == {"qos": "far"}
    assert said.startswith(f"mpitasks: {folder / name} is not obeyed, since ")
    assert why in said
    assert said.endswith(", or mpitasks submit --trust\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="root makes files of others")
def test_a_table_of_another_user_is_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mpitasks.toml"
    path.write_text(TABLE)
    os.chown(path, 65534, 0)
    assert find_site(tmp_path) == Site()
    said = capsys.readouterr().err
    assert "(uid 65534) owns it; to obey it: mpitasks submit --trust\n" in said
    path.write_text("[project]\nname = 'mpitasks-of-others'\n")
    assert find_site(tmp_path) == Site()
    assert capsys.readouterr().err == ""
    path.write_text("[" * 100_000)  # nor does it keep anybody from submitting
    assert find_site(tmp_path) == Site()


def test_what_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mpitasks.toml")
    (tmp_path / "pyproject.toml").mkdir()
    assert find_site(tmp_path) == Site()
    (tmp_path / "mpitasks.toml").unlink()
    (tmp_path / "mpitasks.toml").write_text("mpitasks = " + "[" * 100_000)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find_site(tmp_path)


# The launcher.

MPICH = "MPICH Version:      5.0.2\nMPICH Release date: today\n"
OPENMPI = "Open MPI v5.0.11, package: Open MPI, ident: 5.0.11\0"
CRAY = "MPI VERSION    : CRAY MPICH version 8.1.29\nMPI BUILD INFO : today\n"
INTEL = "Intel(R) MPI Library 2021.13 for Linux* OS\n"
ALL = ("none", "pmix", "pmi2", "cray_shasta")


@pytest.mark.parametrize(
    ("wanted", "facts", "words"),
    [
        (None, Facts(MPICH, srun_types=ALL), "srun --mpi=pmi2 --kill-on-bad-exit=1"),
        (None, Facts(MPICH, mpiexec="/v/mpiexec"), "/v/mpiexec"),
        (None, Facts(MPICH), "mpiexec"),
        (
            None,
            Facts(CRAY, srun_types=ALL),
            "srun --mpi=cray_shasta --kill-on-bad-exit=1",
        ),
        (None, Facts(INTEL, srun_types=ALL), "mpiexec"),
        (None, Facts(OPENMPI, mpiexec="/v/mpiexec", srun_types=ALL), "/v/mpiexec"),
        (None, Facts(OPENMPI, srun_types=ALL), "srun --mpi=pmix --kill-on-bad-exit=1"),
        (None, Facts(OPENMPI, srun_types=("pmi2",)), "mpiexec"),
        (
            "srun",
            Facts(OPENMPI, mpiexec="/v/mpiexec", srun_types=ALL),
            "srun --mpi=pmix --kill-on-bad-exit=1",
        ),
        ("srun", Facts(INTEL, srun_types=ALL), "srun --kill-on-bad-exit=1"),
        ("srun", Facts("", "no"), "srun --kill-on-bad-exit=1"),
        ("mpiexec", Facts(MPICH, mpiexec="/v/mpiexec", srun_types=ALL), "/v/mpiexec"),
        ("srun --mpi=x", Facts("", "no"), "srun --mpi=x --kill-on-bad-exit=1"),
        ("srun -K0 --mpi=x", Facts(MPICH), "srun -K0 --mpi=x"),
        ("aprun -n 4", Facts(MPICH), "aprun -n 4"),
        (
            "mpiexec --with-ft ulfm",
            Facts(OPENMPI, mpiexec="/v/mpiexec"),
            "/v/mpiexec --with-ft ulfm",
        ),
        ("/o/mpiexec -v", Facts(OPENMPI, mpiexec="/v/mpiexec"), "/o/mpiexec -v"),
    ],
)
def test_launcher_that_fits(wanted: str | None, facts: Facts, words: str) -> None:
    launcher = choose_launcher(wanted, facts)
    assert " ".join(launcher.words) == words
    assert launcher.why.endswith(".")


def test_no_launcher_can_be_chosen() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot find libmpi.*--launcher"):
        choose_launcher(None, Facts("", "cannot find libmpi", srun_types=ALL))
    for words in (" ", "-c true", "'srun"):
        with pytest.raises(ConfigurationError, match="--launcher"):
            choose_launcher(words, Facts(MPICH))


def test_a_run_that_survives_is_started_by_mpitasks() -> None:
    facts = Facts(OPENMPI, mpiexec="/v/mpiexec", srun_types=ALL)
    for wanted in (None, "mpiexec", "mpiexec --with-ft ulfm"):
        launcher = choose_launcher(wanted, facts, survive=True)
        assert launcher.words == ("mpiexec",)
    launcher = choose_launcher("mpiexec --map-by core", facts, survive=True)
    script = job_script(replace(PLAN, launcher=launcher, survive=True))
    assert (
        "\nexec '/opt/a b/python' -m mpitasks -n \"$SLURM_NTASKS\" --survive "
        "--mpiexec-args='--map-by core' \\\n    --status" in script
    )
    for wanted, found in [(None, Facts(MPICH)), ("srun --mpi=pmix", facts)]:
        with pytest.raises(ConfigurationError, match="--survive needs Open MPI 5"):
            choose_launcher(wanted, found, survive=True)


def test_types_of_srun_new_and_old() -> None:
    new = (
        "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\n"
        "specific pmix plugin versions available: pmix_v4,pmix_v5\n"
    )
    assert parse_types(new) == ("pmix", "none", "pmi2", "pmix_v4", "pmix_v5")
    old = "srun: MPI types are...\nsrun: none\nsrun: pmi2\n"
    assert parse_types(old) == ("none", "pmi2")
    assert parse_types("srun: fatal: Could not establish a configuration source") == ()
