"""The report of a job whose workers died: made by a process of its own, and a result without objects when that fails."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import mr_series
from pydicom import dcmread

from dicom_node.jobs import child_process
from dicom_node.jobs.failure_report import publish_failure
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest
from dicom_node.series.process_limits import OUT_OF_MEMORY
from dicom_node.spool.run_folder import RunFolder

JOB = "0123456789abcdef0123456789abcdef"
CONTEXT = ResultContext(
    node_id="node",
    node_version="0.2.0",
    job_id=JOB,
    run=4,
    pipeline="flair",
    title="FLAIR lesions",
    created_at=datetime(2026, 11, 30, 8, tzinfo=UTC),
    replaces=(("1.2", "1.3", "1.4", "1.5"),),
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_report_is_made_by_another_process(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        pytest.fail("the node read a source")

    monkeypatch.setattr("dicom_node.series.reading.dcmread", parse)
    paths = mr_series(tmp_path / "images", shape=(3, 8, 8))
    assert publish_failure(results, paths, CONTEXT, "the worker died (3 runs)")
    monkeypatch.undo()
    manifest = Manifest.read(results / JOB)
    assert (manifest.status, manifest.reason, manifest.run) == ("failed", "the worker died (3 runs)", 4)
    assert {one.role for one in manifest.objects} == {"sr", "sr-enhanced", "text-sr"}
    report = dcmread(results / JOB / "text-sr.dcm")
    assert report.StudyInstanceUID == dcmread(paths[0]).StudyInstanceUID
    assert "the worker died (3 runs)" in report.to_json()


@pytest.mark.slow
def test_images_that_cannot_be_read_give_a_result_without_objects(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"rubbish")
    assert publish_failure(results, [path], CONTEXT, "the worker died (3 runs)")
    manifest = Manifest.read(results / JOB)
    assert manifest.objects == ()
    assert manifest.reason == "the worker died (3 runs); no report can be made: x.dcm: not a DICOM file"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (-24, "it took too much processor time"),
        (OUT_OF_MEMORY, "it took too much memory"),
        (-11, "signal 11"),
        (1, "status 1"),
    ],
)
def test_process_that_dies_leaves_a_result_that_says_so_and_no_half_objects(
    status: int, told: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
        (results / f"{JOB}.run4" / "sr.dcm").write_bytes(b"half")
        return subprocess.CompletedProcess([], status, b"")

    monkeypatch.setattr(child_process.subprocess, "run", die)
    assert publish_failure(results, [], CONTEXT, "lost")
    assert Manifest.read(results / JOB).reason == f"lost; no report can be made: its process ended: {told}"
    assert not list((results / JOB).glob("*.dcm"))


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"objects": [{}]}'])
def test_process_that_answers_nonsense_is_told(
    answer: bytes, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 0, answer)
    monkeypatch.setattr(child_process.subprocess, "run", lambda *_, **__: done)
    publish_failure(results, [], CONTEXT, "lost")
    assert "its process answered what nobody understands" in Manifest.read(results / JOB).reason


def test_process_that_cannot_be_started_is_told(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    publish_failure(results, [], CONTEXT, "lost")
    assert "its process can't be started: No such file or directory" in Manifest.read(results / JOB).reason


def test_run_of_a_worker_that_was_faster_stays(results: Path) -> None:
    assert RunFolder.claim(results, JOB, 4) is not None
    assert not publish_failure(results, [], CONTEXT, "lost")
