"""Time that the overview takes with thousands of jobs: collected from the database, and made into a page.

    python -m tests.benchmarks.overview [--jobs 10000] [--looks 7]

A tenth of the jobs is unfinished in one way or another; the rest was delivered, a part of it today. Each job has 48 images and
six objects at each of two destinations.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert

from dicom_node.config.settings import Settings, load_settings
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.schema import ImageRow, JobRow, ObjectRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.overview.collect import collect
from dicom_node.overview.page import overview_page
from dicom_node.overview.pages import RECENT_LINES
from dicom_node.spool.spool import Spool
from dicom_node.worklog.follow import last_records

IMAGES, OBJECTS = 48, 6
DAYS = 14
UNFINISHED = (
    JobState.QUEUED,
    JobState.DELIVERING,
    JobState.UNDELIVERED,
    JobState.HELD,
    JobState.NO_PIPELINE,
)
BATCH = 500
HEADER = {"tags": {"SeriesDescription": "t2_tirm_tra_dark-fluid", "EchoTime": 90.0, "InversionTime": 2500.0}}


def destinations(count: int = 2) -> list[dict[str, object]]:
    """Tables of destinations that nobody calls."""
    return [
        {"name": f"pacs{n}", "ae_title": f"PACS{n}", "host": "127.0.0.1", "port": 104} for n in range(count)
    ]


def fill(store: Store, settings: Settings, jobs: int, now: float) -> None:
    """Put jobs with all that belongs to them into a database."""
    for first in range(0, jobs, BATCH):
        rows: dict[type, list[dict[str, object]]] = {
            kind: [] for kind in (SeriesRow, JobRow, ImageRow, ObjectRow, TransitionRow)
        }
        for number in range(first, min(first + BATCH, jobs)):
            _add(rows, settings, number, jobs, now)
        with store.session() as session:
            for kind, found in rows.items():
                session.execute(insert(kind), found)


def _add(
    rows: dict[type, list[dict[str, object]]], settings: Settings, number: int, jobs: int, now: float
) -> None:
    state = UNFINISHED[number // 10 % len(UNFINISHED)] if number % 10 == 0 else JobState.DELIVERED
    came_at = now - DAYS * 86_400 * (jobs - number) / jobs - 60
    series_uid, job_id = f"1.2.826.0.1.3680043.8.498.{number}", f"{number:08x}" + "0" * 24
    is_held = number % 100 == 1
    rows[SeriesRow].append(
        {
            "series_uid": series_uid,
            "id": f"{number:08x}" + "f" * 24,
            "study_uid": f"1.2.826.0.1.3680043.8.499.{number}",
            "series_number": 5,
            "calling_ae": "SCANNER",
            "state": SeriesState.HELD if is_held else SeriesState.ROUTED,
            "reason": "slice 7 of 48 is missing" if is_held else "",
            "first_at": came_at - 30,
            "last_at": came_at,
        }
    )
    paths = [f"series/{number:032x}/{image:032x}.dcm" for image in range(IMAGES)]
    rows[ImageRow] += [
        {
            "sop_instance_uid": f"{series_uid}.{image}",
            "series_uid": series_uid,
            "path": path,
            "header": HEADER,
            "received_at": came_at,
        }
        for image, path in enumerate(paths)
    ]
    ended_at = came_at + 20 + number % 40
    is_analysed = state in {JobState.DELIVERED, JobState.DELIVERING, JobState.UNDELIVERED}
    rows[JobRow].append(
        {
            "id": job_id,
            "series_uid": series_uid,
            "pipeline": "flair" if number % 3 else "fatsat",
            "state": state,
            "outcome": ("findings", "none", "unsuitable", "failed")[number % 4] if is_analysed else "",
            "settings": {"threshold": 0.5, "members": 2},
            "images": paths,
            "created_at": came_at + 3,
            "ended_at": ended_at
            if state in {JobState.DELIVERED, JobState.UNDELIVERED, JobState.NO_PIPELINE}
            else 0.0,
        }
    )
    way: list[str] = ["", JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.DELIVERED]
    if state is not JobState.DELIVERED:
        way = (
            [*way[: way.index(state) + 1]]
            if state in way
            else [*way[:4], state]
            if is_analysed
            else ["", state]
        )
    rows[TransitionRow] += [
        {"subject": job_id, "at": came_at + 3 + step, "before": before, "after": after}
        for step, (before, after) in enumerate(itertools.pairwise(way))
    ]
    if not is_analysed:
        return
    sent = {JobState.DELIVERING: ObjectState.PENDING, JobState.UNDELIVERED: ObjectState.FAILED}.get(
        state, ObjectState.CONFIRMED
    )
    for destination in settings.destination:
        for item in range(OBJECTS):
            uid = f"{series_uid}.9.{item}"
            rows[ObjectRow].append(
                {
                    "sop_instance_uid": uid,
                    "destination": destination.name,
                    "job_id": job_id,
                    "run": 1,
                    "role": ("seg", "sr", "text-sr", "heatmap")[min(item, 3)],
                    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
                    "path": f"results/{job_id}/{item}.dcm",
                    "state": sent,
                    "reason": "no answer within 10 s" if sent is not ObjectState.CONFIRMED else "",
                    "next_at": now if sent is ObjectState.PENDING else 0.0,
                    "sent_at": ended_at if sent is ObjectState.CONFIRMED else 0.0,
                    "confirmed_at": ended_at if sent is ObjectState.CONFIRMED else 0.0,
                }
            )
            for before, after in (("", "pending"), ("pending", sent)):
                rows[TransitionRow].append(
                    {
                        "subject": f"{uid}@{destination.name}",
                        "at": ended_at,
                        "before": before,
                        "after": after,
                    }
                )


def main() -> None:
    """Measure, and print the median and the longest time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the database")
    parser.add_argument("--looks", type=int, default=7, help="how often it is made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        settings = load_settings(None, {"node": {"data": str(data)}, "destination": destinations()})
        spool = Spool(data)
        store = Store(data / "state.sqlite")
        now = time.time()
        fill(store, settings, given.jobs, now)
        collected, rendered, busy = [], [], []
        for _ in range(given.looks):
            began, used = time.perf_counter(), time.process_time()
            overview = collect(store, spool, settings, Workers(), now=now)
            collected.append(time.perf_counter() - began)
            overview_page(overview, last_records(data, RECENT_LINES))
            rendered.append(time.perf_counter() - began)
            busy.append(time.process_time() - used)
        store.close()
    print(f"{given.jobs} jobs, {given.looks} looks, {len(overview.stuck)} things stuck")  # noqa: T201
    for name, seconds in (
        ("collected", collected),
        ("and made a page", rendered),
        ("of the processor", busy),
    ):
        median, longest = statistics.median(seconds) * 1e3, max(seconds) * 1e3
        print(f"{name:18}{median:6.0f} ms   longest {longest:6.0f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
