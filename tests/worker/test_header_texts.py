"""A secret in every text of the headers that are read: no worklog, JSON, manifest, ``why`` or reason of a report has it."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

import dicom_node
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.why import why
from dicom_node.results.context import ResultContext
from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules, parse_rules
from dicom_node.series.completeness import assess
from dicom_node.series.headers import ROUTING_KEYWORDS, ImageHeader, header_of
from pipelines.types import Findings
from tests.dicom_node.node.test_node import FLAIR, Rig, until
from worker.analyse import analyse_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which the programs keep quiet

SECRET = "ZZLEAKVALUE"
TEXT_VRS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}
ROOT = Path(dicom_node.__file__).parent


def keywords_in_the_code() -> set[str]:
    """Names and strings in the code that reads headers, as far as they are keywords of texts."""
    found: set[str] = set(ROUTING_KEYWORDS)
    for room in ("series", "routing", "results", "intake"):
        for path in (ROOT / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return {
        word for word in found & set(keyword_dict) if dictionary_VR(word) in TEXT_VRS and Tag(word).group > 2
    }


KEYWORDS = sorted(keywords_in_the_code())
GATES = {"Modality", "ImageType", "PhotometricInterpretation", "NumberOfFrames", "ImageOrientationPatient",
         "ImagePositionPatient", "PixelSpacing", "InstanceNumber"}  # fmt: skip
"""A series with a secret in one of these goes no further, so that it is put into each alone."""


def put(ds: Dataset, keyword: str, vr: str = "") -> None:
    """Put the secret into an element as it would come over the network, also where it is no value for it."""
    tag = Tag(keyword)
    value = SECRET.encode() + b" "
    ds[tag] = RawDataElement(tag, vr or dictionary_VR(keyword).split()[0], len(value), value, 0, False, True)


def test_the_list_of_texts_that_are_read_is_no_short_one() -> None:
    assert {
        "PatientName",
        "PhotometricInterpretation",
        "SeriesDescription",
        "EchoTime",
        "AccessionNumber",
    } < set(KEYWORDS)
    assert len(KEYWORDS) > 60


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    return [dcmread(path) for path in mr_series(tmp_path_factory.mktemp("series"), shape=(5, 8, 8), **FLAIR)]


def header_with(image: Dataset, keywords: set[str], vr: str = "") -> ImageHeader:
    """Return the header of an image with the secret in some elements."""
    ds = Dataset({tag: image.get_item(tag) for tag in image.keys()})  # noqa: SIM118 - a dataset iterates over elements
    for keyword in keywords:
        put(ds, keyword, vr)
    return header_of(ds, has_pixels=True)


def reasons(changed: list[ImageHeader], keyword: str) -> Iterator[str]:
    """Give what is said of a series by the built-in rules, by its geometry, and by rules that ask for a keyword in vain."""
    yield decide(changed, built_in_rules()).reason
    yield assess(changed).reason
    conditions: list[dict[str, Any]] = [
        {"all": {keyword: {"has": "NEVER"}}},
        {"all": {keyword: {"matches": "NEVER", "min": 1}}},
        {"none": {keyword: {"matches": "."}}, "all": {"Rows": {"min": 1}}},
        {"all": {keyword: {"max": 0}}},
    ]
    for condition in conditions if keyword in ROUTING_KEYWORDS else ():
        yield decide(changed, parse_rules([{"name": "mine", "pipeline": "flair", **condition}])).reason


@pytest.mark.parametrize("vr", ["", "LO"])
def test_no_reason_of_a_decision_quotes_it(images: list[Dataset], vr: str) -> None:
    alone = GATES | set(ROUTING_KEYWORDS) & set(KEYWORDS)
    quoted = []
    for keywords in ({keyword} for keyword in sorted(alone)):
        changed = [header_with(image, keywords, vr) for image in images]
        said = list(reasons(changed, min(keywords)))
        assert all(said)
        quoted += [reason for reason in said if SECRET in reason]
    rest = [header_with(image, set(KEYWORDS) - alone, vr) for image in images]
    quoted += [reason for reason in reasons(rest, "") if SECRET in reason]
    assert quoted == []


@pytest.mark.parametrize("keyword", ["SOPClassUID", "FrameOfReferenceUID", "SOPInstanceUID"])
def test_text_in_place_of_a_uid_is_not_quoted(images: list[Dataset], keyword: str) -> None:
    changed = [replace(header_with(image, {keyword}), is_image=keyword != "SOPClassUID") for image in images]
    assert SECRET not in decide(changed, built_in_rules()).reason
    assert SECRET not in assess(changed).reason


def context() -> ResultContext:
    return ResultContext(
        node_id="test", node_version="0", job_id="a" * 32, run=1, pipeline="flair", title="FLAIR lesions",
        created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    "gates", [set(), *({gate} for gate in sorted(GATES))], ids=lambda gates: "".join(gates) or "all others"
)
def test_no_manifest_and_no_log_of_an_analysis_quotes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gates: set[str]
) -> None:
    files = mr_series(tmp_path / "series", shape=(5, 8, 8), **FLAIR)
    for file in files:
        ds = dcmread(file)
        for keyword in gates or set(KEYWORDS) - GATES:
            put(ds, keyword)
        ds.save_as(file)
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level(logging.INFO):
        manifest = analyse_series(
            files, lambda *_: Findings(status="none"), context(), out, {}, lambda *_: None
        )
    assert SECRET not in (out / "manifest.json").read_text()
    ours = [
        record.getMessage() for record in caplog.records if record.name.startswith(("dicom_node", "worker"))
    ]
    assert SECRET not in "".join(ours)
    if gates == {"PhotometricInterpretation"}:
        assert manifest.reason.endswith(
            "can't be decoded: its PhotometricInterpretation is none that DICOM defines"
        )
        (text,) = [item for item in manifest.objects if item.role == "text-sr"]
        assert manifest.reason.split()[-1].encode() in (out / text.path).read_bytes()
        assert SECRET.encode() not in (out / text.path).read_bytes()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running = Rig(tmp_path_factory.mktemp("node"))
    yield running
    running.stop()


@pytest.mark.slow
def test_no_line_of_the_node_quotes_it(rig: Rig, tmp_path: Path) -> None:
    sent: dict[str, str] = {}
    series = [set(KEYWORDS) - GATES, {"Modality"}, {"ImageType"}, {"PhotometricInterpretation"}]
    for number, keywords in enumerate(series):
        files = mr_series(tmp_path / str(number), shape=(5, 8, 8), seed=number, **FLAIR)
        for file in files:
            ds = dcmread(file)
            for keyword in keywords:
                put(ds, keyword)
            ds.save_as(file)
        sent[str(ds.SeriesInstanceUID)] = "".join(sorted(keywords))
        rig.send(files)

    def states() -> dict[str, str]:
        rows = [rig.node.store.series(uid) for uid in sent]
        return {row.series_uid: row.state for row in rows if row is not None}

    until(lambda: len(states()) == len(sent) and SeriesState.RECEIVING not in states().values(), rig.log)
    for name in ("worklog.log", "worklog.jsonl"):
        assert SECRET not in (rig.data / name).read_text()
    for uid in sent:
        assert SECRET not in "\n".join(line for line, _ in why(rig.data, uid))
    for record in (rig.data / "jobs").glob("*.json"):
        assert SECRET not in json.dumps(json.loads(record.read_text()))
