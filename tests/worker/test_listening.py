"""A worker that no longer hears its broker ends, and no other."""

from __future__ import annotations

import os

import pytest
import redis
from celery.worker import state

from worker.listening import LOOKS, Listening


class Broker:
    """So many messages in each queue; None: it is away."""

    def __init__(self) -> None:
        self.held: dict[str, int] | None = {}

    def llen(self, queue: str) -> int:
        if self.held is None:
            raise redis.ConnectionError
        return self.held.get(queue, 0)


class Rig:
    def __init__(self) -> None:
        self.broker, self.busy, self.ends = Broker(), False, list[int]()
        self.listening = Listening("redis://nowhere", ["flair"], lambda: self.busy, self.ends.append)

    def looks(self, count: int) -> list[int]:
        for _ in range(count):
            self.listening.look()
        return self.ends


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(made.listening, "_client", made.broker)
    return made


def test_idle_worker_that_takes_nothing_ends(rig: Rig) -> None:
    rig.broker.held = {"flair": 2}
    assert rig.looks(LOOKS - 1) == []
    assert rig.looks(1) == [os.EX_TEMPFAIL]


def test_one_that_takes_something_goes_on(rig: Rig) -> None:
    rig.broker.held = {"flair": 2}
    rig.looks(LOOKS - 1)
    rig.busy = True
    rig.looks(1)
    rig.busy = False
    assert rig.looks(LOOKS - 1) == []


def test_without_work_for_it_it_goes_on(rig: Rig) -> None:
    rig.broker.held = {"fatsat": 2}
    assert rig.looks(2 * LOOKS) == []


def test_broker_that_is_away_is_none_of_its_business(rig: Rig) -> None:
    rig.broker.held = None
    assert rig.looks(2 * LOOKS) == []


def test_worker_that_stops_is_not_hurried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_stop", 0)
    rig.broker.held = {"flair": 2}
    assert rig.looks(2 * LOOKS) == []
