"""Databases of other versions: brought up to date, made again with what was held, or refused."""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rig import read_here
from sqlalchemy import Column, Float, Integer, String
from sqlalchemy.dialects import sqlite

from dicom_node.errors import StateError
from dicom_node.jobs import migration
from dicom_node.jobs.migration import VERSION, holds_of
from dicom_node.jobs.rebuild import rebuild
from dicom_node.jobs.schema import Base
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store

FIXTURE = Path(__file__).parents[1] / "data-0.1.0" / "data.tar.xz"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database in a data folder that 0.1.0 left."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data" / "state.sqlite"


def sql(path: Path, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return [row for statement in statements for row in connection.execute(statement)]


def version_of(path: Path) -> int:
    return int(sql(path, "PRAGMA user_version")[0][0])


def jobs_in(path: Path, state: str) -> set[str]:
    return {row[0] for row in sql(path, f"SELECT id FROM jobs WHERE state = '{state}'")}


def test_new_database_has_the_version(tmp_path: Path) -> None:
    Store(tmp_path / "new.sqlite").close()
    assert version_of(tmp_path / "new.sqlite") == VERSION > 0


def test_database_of_0_1_0_is_brought_up_to_date_with_all_its_rows(path: Path) -> None:
    before = sql(path, "SELECT * FROM jobs ORDER BY id")
    found = rebuild(path, path.parent, read_here)
    assert (found.images, found.jobs, found.replaced) == (0, 0, None)
    assert version_of(path) == VERSION
    assert sql(path, "SELECT * FROM jobs ORDER BY id") == before


def test_looking_at_an_older_database_changes_nothing_in_it(path: Path) -> None:
    Store(path).close()
    assert version_of(path) == 0


def test_column_that_an_older_version_lacks_is_added_with_its_default(path: Path) -> None:
    sql(path, "DROP INDEX ix_jobs_series_uid", "DROP INDEX objects_due")
    for column in ("note", "events_read", "settings", "enqueued_at"):
        sql(path, f"ALTER TABLE jobs DROP COLUMN {column}")
    sql(path, "ALTER TABLE commitments DROP COLUMN settled", "ALTER TABLE series DROP COLUMN series_number")
    held = jobs_in(path, "held")
    with pytest.raises(
        StateError, match=r"of an older version .*: start the node, which brings it up to date"
    ):
        Store(path)
    assert rebuild(path, path.parent, read_here).replaced is None
    assert jobs_in(path, "held") == held
    store = Store(path)
    (job,) = store.jobs_in(JobState.HELD)
    assert (job.note, job.events_read, job.settings, job.enqueued_at) == ("", 0, {}, 0.0)
    store.update_job(job.id, note="2 images missing")
    store.close()
    names = {row[0] for row in sql(path, "SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {"ix_jobs_series_uid", "objects_due"} <= names


@pytest.mark.slow
def test_database_that_lacks_what_no_default_tells_is_made_again_with_what_was_held(path: Path) -> None:
    held = jobs_in(path, "held")
    series = sql(path, "SELECT series_uid, reason FROM series WHERE state = 'held'")
    routed = sql(path, "SELECT count(*) FROM series WHERE state = 'routed'")
    sql(path, "ALTER TABLE images DROP COLUMN header")
    found = rebuild(path, path.parent, read_here)
    assert found.held == len(held) + len(series) == 2
    assert found.images > 0 < found.jobs
    assert found.replaced is not None
    assert found.replaced.name.startswith("state.sqlite.outdated-")
    assert jobs_in(found.replaced, "held") == jobs_in(path, "held") == held
    assert version_of(path) == VERSION
    store = Store(path)
    assert [(one.series_uid, one.reason) for one in store.series_in(SeriesState.HELD)] == series
    (job,) = store.jobs_in(JobState.HELD)
    assert job.reason == "held by a person"
    assert [row.after for row in store.history(job.id)][-1] == "held"
    store.close()
    assert sql(path, "SELECT count(*) FROM series WHERE state = 'routed'") == routed


def test_table_that_an_older_version_lacks_is_made(path: Path) -> None:
    sql(path, "DROP TABLE commitments")
    with pytest.raises(StateError, match="start the node, which brings it up to date"):
        Store(path)
    assert rebuild(path, path.parent, read_here).replaced is None
    assert sql(path, "SELECT count(*) FROM commitments") == [(0,)]


def test_column_that_today_nobody_fills_has_the_database_made_again(path: Path) -> None:
    sql(
        path,
        "DROP TABLE commitments",
        "CREATE TABLE commitments (transaction_uid TEXT PRIMARY KEY, ward TEXT NOT NULL)",
    )
    assert rebuild(path, path.parent, read_here).held == 2


def test_series_that_was_released_stays_so_in_a_database_made_again(path: Path) -> None:
    store = Store(path, path.parent / "jobs", may_migrate=True)
    (series,) = store.series_in(SeriesState.HELD)
    store.create_job(
        job_id="f" * 32, series_uid=series.series_uid, pipeline="flair", rule="", state=JobState.QUEUED,
        settings={}, images=[], note="1 image missing",
    )  # fmt: skip
    store.move_series(series.series_uid, SeriesState.ROUTED)
    (job,) = store.jobs_in(JobState.HELD)
    store.move_job(job.id, JobState.QUEUED, "released by a person")
    store.close()
    sql(path, "ALTER TABLE images DROP COLUMN header", "PRAGMA user_version = 0")
    assert rebuild(path, path.parent, read_here).held == 0
    store = Store(path)
    released = store.job("f" * 32)
    assert released is not None
    assert (released.state, released.note) == ("queued", "1 image missing")
    assert store.jobs_in(JobState.HELD) == store.series_in(SeriesState.HELD) == []
    store.close()


@pytest.mark.parametrize("may_migrate", [False, True])
def test_newer_database_is_refused_in_one_line_and_left_as_it_is(path: Path, may_migrate: bool) -> None:
    sql(path, f"PRAGMA user_version = {VERSION + 1}")
    content = path.read_bytes()
    with pytest.raises(StateError) as caught:
        Store(path, may_migrate=may_migrate)
    assert str(caught.value) == (
        f"{path}: written by a newer version of dicom-node (state {VERSION + 1}, this one reads up to {VERSION}): install "
        "that version, or move state.sqlite* away, and it is made again without what people held"
    )
    with pytest.raises(StateError, match="newer version"):
        rebuild(path, path.parent, read_here)
    assert path.read_bytes() == content
    assert not list(path.parent.glob("state.sqlite.*-*"))


def test_what_was_held_is_nothing_where_the_database_does_not_tell(path: Path) -> None:
    sql(path, "ALTER TABLE series DROP COLUMN reason")
    assert len(holds_of(path).jobs) == 1
    path.write_bytes(b"damaged")
    assert len(holds_of(path)) == 0


def test_every_column_of_today_could_be_added_but_those_that_say_what_a_row_is() -> None:
    bare = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if migration._default(column) is None and not column.primary_key
    }
    assert "images.header" in bare
    assert "jobs.note" not in bare


@pytest.mark.parametrize(
    ("column", "default"),
    [
        (Column("a", String, default="it's"), "'it''s'"),
        (Column("a", Integer, default=3), "3"),
        (Column("a", Float, nullable=True), "NULL"),
        (Column("a", Float, nullable=False), None),
        (Column("a", sqlite.JSON, default=dict), "'{}'"),
    ],
)
def test_defaults_are_written_as_sql(column: Column[Any], default: str | None) -> None:
    assert migration._default(column) == default
