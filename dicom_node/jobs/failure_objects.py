"""Objects of a failed result, made in a process of its own: the node does not parse the images that they are made from.

Run by :mod:`dicom_node.jobs.failure_report` as ``python -m dicom_node.jobs.failure_objects``, with limits of memory and time.
What is to be done comes as JSON on the input; what was written goes to the output.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.jobs.child_process import answer
from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import ResultObject
from dicom_node.series.volume import load_sources
from pipelines.types import Findings

MEMORY_MB = 2000
PROCESSOR_S = 120
"""Limits of the process; the report of 1,000 images takes a few seconds and 200 MB."""


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    return {"objects": [asdict(one) for one in _build(order)]}


def _build(order: dict[str, Any]) -> list[ResultObject]:
    values = order["context"]
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    values["replaces"] = tuple(map(tuple, values["replaces"]))
    findings = Findings(status="failed", reason=order["reason"])
    sources = load_sources([Path(path) for path in order["paths"]])
    return build_results(findings, sources, ResultContext(**values), Path(order["folder"]))


if __name__ == "__main__":
    answer(_answer, MEMORY_MB, PROCESSOR_S)
