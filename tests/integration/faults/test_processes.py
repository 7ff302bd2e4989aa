"""Processes that hang, crash and are killed, and a broker that forgets or repeats itself: each result arrives once."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.jobs.dispatch import connect
from dicom_node.jobs.states import JobState
from dicom_node.node.embedded_broker import read_url
from tests.integration.faults.conftest import Make
from tests.integration.faults.fake import INFO
from tests.integration.faults.site import Site
from tests.integration.systems import wait_until
from worker.listening import LOOKS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # pynetdicom leaves the socket of a sender open whose peer was killed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

LIMIT_S = 7.0
KINDS = ("node", "receiver", "parser", "worker", "child", "valkey")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One system for the tests that leave it as they found it."""
    # Celery sees the death of a child at once or when it next looks, every 5 s: these are longer.
    site = Site(tmp_path_factory.mktemp("s"), time_limit_s=LIMIT_S)
    site.environment["FAULTS_LEASE_S"] = str(LIMIT_S)
    site.start()
    yield site
    site.close()


@pytest.fixture
def site(shared: Site) -> Site:
    shared.orders.clear()
    return shared


def assert_all_well(site: Site) -> None:
    site.assert_nothing_lost()
    site.assert_once()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("hang", f"over the time limit of {LIMIT_S:g} s"),
        ("segfault", "the worker's process crashed (SIGSEGV)"),
        ("oom-killer", "the worker's process was killed (out of memory?)"),
    ],
)
def test_lost_child_is_followed_by_the_next_run(
    site: Site, make_series: Make, order: str, reason: str
) -> None:
    site.orders.give(order)
    series = site.send(make_series(seed=order))
    site.settled()
    assert reason in site.why(series)
    assert "findings" in site.why(series)
    assert_all_well(site)


def test_child_that_crashes_each_time_fails_the_job(site: Site, make_series: Make) -> None:
    site.orders.give("segfault", 3)
    series = site.send(make_series(seed="thrice"))
    site.settled()
    assert "delivered, failed" in site.why(series)
    assert "the worker's process crashed (SIGSEGV) (3 runs)" in site.why(series)
    assert_all_well(site)


def test_emptied_broker_is_told_again(site: Site, make_series: Make) -> None:
    site.orders.close_gate()
    before = len(site.orders.noted("ran"))
    site.send(make_series(seed="at work"))
    wait_until(lambda: len(site.orders.noted("ran")) > before, 20, "a job is at work")
    site.send(make_series(seed="waits"))
    broker = connect(read_url(site.data / "broker"))
    wait_until(lambda: broker.llen(INFO.name), 20, "another job waits")
    broker.flushall()
    broker.close()
    site.orders.open_gate()
    site.settled()
    assert_all_well(site)


