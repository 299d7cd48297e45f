"""No word of the user's is read as shell, or as a directive: tried by a real bash."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpitasks.errors import OptionError
from mpitasks.slurm import quoting
from mpitasks.slurm.job import Submission, make_plan
from mpitasks.slurm.paths import shell_word
from mpitasks.slurm.probe import Launcher
from mpitasks.slurm.script import Plan, job_script
from mpitasks.slurm.site import Site

TRAPS = [
    "",
    "\n",
    "\r\n",
    "\ntouch TRAP; exit 0 #",
    "\n#SBATCH --array=0-99\n",
    "$(touch TRAP)",
    "`touch TRAP`",
    "${IFS}",
    "$'\\n'",
    "'",
    '"',
    "\\",
    "\\\n",
    "-x",
    "--",
    "!!",
    "#",
    "*",
    "~",
    "a b",
    "é",
    "日本",
    "\u2028",
    "\u202e",
    "\x85",
    "\x01",
    "\x7f",
    "\x1b[2J",
    "%j",
    "packjob",
    "|touch TRAP",
    "&",
    "<(touch TRAP)",
]

BYTES = st.binary(max_size=8).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
WORDS = st.lists(
    st.one_of(st.sampled_from(TRAPS), st.text(max_size=5), BYTES), max_size=5
).map(lambda parts: "".join(parts).replace("\0", ""))
USABLE = WORDS.filter(lambda word: _encodes(word))
PRINTABLE = USABLE.filter(lambda word: word.isprintable())

FUZZ = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
    ],
)

JOB = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
BODY = 4  # words before those of the run: launcher's option, python, -m mpitasks


def _encodes(word: str) -> bool:
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose ``bin`` has an srun, and a launcher, that tell their words."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    for name in ("srun", "l $(touch TRAP)"):
        program = tmp_path / "bin" / name
        program.write_text('#!/bin/sh\nprintf \'%s\\0\' "$0" "$@"\n')
        program.chmod(0o755)
    return tmp_path


def told(place: Path, script: str) -> list[bytes]:
    """Run a job script; return the words that the launcher got, itself first."""
    path = place / "work" / "job.sh"
    path.write_bytes(os.fsencode(script))
    # BASH_ENV is read first: a site's `module` is a function that is defined there.
    module = place / "module"
    module.write_text("module() { printf '%s\\0' \"$@\"; }\n")
    done = subprocess.run(
        ["bash", path.name],
        cwd=path.parent,
        env={
            "PATH": f"{place / 'bin'}:/usr/bin:/bin",
            "BASH_ENV": str(module),
            "LC_ALL": "C.UTF-8",
            "HOME": "/nowhere",
            **JOB,
        },
        capture_output=True,
        check=True,
    )
    assert done.stderr == b"", script
    assert [*path.parent.iterdir()] == [path], script
    return done.stdout.split(b"\0")[:-1]


def plan(**changes: object) -> Plan:
    return Plan(
        **{
            "made_by": "mpitasks submit fit.py",
            "options": {"job-name": "fit", "output": "fit-%j.out"},
            "launcher": Launcher(("srun", "--mpi=pmi2"), "It fits."),
            "python": "/bin/python",
            "program": ("fit.py",),
            "status": "fit-%j.status",
            **changes,
        }  # type: ignore[arg-type]
    )


def assert_head(script: str, directives: Sequence[str]) -> None:
    """The head is comments alone, and sbatch sees these words, and no others."""
    lines = os.fsencode(script).split(b"\n")
    end = lines.index(b"")
    assert all(line.startswith(b"#") for line in lines[:end])
    seen = [line for line in lines if line.upper().startswith((b"#SB", b"#PB", b"#BS"))]
    assert [read_by_sbatch(line) for line in seen] == [
        os.fsencode(word) for word in directives
    ]
    assert b"\r" not in os.fsencode(script)  # which sbatch refuses, before a newline


def read_by_sbatch(line: bytes) -> bytes:
    """Return the word of a line, as SLURM's `_get_argument` reads it."""
    rest = re.sub(b"(?i)packjob", b"hetjob", line.removeprefix(b"#SBATCH "))
    word, quote, escaped = bytearray(), 0, False
    for byte in rest:
        if escaped:
            word.append(byte)
            escaped = False
        elif byte == ord("\\"):
            escaped = True
        elif quote:
            if byte == quote:
                quote = 0
            else:
                word.append(byte)
        elif byte in b"'\"":
            quote = byte
        else:
            assert byte not in b" #", line  # a second word, or a comment
            word.append(byte)
    assert not quote
    assert not escaped
    return bytes(word)


