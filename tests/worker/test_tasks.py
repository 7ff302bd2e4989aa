"""From a message to a published folder, without Celery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from rig import PIPELINE

from dicom_node import __version__
from dicom_node.errors import SpoolError
from dicom_node.jobs.message import JobMessage, ResultSettings
from dicom_node.results.manifest import Manifest
from dicom_node.spool.refusals import take_refusals
from dicom_node.spool.run_folder import read_events
from dicom_node.spool.spool import Spool
from pipelines.errors import WeightsError
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from worker.tasks import Workplace, run_job, take

JOB = "0123456789abcdef0123456789abcdef"
RUN = f"{JOB}.run1"


class Registry:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.loaded: list[str] = []

    def installed(self) -> Mapping[str, PipelineInfo]:
        return {PIPELINE: PipelineInfo(PIPELINE, "FLAIR lesions", "1", "digest")}

    def load(self, name: str, device: str) -> Pipeline:
        self.loaded.append(f"{name} on {device}")
        if self.error is not None:
            raise self.error
        return self.find

    def find(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        progress("network", 1.25)
        return Findings(status="none")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "data")
    mr_series(spool.series / "s", shape=(6, 16, 16))
    return spool


def message(spool: Spool, **changes: Any) -> JobMessage:
    fields: dict[str, Any] = {
        "node_id": "test",
        "job_id": JOB,
        "run": 1,
        "pipeline": PIPELINE,
        "settings": {},
        "images": tuple(spool.relative(path) for path in sorted((spool.series / "s").glob("*.dcm"))),
        "results": ResultSettings("key", "report", "text", 9001),
        "note": "",
        "replaces": (),
        "created_at": datetime(2026, 11, 21, 8, tzinfo=UTC),
    }
    return JobMessage(**fields | changes)


def test_message_becomes_a_published_folder(spool: Spool) -> None:
    place = Workplace(spool.root, "cpu", Registry())
    assert run_job(message(spool), place)
    assert [path.name for path in spool.results.iterdir()] == [JOB]
    manifest = Manifest.read(spool.results / JOB)
    assert (manifest.status, manifest.run, manifest.created_at) == ("none", 1, "2026-11-21T08:00:00+00:00")
    events, _ = read_events(spool.results / JOB, 0)
    assert [event.get("stage", event["event"]) for event in events] == [
        "started",
        "read",
        "network",
        "objects",
    ]


def test_message_over_the_wire_is_done(spool: Spool) -> None:
    wire = json.loads(json.dumps(message(spool).to_json()))
    assert take(wire, RUN, Workplace(spool.root, "cpu", Registry()))
    assert Manifest.read(spool.results / JOB).status == "none"


def test_message_of_a_node_of_0_1_0_is_done(spool: Spool) -> None:
    wire = message(spool).to_json()
    del wire["version"]
    assert take(wire, RUN, Workplace(spool.root, "cpu", Registry()))


@pytest.mark.parametrize("changes", [{"version": 2}, {"version": 0}, {"version": "x"}, {"images": None}])
def test_message_that_cannot_be_read_is_left_to_other_workers(spool: Spool, changes: dict[str, Any]) -> None:
    place = Workplace(spool.root, "cpu", Registry(), worker="gpu1:7")
    assert not take(message(spool).to_json() | changes, RUN, place)
    assert list(spool.results.iterdir()) == []
    (refusal,) = take_refusals(spool.refused)
    assert (refusal.run, refusal.worker, refusal.program, refusal.reads) == (RUN, "gpu1:7", __version__, 1)
    assert take(message(spool).to_json(), RUN, place), "the run was not claimed"


def test_message_that_cannot_be_read_under_a_name_of_no_run_leaves_nothing(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="not the name of a run"):
        take({}, "../x", Workplace(spool.root, "cpu", Registry()))
    assert list(spool.refused.iterdir()) == []


def test_second_message_is_dropped(spool: Spool) -> None:
    place = Workplace(spool.root, "cpu", Registry())
    assert run_job(message(spool), place)
    before = (spool.results / JOB / "manifest.json").stat().st_ino
    assert not run_job(message(spool), place)
    assert not run_job(message(spool, run=2), place)
    assert (spool.results / JOB / "manifest.json").stat().st_ino == before


def test_model_is_loaded_once(spool: Spool) -> None:
    registry = Registry()
    place = Workplace(spool.root, "cpu", registry)
    run_job(message(spool), place)
    run_job(message(spool, job_id="f" * 32), place)
    assert registry.loaded == [f"{PIPELINE} on cpu"]


def test_model_that_does_not_load_is_reported(spool: Spool) -> None:
    run_job(message(spool), Workplace(spool.root, "cpu", Registry(WeightsError("no weights"))))
    manifest = Manifest.read(spool.results / JOB)
    assert (manifest.status, manifest.reason) == ("failed", "no weights")
    assert manifest.objects


def test_path_out_of_the_spool_is_refused(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="not a path within the spool"):
        run_job(message(spool, images=("../../etc/passwd",)), Workplace(spool.root, "cpu", Registry()))


def test_job_id_that_is_a_path_is_refused(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="not the name of a run"):
        run_job(message(spool, job_id="../x"), Workplace(spool.root, "cpu", Registry()))
