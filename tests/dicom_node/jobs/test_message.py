"""The message from node to worker: what goes over the wire, and what is refused in one line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dicom_node import __version__
from dicom_node.errors import MessageError
from dicom_node.jobs.message import JobMessage, ResultSettings, version_conflict

MESSAGE = JobMessage(
    node_id="n" * 32,
    job_id="a" * 32,
    run=2,
    pipeline="flair",
    settings={"threshold": 0.5, "points": [[1.0, 2.0, 3.0]]},
    images=("series/a/1.dcm", "series/a/2.dcm"),
    results=ResultSettings("key", "report", "text", 9001),
    note="2 images missing",
    replaces=(("1.2", "1.3", "1.4", "1.5"),),
    created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
)
WIRE = {
    "version": 1,
    "node_id": "n" * 32,
    "job_id": "a" * 32,
    "run": 2,
    "pipeline": "flair",
    "settings": {"threshold": 0.5, "points": [[1.0, 2.0, 3.0]]},
    "images": ["series/a/1.dcm", "series/a/2.dcm"],
    "results": {
        "heatmap_slices": "key",
        "when_unsuitable": "report",
        "differential": "text",
        "series_number": 9001,
    },
    "note": "2 images missing",
    "replaces": [["1.2", "1.3", "1.4", "1.5"]],
    "created_at": "2026-11-21T08:00:00Z",
}
"""All fields of 0.1.0, whose workers read them, and the version, which they pass over."""


def test_message_keeps_its_form_over_the_wire() -> None:
    assert MESSAGE.to_json() == WIRE
    assert JobMessage.from_json(json.loads(json.dumps(WIRE))) == MESSAGE


def test_local_time_keeps_its_offset() -> None:
    found = JobMessage.from_json({**WIRE, "created_at": "2026-11-21T09:00:00+01:00"})
    assert found.created_at.isoformat() == "2026-11-21T09:00:00+01:00"
    assert found.to_json()["created_at"] == "2026-11-21T09:00:00+01:00"


def test_message_of_a_node_of_0_1_0_is_read() -> None:
    assert JobMessage.from_json({name: WIRE[name] for name in WIRE if name != "version"}) == MESSAGE


def test_field_that_is_not_known_is_passed_over() -> None:
    assert JobMessage.from_json({**WIRE, "priority": 3}) == MESSAGE


@pytest.mark.parametrize("version", [0, 2, 17])
def test_another_version_is_refused_whatever_its_fields(version: int) -> None:
    with pytest.raises(
        MessageError, match=f"^the message is of version {version}, and version 1 is read here$"
    ):
        JobMessage.from_json({"version": version})


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (None, "the message is a NoneType, not an object with fields"),
        (["SECRET"], "the message is a list, not an object with fields"),
        ({"version": "1"}, "the version of the message is a str, not a whole number"),
        ({"version": True}, "the version of the message is a bool, not a whole number"),
        ({}, '"node_id" of the message is missing'),
        (WIRE | {"run": "SECRET"}, '"run" of the message is wrong: input should be a valid integer'),
        (WIRE | {"run": 0}, '"run" of the message is wrong: input should be greater than or equal to 1'),
        (WIRE | {"run": True}, '"run" of the message is wrong: input should be a valid integer'),
        (WIRE | {"note": None}, '"note" of the message is wrong: input should be a valid string'),
        (WIRE | {"images": ["a", 7]}, '"images.1" of the message is wrong: input should be a valid string'),
        (WIRE | {"settings": []}, '"settings" of the message is wrong: input should be an object'),
        (WIRE | {"results": {}}, '"results.heatmap_slices" of the message is missing'),
        (WIRE | {"replaces": [["1.2"]]}, '"replaces.0.1" of the message is missing'),
        (
            WIRE | {"created_at": "2026-11-21T08:00:00"},
            '"created_at" of the message is wrong: input should have timezone info',
        ),
        (WIRE | {"settings": {"a": {1, 2}}}, "the message is no JSON"),
    ],
)
def test_wrong_message_is_refused_in_one_line_without_its_values(found: object, line: str) -> None:
    with pytest.raises(MessageError) as caught:
        JobMessage.from_json(found)
    assert str(caught.value) == line


def test_context_of_the_results_has_all_that_the_message_says() -> None:
    context = MESSAGE.context("FLAIR lesions")
    assert (context.node_id, context.job_id, context.run) == ("n" * 32, "a" * 32, 2)
    assert (context.pipeline, context.title, context.note) == ("flair", "FLAIR lesions", "2 images missing")
    assert (context.heatmap_slices, context.when_unsuitable, context.differential) == (
        "key",
        "report",
        "text",
    )
    assert (context.series_number_base, context.created_at) == (9001, MESSAGE.created_at)
    assert (context.node_version, context.replaces) == (__version__, MESSAGE.replaces)


@pytest.mark.parametrize(("reads", "older"), [(0, "worker"), (2, "node")])
def test_conflict_of_versions_names_both_and_which_to_update(reads: int, older: str) -> None:
    assert version_conflict("gpu1:7", "0.9.0", reads) == (
        f"worker gpu1:7 is of version 0.9.0 and reads messages of version {reads}, this node is of version "
        f"{__version__} and writes version 1: update the {older}; jobs wait until then"
    )


def test_same_version_is_no_conflict() -> None:
    assert version_conflict("gpu1:7", "0.9.0", 1) == ""
