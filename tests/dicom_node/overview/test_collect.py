"""The overview: everything that is stuck with its command and for how long, and the figures of today."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.jobs.known_workers import SeenWorker, UnservedQueue, Workers
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.overview.collect import jobs_of_today
from dicom_node.overview.words import age, size
from dicom_node.series.identity import SEVERAL_PATIENTS
from tests.dicom_node.overview.conftest import Site

TO_DELIVERING = (JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING)
HOUR_S = 3600.0


def test_nothing_is_stuck_where_everything_goes_on(site: Site) -> None:
    site.series(1, SeriesState.RECEIVING)
    site.series(2, SeriesState.IGNORED)
    site.job(3, *TO_DELIVERING, JobState.DELIVERED)
    site.objects(site.job(4, *TO_DELIVERING), ObjectState.PENDING)
    assert site.stuck() == []


def test_each_thing_that_is_stuck_has_its_command_its_reason_and_its_age(site: Site) -> None:
    gap = site.series(1, SeriesState.HELD, "slice 7 is missing", ago_s=5 * HOUR_S)
    mixed = site.series(2, SeriesState.HELD, SEVERAL_PATIENTS, ago_s=4 * HOUR_S)
    held = site.job(3, JobState.QUEUED, JobState.HELD, reason="held by a person", ago_s=3 * HOUR_S)
    undelivered = site.job(4, *TO_DELIVERING, JobState.UNDELIVERED, ago_s=2 * HOUR_S, ended_s=HOUR_S)
    site.objects(undelivered, ObjectState.FAILED, reason="refused with A900 for good")
    found = {one.id: one for one in site.stuck()}
    assert [one.level for one in site.stuck()] == ["error", "warning", "warning", "warning"]
    assert {one.command for one in found.values()} == {
        f"dicom-node release {gap[:8]}",
        f"dicom-node why {mixed[:8]}",
        f"dicom-node release {held[:8]}",
        f"dicom-node retry {undelivered[:8]}",
    }
    assert found[gap].reason == "slice 7 is missing"
    assert found[undelivered].reason == "refused with A900 for good"
    assert found[undelivered].what == f"job {undelivered[:8]} (flair) is not delivered"
    ages = {one: site.now - found[one].since for one in found if found[one].since is not None}
    assert ages == pytest.approx({gap: 5 * HOUR_S, mixed: 4 * HOUR_S, held: 3 * HOUR_S, undelivered: HOUR_S})


def test_jobs_without_their_pipeline_are_one_thing_for_each_pipeline(site: Site) -> None:
    for number in (1, 2):
        site.job(number, JobState.NO_PIPELINE, pipeline="fatsat")
    (one,) = site.stuck()
    assert (one.what, one.command) == (
        "2 jobs for fatsat, which is not installed",
        "dicom-node retry 00000002",
    )


def test_queue_without_a_worker_is_stuck_once_it_has_lasted(site: Site) -> None:
    site.job(1, JobState.QUEUED)
    for seconds, count in ((50.0, 0), (70.0, 1)):
        site.workers = Workers(site.now, unserved=(UnservedQueue("flair", 1, site.now - seconds),))
        assert len(site.stuck()) == count
    (one,) = site.stuck()
    assert (one.level, one.what, one.since) == ("error", "no flair worker", site.now - 70.0)
    assert one.command == "dicom-node worker --queues flair"


def test_worker_that_cannot_read_the_messages_is_stuck(site: Site) -> None:
    worker = LiveWorker("gpu1:7", "0.9.0", JobMessage.VERSION + 1, ("flair",), "cuda:0")
    site.workers = Workers(site.now, (SeenWorker(worker, site.now - 5),))
    (one,) = site.stuck()
    assert one.reason == worker.conflict
    assert (one.command, one.effect[:7]) == ("systemctl restart dicom-node-worker", "on gpu1")
    (state,) = site.overview().workers
    assert (state.host, state.queues, state.is_alive) == ("gpu1", ("flair",), True)
    assert [queue.workers for queue in site.overview().queues] == [0]


def test_destination_that_fails_is_one_thing_with_its_backlog(site: Site) -> None:
    for number, hours in ((1, 3), (2, 2)):
        job_id = site.job(number, *TO_DELIVERING, ago_s=hours * HOUR_S)
        site.objects(
            job_id, ObjectState.PENDING, 3, reason="no answer within 10 s", next_at=site.now + 60 * number
        )
    site.objects(
        site.job(3, *TO_DELIVERING, JobState.DELIVERED), ObjectState.CONFIRMED, confirmed_at=site.now - 100
    )
    (one,) = site.stuck()
    assert (one.what, one.reason) == ("6 objects of 2 jobs not at pacs yet", "no answer within 10 s")
    (state,) = site.overview().destinations
    assert (state.objects, state.jobs, state.reason) == (6, 2, "no answer within 10 s")
    assert (state.next_at, state.last_success_at) == (site.now + 60, site.now - 100)
    assert one.since == state.oldest_at == pytest.approx(site.now - 3 * HOUR_S)


def test_objects_of_a_destination_that_is_gone_from_the_configuration_hold_nothing_up(site: Site) -> None:
    site.objects(site.job(1, *TO_DELIVERING), ObjectState.PENDING, destination="old", reason="gone")
    assert site.stuck() == []


def test_what_was_sent_and_never_proved_is_stuck_only_where_a_proof_is_wanted(tmp_path: Path) -> None:
    for confirm, count in (("none", 0), ("c-find", 1)):
        destination = {
            "name": "pacs",
            "ae_title": "PACS",
            "host": "127.0.0.1",
            "port": 104,
            "confirm": confirm,
        }
        site = Site(tmp_path / confirm, destination=[destination])
        job_id = site.job(1, *TO_DELIVERING, JobState.DELIVERED)
        site.objects(job_id, ObjectState.SENT, sent_at=site.now - 500)
        found = site.stuck()
        assert [(one.command, one.since) for one in found] == [
            (f"dicom-node why {job_id[:8]}", site.now - 500)
        ] * count
        site.store.close()


def test_folder_is_stuck_by_a_full_disk_old_files_of_the_inbox_and_the_quarantine(site: Site) -> None:
    site.spool.high_water = 0.0
    waiting = site.spool.inbox / "a-000001.dcm"
    waiting.touch()
    os.utime(waiting, (site.now - 61, site.now - 61))
    for name in ("b.dcm", "b.txt"):
        (site.spool.quarantine / name).touch()
    commands = [(one.level, one.command) for one in site.stuck()]
    assert commands == [
        ("error", "dicom-node check"),
        ("error", "dicom-node worklog --failed -n 20"),
        ("warning", f"head {site.spool.quarantine}/*.txt"),
    ]
    disk = site.overview().disk
    assert (disk.is_full, disk.inbox, disk.quarantine) == (True, 1, 1)
    os.utime(waiting, (site.now - 59, site.now - 59))
    assert len(site.stuck()) == 2


def test_node_that_does_not_run_and_a_broker_that_is_silent_are_stuck(site: Site) -> None:
    (one,) = site.stuck(is_running=False)
    assert one.command == "systemctl start dicom-node"
    site.workers = replace(site.workers, broker_error="refused", broker_since=site.now - 9)
    broker, trouble = sorted(
        site.stuck(troubles=["a receiver is down"]), key=lambda one: one.reason == "refused"
    )[::-1]
    assert (broker.reason, broker.since) == ("refused", site.now - 9)
    assert trouble.reason == "a receiver is down"


def test_stages_tell_how_many_are_in_them_and_which_is_oldest(site: Site) -> None:
    site.series(1, SeriesState.RECEIVING)
    site.job(2, JobState.QUEUED, ago_s=50)
    oldest = site.job(3, JobState.QUEUED, ago_s=500)
    site.job(4, JobState.QUEUED, JobState.RUNNING)
    stages = {stage.name: stage for stage in site.overview().stages}
    assert {name: stage.count for name, stage in stages.items()} == {
        "coming in": 1,
        "waiting": 2,
        "at work": 1,
        "being delivered": 0,
    }
    assert stages["waiting"].oldest_id == oldest
    assert stages["waiting"].oldest_at == pytest.approx(site.now - 500)
    assert stages["being delivered"].oldest_at is None


def test_today_counts_what_came_was_analysed_failed_and_how_long_it_took(site: Site) -> None:
    done = (*TO_DELIVERING, JobState.DELIVERED)
    site.job(1, *done, outcome="findings", ago_s=100, ended_s=60)
    site.job(2, *done, outcome="none", ago_s=300, ended_s=60)
    worst = site.job(3, *done, outcome="failed", ago_s=900, ended_s=60)
    site.job(4, *TO_DELIVERING, outcome="unsuitable", ago_s=30)
    yesterday = 30 * HOUR_S
    site.job(5, *done, outcome="findings", ago_s=yesterday, ended_s=yesterday - 60)
    site.job(6, *TO_DELIVERING, outcome="findings", ago_s=yesterday)  # the destination is down since then
    day = site.overview().today
    assert (day.series, day.images, day.failed, day.delivered) == (4, 4, 1, 3)
    assert day.analysed == {"findings": 1, "none": 1, "unsuitable": 1}
    assert (day.median_s, day.worst_s, day.worst_id) == (240.0, 840.0, worst)
    listed = jobs_of_today(site.store, site.now)
    assert [job.id[:8] for job in listed] == ["00000004", "00000003", "00000002", "00000001"]
    assert [job.turnaround_s for job in listed] == [None, 840.0, 240.0, 40.0]


def test_turnaround_of_a_job_done_anew_counts_from_the_wish(site: Site) -> None:
    done = (JobState.RUNNING, JobState.DELIVERING, JobState.DELIVERED)
    site.job(1, JobState.QUEUED, *done, JobState.QUEUED, *done, ago_s=90, ended_s=70, outcome="none")
    assert site.overview().today.worst_s == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (42.4, "42 s"),
        (430, "7 min"),
        (7 * 3600, "7 h"),
        (11_100, "3 h 5 min"),
        (5 * 86_400, "5 days"),
    ],
)
def test_length_of_time_is_said_with_the_unit_that_fits(seconds: float, words: str) -> None:
    assert age(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (12_340, "12.3 kB"), (999e9, "999 GB"), (3.8e12, "3.8 TB")]
)
def test_size_is_said_with_the_unit_that_fits(count: float, words: str) -> None:
    assert size(count) == words


@pytest.fixture
def configuration(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("DICOM_NODE__NODE__DATA", str(site.spool.root))
    monkeypatch.setenv("DICOM_NODE__STORAGE__HIGH_WATER", "1.0")
    return site


def test_status_says_what_is_stuck_and_ends_with_1_when_results_do_not_go_out(configuration: Site) -> None:
    job_id = configuration.job(1, *TO_DELIVERING, JobState.UNDELIVERED)
    told = CliRunner().invoke(app, ["status"])
    assert told.exit_code == 1
    assert "the node does not run" in told.output
    assert f"    dicom-node retry {job_id[:8]}  delivers it again" in told.output
    assert "Today" in told.output


def test_status_of_today_lists_its_jobs(configuration: Site) -> None:
    configuration.now = time.time()
    configuration.job(1, *TO_DELIVERING, JobState.DELIVERED, outcome="findings", ago_s=0.0)
    told = CliRunner().invoke(app, ["status", "--today"])
    assert "00000001   flair   series 5   delivered   findings" in told.output
    assert "Destinations" not in told.output


def test_status_as_json_is_for_programs(configuration: Site) -> None:
    held = configuration.series(1, SeriesState.HELD, "a gap")
    told = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)
    assert told["is_running"] is False
    (one,) = [one for one in told["stuck"] if one["id"]]
    assert (one["id"], one["reason"], one["since"][-6:]) == (held, "a gap", "+00:00")
    today = json.loads(CliRunner().invoke(app, ["status", "--json", "--today"]).output)
    assert set(today) == {"today", "jobs"}


def test_status_where_no_node_has_worked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE__NODE__DATA", str(tmp_path))
    told = CliRunner().invoke(app, ["status"])
    assert "no node has worked here" in str(told.exception)
