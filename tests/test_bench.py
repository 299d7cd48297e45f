"""The parts of ``mpitasks bench`` that need no MPI: words, series, tables, files."""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path

import pytest

from mpitasks.launch.verbs import UsageError, find_verb
from mpitasks.tools.bench import command, engine, fibonacci, plot
from mpitasks.tools.bench.machine import Host, Machine, group_hosts
from mpitasks.tools.bench.report import (
    Column,
    Report,
    format_head,
    format_table,
    is_of_report,
    write_csv,
    write_json,
)
from mpitasks.tools.bench.series import (
    chosen_counts,
    format_size,
    parse_count,
    parse_size,
    percentile,
    worker_counts,
)
from mpitasks.tools.bench.tasks import fibonacci as build

PNG = b"\x89PNG\r\n\x1a\n"


def make_machine(workers: int = 7, cores: int = 4, hosts: int = 2) -> Machine:
    return Machine(
        date="2026-11-23T10:15:02+01:00",
        ranks=workers + 1,
        workers=workers,
        hosts=[Host(f"node{n}", (workers + 1) // hosts, cores) for n in range(hosts)],
        processor="x86_64",
        system="Linux 6.1",
        mpi="MPICH 5.0.2",
        python="3.11.7",
        versions={"mpitasks": "0.1.0", "mpi4py": "4.1.2", "numpy": "2.4.6"},
    )


RUNS = {1: [8.0], 2: [5.0, 4.0], 3: [4.0]}


def make_report(**changes: object) -> Report:
    values: dict[str, object] = {
        "benchmark": "fibonacci",
        "machine": make_machine(),
        "work": "some work",
        "options": {"size": 5},
        "columns": fibonacci.COLUMNS,
        "rows": fibonacci.make_rows([8.0, 9.0], RUNS),
        "samples": {"serial": [8.0, 9.0], "workers": RUNS},
        "notes": [],
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("workers", "counts"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [1, 2, 4]),
        (7, [1, 2, 4, 7]),
        (8, [1, 2, 4, 8]),
        (63, [1, 2, 4, 8, 16, 32, 63]),
    ],
)
def test_worker_counts_double_up_to_all(workers: int, counts: list[int]) -> None:
    assert worker_counts(workers) == counts
    assert chosen_counts(None, workers) == counts


def test_chosen_counts_are_sorted_and_must_be_there() -> None:
    assert chosen_counts([4, 1, 4], 4) == [1, 4]
    with pytest.raises(UsageError, match=r"--workers 5 .* 4,"):
        chosen_counts([1, 5], 4)


def test_percentiles_are_samples() -> None:
    samples = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(samples, n) for n in (0, 20, 21, 50, 99, 100)] == [
        1,
        1,
        2,
        3,
        5,
        5,
    ]
    assert percentile([7.0], 50) == 7.0


@pytest.mark.parametrize(
    ("text", "nbytes", "again"),
    [
        ("8", 8, "8 B"),
        ("65536", 65536, "64 KiB"),
        ("64KiB", 65536, "64 KiB"),
        ("1GiB", 1 << 30, "1 GiB"),
        ("3072MiB", 3 << 30, "3 GiB"),
        ("24B", 24, "24 B"),
    ],
)
def test_sizes(text: str, nbytes: int, again: str) -> None:
    assert parse_size(text) == nbytes
    assert format_size(nbytes) == again


