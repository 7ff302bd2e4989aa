"""From filed images to a job, and on to its result: a series with a gap that is to be analysed all the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from pydicom import dcmread
from rig import JobsRig, ReadHere, message_of

from dicom_node.config.settings import load_settings
from dicom_node.errors import StateError
from dicom_node.intake.filing import FiledImage
from dicom_node.intake.intake import BEHIND, CAUGHT_UP, Intake
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import read_header
from dicom_node.spool.spool import Spool
from dicom_node.worklog.follow import records
from dicom_node.worklog.writer import Worklog
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from worker.tasks import Workplace, run_job

INSTALLED = {"flair": PipelineInfo("flair", "FLAIR lesions", "1", "0" * 64)}
GAP = "slice missing between -7.5 and -1.5 mm (1 of 12)"


class Queues:
    """A broker that takes nothing."""

    def forget(self, job_id: str, queue: str) -> None:
        """Have no messages."""


class Bench:
    """An intake whose tracker is stepped by hand, and a worker for its jobs."""

    def __init__(self, root: Path, incomplete: str) -> None:
        self.spool = Spool(root)
        self.store = Store(root / "state.sqlite", self.spool.jobs)
        series = {"quiet_s": 0, "incomplete_after_s": 0, "incomplete": incomplete}
        settings = load_settings(None, {"node": {"data": str(root)}, "series": series})
        self.reconciler = JobsRig(root, Queues()).reconciler
        self.intake = Intake(
            settings,
            self.spool,
            self.store,
            Worklog(root),
            INSTALLED,
            self.reconciler,
            reader=ReadHere(self.spool),
        )

    def file(self, path: Path) -> None:
        header = read_header(path)
        place = self.spool.image_path(header.series_uid, header.sop_instance_uid)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(path, place)
        self.intake.images_filed([FiledImage(header, place, None, "new")])

    def state(self, job: JobRow) -> str:
        row = self.store.job(job.id)
        assert row is not None
        return row.state

    def jobs(self) -> list[JobRow]:
        return list(self.store.jobs_in(JobState.QUEUED))

    def result(self, job: JobRow) -> Manifest:
        place = Workplace(self.spool.root, "cpu", _Registry())
        assert run_job(message_of(job), place)
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


@pytest.fixture
def late(tmp_path: Path) -> Iterator[tuple[Bench, JobRow, Path]]:
    """A whole series with its job, and its last image yet to come."""
    *first, last = mr_series(tmp_path / "sent", EchoTime=90.0, RepetitionTime=9000.0)
    bench = Bench(tmp_path / "data", "hold")
    for path in first:
        bench.file(path)
    bench.intake.tracker.step()
    (job,) = bench.jobs()
    yield bench, job, last
    bench.store.close()


def test_verdict_that_a_late_image_overtook_makes_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *first, last = mr_series(tmp_path / "sent", EchoTime=90.0, RepetitionTime=9000.0)
    bench = Bench(tmp_path / "data", "hold")
    for path in first:
        bench.file(path)
    tell = bench.intake.tracker._tell

    def overtaken(verdict: Any) -> None:
        bench.file(last)
        tell(verdict)

    monkeypatch.setattr(bench.intake.tracker, "_tell", overtaken)
    bench.intake.tracker.step()
    monkeypatch.undo()
    assert bench.jobs() == []
    bench.intake.tracker.step()
    (job,) = bench.jobs()
    assert len(job.images) == 12
    assert bench.intake.tracker.step() > 2.0  # nothing is told again
    bench.store.close()


def test_late_image_that_the_database_refuses_for_long_joins_its_series(
    late: tuple[Bench, JobRow, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The series is woken, the image can't be indexed; by the time that it can, it is judged again and forgotten."""
    bench, job, last = late

    def refuse(images: Any, at: float) -> list[bool]:
        raise StateError("locked")

    monkeypatch.setattr(bench.store, "add_images", refuse)
    with pytest.raises(StateError):
        bench.file(last)
    monkeypatch.undo()
    bench.intake.tracker.step()
    assert [row.id for row in bench.jobs()] == [job.id]
    bench.intake.tracker._series.clear()
    bench.file(last)
    bench.intake.tracker.step()
    (new,) = bench.jobs()
    assert (new.id != job.id, len(new.images)) == (True, 12)


def test_series_whose_image_a_crash_left_in_the_inbox_keeps_its_verdict(
    late: tuple[Bench, JobRow, Path],
) -> None:
    bench, job, _ = late
    first = bench.spool.absolute(job.images[0])
    for _ in range(2):  # while the tracker knows the series, and when it has forgotten it
        bench.intake.images_filed([FiledImage(read_header(first), first, None, "new")])
        bench.intake.tracker.step()
        series = bench.store.series(job.series_uid)
        assert series is not None
        assert series.state == SeriesState.ROUTED
        assert [row.id for row in bench.jobs()] == [job.id]
        bench.intake.tracker._series.clear()


def test_first_images_that_could_be_indexed_only_at_the_second_attempt_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "data", "hold")
    paths = mr_series(tmp_path / "sent", EchoTime=90.0, RepetitionTime=9000.0)
    add = bench.store.add_images

    def committed_and_then_refused(images: Any, at: float) -> list[bool]:
        add(images, at)
        raise StateError("locked")

    monkeypatch.setattr(bench.store, "add_images", committed_and_then_refused)
    for path in paths:
        with pytest.raises(StateError):
            bench.file(path)
    monkeypatch.undo()
    for path in paths:
        bench.file(path)
    bench.intake.tracker.step()
    (job,) = bench.jobs()
    assert len(job.images) == 12
    bench.store.close()


