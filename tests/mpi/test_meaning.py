"""A task means what the same call in the script means: scripts of users, as they stand.

Each program of `tests/programs` compares what its tasks give with what the same calls
give in the script itself. Where the messages or the processes of the MPI play a part,
it runs under both. Where an isolated child, or the run without MPI, could make a
difference, it runs there as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launching import Launch, Mpi, Outcome

PROGRAMS = Path(__file__).parents[1] / "programs"
THREE_RANKS = {
    "actors",
    "actors_in_tasks",
    "across_executors",
    "arguments_reused",
    "dask_graphs",
    "forks",
    "futures_as_arguments",
    "futures_in_maps",
    "futures_journalled",
    "hooks_hold_no_lock",
    "hooks_of_classes",
    "hooks_run_once",
    "initializer_of_replaced",
    "initializers",
    "initializers_interleaved",
    "kept_results",
    "joblib_backend",
    "lazy_maps",
    "logging_of_workers",
    "mpi4py_keywords",
    "nested_tasks",
    "pickling_hooks",
    "pickling_hooks_in_maps",
    "reductions",
    "results_reused",
    "shared_objects",
    "state_of_callables",
    "threads_of_the_script",
}

HELPERS = {"checking", "locks"}
NAMES = sorted({path.stem for path in PROGRAMS.glob("*.py")} - HELPERS)
BOTH = [
    "actors",
    "actors_in_tasks",
    "across_executors",
    "aliasing_and_layout",
    "arguments_pandas",
    "arguments_reused",
    "dask_graphs",
    "forks",
    "futures_as_arguments",
    "futures_in_maps",
    "hooks_hold_no_lock",
    "hooks_of_classes",
    "initializer_of_replaced",
    "initializers",
    "initializers_interleaved",
    "kept_results",
    "joblib_backend",
    "many_large_alive",
    "mpi4py_keywords",
    "nested_tasks",
    "path_and_chdir",
    "pickling_hooks",
    "pickling_hooks_in_maps",
    "pools_in_tasks",
    "rebound_while_queued",
    "recycled_ids",
    "results_borrowed",
    "results_reused",
    "shared_objects",
    "spawn_in_tasks",
    "state_of_callables",
    "threads_of_the_script",
]
OTHERWISE = [
    "bound_and_partial",
    "classes_changed",
    "closures_in_loops",
    "containers_in_place",
    "enums_of_every_make",
    "futures_as_arguments",
    "futures_in_maps",
    "futures_journalled",
    "hooks_run_once",
    "initializer_of_replaced",
    "initializers",
    "initializers_interleaved",
    "joblib_backend",
    "journalled_values",
    "kept_results",
    "language",
    "main_of_worker",
    "mpi4py_keywords",
    "pickling_hooks_in_maps",
    "pool_journalled",
    "rebound_while_queued",
    "reductions",
    "results_reused",
    "rows_of_arrays",
    "same_name",
    "shared_objects",
    "state_of_callables",
]


def assert_held(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[-1:] == ["ok"], outcome


def run_on_workers(mpi: Mpi, launch: Launch, name: str, *options: str) -> None:
    ranks = 3 if name in THREE_RANKS else 2
    command = mpi.runner(ranks, *options, PROGRAMS / f"{name}.py")
    assert_held(launch(command, seconds=60))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(BOTH)))
def test_program_holds_on_workers(any_mpi: Mpi, launch: Launch, name: str) -> None:
    run_on_workers(any_mpi, launch, name)


@pytest.mark.parametrize("name", BOTH)
def test_program_holds_under_each_mpi(mpi: Mpi, launch: Launch, name: str) -> None:
    run_on_workers(mpi, launch, name)


@pytest.mark.parametrize("name", ["hooks_hold_no_lock", "hooks_of_classes"])
def test_hooks_with_one_worker(mpi: Mpi, launch: Launch, name: str) -> None:
    assert_held(launch(mpi.runner(2, PROGRAMS / f"{name}.py"), seconds=60))


@pytest.mark.parametrize("name", OTHERWISE)
def test_program_holds_isolated(any_mpi: Mpi, launch: Launch, name: str) -> None:
    run_on_workers(any_mpi, launch, name, "--isolate")


# The limit of an isolated task counts what its children take.
@pytest.mark.parametrize("name", [*OTHERWISE, "nested_tasks"])
def test_program_holds_without_mpi(any_mpi: Mpi, launch: Launch, name: str) -> None:
    command = [any_mpi.python, PROGRAMS / f"{name}.py"]
    assert_held(launch(command, seconds=60))


@pytest.mark.parametrize("name", ["actors", "actors_in_tasks"])
def test_actors_without_mpi(any_mpi: Mpi, launch: Launch, name: str) -> None:
    command = [any_mpi.python, PROGRAMS / f"{name}.py"]
    assert_held(launch(command, seconds=60))


@pytest.mark.slow
def test_many_calls_of_actors_without_a_gap(mpi: Mpi, launch: Launch) -> None:
    command = mpi.runner(3, PROGRAMS / "actors_in_tasks.py")
    assert_held(launch(command, seconds=200, environ={"CALLS": "20000"}))