def test_killed_broker_is_told_again(site: Site, make_series: Make) -> None:
    site.orders.close_gate()
    site.send(make_series(seed="before the kill"))
    assert site.kill_one("valkey")
    site.send(make_series(seed="after the kill"))
    site.orders.open_gate()
    site.settled()
    assert_all_well(site)


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A system for one test."""
    site = Site(tmp_path / "s")
    site.start()
    yield site
    site.close()


@pytest.mark.parametrize("hears", [True, False], ids=["heard at once", "at the acknowledgement"])
def test_broker_lost_while_a_worker_works(tmp_path: Path, make_series: Make, hears: bool) -> None:
    """Celery comes back deaf where it hears of the loss when it acknowledges: it notices, and is started anew."""
    with contextlib.closing(Site(tmp_path / "s")) as site:
        if not hears:
            site.environment["FAULTS_WITHOUT_CONTROL"] = "1"
        site.start()
        site.orders.close_gate()
        site.send(make_series(seed="acknowledged in vain"))
        wait_until(lambda: len(site.orders.at_gate()) == 1, 20, "a job is at work")
        node, log = site.running("node"), site.data / "worker.log"
        assert node is not None
        node.suspend()  # or it would replace the broker at once
        try:
            assert site.kill_one("valkey")
            if hears:
                wait_until(
                    lambda: "Connection to broker lost" in log.read_text(), 30, "the worker hears of it"
                )
            site.orders.open_gate()
            if not hears:
                wait_until(lambda: "Couldn't ack" in log.read_text(), 30, "the worker can't acknowledge")
        finally:
            node.resume()
        site.send(make_series(seed="after it"))
        site.settled()
        assert_all_well(site)
        restarts = [record for record in site.events("warning") if record["name"] == "worker"]
        assert bool(restarts) is not hears


def test_worker_at_work_is_left_alone_by_jobs_that_wait(own_site: Site, make_series: Make) -> None:
    site = own_site
    site.orders.close_gate()
    for number in range(3):
        site.send(make_series(seed=f"in line {number}"))
    wait_until(lambda: len(site.orders.at_gate()) == 1, 20, "a job is at work")
    broker = connect(read_url(site.data / "broker"))
    wait_until(lambda: broker.llen(INFO.name), 20, "another job waits")
    at_work = site.orders.at_gate()
    time.sleep(2 * LOOKS)  # here it looks each second
    assert broker.llen(INFO.name)
    broker.close()
    assert site.orders.at_gate() == at_work
    site.orders.open_gate()
    site.settled()
    assert_all_well(site)


def test_hanging_broker_is_named_and_replaced(site: Site, make_series: Make) -> None:
    before = len(site.events("broker-back"))
    broker = site.running("valkey")
    assert broker is not None
    broker.suspend()
    series = site.send(make_series(seed="hanging broker"))
    wait_until(lambda: "can't be used: Timeout" in site.why(series), 30, "the job's reason names the broker")
    site.settled()
    assert len(site.events("broker-back")) == before + 1
    assert "can't be used" not in site.why(series).partition("worklog")[0].partition("->")[0]
    assert_all_well(site)


def test_database_damaged_under_a_running_node(site: Site, make_series: Make) -> None:
    site.send(make_series(seed="sound"))
    starts = len(site.events("node-started"))
    site.settled()
    path = site.data / "state.sqlite"
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as stream:
        stream.write(b"\xa5" * 16384)
    site.send(make_series(seed="damaged"))
    wait_until(
        lambda: "damaged: the node starts anew" in (site.data / "worklog.log").read_text(), 30, "noticed"
    )
    wait_until(lambda: len(site.events("node-started")) > starts, 30, "the node has started anew")
    site.settled()
    assert_all_well(site)


def test_broker_that_delivers_a_task_twice(tmp_path: Path, make_series: Make) -> None:
    site = Site(tmp_path / "site")
    site.environment["FAULTS_VISIBILITY_S"] = "1"
    site.start()
    second = subprocess.Popen(
        [*site.program, "worker", "--config", str(site.config)],
        env={**os.environ, **site.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        site.orders.close_gate()
        site.send(make_series())
        wait_until(lambda: len(site.orders.noted("delivered")) > 1, 60, "the broker delivers the task twice")
        site.orders.open_gate()
        site.settled()
        job = site.jobs()[0]
        deliveries = [line.split() for line in site.orders.noted("delivered")]
        assert {name for name, _ in deliveries} == {f"{job.id}.run1"}
        assert len({process for _, process in deliveries}) == 2
        assert len(site.orders.noted("ran")) == 1
        assert_all_well(site)
    finally:
        second.kill()
        second.wait()
        site.close()


@pytest.mark.timeout(1800)
def test_killed_at_random(tmp_path: Path, make_series: Make, rounds: int) -> None:
    """kill -9 of each process at random moments while series come in and results go out."""
    site = Site(tmp_path / "site")
    site.start()
    chance = random.Random(4711)
    killed = dict.fromkeys(KINDS, 0)
    try:
        for number in range(rounds):
            kind = KINDS[number % len(KINDS)]
            files = make_series(seed=f"round {number}")
            sender = threading.Thread(target=site.offer, args=(files,))
            sender.start()
            time.sleep(chance.uniform(0.0, 1.5))
            wait_until(lambda kind=kind: site.running(kind), 20, f"there is a {kind}")
            killed[kind] += site.kill_one(kind)
            sender.join()
            if site.running("node") is None:
                site.start()
            site.send(files)
            site.settled()
            assert_all_well(site)
        assert all(killed.values()), killed
        assert {job.outcome for job in site.jobs(JobState.DELIVERED)} == {"findings"}
    finally:
        site.close()
