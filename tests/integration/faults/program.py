"""``dicom-node`` with the pipeline of fake.py and with short waits; run by site.py.

Environment: ``FAULTS_ORDERS``, the folder of orders; ``FAULTS_LEASE_S``; ``FAULTS_VISIBILITY_S``, after which the
broker gives a task to another worker although the first has not done with it; ``FAULTS_WITHOUT_CONTROL``: workers
answer no remote control.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[3])  # beside this file's folders lies a folder "dicom_node" of tests

from kombu.transport import redis as kombu_redis  # noqa: E402

import dicom_node.cli  # noqa: E402
import dicom_node.node.node  # noqa: E402
import dicom_node.node.supervise  # noqa: E402
import worker.app  # noqa: E402
import worker.listening  # noqa: E402
import worker.tasks  # noqa: E402
from dicom_node.deliver.backoff import Backoff  # noqa: E402
from dicom_node.deliver.outbox import Outbox  # noqa: E402
from dicom_node.jobs import enqueue, reconcile  # noqa: E402
from dicom_node.jobs.message import JobMessage  # noqa: E402
from dicom_node.results import picture_grid  # noqa: E402
from pipelines import registry, weights  # noqa: E402
from tests.integration.faults.fake import LEAST_SIDE_PX, FakeRegistry, Orders  # noqa: E402

picture_grid.LEAST_SIDE_PX = LEAST_SIDE_PX
ORDERS = Orders(Path(os.environ["FAULTS_ORDERS"]))
HEARTBEAT_S = 0.3
LEASE_S = float(os.environ.get("FAULTS_LEASE_S", "3"))


class OurWorker(dicom_node.node.supervise.WorkerProcess):
    """A worker that is this program too."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert self.command[1:3] == ["-m", "dicom_node.cli"]
        self.command[1:3] = [__file__]


def count_deliveries(message: JobMessage, place: Any, run_job: Any = worker.tasks.run_job) -> bool:
    """Do a run, and note that the broker delivered its message and whether it was ours to do."""
    ORDERS.note("delivered", f"{message.job_id}.run{message.run} {os.getpid()}")
    done: bool = run_job(message, place)
    return done


def redeliver_after(seconds: float) -> None:
    """Let kombu give out again what was not acknowledged for so long, and look for it all the time."""
    worker.app.VISIBILITY_TIMEOUT_S = seconds
    restore = kombu_redis.QoS.restore_visible
    kombu_redis.QoS.restore_visible = lambda self, start=0, num=10, interval=1: restore(self, start, num, 1)
    register = kombu_redis.Transport.register_with_event_loop

    def register_and_look(self: Any, connection: Any, loop: Any) -> None:
        register(self, connection, loop)
        loop.call_repeatedly(0.2, self.cycle.maybe_restore_messages)

    kombu_redis.Transport.register_with_event_loop = register_and_look


def without_remote_control() -> None:
    """Let workers have no connection that would tell them at once that the broker is lost."""
    make_app = worker.app.make_app

    def make(*arguments: Any) -> Any:
        app = make_app(*arguments)
        app.conf.worker_enable_remote_control = False
        return app

    worker.app.make_app = make


def main() -> None:
    """Run the command line."""
    fake = FakeRegistry(ORDERS)
    registry.installed, registry.load, weights.verify = fake.installed, fake.load, lambda: ""
    dicom_node.node.node.LEASE_S = LEASE_S
    dicom_node.node.node.Outbox = partial(
        Outbox, backoff=Backoff(first_s=0.2, cap_s=1, look_first_s=0.1, look_cap_s=0.5)
    )
    dicom_node.node.supervise.WorkerProcess = OurWorker
    dicom_node.node.supervise.LOOK_S = 0.1
    dicom_node.node.supervise.RESTART_WAIT_S = (0.1,)
    reconcile.ACTIVE_S = 0.1
    enqueue.PING_S, enqueue.LONGEST_PAUSE_S = 1.0, 1.0
    worker.listening.LOOK_S = 1.0
    worker.tasks.run_job = count_deliveries
    worker.app.run_worker = partial(worker.app.run_worker, heartbeat_s=HEARTBEAT_S)
    if seconds := os.environ.get("FAULTS_VISIBILITY_S"):
        redeliver_after(float(seconds))
    if os.environ.get("FAULTS_WITHOUT_CONTROL"):
        without_remote_control()
    dicom_node.cli.main()


if __name__ == "__main__":
    main()
