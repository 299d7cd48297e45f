"""Ranks with actors die and the run goes on: the state is what the outcomes say."""

from __future__ import annotations

from launching import Launch, Mpi

SCRIPT = """
import os, random, signal
import mpitasks as mt

class Log:
    def __init__(self, *values):
        self.values = list(values)

    def add(self, value):
        self.values.append(value)
        return value

    def refuse(self, value):
        self.values.append(value)  # it stays, as it would in the script
        raise ValueError(value)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def unpicklable(self):
        self.lock = lambda: None
        self.generator = (n for n in range(3))

def said(calls):
    values = []
    for value, future in calls:
        try:
            future.result()
            values.append(value)
        except ValueError:
            values.append(value)
        except mt.ActorDied as error:
            assert error.rank and error.host and error.call, vars(error)
    return values

def add_there(log, first, count):
    futures = [(n, log.add(n)) for n in range(first, first + count)]
    futures += [(-n, log.add([-n])) for n in range(first, first + count)]
    return [[n, f.exception() is None] for n, f in futures]

def outcome(future):
    try:
        return future.result()
    except mt.MpiTasksError as error:
        return type(error).__name__

if __name__ == "__main__":
    chance = random.Random(5)
    with mt.Executor() as ex:
        kept = ex.actor(Log, -1, max_restarts=3, checkpoint=7)
        bare = ex.actor(Log, -2, max_restarts=3)
        once = ex.actor(Log)
        spoilt = ex.actor(Log, max_restarts=2, checkpoint=1)
        inputs = ex.actor(Log, max_restarts=3, checkpoint=3)
        spoilt.unpicklable().result()
        log, last, number = [-1], [-2], 0
        for round in range(3):
            calls, others = [], []
            for _ in range(chance.randrange(1, 60)):
                number += 1
                method = chance.choice([kept.add, kept.refuse])
                calls.append((number, method(number)))
                others.append((number, bare.add(ex.submit(abs, -number))))
            if chance.random() < 0.5:
                said(calls), said(others)
            kept.die(), bare.die()
            for _ in range(5):
                number += 1
                calls.append((number, kept.add(number)))
            log += said(calls)
            there = ex.submit(add_there, kept, number + 1, 10).result()
            number += 10
            log += [n if n > 0 else [n] for n, is_there in there if is_there]
            state = outcome(kept.get("values"))
            assert state == log, (round, state, log)
            said(others)
            state = outcome(bare.get("values"))
            assert state == [-2], (round, state)
            if round == 0:
                once.die()
                print(outcome(once.add(1)), outcome(once.add(2)))
                print(outcome(spoilt.add(1)))
        print("ok", ex.num_workers)
"""


def test_state_equals_the_log(openmpi: Mpi, launch: Launch) -> None:
    launch.script(SCRIPT)
    words = ["-m", "mpitasks", "-n", "9", "--survive", "script.py"]
    outcome = launch([openmpi.python, *words], seconds=90)
    assert outcome.code == 0, str(outcome)
    assert outcome.out.splitlines()[-1].startswith("ok"), str(outcome)
    assert "ActorDied ActorDied" in outcome.out, str(outcome)
    again = [line for line in outcome.said if "the actor Log is made again" in line]
    assert len(again) >= 6, str(outcome)
