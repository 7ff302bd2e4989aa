"""A data folder with series, jobs and objects in the states that a test asks for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import header
from sqlalchemy import insert, update

from dicom_node.config.settings import Settings, load_settings
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.schema import ObjectRow, TransitionRow
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.overview.collect import collect, midnight
from dicom_node.overview.overview import Overview, Stuck
from dicom_node.spool.spool import Spool

DESTINATION = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


class Site:
    """A node's data at a time that the test sets."""

    def __init__(self, root: Path, **tables: Any) -> None:
        tables = {"node": {"data": str(root)}, "destination": [DESTINATION], **tables}
        self.settings: Settings = load_settings(None, tables)
        self.spool = Spool(root, 1.0)
        self.store = Store(root / "state.sqlite", self.spool.jobs)
        self.now = midnight(time.time()) + 12 * 3600
        self.workers = Workers(looked_at=self.now)

    def series(self, number: int, state: SeriesState, reason: str = "", *, ago_s: float = 60.0) -> str:
        uid = f"1.2.{number}"
        self.store.add_image(header(1, series=uid), f"series/{number}/a.dcm", "SCANNER", self.now - ago_s)
        if state is not SeriesState.RECEIVING:
            self.store.move_series(uid, state, reason)
        self._date(uid, ago_s)
        row = self.store.series(uid)
        assert row is not None
        return row.id

    def job(
        self,
        number: int,
        *states: JobState,
        ago_s: float = 60.0,
        ended_s: float = 0.0,
        reason: str = "",
        outcome: str = "",
        pipeline: str = "flair",
    ) -> str:
        """Make a job that went through these states, the last of them so many seconds ago."""
        if self.store.series(f"1.2.{number}") is None:
            self.series(number, SeriesState.ROUTED, ago_s=ago_s)
        job_id = f"{number:08x}" + "a" * 24
        self.store.create_job(
            job_id=job_id,
            series_uid=f"1.2.{number}",
            pipeline=pipeline,
            rule="",
            state=states[0],
            settings={},
            images=[],
        )
        for state in states[1:]:
            self.store.move_job(job_id, state, reason)
        self._date(job_id, ended_s or ago_s)
        job = self.store.job(job_id)
        assert job is not None
        values = {"created_at": self.now - ago_s, "outcome": outcome}
        if job.ended_at:
            values["ended_at"] = self.now - ended_s
        self.store.update_job(job_id, **values)
        return job_id

    def objects(
        self, job_id: str, state: ObjectState, count: int = 1, destination: str = "pacs", **values: Any
    ) -> None:
        given = {"reason": "", "next_at": 0.0, "sent_at": 0.0, "confirmed_at": 0.0, **values}
        rows = [
            {
                "sop_instance_uid": f"1.2.9.{job_id[:8]}.{state}.{number}",
                "destination": destination,
                "job_id": job_id,
                "run": 1,
                "role": "sr",
                "sop_class_uid": "1.2.3",
                "path": "x",
                "state": state,
                **given,
            }
            for number in range(count)
        ]
        with self.store.session() as session:
            session.execute(insert(ObjectRow), rows)

    def overview(self, **options: Any) -> Overview:
        return collect(self.store, self.spool, self.settings, self.workers, now=self.now, **options)

    def stuck(self, **options: Any) -> list[Stuck]:
        return list(self.overview(**options).stuck)

    def _date(self, subject: str, ago_s: float) -> None:
        """Let what has happened to a series or job have happened so long ago."""
        with self.store.session() as session:
            session.execute(
                update(TransitionRow).where(TransitionRow.subject == subject).values(at=self.now - ago_s)
            )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.store.close()
