import json
import multiprocessing
import stat
import string
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.errors import SpoolError
from dicom_node.worklog.events import EVENTS, FIGURES
from dicom_node.worklog.records import LABEL_WIDTH, Record, duration
from dicom_node.worklog.writer import Worklog

SERIES = "3f9a1c20" + "ab" * 12
NOON = datetime(2026, 11, 21, 12, 0, 3, 250_000, tzinfo=UTC)


@pytest.fixture
def utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_line_shows_time_short_id_event_and_figures(tmp_path, utc):
    Worklog(tmp_path, clock=lambda: NOON).write(
        "received", SERIES, images=48, calling_ae="SCANNER", series_number=5, seconds=1.234
    )
    assert (tmp_path / "worklog.log").read_text() == (
        "2026-11-21 12:00:03  3f9a1c20  received        48 images from SCANNER, series 5, 1.2 s\n"
    )
    assert json.loads((tmp_path / "worklog.jsonl").read_text()) == {
        "time": "2026-11-21T12:00:03.250+00:00",
        "id": "3f9a1c20",
        "event": "received",
        "level": "info",
        "images": 48,
        "calling_ae": "SCANNER",
        "series_number": 5,
        "seconds": 1.234,
    }


def test_pieces_without_figures_are_left_out(tmp_path):
    log = Worklog(tmp_path)
    log.write("received", SERIES, images=1, calling_ae="SCANNER", series_number=None)
    log.write("broker-lost", broker="redis")
    first, second = (tmp_path / "worklog.log").read_text().splitlines()
    assert first.endswith("received        1 image from SCANNER")
    assert second.endswith("            broker-lost     redis does not answer")


def test_events_and_figures_match_and_fit_the_column():
    assert set().union(*(event.figures for event in EVENTS.values())) == FIGURES.keys()
    for name, event in EVENTS.items():
        assert len(event.label or name) <= LABEL_WIDTH, name
        assert all(list(string.Formatter().parse(piece)) for piece in event.pieces)


@pytest.mark.parametrize(
    ("event", "id", "figures"),
    [
        ("patient-came", "", {}),
        ("received", SERIES, {"PatientName": "Doe^Jane"}),
        ("received", SERIES, {"volume_ml": 1.0}),
        ("received", "Doe^Jane", {"images": 1}),
        ("received", "12345", {"images": 1}),
        ("received", SERIES, {"images": "Doe^Jane"}),
        ("received", SERIES, {"images": True}),
        ("received", SERIES, {"seconds": float("nan")}),
        ("received", SERIES, {"calling_ae": b"X"}),
        ("routed", SERIES, {"job": "Doe^Jane"}),
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused(tmp_path, event, id, figures):
    log = Worklog(tmp_path)
    with pytest.raises(ValueError, match=r"event|figure|ID"):
        log.write(event, id, **figures)
    assert (tmp_path / "worklog.log").read_bytes() == b""


def test_control_characters_make_no_second_line(tmp_path):
    Worklog(tmp_path).write(
        "association-refused", calling_ae="A\r\nB\x1b[31m", address="h", reason="x" * 1000
    )
    text = (tmp_path / "worklog.log").read_text()
    assert text.count("\n") == 1
    assert "A B [31m at h refused, " + "x" * 399 + "…\n" in text


def test_files_are_for_the_owner_only(tmp_path):
    Worklog(tmp_path)
    for name in ("worklog.log", "worklog.jsonl"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_goes_on_in_a_new_file_after_a_rename(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="first")
    (tmp_path / "worklog.log").rename(tmp_path / "worklog.log.1")
    log.write("held", SERIES, reason="second")
    assert "first" in (tmp_path / "worklog.log.1").read_text()
    assert [line[-6:] for line in (tmp_path / "worklog.log").read_text().splitlines()] == ["second"]


def test_goes_on_at_the_start_after_copytruncate(tmp_path):
    log = Worklog(tmp_path)
    log.write("held", SERIES, reason="first")
    with (tmp_path / "worklog.log").open("r+") as file:
        file.truncate(0)
    log.write("held", SERIES, reason="second")
    content = (tmp_path / "worklog.log").read_bytes()
    assert content.count(b"\n") == 1
    assert b"\0" not in content


def test_a_torn_last_line_is_ended_before_the_next(tmp_path):
    (tmp_path / "worklog.jsonl").write_text('{"time": "2026')
    Worklog(tmp_path).write("held", SERIES, reason="x")
    torn, whole = (tmp_path / "worklog.jsonl").read_text().splitlines()
    assert torn == '{"time": "2026'
    assert Record.from_json(whole).event == "held"


def test_lines_that_do_not_fit_on_the_disk_are_counted(tmp_path, monkeypatch):
    import dicom_node.worklog.writer as writer

    log = Worklog(tmp_path)
    write = writer.os.write
    monkeypatch.setattr(
        writer.os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    log.write("held", SERIES, reason="lost")
    log.write("held", SERIES, reason="lost")
    monkeypatch.setattr(writer.os, "write", write)
    log.write("held", SERIES, reason="kept")
    lines = (tmp_path / "worklog.log").read_text().splitlines()
    assert lines[0].endswith("worklog, 2 lines are missing here, they could not be written")
    assert lines[1].endswith("kept")


def _write_many(folder: Path, count: int) -> None:
    log = Worklog(folder)
    threads = [
        threading.Thread(target=lambda: [log.write("stage", SERIES, stage="s" * 300) for _ in range(count)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_and_processes_write_whole_lines(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path, 50)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = (tmp_path / "worklog.jsonl").read_text().splitlines()
    assert len(lines) == 200
    assert {Record.from_json(line).figures["stage"] for line in lines} == {"s" * 300}


def test_listeners_get_each_record(tmp_path):
    log = Worklog(tmp_path)
    heard: list[Record] = []
    log.subscribe(heard.append)
    log.write("stage", SERIES, stage="mask", seconds=2)
    assert [(r.event, r.id, dict(r.figures)) for r in heard] == [
        ("stage", "3f9a1c20", {"stage": "mask", "seconds": 2.0})
    ]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpoolError, match="nowhere"):
        Worklog(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (99.94, "99.9 s"), (252, "4 min 12 s"), (11_100, "3 h 5 min")]
)
def test_durations_have_the_two_units_that_matter(seconds, text):
    assert duration(seconds) == text
