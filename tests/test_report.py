"""The report: one page that needs nothing else, whatever the trace says."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpitasks.errors import ConfigurationError
from mpitasks.observe import report as reports
from mpitasks.observe.accounts import Accounts
from mpitasks.observe.failures import Failures
from mpitasks.observe.report import is_report, render, write
from mpitasks.observe.summary import summarise
from mpitasks.observe.trace import events_of
from mpitasks.observe.trace import write as write_trace
from mpitasks.tools.report import command
from test_recording import Run, task

EVIL = "@BODY@ @DATA@ </script><script>alert(1)</script><img src=x onerror=alert(2)>"


def trace(label: str = "fit", tasks: int = 30) -> dict[str, Any]:
    """Return the trace of a run with two workers."""
    run = Run(2)
    for id in range(tasks):
        run.submit(float(id), task(id, label))
        run.done(id + 0.75, run.holder(id), id, 0.5)
    accounts = Accounts([1, 2], 0.0, {1: "node1", 2: label})
    failures = Failures()
    failures.record(task(0, label), ValueError(label), True)
    facts = {
        "program": f"fit.py {label}", "began": 1e9, "code": 0, "job": None,
        "mpitasks": "1", "python": "3.11", "platform": "Linux", "mpi": "", "cores": 4,
    }  # fmt: skip
    counts = run.scheduler.statistics()
    return {
        "traceEvents": [
            *events_of(run.recording, {0: "node1", 1: "node1", 2: label}, "fit.py")
        ],
        "otherData": summarise(
            run.recording,
            accounts.statistics(counts, float(tasks)),
            failures,
            waited=0.0,
            facts=facts,
        ),
    }


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "polyline", "canvas"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "polyline", "canvas"):
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def data(self) -> dict[str, Any]:
        """What the timeline is drawn from."""
        (text,) = (text for tag, text in self.texts if '"lanes"' in text)
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def text(self) -> str:
        """What people read."""
        return " ".join(text for tag, text in self.texts if tag != "script")


def test_the_verdict_comes_first() -> None:
    page = Page(render(trace()))
    text = page.text
    assert page.open == []
    verdict = text.index("The workers were in your functions for 25% of their time.")
    headings = [text for tag, text in page.texts if tag == "h2"]
    assert headings == [
        "Where the time went", "Timeline", "Durations by label", "Slowest tasks",
        "Failures", "Data moved", "Rank 0", "Environment",
    ]  # fmt: skip
    assert verdict < min(map(text.index, headings))


def test_the_timeline_has_all_tasks() -> None:
    data = Page(render(trace())).data
    assert [lane["rank"] for lane in data["lanes"]] == [1, 2]
    slices = [each for lane in data["lanes"] for each in lane["slices"]]
    assert len(slices) == 30
    assert {data["labels"][each[2]] for each in slices} == {"fit"}
    assert sum(each[3] for each in slices) == 30


def test_a_page_needs_nothing_else() -> None:
    page = render(trace())
    assert not re.search(r"https?://|//[a-z]|url\(|@import", page)
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "href"} & attributes.keys()


def test_what_a_trace_says_is_only_text() -> None:
    page = Page(render(trace(EVIL)))
    assert "img" not in [tag for tag, _ in page.tags]
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert EVIL in page.text
    assert EVIL in page.data["labels"]


def test_a_page_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_SLICES", 10)
    page = Page(render(trace(tasks=100)))
    slices = [each for lane in page.data["lanes"] for each in lane["slices"]]
    assert len(slices) <= 10
    assert sum(each[3] for each in slices) == 100
    assert "of 100 slices" in page.text


def test_a_run_without_tasks() -> None:
    page = Page(render(trace(tasks=0)))
    assert "No task was finished, so there is nothing to tell." in page.text
    assert "canvas" not in [tag for tag, _ in page.tags]


SOUND = trace()
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text()
    | st.lists(st.none())
    | st.dictionaries(st.text(), st.integers())
)


@given(name=st.sampled_from(sorted(SOUND["otherData"])), value=JUNK)
def test_a_damaged_summary_is_refused_or_shown(name: str, value: Any) -> None:
    damaged = {**SOUND, "otherData": {**SOUND["otherData"], name: value}}
    with contextlib.suppress(ConfigurationError):
        assert Page(render(damaged)).open == []


@given(
    at=st.integers(0, len(SOUND["traceEvents"]) - 1),
    name=st.sampled_from(["ph", "name", "tid", "ts", "dur", "args"]),
    value=JUNK,
)
def test_a_damaged_event_is_refused_or_shown(at: int, name: str, value: Any) -> None:
    events = SOUND["traceEvents"].copy()
    events[at] = {**events[at], name: value}
    with contextlib.suppress(ConfigurationError):
        assert Page(render({**SOUND, "traceEvents": events})).open == []


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_browser_draws_it_and_complains_of_nothing(tmp_path: Path, look: str) -> None:
    assert BROWSER is not None
    path = tmp_path / "run.html"
    write(str(path), SOUND)
    command = [BROWSER, "--headless", "--no-sandbox", "--window-size=420,900"]
    command += [f"--blink-settings=preferredColorScheme={int(look == 'light')}"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "CONSOLE" not in found.stderr
    canvas = re.search(r"<canvas [^>]*>", found.stdout)
    assert canvas is not None, found
    assert 'style="height: 74px;"' in canvas[0]  # two lanes and the scale, drawn


def test_a_page_replaces_only_its_like(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write(str(path), SOUND)
    assert is_report(path.read_bytes()[: 64 << 10])
    write(str(path), SOUND)
    path.write_text("<html>thesis</html>")
    with pytest.raises(FileExistsError, match="was not written by mpitasks"):
        write(str(path), SOUND)
    assert path.read_text() == "<html>thesis</html>"


def test_the_verb(tmp_path: Path) -> None:
    path = tmp_path / "run.json.gz"
    write_trace(str(path), SOUND["traceEvents"], SOUND["otherData"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command.main(command.parse([str(path)]))
        command.main(command.parse([str(path), "-o", str(tmp_path / "other.html")]))
    assert out.getvalue().startswith(f"{tmp_path / 'run.html'}: The workers were in")
    page = (tmp_path / "run.html").read_text()
    assert page == (tmp_path / "other.html").read_text() == render(SOUND)
    with pytest.raises(ConfigurationError, match="no trace"):
        command.main(command.parse([str(tmp_path / "none")]))
