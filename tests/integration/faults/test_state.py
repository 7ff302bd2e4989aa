"""Disk, database and result folders that fail under the node: it goes on by itself, and nothing is lost or sent twice."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.jobs.states import JobState
from tests.integration.faults.conftest import Make, Start
from tests.integration.faults.inside import InsideNode, lock_database
from tests.integration.faults.pacs import Pacs

pytestmark = pytest.mark.integration

A700 = 0xA700


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Fill a file system up to so many bytes."""
    filler = folder / "filler"
    with filler.open("wb") as stream:
        stream.write(b"\0" * (shutil.disk_usage(folder).free - leave_bytes))
    return filler


def test_disk_full_in_the_middle_of_a_series(start: Start, make_series: Make, small_disk: Path) -> None:
    pacs = Pacs()
    node = start(pacs, data=small_disk / "data", storage={"high_water": 1.0})
    files = make_series(shape=(12, 128, 128))
    filler = fill(small_disk, 200_000)
    results = node.offer(files)
    refused = [result for result in results if not result.outcome.stored]
    assert refused and len(refused) < len(files)
    assert {result.status for result in refused} == {A700}
    filler.unlink()
    node.send(result.path for result in refused)
    node.until(
        lambda: (
            [job for job in node.jobs(JobState.DELIVERED) if len(job.images) == len(files)]
            and not node.jobs(JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING)
        ),
        "all images are analysed together, after a part of them or not",
    )
    assert "A700" in node.log() and "No space left" in node.log()
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_disk_full_while_results_are_written(start: Start, make_series: Make, small_disk: Path) -> None:
    pacs = Pacs()
    node = start(pacs, data=small_disk / "data", storage={"high_water": 1.0})
    node.orders.close_gate()
    node.send(make_series(shape=(12, 128, 128)))
    node.until(node.orders.at_gate, "the job is at work")
    filler = fill(small_disk, 8192)
    node.orders.open_gate()
    node.until(node.queues.is_idle, "the run has ended")
    filler.unlink()
    node.wait_for("run-lost")
    node.delivered()
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_high_water_mark_refuses_and_room_is_noticed(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.node.spool.high_water = 0.0
    results = node.offer(files)
    assert {result.status for result in results} == {A700}
    assert "full" in node.wait_for("image-refused")["reason"]
    assert any("full" in trouble for trouble in node.node.troubles())
    node.node.spool.high_water = 1.0
    node.send(files)
    node.delivered()
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_locked_database_delays_and_loses_nothing(
    start: Start, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.jobs.database.BUSY_TIMEOUT_S", 0.05)
    pacs = Pacs()
    node = start(pacs)
    lock = lock_database(node.data / "state.sqlite")
    node.send(files)
    node.until(lambda: "database is locked" in node.log(), "the worklog says that the database is locked")
    lock.close()
    node.delivered()
    node.assert_nothing_lost()
    node.assert_once(pacs)


def damage(path: Path) -> None:
    """Overwrite the beginning of a database."""
    with path.open("r+b") as stream:
        stream.write(b"\xa5" * 8192)


def test_damaged_database_is_made_again_and_nothing_is_sent_twice(start: Start, make_series: Make) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.send(make_series())
    node.delivered()
    first = node.job()
    node.stop()
    damage(node.data / "state.sqlite")
    node.start()
    node.send(make_series())
    node.delivered(2)
    assert "were unknown to the database" in node.log()
    assert first.id in {job.id for job in node.jobs(JobState.DELIVERED)}
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_half_written_results_are_set_aside(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.orders.close_gate()
    node.send(files)
    node.until(node.orders.at_gate, "the job is at work")
    job = node.job()
    node.node.reconciler.stop()
    (node.node.spool.results / job.id).mkdir()
    (node.node.spool.results / job.id / "seg.dcm").write_bytes(b"cut off")
    node.orders.open_gate()
    node.node.reconciler.start()
    node.delivered()
    assert "its results were damaged, and were set aside" in node.why(job.id)
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_manifest_damaged_before_the_delivery_is_analysed_again(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, listening=False)
    node.send(files)
    node.wait_for("delivery-retry")
    job = node.job()
    node.stop()
    (node.node.spool.results / job.id / "manifest.json").write_text('{"job_id": "')
    pacs.start()
    node.start()
    node.delivered()
    assert "its results were damaged" in node.why(job.id)
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_half_written_run_of_a_dead_worker_is_done_anew(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.orders.close_gate()
    node.send(files)
    node.until(node.orders.at_gate, "the job is at work")
    node.wait_for("running")
    job = node.job()
    (place,) = node.node.spool.results.glob(f"{job.id}.run1")
    shutil.move(place, node.data / "elsewhere")
    node.wait_for("run-lost")
    assert "the run's folder is gone" in node.why(job.id)
    node.orders.open_gate()
    node.delivered()
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_late_result_of_a_replaced_job_is_never_sent(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.orders.close_gate()
    node.send(files[:-1])
    node.until(node.orders.at_gate, "the job is at work")
    replaced = node.job()
    node.send(files[-1:])
    node.until(lambda: len(node.jobs()) == 2, "another job takes its place")
    node.orders.open_gate()
    node.delivered()
    node.until((node.node.spool.results / replaced.id).is_dir, "the first job's run has ended")
    node.stop()
    for path in node.data.glob("state.sqlite*"):
        path.unlink()
    node.start()
    node.delivered()
    states = {job.id: job.state for job in node.jobs()}
    assert states.pop(replaced.id) == JobState.ABANDONED
    assert list(states.values()) == [JobState.DELIVERED]
    node.assert_nothing_lost()
    node.assert_once(pacs)


def test_image_found_for_an_ignored_series_is_judged(start: Start, make_series: Make) -> None:
    node = start()
    node.send(make_series())
    node.wait_for("analysed")
    forget_images(node, 10)
    with sqlite3.connect(node.data / "state.sqlite") as connection:
        connection.execute("UPDATE series SET state = 'ignored', reason = 'only 2 slices'")
        connection.execute("DELETE FROM jobs")
    connection.close()
    for record in node.node.spool.jobs.glob("*.json"):
        record.unlink()
    shutil.rmtree(node.node.spool.results)
    node.start()
    node.wait_for("analysed", 2)
    assert len(node.job().images) == 12


def forget_images(node: InsideNode, count: int) -> None:
    """Stop the node and take rows of images out of its database, as a power cut does."""
    node.stop()
    with sqlite3.connect(node.data / "state.sqlite") as connection:
        connection.execute(
            "DELETE FROM images WHERE sop_instance_uid IN (SELECT sop_instance_uid FROM images LIMIT ?)",
            (count,),
        )
    connection.close()
