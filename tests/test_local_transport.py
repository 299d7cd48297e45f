"""The transport within a process keeps the contract of all transports."""

from __future__ import annotations

import threading

import pytest

from mpitasks.wire.local_transport import local_pair
from mpitasks.wire.messages import Goodbye, Shutdown
from transport_contract import CHECKS, Check, drive, drive_both


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_contract(check: Check) -> None:
    master_end, worker_end = local_pair()
    drive_both(check, master_end, worker_end)
    assert master_end.poll() is None
    assert worker_end.poll() is None


def test_the_whole_contract_in_two_threads() -> None:
    master_end, worker_end = local_pair()
    failures = []

    def work() -> None:
        try:
            for check in CHECKS:
                drive(check.worker(worker_end, 0), worker_end)
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for check in CHECKS:
        drive(check.master(master_end, 1), master_end)
    thread.join()
    assert failures == []


def test_the_contract_notices_sides_that_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport_contract.ROUNDS", 10)
    back_and_forth = next(check for check in CHECKS if check.name == "back and forth")
    unresponsive = Check("stuck", back_and_forth.worker, back_and_forth.worker)
    with pytest.raises(AssertionError, match="stuck: the sides wait"):
        drive_both(unresponsive, *local_pair())


def test_ranks() -> None:
    master_end, worker_end = local_pair()
    assert (master_end.rank, worker_end.rank) == (0, 1)


def test_waiting_ends_when_something_arrives() -> None:
    master_end, worker_end = local_pair()
    master_end.send(1, Shutdown())
    worker_end.wait(3600.0)  # or the test ends by its time-out
    assert worker_end.poll() == (0, Shutdown())


def test_waiting_for_no_time_returns() -> None:
    _, worker_end = local_pair()
    worker_end.wait(0.0)
    assert worker_end.poll() is None


def test_what_was_not_read_is_gone_after_close() -> None:
    master_end, worker_end = local_pair()
    master_end.send(1, Goodbye())
    worker_end.close()
    assert worker_end.poll() is None


def test_pairs_are_apart() -> None:
    first, second = local_pair(), local_pair()
    first[0].send(1, Shutdown())
    assert second[1].poll() is None
    assert first[1].poll() == (0, Shutdown())


def test_who_is_abandoned_is_heard_no_more() -> None:
    master_end, worker_end = local_pair()
    worker_end.send(0, Goodbye())
    master_end.abandon(1)
    worker_end.send(0, Goodbye())
    assert master_end.poll() is None
    assert master_end.poll() is None
    assert not master_end.sending()