@FUZZ
@given(st.lists(USABLE, min_size=1, max_size=4), st.lists(USABLE, max_size=2))
def test_arguments_and_options_of_the_run(
    place: Path, program: list[str], run_words: list[str]
) -> None:
    made_by = f"mpitasks submit {program} {' '.join(run_words)}"
    script = job_script(
        plan(program=tuple(program), run_words=tuple(run_words), made_by=made_by)
    )
    words = told(place, script)
    assert words[1 : BODY + 1] == [b"--mpi=pmi2", b"/bin/python", b"-m", b"mpitasks"]
    assert words[BODY + 1 : BODY + 3] == [b"--status", b"fit-12.status"]
    given = [os.fsencode(word) for word in [*run_words, *program]]
    assert words[BODY + 3 :] == given
    assert_head(script, ["--job-name=fit", "--output=fit-%j.out"])


@FUZZ
@given(st.lists(PRINTABLE, max_size=3), PRINTABLE.filter(str.strip))
def test_words_for_sbatch(place: Path, extra: list[str], name: str) -> None:
    options = {"job-name": name, "output": "fit-%j.out"}
    script = job_script(plan(options=options, extra=tuple(extra)))
    told(place, script)
    assert_head(script, [f"--job-name={name}", "--output=fit-%j.out", *extra])


@FUZZ
@given(st.lists(USABLE, max_size=2), st.lists(USABLE, min_size=1, max_size=2), USABLE)
def test_launcher_and_table(
    place: Path, launcher: list[str], modules: list[str], source: str
) -> None:
    words = ("l $(touch TRAP)", *launcher)
    site = Site(source=Path("/a", source), modules=tuple(modules))
    made = plan(launcher=Launcher(words, f"As told: {launcher}."), site=site)
    heard = told(place, job_script(made))
    assert heard[: len(modules) + 1] == [
        b"load",
        *(os.fsencode(word) for word in modules),
    ]
    assert heard[len(modules) + 2 :][: len(launcher)] == [
        os.fsencode(word) for word in launcher
    ]


@FUZZ
@given(USABLE.filter(lambda word: "%" not in word and "/" not in word))
def test_names_of_files(place: Path, name: str) -> None:
    made = plan(journal=f"{name}-%j", status=f"a%x{name}", survive=True)
    script = job_script(made).replace("exec /bin/python", "exec srun")
    words = told(place, f"SLURM_JOB_NAME='$(touch TRAP)'\n{script}")
    dash = "./" if name.startswith("-") or not name else ""
    journal = words[words.index(b"--journal") + 1]
    assert journal == os.fsencode(f"{dash}{name}-12")
    status = words[words.index(b"--status") + 1]
    assert status == os.fsencode(f"a$(touch TRAP){name}")


@FUZZ
@given(USABLE.filter(lambda word: "/" not in word and word.strip(".")), st.booleans())
def test_environment(place: Path, name: str, conda: bool) -> None:
    folder = place / "envs" / name
    hook = "etc/conda/activate.d/a.sh" if conda else "bin/activate"
    (folder / hook).parent.mkdir(parents=True, exist_ok=True)
    (folder / hook).write_text("printf '%s\\0' \"$CONDA_PREFIX\" activated\n")
    site = Site(environment=str(folder), conda=conda)
    heard = told(place, job_script(plan(site=site)))
    assert heard[:2] == [os.fsencode(folder) if conda else b"", b"activated"]


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_what_no_script_can_hold(word: str) -> None:
    with pytest.raises(OptionError, match=r"the argument .* cannot stand in a job"):
        quoting.checked_words("the argument", ["fine", word])


@pytest.mark.parametrize("word", ["--comment=a\nb", "--comment=\u2028", "\t"])
def test_what_no_line_can_hold(word: str) -> None:
    with pytest.raises(OptionError, match="must fit on one line"):
        quoting.sbatch_word(word)


def test_scripts_and_files_that_look_like_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-c.py").touch()
    (tmp_path / "a\nb.py").touch()
    made = make_plan(Submission("-c.py", launcher="aprun -n 2", journal="-j"))
    assert made.program == ("./-c.py",)
    assert (made.options["job-name"], made.status) == ("-c", "-c-%j.status")
    assert '--status "./-c-$SLURM_JOB_ID.status"' in job_script(made)
    assert '--journal "./-j"' in job_script(made)
    assert shell_word("-%j") == '"./-$SLURM_JOB_ID"'
    made = make_plan(Submission("a\nb.py", launcher="aprun -n 2"))
    assert made.options["job-name"] == "a_b"
