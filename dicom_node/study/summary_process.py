"""Objects of a study's page, made in a process of its own: the node does not parse the images that patient and study stand in.

Run by :mod:`dicom_node.study.summariser` as ``python -m dicom_node.study.summary_process``, with limits of memory and time.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from dicom_node.jobs.child_process import answer
from dicom_node.results.context import ResultContext
from dicom_node.study.content import StudyContent, part_of
from dicom_node.study.objects import build_summary

MEMORY_MB = 2000
PROCESSOR_S = 120
"""Limits of the process; a page takes some three seconds and 300 MB."""


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    values = order["context"]
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    values["replaces"] = tuple(map(tuple, values["replaces"]))
    parts = [part_of(Path(one.pop("folder")), Path(one.pop("image")), **one) for one in order["parts"]]
    content = StudyContent(
        tuple(parts),
        ResultContext(**values),
        tuple(order["awaited"]),
        order["revision"],
        order.get("no_prior"),
    )
    made = build_summary(content, Path(order["out"]), pdf=order["pdf"])
    return {"objects": [asdict(one) for one in made]}


if __name__ == "__main__":
    answer(_answer, MEMORY_MB, PROCESSOR_S)
