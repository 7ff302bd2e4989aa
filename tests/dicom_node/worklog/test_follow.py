import gzip
import hashlib
import json
import threading

import pytest

from dicom_node.errors import NotFoundError
from dicom_node.worklog.follow import follow, records
from dicom_node.worklog.writer import Worklog

UID = "1.2.840.1"
SERIES = hashlib.sha256(UID.encode()).hexdigest()[:32]
JOB = "aa11bb22" * 4
OTHER = "00000000" * 4


def reasons(found):
    return [record.figures["reason"] for record in found]


def test_gives_the_lines_of_the_log(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="a gap")
    log.write("stage", JOB, stage="mask", seconds=2.1)
    assert "".join(line + "\n" for line in follow(tmp_path)) == (tmp_path / "worklog.log").read_text()
    assert [json.loads(line)["event"] for line in follow(tmp_path, json=True)] == ["held", "stage"]


def test_failed_gives_warnings_and_errors(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="a gap")
    log.write("stage", JOB, stage="mask")
    log.write("failed", JOB, reason="out of memory")
    assert reasons(records(tmp_path, failed=True)) == ["a gap", "out of memory"]


@pytest.mark.parametrize("asked", [UID, SERIES, SERIES[:8], SERIES[:4].upper()])
def test_series_brings_its_jobs(tmp_path, asked):
    log = Worklog(tmp_path)
    log.write("held", OTHER, reason="not this one")
    log.write("routed", SERIES, pipeline="flair", job=JOB)
    log.write("stage", JOB, stage="mask")
    log.write("stage", OTHER, stage="mask")
    assert [(r.event, r.id) for r in records(tmp_path, series=asked)] == [
        ("routed", SERIES[:8]),
        ("stage", "aa11bb22"),
    ]


@pytest.mark.parametrize("asked", ["", "abc", "Doe^Jane", "nothex99"])
def test_what_can_be_no_series_is_refused(tmp_path, asked):
    Worklog(tmp_path)
    with pytest.raises(NotFoundError):
        list(records(tmp_path, series=asked))


def test_folder_without_worklog_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="no worklog here"):
        list(follow(tmp_path))


def test_rotated_files_come_first(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="1")
    current = tmp_path / "worklog.jsonl"
    (tmp_path / "worklog.jsonl.2.gz").write_bytes(gzip.compress(current.read_bytes()))
    current.unlink()
    log.write("held", SERIES, reason="2")
    current.rename(tmp_path / "worklog.jsonl.1")
    log.write("held", SERIES, reason="3")
    assert reasons(records(tmp_path)) == ["1", "2", "3"]
    assert reasons(records(tmp_path, last=2)) == ["2", "3"]


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    (tmp_path / "worklog.jsonl").write_text('{"time": "2026\n[]\n')
    Worklog(tmp_path).write("held", SERIES, reason="x")
    assert reasons(records(tmp_path)) == ["x"]


@pytest.mark.parametrize("rotation", ["none", "rename", "copytruncate"])
def test_following_misses_and_repeats_nothing(tmp_path, rotation):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="before")
    stop = threading.Event()
    found = records(tmp_path, follow=True, stop=stop)
    assert next(found).figures["reason"] == "before"
    log.write("held", SERIES, reason="still the old file")
    assert next(found).figures["reason"] == "still the old file"
    current = tmp_path / "worklog.jsonl"
    if rotation == "rename":
        current.rename(tmp_path / "worklog.jsonl.1")
    if rotation == "copytruncate":
        with current.open("r+") as file:
            file.truncate(0)
    log.write("held", SERIES, reason="longer than everything before it: " + "x" * 300)
    log.write("held", SERIES, reason="last")
    assert next(found).figures["reason"].startswith("longer")
    assert next(found).figures["reason"] == "last"
    stop.set()
    assert list(found) == []


def test_following_gives_no_half_line(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="one")
    log.write("held", SERIES, reason="two")
    current = tmp_path / "worklog.jsonl"
    content = current.read_bytes()
    current.write_bytes(content[:-10])
    found = records(tmp_path, follow=True)
    assert next(found).figures["reason"] == "one"
    with current.open("ab") as file:
        file.write(content[-10:])
    assert next(found).figures["reason"] == "two"
    found.close()
