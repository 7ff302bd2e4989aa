"""The node's database: identities, transitions with their history, look-up by what people type, damage."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rig import header
from sqlalchemy import insert

from dicom_node.errors import NotFoundError, StateError
from dicom_node.jobs.schema import ObjectRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import CorruptStateError, NewImage, Store, job_identity, series_identity

JOB = "abcd0000000000000000000000000001"
OTHER = "abcd1000000000000000000000000002"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    yield store
    store.close()


def add_job(store: Store, job_id: str = JOB, series: str = "1.2.3", **changes: Any) -> bool:
    store.add_image(header(series=series), "series/a/b.dcm", "SCANNER", 1.0)
    values: dict[str, Any] = {
        "job_id": job_id,
        "series_uid": series,
        "pipeline": "flair",
        "rule": "flair",
        "state": JobState.QUEUED,
        "settings": {},
        "images": ["series/a/b.dcm"],
    }
    return store.create_job(**{**values, **changes})


def test_identity_of_a_job_is_its_images_pipeline_weights_and_settings() -> None:
    def identity(
        images: tuple[str, ...] = ("1.1", "1.2"), pipeline: str = "flair", digest: str = "d", **settings: Any
    ) -> str:
        return job_identity(images, pipeline, digest, settings)

    assert identity(("1.2", "1.1"), a=1, b=2) == identity(("1.1", "1.2", "1.1"), b=2, a=1)
    others = {
        identity(),
        identity(("1.1",)),
        identity(pipeline="fatsat"),
        identity(digest="e"),
        identity(a=1),
    }
    assert len(others) == 5
    assert all(len(text) == 32 for text in others)
    # written down: a job keeps its ID over versions of the node
    assert identity() == "64685ee319f71e2ac5bc1b2ecff7ec0a"


def test_image_is_known_once_and_makes_its_series(store: Store) -> None:
    assert store.add_image(header(1), "series/a/1.dcm", "SCANNER", 10.0)
    assert store.add_image(header(2), "series/a/2.dcm", "SCANNER", 12.0)
    assert not store.add_image(header(1), "series/a/other.dcm", "PACS", 14.0)
    series = store.series("1.2.3")
    assert series is not None
    assert (series.state, series.calling_ae, series.series_number) == ("receiving", "SCANNER", 5)
    assert (series.first_at, series.last_at) == (10.0, 12.0)
    assert [image.path for image in store.images("1.2.3")] == ["series/a/1.dcm", "series/a/2.dcm"]
    assert store.image_paths() == {"series/a/1.dcm", "series/a/2.dcm"}
    assert [row.series_uid for row in store.series_in(SeriesState.RECEIVING)] == ["1.2.3"]


def test_images_recorded_together_are_told_apart_by_what_is_known(store: Store) -> None:
    store.add_image(header(1), "series/a/1.dcm", "SCANNER", 10.0)
    images = [
        NewImage(header(1), "series/a/again.dcm", "PACS"),
        NewImage(header(2), "series/a/2.dcm", "PACS"),
        NewImage(header(3, series="1.2.4"), "series/b/3.dcm", "PACS"),
        NewImage(replace(header(2), series_uid="1.2.4"), "series/b/2.dcm", "PACS"),
    ]
    assert store.add_images(images, 12.0) == [False, True, True, False]
    assert {row.path for row in store.images("1.2.3")} == {"series/a/1.dcm", "series/a/2.dcm"}
    assert [row.path for row in store.images("1.2.4")] == ["series/b/3.dcm"]
    first, second = store.series("1.2.3"), store.series("1.2.4")
    assert first is not None
    assert second is not None
    assert (first.first_at, first.last_at, first.calling_ae) == (10.0, 12.0, "SCANNER")
    assert (second.first_at, second.last_at, second.calling_ae) == (12.0, 12.0, "PACS")
    assert [row.after for row in store.history("1.2.4")] == ["receiving"]
    assert store.add_images(images, 14.0) == [False] * 4
    assert store.series("1.2.4").last_at == 12.0  # type: ignore[union-attr]


def test_every_move_of_a_series_is_kept_with_its_reason(store: Store) -> None:
    store.add_image(header(), "a", "SCANNER", 1.0)
    store.move_series("1.2.3", SeriesState.HELD, "slice 7 is missing")
    store.move_series("1.2.3", SeriesState.HELD, "slice 7 is missing")
    store.move_series("1.2.3", SeriesState.HELD, "slices 7 and 8 are missing")
    store.move_series("1.2.3", SeriesState.ROUTED)
    assert [(row.before, row.after, row.reason) for row in store.history("1.2.3")] == [
        ("", "receiving", ""),
        ("receiving", "held", "slice 7 is missing"),
        ("held", "held", "slices 7 and 8 are missing"),
        ("held", "routed", ""),
    ]


def test_move_that_is_not_allowed_changes_nothing(store: Store) -> None:
    add_job(store)
    with pytest.raises(StateError, match="job abcd0000 can't go from queued to delivered"):
        store.move_job(JOB, JobState.DELIVERED, run=7)
    job = store.job(JOB)
    assert job is not None
    assert (job.state, job.run) == ("queued", 1)
    assert len(store.history(JOB)) == 1


def test_move_of_a_job_sets_columns_and_its_end(store: Store) -> None:
    add_job(store)
    assert store.move_job(JOB, JobState.RUNNING, run=2).run == 2
    store.move_job(JOB, JobState.DELIVERING, outcome="none")
    assert store.move_job(JOB, JobState.DELIVERED).ended_at > 0
    job = store.move_job(JOB, JobState.QUEUED, "asked for by a person", attempts=1)
    assert (job.outcome, job.ended_at, job.reason) == ("none", 0.0, "asked for by a person")
    assert [row.id for row in store.jobs_in(JobState.QUEUED, JobState.RUNNING)] == [JOB]
    with pytest.raises(StateError, match="no column colour"):
        store.update_job(JOB, colour="red")
    with pytest.raises(NotFoundError):
        store.update_job(OTHER, run=2)


def test_job_is_created_once(store: Store) -> None:
    assert add_job(store)
    assert not add_job(store, pipeline="other")
    assert [job.pipeline for job in store.jobs_of("1.2.3")] == ["flair"]


def test_row_of_an_unknown_job_is_refused(store: Store) -> None:
    row = ObjectRow(
        sop_instance_uid="1",
        destination="pacs",
        job_id=JOB,
        run=1,
        role="sr",
        sop_class_uid="2",
        path="p",
        state="pending",
    )
    with pytest.raises(StateError, match="FOREIGN KEY"), store.session() as session:
        session.add(row)


def test_threads_write_side_by_side(store: Store) -> None:
    def add(series: str) -> None:
        for number in range(20):
            store.add_image(header(number, series), f"{series}/{number}", "SCANNER", float(number))

    threads = [threading.Thread(target=add, args=(f"1.{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.image_paths()) == 80


@pytest.mark.parametrize("text", ["1.2.3", "1.2", "1.2.3.1", "ACC7", "lower", "UPPER"])
def test_series_is_found_by_uids_accession_number_and_short_id(store: Store, text: str) -> None:
    store.add_image(header(accession="ACC7"), "a", "SCANNER", 1.0)
    add_job(store)
    short = series_identity("1.2.3")[:8]
    match = store.find({"lower": short, "UPPER": short.upper()}.get(text, text))
    assert match.kind == "series"
    assert [row.series_uid for row in match.series] == ["1.2.3"]
    assert [job.id for job in match.jobs] == [JOB]


def test_job_is_found_by_an_unambiguous_beginning(store: Store) -> None:
    add_job(store)
    add_job(store, OTHER, "1.2.4")
    match = store.find("abcd0")
    assert (match.kind, [job.id for job in match.jobs]) == ("job", [JOB])
    assert [row.series_uid for row in match.series] == ["1.2.3"]
    with pytest.raises(NotFoundError, match="not unique: job abcd00000000, job abcd10000000"):
        store.find("abcd")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("abc", "too short"), ("ffff", "no series or job"), ("what%", "nothing here is called")],
)
def test_unknown_text_is_told(store: Store, text: str, reason: str) -> None:
    add_job(store)
    with pytest.raises(NotFoundError, match=reason):
        store.find(text)


def test_empty_accession_number_finds_nothing(store: Store) -> None:
    store.add_image(header(), "a", "SCANNER", 1.0)
    with pytest.raises(NotFoundError):
        store.find("")


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(CorruptStateError, match=r"state\.sqlite: file is not a database"):
        Store(path)


def test_damaged_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = Store(path)
    for number in range(200):
        store.add_image(header(number), str(number), "SCANNER", 1.0)
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xff" * (len(content) - 12288)
    path.write_bytes(content)
    with pytest.raises(CorruptStateError):
        Store(path)


def test_database_is_private(store: Store) -> None:
    assert store.path.stat().st_mode & 0o077 == 0


def test_errors_of_the_database_name_no_patient(store: Store) -> None:
    row = {"series_uid": "1.2", "accession_number": "GREPME-4711"}
    with pytest.raises(StateError) as caught, store.session() as session:
        session.execute(insert(SeriesRow), row)
    assert "GREPME" not in "".join(traceback.format_exception(caught.value))


def test_database_that_can_not_be_used_names_the_way_out(tmp_path: Path, store: Store) -> None:
    (tmp_path / "damaged.sqlite").write_bytes(b"this is no database" * 500)
    with pytest.raises(CorruptStateError, match="the node makes it again from the data folder"):
        Store(tmp_path / "damaged.sqlite")
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(StateError, match="a file that this user may write"):
        Store(tmp_path / "folder.sqlite")
