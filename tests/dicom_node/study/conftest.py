"""A study of a FLAIR and a FAT-SAT series with their results, made up and small."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

_NAME = "result_factories"
if _NAME not in sys.modules:
    _path = Path(__file__).parent.with_name("results") / f"{_NAME}.py"
    _spec = importlib.util.spec_from_file_location(_NAME, _path)
    assert _spec is not None and _spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

from factories import comparison, mr_series  # noqa: E402
from result_factories import CONTEXT, SYNTHETIC, findings_on  # noqa: E402

from dicom_node.results.build import build_results  # noqa: E402
from dicom_node.results.change_objects import build_comparison  # noqa: E402
from dicom_node.results.comparison_record import ComparisonRecord  # noqa: E402
from dicom_node.results.context import ResultContext  # noqa: E402
from dicom_node.results.finding_pictures import write_finding_pictures  # noqa: E402
from dicom_node.results.findings_record import FindingsRecord  # noqa: E402
from dicom_node.results.source import sources_of  # noqa: E402
from dicom_node.results.tracking import TrackedLesion  # noqa: E402
from dicom_node.series.volume import load_series, load_sources  # noqa: E402
from dicom_node.study.content import CHANGE, Part, StudyContent  # noqa: E402
from pipelines.types import (  # noqa: E402
    Anatomy,
    Findings,
    Interval,
    RegionLoad,
    Segment,
    SiteFinding,
)

PATIENT = {
    "PatientName": "Müller^Jana",
    "PatientID": "4711",
    "PatientBirthDate": "19880203",
    "PatientSex": "F",
}
STUDY = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.28",
    "StudyDate": "20261130",
    "AccessionNumber": "A17",
}
SUMMARY = ResultContext(
    node_id="node-1",
    node_version="0.2.0",
    job_id="5e9a1c20" * 4,
    run=1,
    pipeline="summary",
    title="study summary",
    created_at=datetime(2026, 11, 30, 9, 0, 0, tzinfo=UTC),
)
TRACKING = {n: TrackedLesion(f"1.2.3.{n}", f"L{n:02d}") for n in range(1, 7)}
"""Of the lesions of a comparison."""
LOADS = (
    RegionLoad("periventricular", 1, 0, 349.92, 8.1),
    RegionLoad("juxtacortical", 1, 1, 14.58, 3.2),
    RegionLoad("infratentorial", 0, 0, 0.0, 0.0),
    RegionLoad("deep_white_matter", 0, 0, 0.0, 0.0),
    RegionLoad("deep_grey_matter", 0, 0, 0.0, 0.0),
)


def flair_findings(series, **changes) -> Findings:
    found = findings_on(series, heatmaps=(), anatomy=Anatomy(LOADS), **changes)
    regions = ("periventricular", "juxtacortical")
    lesions = [
        replace(item, region=region, laterality="left", long_axis_mm=axis, borderline=region != regions[0])
        for item, region, axis in zip(found.lesions, regions, (8.1, 3.2), strict=True)
    ]
    return replace(found, lesions=tuple(lesions))


def fatsat_findings(series, **changes) -> Findings:
    mask = np.zeros(series.volume.array.shape, bool)
    mask[4:7, 30:33, 20:24] = True
    segment = Segment("Right optic nerve", "optic_nerve", mask, laterality="right")
    sites = (
        SiteFinding("right", "positive", "", 0.81, Interval(0.62, 0.93, "over 5 networks"), 0.5, 0.94),
        SiteFinding("left", "negative", "", 0.22, Interval(0.1, 0.35, "over 5 networks"), 0.5, 0.9),
    )
    return replace(Findings("findings", segments=(segment,), sites=sites, models=(SYNTHETIC,)), **changes)


def make_part(
    folder: Path,
    pipeline: str,
    findings: Callable[..., Findings],
    number: int,
    study: Mapping[str, str] = STUDY,
    **changes,
) -> Part:
    """Write a series and its results; they are one part of the study."""
    tags = {**PATIENT, **study, "SeriesDescription": f"{pipeline} series"}
    seed = f"{pipeline} {study['StudyInstanceUID']}"
    paths = mr_series(folder / "source", series_number=number, seed=seed, **tags)
    series = load_series(paths)
    found = findings(series, **changes)
    context = replace(CONTEXT, pipeline=pipeline, job_id=f"{number:08x}" * 4, title=f"{pipeline} title")
    out = folder / "out"
    out.mkdir()
    objects = build_results(found, series, context, out)
    record = FindingsRecord.of(found, context, write_finding_pictures(found, series, out))
    return Part(
        pipeline,
        context.title,
        context.job_id,
        record.findings(),
        sources_of(series)[0],
        len(paths),
        out,
        record.pictures,
        tuple(objects),
    )


def change_part(flair: Part, folder: Path, grade: str = "B", **changes) -> Part:
    """Write the comparison of a series with one of an earlier study, and its objects; it is a part of the later study."""
    files = sorted((flair.folder.parent / "source").rglob("*.dcm"))
    tags = {key: str(flair.source.get(key)) for key in PATIENT}
    prior_files = mr_series(
        folder / "prior", seed="prior", StudyInstanceUID="1.2.826.9", StudyDate="20250301", **tags
    )
    current, prior = load_series(files), load_sources(prior_files)
    (out := folder / "out").mkdir()
    context = replace(CONTEXT, pipeline=CHANGE, job_id="c0ffee00" * 4, title="change since a prior")
    found = comparison(current.volume, grade, **changes)
    objects = build_comparison(found, current, prior, context, TRACKING, out)
    return Part(
        CHANGE,
        context.title,
        context.job_id,
        Findings("findings"),
        flair.source,
        len(files),
        out,
        objects=tuple(objects),
        comparison=ComparisonRecord.read(out),
    )


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyContent:
    """Return the study: two lesions, one of them borderline, and a suspicious right nerve."""
    folder = tmp_path_factory.mktemp("study")
    parts = (
        make_part(folder / "flair", "flair", flair_findings, 5),
        make_part(folder / "fatsat", "fatsat", fatsat_findings, 9),
    )
    return StudyContent(parts, SUMMARY)
