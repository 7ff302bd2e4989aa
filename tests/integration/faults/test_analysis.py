"""A pipeline that raises or runs out of memory, and weights that are gone or changed: every series gets its answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Start
from tests.integration.faults.inside import InsideNode
from tests.integration.faults.pacs import Pacs
from worker.tasks import ON_THE_CPU

pytestmark = pytest.mark.integration

FAILURE_REPORTS = ("sr", "text-sr")


def answered(node: InsideNode, files: list[Path], pacs: Pacs) -> str:
    """Send a series, wait for its answer, and return its history."""
    node.send(files)
    node.delivered()
    node.assert_nothing_lost()
    node.assert_once(pacs)
    return node.why(node.job().id)


@pytest.mark.parametrize(
    ("order", "reason"),
    [("raise", "internal error: KeyError in fake.py, line"), ("memory", "out of memory")],
)
def test_failing_pipeline_ends_in_a_report(start: Start, files: list[Path], order: str, reason: str) -> None:
    pacs = Pacs()
    node = start(pacs)
    node.orders.give(order)
    history = answered(node, files, pacs)
    assert "delivered, failed" in history
    assert reason in history
    assert "NAME^OF^PATIENT" not in history + node.log()
    (report,) = node.reports(pacs)
    assert reason.partition(" in ")[0] in report
    assert len(pacs.held) == len(FAILURE_REPORTS)


def test_gpu_without_memory_leaves_the_job_to_the_cpu(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, device="auto")
    node.orders.give("gpu-memory")
    assert "delivered, findings" in answered(node, files, pacs)
    assert node.orders.noted("loaded") == ["auto", "cpu"]
    (report,) = node.reports(pacs)
    assert ON_THE_CPU.removeprefix("the ") in report


def test_gpu_is_tried_first_again_by_the_next_job(start: Start, files: list[Path], make_series) -> None:
    pacs = Pacs()
    node = start(pacs, device="auto")
    node.orders.give("gpu-memory")
    answered(node, files, pacs)
    node.send(make_series())
    node.delivered(2)
    assert node.orders.noted("loaded") == ["auto", "cpu", "auto"]


def test_host_without_memory_after_the_gpu_fails_the_job(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, device="auto")
    node.orders.give("gpu-memory")
    node.orders.give("memory")
    history = answered(node, files, pacs)
    assert "delivered, failed" in history
    assert "out of memory" in history


def test_gpu_that_alone_is_allowed_fails_the_job(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, device="cuda:0")
    node.orders.give("gpu-memory")
    history = answered(node, files, pacs)
    assert "delivered, failed" in history
    assert "cuda:0 has no memory left" in history


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_weights_that_are_gone_or_changed_are_named_and_a_retry_uses_the_new_ones(
    start: Start, files: list[Path], fault: str
) -> None:
    pacs = Pacs()
    node = start(pacs)
    weights = write_weights(node.orders.folder / "weights")
    good = weights.read_bytes()
    if fault == "gone":
        weights.unlink()
    else:
        weights.write_bytes(good + b"\0")
    history = answered(node, files, pacs)
    assert "delivered, failed" in history
    assert {"gone": "no weight file", "changed": "is not what its card says"}[fault] in history
    weights.write_bytes(good)
    before = set(pacs.held)
    node.node.steering.steer("retry", node.job().id)
    node.until(lambda: node.job().outcome == "findings", "findings")
    node.delivered()
    assert set(pacs.held) > before
    assert not set(pacs.stored.values()) - {1}


def write_weights(folder: Path) -> Path:
    """Write a weight file with its card."""
    import hashlib

    folder.mkdir()
    path = folder / "fake.safetensors"
    path.write_bytes(b"weights")
    card = {
        "name": "fake",
        "version": "1.0.0",
        "digest": hashlib.sha256(b"weights").hexdigest(),
        "device_uid": "1.2.3",
        "trained_on": "synthetic",
        "purpose": "test",
    }
    (folder / "fake.json").write_text(json.dumps(card))
    return path
