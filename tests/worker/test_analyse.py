"""One series through a pipeline to objects, without Celery: every way in which it can end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from factories import mr_series
from pydicom import dcmread

from dicom_node.cohort.table import read_cohort
from dicom_node.errors import ResultError
from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.findings_record import FindingsRecord
from dicom_node.results.manifest import Manifest
from pipelines.errors import WeightsError
from pipelines.types import Findings, Lesion, ModelCard, Pipeline, Progress, Segment, Volume
from worker.analyse import analyse_series

MODEL = ModelCard("joint", "1", "sha256:" + "ab" * 32, "1.2.3.4", "synthetic", "lesions")


@pytest.fixture
def context() -> ResultContext:
    return ResultContext(
        node_id="test",
        node_version="0",
        job_id="a" * 32,
        run=1,
        pipeline="flair",
        title="FLAIR lesions",
        created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
    )


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return list(mr_series(tmp_path / "series", shape=(8, 16, 16)))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def nothing_found(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
    progress("network", 0.5)
    return Findings(status="none", timings_s={"network": 0.5})


def failing(error: Exception) -> Pipeline:
    def fail(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        raise error

    return fail


def analyse(
    series: list[Path], pipeline: Pipeline, context: ResultContext, out: Path
) -> tuple[Manifest, list[str]]:
    stages: list[str] = []
    manifest = analyse_series(
        series, pipeline, context, out, {}, lambda stage, _seconds: stages.append(stage)
    )
    assert Manifest.read(out) == manifest
    return manifest, stages


def roles(manifest: Manifest) -> set[str]:
    return {item.role for item in manifest.objects}


@pytest.mark.slow
def test_series_without_findings_gives_reports(series: list[Path], context: ResultContext, out: Path) -> None:
    manifest, stages = analyse(series, nothing_found, context, out)
    assert (manifest.status, manifest.reason) == ("none", "")
    assert stages == ["read", "network", "objects"]
    assert set(manifest.timings_s) == {"read", "network", "objects"}
    assert {"sr", "text-sr"} <= roles(manifest)
    assert all((out / item.path).is_file() for item in manifest.objects)


def test_missing_slice_is_unsuitable_and_reported(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    manifest, _ = analyse(series[:2] + series[3:], nothing_found, context, out)
    assert manifest.status == "unsuitable"
    assert manifest.reason
    assert {"sr", "text-sr"} <= roles(manifest)


def test_file_cut_off_fails_with_a_report_of_the_others(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    series[2].write_bytes(series[2].read_bytes()[:200])
    manifest, _ = analyse(series, nothing_found, context, out)
    assert manifest.status == "failed"
    assert {"sr", "text-sr"} <= roles(manifest)


def test_series_without_one_readable_file_fails_without_report(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    for path in series:
        path.write_bytes(b"nothing")
    manifest, _ = analyse(series, nothing_found, context, out)
    assert (manifest.status, manifest.objects) == ("failed", ())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WeightsError("flair.safetensors: digest differs"), "flair.safetensors: digest differs"),
        (MemoryError(), "out of memory"),
        (KeyError("NAME^OF^PATIENT"), "internal error: KeyError in test_analyse.py, line "),
    ],
)
def test_fault_in_the_pipeline_is_reported(
    error: Exception,
    reason: str,
    series: list[Path],
    context: ResultContext,
    out: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        manifest, _ = analyse(series, failing(error), context, out)
    assert manifest.status == "failed"
    assert manifest.reason.startswith(reason)
    assert {"sr", "text-sr"} <= roles(manifest)
    assert "NAME^OF^PATIENT" not in caplog.text + manifest.reason


def test_findings_that_cannot_be_encoded_are_reported(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    def wrong_grid(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        segment = Segment("Lesion", "lesion_of_brain", np.ones((2, 2, 2), dtype=np.bool_))
        return Findings(status="findings", segments=(segment,))

    manifest, _ = analyse(series, wrong_grid, context, out)
    assert manifest.status == "failed"
    assert manifest.reason
    assert "seg" not in roles(manifest)
    assert {path.name for path in out.glob("*.dcm")} == {item.path for item in manifest.objects}


def test_failed_encoding_is_not_told_as_what_was_found_before(
    series: list[Path], context: ResultContext, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that is not suitable, whose report can't be encoded, has failed for another reason."""
    builds = iter([ResultError("no code for this finding")])

    def fail_once(*arguments: object) -> object:
        if error := next(builds, None):
            raise error
        return build_results(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("worker.analyse.build_results", fail_once)
    manifest, _ = analyse(series[:2] + series[3:], nothing_found, context, out)
    assert manifest.status == "failed"
    assert manifest.reason.startswith(
        "no code for this finding; before, the analysis had ended as unsuitable: "
    )
    assert "slice missing" in manifest.reason
    assert {"sr", "text-sr"} <= roles(manifest)


@pytest.mark.parametrize("place", ["pipeline", "objects"])
def test_cause_of_an_error_is_logged_with_its_place_and_without_its_text(
    series: list[Path],
    context: ResultContext,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    def fail(*_: object) -> NoReturn:
        try:
            {}["NAME^OF^PATIENT"]
        except KeyError as error:
            raise ResultError("it can't be built") from error

    if place == "objects":
        monkeypatch.setattr("worker.analyse.build_results", fail)
    with caplog.at_level(logging.DEBUG):
        manifest, _ = analyse(series, fail if place == "pipeline" else nothing_found, context, out)
    assert (manifest.status, manifest.reason) == ("failed", "it can't be built")
    assert "KeyError at test_analyse.py:" in caplog.text
    assert "NAME^OF^PATIENT" not in caplog.text


def test_reports_lie_in_the_study_of_the_images(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    manifest, _ = analyse(series, nothing_found, context, out)
    study_uid = dcmread(series[0]).StudyInstanceUID
    assert {item.study_uid for item in manifest.objects} == {study_uid}


def alter(path: Path, **elements: str) -> None:
    ds = dcmread(path)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PatientID": "0815"}, "images of more than one patient in one series"),
        ({"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.99"}, "images of more than one study in one series"),
    ],
)
def test_nothing_is_written_of_images_of_two_patients_or_studies(
    series: list[Path], context: ResultContext, out: Path, elements: dict[str, str], reason: str
) -> None:
    alter(series[3], **elements)
    manifest, _ = analyse(series, nothing_found, replace(context, note="released"), out)
    assert (manifest.status, manifest.objects) == ("failed", ())
    assert manifest.reason.startswith(reason)
    assert list(out.glob("*.dcm")) == []


def test_two_frames_of_reference_are_analysed_only_where_somebody_says_so(
    series: list[Path], context: ResultContext, out: Path, tmp_path: Path
) -> None:
    alter(series[3], FrameOfReferenceUID="1.2.826.0.1.3680043.8.498.98")
    manifest, _ = analyse(series, nothing_found, context, out)
    assert (manifest.status, manifest.reason) == (
        "unsuitable",
        "images of more than one frame of reference in one series",
    )
    (again := tmp_path / "again").mkdir()
    manifest, _ = analyse(series, nothing_found, replace(context, note="released by a person"), again)
    assert manifest.status == "none"


def test_another_scanner_within_a_series_is_a_warning(
    series: list[Path], context: ResultContext, out: Path
) -> None:
    alter(series[3], Manufacturer="Another")
    manifest, _ = analyse(series, nothing_found, context, out)
    assert manifest.status == "none"
    assert "The images of this series name more than one scanner." in manifest.warnings


@pytest.mark.slow
def test_volume_is_compared_with_a_cohort_and_the_pipeline_noted(
    context: ResultContext, out: Path, tmp_path: Path
) -> None:
    series = mr_series(tmp_path / "own", shape=(8, 16, 16), PatientAge="041Y", PatientSex="F")
    analyse_series(
        series,
        one_lesion,
        context,
        out,
        {},
        lambda *_: None,
        cohort=read_cohort("open-ms"),
        pipeline_digest="ab" * 8,
    )
    record = FindingsRecord.read(out)
    assert record is not None and record.pipeline_digest == "ab" * 8
    assert record.percentile is not None and record.percentile.patients == 29
    assert record.percentile.by_hand and record.percentile.source == "Ljubljana"


def one_lesion(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
    mask = np.zeros(volume.array.shape, bool)
    mask[3:5, 4:8, 4:8] = True
    volume_mm3 = mask.sum() * volume.voxel_volume_mm3
    lesion = Lesion(1, "Lesion", float(volume_mm3), (0.0, 0.0, 0.0), 0.9, (3, 4))
    return Findings(
        "findings", segments=(Segment("Lesion", "lesion_of_brain", mask),), lesions=(lesion,), models=(MODEL,)
    )
