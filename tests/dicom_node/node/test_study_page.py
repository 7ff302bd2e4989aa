"""A study of two series through a live node: its page reaches the PACS once both are answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from factories import mr_series
from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.errors import NodeError
from dicom_node.jobs.states import JobState
from dicom_node.jobs.summary_job import summary_id
from dicom_node.jobs.why import why
from dicom_node.node.control_socket import ask
from pipelines.types import (
    Anatomy,
    Findings,
    ModelCard,
    Pipeline,
    PipelineInfo,
    Progress,
    RegionLoad,
    SiteFinding,
    Volume,
)
from tests.dicom_node.deliver.conftest import Pacs
from tests.dicom_node.node.test_node import FLAIR, INSTALLED, ORBIT_SHAPE, ORBITS, Rig, until
from worker.tasks import Workplace, run_job

STUDY = "1.2.826.0.1.3680043.8.498.77"
PATIENT = {"PatientName": "Roe^Jane", "PatientID": "47110815", "StudyInstanceUID": STUDY}
BOTH = {**INSTALLED, "fatsat": PipelineInfo("fatsat", "FAT-SAT optic nerves", "1", "1" * 64, {})}
LONG_S = 240.0
CARD = ModelCard("network", "1", "sha256:" + "ab" * 32, "1.2.3", "synthetic", "test")
REGIONS = (
    "periventricular",
    "juxtacortical",
    "infratentorial",
    "deep_white_matter",
    "deep_grey_matter",
)


class Registry:
    """Pipelines that find no lesion, and a suspicious right nerve."""

    def installed(self) -> Mapping[str, PipelineInfo]:
        return BOTH

    def load(self, name: str, device: str) -> Pipeline:
        def run(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
            if name == "flair":
                loads = tuple(RegionLoad(region, 0, 0, 0.0, 0.0) for region in REGIONS)
                return Findings("none", anatomy=Anatomy(loads), models=(CARD,))
            sites = (
                SiteFinding("right", "positive", probability=0.8, threshold=0.5, coverage=0.9),
                SiteFinding("left", "negative", probability=0.2, threshold=0.5, coverage=0.9),
            )
            return Findings("findings", sites=sites, models=(CARD,))

        return run


class Site(Rig):
    """A node, a PACS that keeps what it takes, and a worker that is called by the test."""

    def __init__(self, folder: Path) -> None:
        self.pacs = Pacs()
        self.got: list[Dataset] = []
        self.pacs.before_store = self._keep
        self.pacs.start()
        pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs.port}
        super().__init__(folder, BOTH, destination=[{**pacs, "confirm": "none"}], summary={"after_s": 0})

    def _keep(self, event: evt.Event) -> None:
        self.got.append(event.dataset)

    def stop(self) -> None:
        super().stop()
        self.pacs.stop()

    def analyse(self, pipeline: str) -> None:
        def queued() -> list:
            return [job for job in self.node.store.jobs_in(JobState.QUEUED) if job.pipeline == pipeline]

        until(lambda: bool(queued()), self.log, LONG_S)
        assert run_job(self.node.message_of(queued()[0]), Workplace(self.data, "cpu", Registry()))
        self.node.reconciler.wake()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.mark.slow
def test_page_of_flair_and_fatsat_reaches_the_pacs(site: Site, tmp_path: Path) -> None:
    site.pacs.patients = lambda study_uid: [{}]
    site.send(mr_series(tmp_path / "f", shape=(12, 32, 32), seed="f", **{**FLAIR, **PATIENT}))
    site.send(mr_series(tmp_path / "o", seed="o", series_number=9, **ORBIT_SHAPE, **{**ORBITS, **PATIENT}))
    with pytest.raises(NodeError, match="no series of this study has an answer yet"):
        until(lambda: len(site.events("queued")) == 2, site.log, LONG_S)
        ask(site.data, "summarise", STUDY)
    site.analyse("flair")
    site.analyse("fatsat")
    page = summary_id(STUDY, 0)
    until(
        lambda: (job := site.node.store.job(page)) is not None and job.state == JobState.DELIVERED,
        site.log,
        LONG_S,
    )
    of_page = [ds for ds in site.got if ds.SeriesDescription.startswith("RESEARCH 1 ")]
    assert sorted(ds.Modality for ds in of_page) == ["OT", "SR", "SR"]
    assert {(ds.StudyInstanceUID, ds.PatientID) for ds in of_page} == {(STUDY, "47110815")}
    (line,) = site.events("summarised")
    assert (line["id"], line["count"]) == (page[:8], 2)
    with pytest.raises(NodeError, match="has all of its answers; dicom-node retry"):
        ask(site.data, "summarise", STUDY)
    told = "\n".join(text for text, _ in why(site.data, STUDY))
    assert f"job {page[:8]} (summary, run 1): delivered, findings" in told
    assert "Roe" not in site.log() and "47110815" not in site.log()
