"""The database made again from the spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import mr_series
from rig import manifest, read_here

from dicom_node.jobs.rebuild import Recovered, rebuild
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.series.headers import read_header
from dicom_node.spool.run_folder import RunFolder, set_aside
from dicom_node.spool.spool import Spool

JOBS = {
    name: f"{number:032x}" for number, name in enumerate(("done", "new", "again", "other", "replaced"), 1)
}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "data")


@pytest.fixture
def path(spool: Spool) -> Iterator[Path]:
    """A database with a series and jobs in several states, and the spool that goes with it."""
    path = spool.root / "state.sqlite"
    store = Store(path, spool.jobs)
    for file in mr_series(spool.series / "s", shape=(5, 8, 8)):
        header = read_header(file)
        store.add_image(header, spool.relative(file), "SCANNER", 1.0)
    for name, job_id in JOBS.items():
        store.create_job(
            job_id=job_id,
            series_uid=header.series_uid,
            pipeline="flair",
            rule="flair",
            state=JobState.NO_PIPELINE if name == "other" else JobState.QUEUED,
            settings={"threshold": 0.5},
            images=["series/s/1.dcm"],
            note="2 images missing",
            replaces=JOBS["replaced"] if name == "done" else "",
        )
    store.move_series(header.series_uid, SeriesState.ROUTED)
    store.close()
    finish(spool, JOBS["done"], 2)
    finish(spool, JOBS["again"], 1)
    set_aside(spool.results, JOBS["again"], 1)
    RunFolder.claim(spool.results, JOBS["again"], 2)
    return path


def finish(spool: Spool, job_id: str, run: int) -> None:
    folder = RunFolder.claim(spool.results, job_id, run)
    assert folder is not None
    manifest(job_id, run, "findings").write(folder.path)
    folder.publish()


def check(path: Path) -> None:
    store = Store(path)
    found = {name: store.job(job_id) for name, job_id in JOBS.items()}
    assert {name: (job.state, job.run, job.outcome) for name, job in found.items() if job} == {
        "done": ("delivering", 2, "findings"),
        "new": ("queued", 1, ""),
        "again": ("queued", 2, ""),
        "other": ("no-pipeline", 1, ""),
        "replaced": ("abandoned", 1, ""),
    }
    job = found["done"]
    assert job is not None
    assert (job.settings, job.images, job.note) == (
        {"threshold": 0.5},
        ["series/s/1.dcm"],
        "2 images missing",
    )
    assert len(store.images(job.series_uid)) == 5
    assert [row.state for row in store.series_in(*SeriesState)] == ["routed"]
    store.close()


def test_lost_database_is_made_again(spool: Spool, path: Path) -> None:
    path.unlink()
    assert rebuild(path, spool.root, read_here) == Recovered(images=5, jobs=5)
    check(path)


def test_damaged_database_is_kept_and_made_again(spool: Spool, path: Path) -> None:
    path.write_bytes(b"damaged")
    assert rebuild(path, spool.root, read_here) == Recovered(images=5, jobs=5)
    check(path)
    assert [file.read_bytes() for file in spool.root.glob("state.sqlite.damaged-*")] == [b"damaged"]


def test_whole_database_is_left_as_it_is(spool: Spool, path: Path) -> None:
    store = Store(path)
    store.move_job(JOBS["new"], JobState.HELD)
    store.close()
    assert rebuild(path, spool.root, read_here) == Recovered(images=0, jobs=0)
    store = Store(path)
    job = store.job(JOBS["new"])
    assert job is not None
    assert job.state == "held"
    store.close()


def test_what_a_power_cut_took_is_added(spool: Spool, path: Path) -> None:
    mr_series(spool.series / "t", shape=(5, 8, 8), seed="another")
    assert rebuild(path, spool.root, read_here) == Recovered(images=5, jobs=0)


def test_unreadable_files_are_passed_over(spool: Spool, path: Path) -> None:
    path.unlink()
    (spool.series / "s" / "x.dcm").write_bytes(b"nothing")
    (spool.jobs / "x.json").write_text("{}")
    assert rebuild(path, spool.root, read_here) == Recovered(images=5, jobs=5)


def test_job_that_was_replaced_stays_so_although_its_run_ended(spool: Spool, path: Path) -> None:
    store = Store(path, spool.jobs)
    store.move_job(JOBS["new"], JobState.ABANDONED, "replaced by another job")
    store.close()
    finish(spool, JOBS["new"], 1)
    path.unlink()
    rebuild(path, spool.root, read_here)
    store = Store(path, spool.jobs)
    job = store.job(JOBS["new"])
    assert job is not None and job.state == JobState.ABANDONED
    store.close()


def test_image_found_for_an_ignored_series_has_it_judged_again(spool: Spool, path: Path) -> None:
    store = Store(path, spool.jobs)
    (series,) = store.series_in(SeriesState.ROUTED)
    for state in (SeriesState.RECEIVING, SeriesState.IGNORED):
        store.move_series(series.series_uid, state)
    late = mr_series(spool.root / "late", shape=(6, 8, 8))[5]
    place = spool.series / "s" / "late.dcm"
    late.rename(place)
    store.close()
    assert rebuild(path, spool.root, read_here).images == 1
    store = Store(path, spool.jobs)
    assert [row.reason for row in store.series_in(SeriesState.RECEIVING)] == [
        "an image was found in the spool"
    ]
    store.close()


def test_series_whose_job_was_taken_back_is_judged_again(spool: Spool, path: Path) -> None:
    store = Store(path, spool.jobs)
    for name in ("new", "again", "replaced"):
        store.move_job(JOBS[name], JobState.ABANDONED, "its images were corrected")
    store.close()
    path.unlink()
    for name in ("done", "other"):
        (spool.jobs / f"{JOBS[name]}.json").unlink()
    rebuild(path, spool.root, read_here)
    store = Store(path, spool.jobs)
    assert [row.state for row in store.series_in(*SeriesState)] == [SeriesState.RECEIVING]
    store.close()