@pytest.mark.parametrize(
    "text", ["", "0", "4", "12", "-8", "64kb", "1.5GiB", "KiB", "8 B"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="64KiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "2.5", "many", "1e3"])
def test_no_counts(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        parse_count(text)


def test_trips_are_bounded_both_ways() -> None:
    assert engine.trips_for(1 << 16) == engine.MOST_TRIPS
    assert engine.trips_for(64 << 20) == 2
    assert engine.trips_for(4 << 30) == 2


def test_speedup_is_over_the_fastest_serial_run() -> None:
    rows = fibonacci.make_rows([9.0, 8.0], {1: [10.0, 8.0], 4: [2.5, 3.0]})
    assert rows == [
        {
            "workers": 1,
            "seconds": 8.0,
            "median_seconds": 8.0,
            "serial_seconds": 8.0,
            "speedup": 1.0,
            "efficiency": 1.0,
        },
        {
            "workers": 4,
            "seconds": 2.5,
            "median_seconds": 2.5,
            "serial_seconds": 8.0,
            "speedup": 3.2,
            "efficiency": 0.8,
        },
    ]


def test_notes_name_what_the_library_cannot_help() -> None:
    roomy = make_machine(cores=64)
    assert fibonacci.make_notes([1, 2, 4, 7], 56, roomy) == []
    (note,) = fibonacci.make_notes([1, 2, 4], 6, roomy)
    assert "6 sequences" in note
    assert "75%" in note
    (note,) = fibonacci.make_notes([1], 8, make_machine(cores=2))
    assert "more ranks than cores" in note


def test_a_sequence_is_as_long_as_asked() -> None:
    assert [build(n) for n in (1, 2, 50)] == [1, 2, 50]


def test_hosts_are_grouped_in_their_order() -> None:
    places = [("b", 1, [0, 1]), ("a", 1, [0]), ("b", 2, [2, 3]), ("b", 3, [3])]
    assert group_hosts(places) == [Host("b", 3, 4), Host("a", 1, 1)]


def test_head_names_the_machine_and_few_hosts() -> None:
    text = format_head("latency", make_machine(hosts=8))
    assert text.startswith("mpitasks bench latency\n")
    for words in (
        "node0 (1 rank, 4 cores)",
        "node3",
        "and 4 more",
        "8 (7 workers)",
        "MPICH 5.0.2",
        "3.11.7, mpitasks 0.1.0, mpi4py 4.1.2, numpy 2.4.6",
        "2026-11-23T10:15:02+01:00",
    ):
        assert words in text
    assert "node4" not in text


def test_table() -> None:
    lines = format_table(make_report(notes=["mind the gap"])).split("\n")
    assert lines == [
        "  work     some work",
        "",
        "workers   time (s)   median (s)   serial (s)   speed-up   efficiency",
        "      1      8.000        8.000        8.000       1.00       100.0%",
        "      2      4.000        4.000        8.000       2.00       100.0%",
        "      3      4.000        4.000        8.000       2.00        66.7%",
        "",
        "note: mind the gap",
    ]


def test_table_scales_hides_and_marks_what_is_missing() -> None:
    columns = [Column("name", "name"), Column("raw"), Column("s", "us", ".1f", 1e6)]
    rows = [{"name": "a", "raw": 1, "s": 2e-6}, {"name": "longer", "raw": 2, "s": None}]
    table = format_table(make_report(columns=columns, rows=rows))
    assert table.splitlines()[2:] == ["name      us", "a        2.0", "longer     -"]


def test_csv_has_the_rows(tmp_path: Path) -> None:
    report = make_report()
    report.rows[2]["efficiency"] = None
    write_csv(report, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [column.key for column in fibonacci.COLUMNS]
    assert [row["workers"] for row in rows] == ["1", "2", "3"]
    assert [row["efficiency"] for row in rows] == ["1.0", "1.0", ""]


def test_json_has_everything(tmp_path: Path) -> None:
    report = make_report()
    write_json(report, tmp_path / "x.json")
    read = json.loads((tmp_path / "x.json").read_text())
    assert read["benchmark"] == "fibonacci"
    assert read["machine"]["hosts"][1] == {"name": "node1", "ranks": 4, "cores": 4}
    assert read["machine"]["versions"]["numpy"] == "2.4.6"
    assert read["rows"] == report.rows
    assert read["options"] == {"size": 5}
    assert read["samples"]["serial"] == [8.0, 9.0]


@pytest.mark.parametrize(
    ("counts", "ticks"),
    [
        ([1], [1]),
        ([1, 2, 4, 7], [1, 2, 4, 7]),
        ([1, 2, 4, 8, 16, 17], [1, 2, 4, 8, 17]),
    ],
)
def test_ticks_do_not_touch(counts: list[int], ticks: list[int]) -> None:
    assert plot.tick_counts(counts) == ticks


def sample_reports() -> list[Report]:
    rates = {"submit_per_second": 1e5, "map_per_second": 2e6}
    trip = {"percentiles": [1e-6 * (n + 1) for n in range(101)]}
    both = [{"bytes": 8, "size": "8 B", "bytes_per_second": 2e9}]
    trips = {8: [1e-6, 2e-6, 4e-6]}
    return [
        make_report(),
        make_report(
            rows=fibonacci.make_rows([1.0], {1: [9.0]}),
            samples={"serial": [1.0], "workers": {1: [9.0]}},
        ),
        make_report(
            benchmark="throughput",
            rows=[{"workers": 1, **rates}],
            options={"tasks": 1000},
            samples={"submit": {1: [0.5, 0.7]}, "map": {1: [0.01]}},
        ),
        make_report(benchmark="latency", samples={"a": trip, "b": trip}),
        make_report(
            benchmark="bandwidth",
            rows=[{**both[0], "raw_bytes_per_second": None}],
            samples={"mpitasks": trips},
        ),
        make_report(
            benchmark="bandwidth",
            rows=[{**both[0], "raw_bytes_per_second": 3e9}],
            samples={"mpitasks": trips, "raw mpi4py": trips},
        ),
    ]


@pytest.mark.parametrize("report", sample_reports(), ids=lambda r: r.benchmark)
def test_picture(tmp_path: Path, report: Report) -> None:
    pytest.importorskip("matplotlib")
    assert plot.draw(report, tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    assert content.startswith(PNG)
    assert is_of_report(content)


@pytest.mark.parametrize(
    ("value", "text"),
    [(24.3, "24"), (9.96, "10"), (2.06, "2.1"), (0.512, "0.51"), (12_444, "12,000")],
)
def test_a_picture_has_no_more_digits_than_are_known(value: float, text: str) -> None:
    assert plot.two_digits(value) == text


def test_every_benchmark_has_a_picture() -> None:
    drawn = {report.benchmark for report in sample_reports()}
    assert drawn == set(command.BENCHMARKS)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "WHICH"),
        (["nonsense"], "nonsense"),
        (["fibonacci", "--size", "0"], "--size"),
        (["fibonacci", "--sequences", "few"], "--sequences"),
        (["fibonacci", "--trips", "3"], "--trips"),
        (["throughput", "--workers", "1", "x"], "--workers"),
        (["latency", "--repeat", "-1"], "--repeat"),
        (["latency", "--workers", "1"], "--workers"),
        (["bandwidth", "--size", "4MB"], "--size"),
        (["bandwidth", "extra"], "extra"),
    ],
)
def test_wrong_words(words: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        find_verb("bench", words)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_verb_keeps_its_words() -> None:
    verb = find_verb("bench", ["fibonacci", "--size", "9"])
    assert verb is not None
    assert verb.words() == ["bench", "fibonacci", "--size", "9"]
    assert verb.options.size == 9
    assert find_verb("script.py", []) is None
    assert find_verb("./bench", []) is None


def test_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    usual = command.choose_prefix("latency", None)
    assert str(usual).startswith("mpitasks-bench-latency-20")
    assert command.choose_prefix("latency", "new/mine") == Path("new/mine")
    assert Path("new").is_dir()
    assert command.choose_prefix("latency", "new").parent == Path("new")
    assert command.choose_prefix("latency", "other/").parent == Path("other")
    Path("file").touch()
    with pytest.raises(UsageError, match="--output file/x"):
        command.choose_prefix("latency", "file/x")


@pytest.mark.parametrize(
    "columns",
    [
        fibonacci.COLUMNS,
        engine.THROUGHPUT_COLUMNS,
        engine.LATENCY_COLUMNS,
        engine.BANDWIDTH_COLUMNS,
    ],
)
def test_documentation_shows_the_table_as_it_is(columns: tuple[Column, ...]) -> None:
    page = Path(__file__).parents[1] / "docs" / "bench.md"
    titles = [column.title for column in columns if column.title]
    lines = [re.split(r" {2,}", line.strip()) for line in page.read_text().splitlines()]
    assert titles in [[part for part in line if part] for line in lines]
