"""Messages that a worker can't read: the node says so once, the job waits, and a worker that can read them does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rig import manifest, message_of

from dicom_node import __version__
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.states import JobState
from dicom_node.results.context import ResultContext
from dicom_node.spool.refusals import Refusal, refuse
from pipelines.types import PipelineInfo
from tests.dicom_node.jobs.test_reconcile import LEASE_S, Bench
from worker.tasks import Workplace, take

NEWER = (
    f"worker gpu1:7 is of version {__version__} and reads messages of version 2, this node is of version "
    f"{__version__} and writes version 1: update the node; jobs wait until then"
)


class Registry:
    def installed(self) -> Mapping[str, PipelineInfo]:
        return {}

    def load(self, name: str, device: str) -> Any:
        raise AssertionError("not needed: analyse_series is replaced")


class Site(Bench):
    """A node, its broker, and workers that take what the broker holds."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root)
        self.monkeypatch = monkeypatch
        monkeypatch.setattr("worker.tasks.analyse_series", self.find_nothing)

    @staticmethod
    def find_nothing(
        paths: Sequence[Path], pipeline: object, context: ResultContext, out: Path, *_: object, **__: object
    ) -> None:
        manifest(context.job_id, context.run).write(out)

    def worker_takes(self, reads: int = 1, worker: str = "gpu1:7", **changes: Any) -> list[bool]:
        """Let a worker that reads a version take every message, and acknowledge it."""
        place = Workplace(self.rig.spool.root, "cpu", Registry(), worker=worker)
        taken = []
        for name in list(self.queues.places_of):
            raw = {**message_of(self.job).to_json(), **changes}
            with self.monkeypatch.context() as patch:
                patch.setattr(JobMessage, "VERSION", reads)
                taken.append(take(raw, name, place))
            del self.queues.places_of[name]
        return taken


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path, monkeypatch)
    yield site
    site.rig.store.close()


def test_job_waits_for_a_worker_that_can_read_it(site: Site) -> None:
    site.step()
    assert site.worker_takes(reads=2) == [False]
    site.step(LEASE_S / 2)
    assert site.heard == ["queued 1", NEWER]
    assert site.job.reason == NEWER
    for _ in range(20):  # ten times the lease
        site.step(LEASE_S / 2)
        assert not any(site.worker_takes(reads=2))
    assert site.heard == ["queued 1", NEWER]
    assert site.job.reason == NEWER
    assert (site.job.state, site.job.run, site.job.attempts) == (JobState.QUEUED, 1, 1)
    assert 5 <= len(site.queues.sent) <= 11, "sent again after each lease, and not more often"
    assert site.rig.folders(site.job_id) == []
    for _ in range(3):
        site.step(LEASE_S / 2)
        if any(site.worker_takes()):
            break
    site.step()
    assert site.heard == ["queued 1", NEWER, "running 1", "finished 1 none"]
    assert site.job.state == JobState.DELIVERING


def test_each_worker_is_told_once(site: Site) -> None:
    other = site.rig.job("1.2.4")
    site.step()
    for worker in ("gpu1:7", "gpu2:8", "gpu1:7", "gpu2:8"):
        site.worker_takes(2, worker)
        site.step(LEASE_S + 1)
    told = [line for line in site.heard if line.startswith("worker")]
    assert told == [NEWER, NEWER.replace("gpu1:7", "gpu2:8")]
    assert site.rig.state(other) == JobState.QUEUED


def test_older_worker_is_to_be_updated(site: Site) -> None:
    site.step()
    site.queues.places_of.clear()
    refuse(site.rig.spool.refused, Refusal(f"{site.job_id}.run1", "gpu1:7", "0.0.9", 0, ""))
    site.step(LEASE_S / 2)
    assert site.job.reason == (
        "worker gpu1:7 is of version 0.0.9 and reads messages of version 0, this node is of version "
        f"{__version__} and writes version 1: update the worker; jobs wait until then"
    )


def test_message_of_unknown_form_waits_too(site: Site) -> None:
    site.step()
    assert site.worker_takes(images="all") == [False]
    site.step(LEASE_S / 2)
    assert site.job.state == JobState.QUEUED
    assert site.job.reason == (
        f"worker gpu1:7 of version {__version__} can't read the messages of this node: "
        '"images" of the message is wrong: input should be a valid array'
    )


def test_reason_goes_when_nobody_takes_the_message_any_more(site: Site) -> None:
    site.step()
    site.worker_takes(reads=2)
    site.step(LEASE_S / 2)
    assert site.job.reason == NEWER
    site.step(LEASE_S)
    assert len(site.queues.places_of) == 1
    site.step(LEASE_S)
    assert site.job.reason == ""


def test_refusal_of_a_job_that_no_longer_waits_changes_nothing_of_it(site: Site) -> None:
    site.step()
    site.worker_takes(reads=2)
    site.rig.reconciler.withdraw(site.job_id, JobState.HELD, "by a person")
    site.step(LEASE_S)
    assert (site.job.state, site.job.reason) == (JobState.HELD, "by a person")
    assert site.heard == ["queued 1", NEWER]
