"""Run folders: who may work, and whose work counts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool import run_folder

JOB = "0123456789abcdef0123456789abcdef"


def claim(results: Path, run: int = 1) -> run_folder.RunFolder:
    folder = run_folder.RunFolder.claim(results, JOB, run)
    assert folder is not None
    return folder


def test_run_is_claimed_once(tmp_path: Path) -> None:
    claim(tmp_path)
    assert run_folder.RunFolder.claim(tmp_path, JOB, 1) is None


def test_run_is_not_claimed_behind_a_later_one(tmp_path: Path) -> None:
    claim(tmp_path, 2)
    assert run_folder.RunFolder.claim(tmp_path, JOB, 1) is None
    assert run_folder.RunFolder.claim(tmp_path, JOB, 3) is not None


def test_old_message_does_not_revive_a_run_that_was_set_aside(tmp_path: Path) -> None:
    claim(tmp_path).publish()
    run_folder.set_aside(tmp_path, JOB, 1)
    assert run_folder.RunFolder.claim(tmp_path, JOB, 1) is None
    assert claim(tmp_path, 2).publish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [JOB, f"{JOB}.was1"]


def test_first_to_publish_wins(tmp_path: Path) -> None:
    slow, fast = claim(tmp_path, 1), claim(tmp_path, 2)
    slow.event("stage", stage="slow")
    fast.event("stage", stage="fast")
    assert fast.publish()
    assert not slow.publish()
    assert "fast" in (tmp_path / JOB / run_folder.EVENTS).read_text()
    assert [path.name for path in tmp_path.iterdir()] == [JOB]


def test_run_whose_folder_was_cleared_away_publishes_nothing(tmp_path: Path) -> None:
    folder = claim(tmp_path)
    run_folder.remove_leftovers(tmp_path, JOB)
    assert not folder.publish()
    assert list(tmp_path.iterdir()) == []


def test_results_count_once_their_manifest_is_there(tmp_path: Path) -> None:
    folder = claim(tmp_path)
    assert run_folder.finished_path(tmp_path, JOB) is None
    (folder.path / run_folder.MANIFEST).write_text("{}")
    assert run_folder.finished_path(tmp_path, JOB) is None
    folder.publish()
    assert run_folder.finished_path(tmp_path, JOB) == tmp_path / JOB


@pytest.mark.parametrize(
    "name", ["../x.run1", f"{JOB}.run0", f"{JOB}.run1/..", f"{JOB[:-1]}.run1", f"{JOB}.was1"]
)
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpoolError):
        run_folder.run_path(tmp_path, name)


def test_events_are_read_from_where_one_left_off(tmp_path: Path) -> None:
    folder = claim(tmp_path)
    folder.event("stage", stage="read", seconds=1.0)
    events, offset = run_folder.read_events(folder.path, 0)
    assert [event["stage"] for event in events] == ["read"]
    assert run_folder.read_events(folder.path, offset) == ([], offset)
    folder.event("stage", stage="network", seconds=2.0)
    events, _ = run_folder.read_events(folder.path, offset)
    assert [event["stage"] for event in events] == ["network"]


def test_death_is_read_behind_a_line_that_was_cut_off(tmp_path: Path) -> None:
    folder = claim(tmp_path)
    with (folder.path / run_folder.EVENTS).open("a") as stream:
        stream.write('{"event": "sta')
    assert run_folder.read_events(folder.path, 0) == ([], 0)
    run_folder.note_death(folder.path, run_folder.LOST, "crashed")
    events, _ = run_folder.read_events(folder.path, 0)
    assert [(event["event"], event["reason"]) for event in events] == [("lost", "crashed")]


def test_death_of_a_run_without_folder_is_no_error(tmp_path: Path) -> None:
    run_folder.note_death(tmp_path / f"{JOB}.run1", run_folder.LOST, "crashed")
    assert list(tmp_path.iterdir()) == []


def test_heartbeat_touches_the_lease_until_the_end(tmp_path: Path) -> None:
    folder = claim(tmp_path)
    lease = folder.path / run_folder.LEASE
    os.utime(lease, (0, 0))
    with folder.heartbeat(0.01):
        while lease.stat().st_mtime == 0:
            os.sched_yield()
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_run_that_was_begun_meanwhile_is_no_leftover(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        claim(tmp_path, run)
    run_folder.remove_leftovers(tmp_path, JOB, up_to=2)
    assert [path.name for path in tmp_path.iterdir()] == [f"{JOB}.run3"]
