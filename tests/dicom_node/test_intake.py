"""From filed images to a job, and on to its result: a series with a gap that is to be analysed all the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from rig import message_of

from dicom_node.config import load_settings
from dicom_node.intake import Intake
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.receive.filing import FiledImage
from dicom_node.receive.spool import Spool
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import read_header
from dicom_node.worklog.writer import Worklog
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from worker.tasks import Workplace, run_job

INSTALLED = {"flair": PipelineInfo("flair", "FLAIR lesions", "1", "0" * 64)}
GAP = "slice missing between -7.5 and -1.5 mm (1 of 12)"


class Bench:
    """An intake whose tracker is stepped by hand, and a worker for its jobs."""

    def __init__(self, root: Path, incomplete: str) -> None:
        self.spool = Spool(root)
        self.store = Store(root / "state.sqlite", self.spool.jobs)
        series = {"quiet_s": 0, "incomplete_after_s": 0, "incomplete": incomplete}
        settings = load_settings(None, {"node": {"data": str(root)}, "series": series})
        self.intake = Intake(settings, self.spool, self.store, Worklog(root), INSTALLED, on_job=lambda: None)

    def file(self, path: Path) -> None:
        header = read_header(path)
        place = self.spool.image_path(header.series_uid, header.sop_instance_uid)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(path, place)
        self.intake.image_filed(FiledImage(header, place, None, "new"))

    def jobs(self) -> list[JobRow]:
        return list(self.store.jobs_in(JobState.QUEUED))

    def result(self, job: JobRow) -> Manifest:
        place = Workplace(self.spool.root, "cpu", _Registry())
        assert run_job({**message_of(job), "run": 1}, place)
        return Manifest.read(self.spool.results / job.id)


class _Registry:
    def installed(self) -> Mapping[str, PipelineInfo]:
        return INSTALLED

    def load(self, name: str, device: str) -> Pipeline:
        return count_slices


def count_slices(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
    return Findings(status="none", reason=f"{len(volume.array)} slices seen")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    images = mr_series(tmp_path / "sent", EchoTime=90.0, RepetitionTime=9000.0)
    return images[:4] + images[5:]


@pytest.fixture
def bench(tmp_path: Path, images: list[Path], request: Any) -> Iterator[Bench]:
    bench = Bench(tmp_path / "data", request.param)
    for path in images:
        bench.file(path)
    bench.intake.tracker.step()
    yield bench
    bench.store.close()


@pytest.mark.parametrize("bench", ["analyse"], indirect=True)
def test_series_with_a_gap_is_analysed_where_the_settings_say_so(bench: Bench) -> None:
    assert [row.reason for row in bench.store.series_in(SeriesState.HELD)] == [GAP]
    bench.intake.tracker.step()
    (job,) = bench.jobs()
    assert job.note == f"analysed with a gap: {GAP}"
    found = bench.result(job)
    assert (found.status, found.reason) == ("none", "12 slices seen")
    assert found.warnings[0].startswith(
        "1 missing slice was interpolated for the analysis (1 between -7.5 and -1.5 mm"
    )


@pytest.mark.parametrize("bench", ["hold"], indirect=True)
def test_series_with_a_gap_is_analysed_once_a_person_releases_it(bench: Bench) -> None:
    bench.intake.tracker.step()
    assert bench.jobs() == []
    (held,) = bench.store.series_in(SeriesState.HELD)
    bench.intake.release(held)
    bench.intake.tracker.step()
    (job,) = bench.jobs()
    assert job.note == f"analysed as it is, released by a person: {GAP}"
    assert bench.result(job).reason == "12 slices seen"
