"""A patient with two time points through a live node: the prior is found, compared behind the answer, and is on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import delete

from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import SUMMARY
from dicom_node.jobs.tracked_lesions import known_lesions
from dicom_node.jobs.why import why
from dicom_node.node.control_socket import ask
from tests.dicom_node.deliver.conftest import Pacs
from tests.dicom_node.node.test_node import Rig, until
from tests.priors_rig import RigPacs, flair
from tests.worker.test_comparing import Networks, compared, found_again
from worker.comparing import Comparer
from worker.tasks import Workplace, run_job

LONG_S = 240.0
WHOLE = {"shape": (12, 64, 64)}


class Site(Rig):
    """A node, an archive with the prior, a PACS that gets the results, and a worker that is called by the test."""

    def __init__(self, folder: Path) -> None:
        self.archive, self.pacs = RigPacs(), Pacs()
        self.pacs.start()
        self.pacs.patients = lambda study_uid: [{}]
        self.networks = Networks()
        self.workplace = Workplace(
            folder / "data", "cpu", self.networks, comparer=Comparer(compared, found_again)
        )
        host = {"host": "127.0.0.1", "confirm": "none"}
        destinations = [
            {**host, "name": "pacs", "ae_title": "PACS", "port": self.pacs.port},
            {
                **host,
                "name": "archive",
                "ae_title": "PACS",
                "port": self.archive.port,
                "objects": ["heatmap"],
            },
        ]
        super().__init__(folder, destination=destinations, priors={"from": "archive"}, summary={"after_s": 0})
        self.archive.node = "LESIONNODE", self.node.scp.port

    def stop(self) -> None:
        super().stop()
        self.archive.stop()
        self.pacs.stop()

    def jobs(self, pipeline: str, *states: JobState) -> list[JobRow]:
        return [job for job in self.node.store.jobs_in(*(states or JobState)) if job.pipeline == pipeline]

    def analyse(self, pipeline: str) -> JobRow:
        until(lambda: bool(self.jobs(pipeline, JobState.QUEUED)), self.log, LONG_S)
        (job,) = self.jobs(pipeline, JobState.QUEUED)
        assert run_job(self.node.message_of(job), self.workplace)
        self.node.reconciler.wake()
        return job

    def killed(self) -> None:
        """Stop, lose the comparison as if it had not been made yet, and start again."""
        (change,) = self.jobs(CHANGE)
        self.node.stop()
        store = Store(self.node.store.path)
        with store.session() as session:
            session.execute(delete(JobRow).where(JobRow.id == change.id))
        store.close()
        (self.data / "jobs" / f"{change.id}.json").unlink()
        self.start()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.mark.slow
def test_prior_is_found_compared_and_on_the_page(site: Site, tmp_path: Path) -> None:
    before, now = (
        flair(tmp_path / name, day, **WHOLE) for name, day in (("before", "20250401"), ("now", "20260301"))
    )
    study, old_study = (str(dcmread(files[0]).StudyInstanceUID) for files in (now, before))
    site.archive.has(before)
    site.send(now)
    of_flair = site.analyse("flair")
    site.wait_for("prior-found")
    until(lambda: bool(site.jobs(CHANGE)), site.log, LONG_S)
    first = site.jobs(CHANGE)[0].id
    site.killed()
    change = site.analyse(CHANGE)
    assert change.id == first and len(site.jobs(CHANGE)) == 1
    line = site.wait_for("compared")
    assert (line["grade"], line["new"], line["enlarging"], line["possible"]) == ("B", 1, 1, 1)
    until(lambda: bool(site.jobs(SUMMARY, JobState.DELIVERED)), site.log, LONG_S)
    until(lambda: bool(site.jobs(CHANGE, JobState.DELIVERED)), site.log, LONG_S)
    got = [dcmread(path) for path in sorted((site.data / "results").glob("*/*.dcm"))]
    assert old_study not in {ds.StudyInstanceUID for ds in got}
    assert {ds.StudyInstanceUID for ds in got} == {study}
    (page,) = site.jobs(SUMMARY)
    text = (site.data / "results" / page.id / "summary-text.dcm").read_bytes().decode("utf-8", "replace")
    assert "1 new lesion since 2025-04-01 (comparability B)" in text
    assert site.networks.asked == 3, "current, prior, and the painted prior"
    told = "\n".join(line for line, _ in why(site.data, study))
    assert f"compared by job {change.id[:8]}" in told and "grade B, 1 new" in told
    assert known_lesions(site.node.store, of_flair.series_uid)
    assert not any(secret in site.log() for secret in ("P-1", "Doe", "19800101"))
    ask(site.data, "retry", change.id[:12])
    again = site.analyse(CHANGE)
    assert (again.id, again.run) == (change.id, 2)
    assert site.wait_for("compared", 2)["new"] == 1