def test_images_that_outrun_the_filing_are_told_of_once(
    late: tuple[Bench, JobRow, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _, last = late
    for waiting in (BEHIND - 1, BEHIND, BEHIND + 1, CAUGHT_UP + 1, CAUGHT_UP, 0):
        monkeypatch.setattr(type(bench.intake.filer), "waiting", waiting)
        bench.file(last)
    lines = [record.line() for record in records(bench.spool.root) if record.event == "warning"]
    assert len(lines) == 2
    assert f"{BEHIND} images wait in the inbox" in lines[0]
    assert "are filed" in lines[1]


def test_restart_judges_a_series_with_an_image_in_no_job(late: tuple[Bench, JobRow, Path]) -> None:
    bench, job, last = late
    header = read_header(last)
    place = bench.spool.image_path(header.series_uid, header.sop_instance_uid)
    shutil.copy(last, place)
    bench.store.add_image(header, bench.spool.relative(place), "", 1.0)  # as the rebuilding does
    again = Bench(bench.spool.root, "hold")
    again.intake.start()
    again.intake.stop()
    again.intake.tracker.step()
    (new,) = again.jobs()
    assert (new.id != job.id, len(new.images)) == (True, 12)
    again.store.close()


def test_late_image_abandons_a_running_job(late: tuple[Bench, JobRow, Path]) -> None:
    bench, job, last = late
    bench.store.move_job(job.id, JobState.RUNNING)
    bench.file(last)
    bench.intake.tracker.step()
    (new,) = bench.jobs()
    assert (bench.state(job), new.replaces) == (JobState.ABANDONED, "")
    bench.result(job)  # the run at work ends all the same
    with pytest.raises(StateError):
        bench.reconciler._finish(job)
    assert bench.state(job) == JobState.ABANDONED


def test_job_in_place_of_a_held_one_is_held(late: tuple[Bench, JobRow, Path]) -> None:
    bench, job, last = late
    bench.reconciler.withdraw(job.id, JobState.HELD, "held by a person")
    bench.file(last)
    bench.intake.tracker.step()
    assert bench.jobs() == []
    (new,) = bench.store.jobs_in(JobState.HELD)
    assert (bench.state(job), len(new.images)) == (JobState.ABANDONED, 12)


def test_abandoned_job_is_queued_again_when_its_weights_are_back(late: tuple[Bench, JobRow, Path]) -> None:
    bench, job, _ = late
    for digest in ("1" * 64, "0" * 64):
        bench.intake.judge.installed = {"flair": PipelineInfo("flair", "FLAIR lesions", "1", digest)}
        series = bench.store.series(job.series_uid)
        assert series is not None
        bench.intake.route_again(series)
        bench.intake.tracker.step()
        (queued,) = bench.jobs()
    assert (queued.id, queued.run) == (job.id, 2)


@pytest.mark.parametrize("changed", ["settings", "weights"])
def test_retry_takes_todays_settings_and_weights(late: tuple[Bench, JobRow, Path], changed: str) -> None:
    bench, job, _ = late
    assert bench.intake.judge.analyse_with_todays(job) is None
    info = INSTALLED["flair"]
    today = {"settings": {"default_settings": {"threshold": 0.7}}, "weights": {"weights_digest": "1" * 64}}
    bench.intake.judge.installed = {"flair": replace(info, **today[changed])}
    anew = bench.intake.judge.analyse_with_todays(job)
    (queued,) = bench.jobs()
    assert (queued.id, anew != job.id) == (anew, True)
    assert queued.settings == bench.intake.judge.installed["flair"].default_settings


def test_retry_keeps_the_settings_that_a_person_gave(late: tuple[Bench, JobRow, Path]) -> None:
    bench, job, _ = late
    bench.intake.judge.installed = {"flair": replace(INSTALLED["flair"], default_settings={"threshold": 0.5})}
    given = bench.store.job(bench.intake.judge.analyse_with(job, {"threshold": 0.9}))
    assert given is not None
    assert bench.intake.judge.analyse_with_todays(given) is None


def test_image_of_another_series_under_a_known_uid_is_set_aside(
    late: tuple[Bench, JobRow, Path], tmp_path: Path
) -> None:
    bench, job, _ = late
    stranger = mr_series(tmp_path / "stranger", seed="stranger")[0]
    ds = dcmread(stranger)
    taken = bench.store.images(job.series_uid)[0].sop_instance_uid
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = taken
    ds.save_as(stranger)
    bench.file(stranger)
    bench.intake.arrivals.tell_association("", "")
    bench.intake.tracker.step()
    (aside,) = bench.spool.quarantine.glob("*.dcm")
    assert "in another series" in aside.with_suffix(".txt").read_text()
    assert bench.store.series(str(ds.SeriesInstanceUID)) is None
    assert not list(bench.spool.series_folder(str(ds.SeriesInstanceUID)).iterdir())
    assert "1 image with other pixels under a known UID" in (bench.spool.root / "worklog.log").read_text()
