"""Objects of a failed result, made in a process of its own: the node does not parse the images that they are made from.

Run by :mod:`dicom_node.jobs.failure_report` as ``python -m dicom_node.jobs.failure_objects``, with limits of memory and time.
What is to be done comes as JSON on the input; what was written goes to the output.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.errors import NodeError
from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import ResultObject
from dicom_node.series.process_limits import OUT_OF_MEMORY, limit_memory, limit_processor_time
from dicom_node.series.volume import load_sources
from pipelines.types import Findings

MEMORY_MB = 2000
PROCESSOR_S = 120
"""Limits of the process; the report of 1,000 images takes a few seconds and 200 MB."""


def main() -> None:
    """Do what the input says."""
    order = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    limit_memory(MEMORY_MB)
    limit_processor_time(PROCESSOR_S)
    answer: dict[str, Any]
    try:
        answer = {"objects": [asdict(one) for one in _build(order)]}
    except NodeError as error:
        answer = {"error": str(error)}
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    json.dump(answer, answers)
    answers.flush()


def _build(order: dict[str, Any]) -> list[ResultObject]:
    values = order["context"]
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    values["replaces"] = tuple(map(tuple, values["replaces"]))
    findings = Findings(status="failed", reason=order["reason"])
    sources = load_sources([Path(path) for path in order["paths"]])
    return build_results(findings, sources, ResultContext(**values), Path(order["folder"]))


if __name__ == "__main__":
    main()
