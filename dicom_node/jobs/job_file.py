"""The file ``jobs/<job>.json``: a job as it was made, from which its row can be made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dicom_node.errors import StateError
from dicom_node.jobs.schema import JobRow
from dicom_node.spool.durable import write_durably

COLUMNS = (
    "id",
    "series_uid",
    "pipeline",
    "rule",
    "state",
    "reason",
    "settings",
    "images",
    "note",
    "replaces",
    "created_at",
)


def write_record(folder: Path, job: JobRow) -> Path:
    """Write a job's record, durably, and return its path.

    Raises
    ------
    SpoolError
        It can't be written.
    """
    path = folder / f"{job.id}.json"
    columns = {name: getattr(job, name) for name in COLUMNS}
    write_durably(path, json.dumps(columns, indent=1, sort_keys=True))
    return path


def read_record(path: Path) -> JobRow:
    """Return the row that a record describes, as it was when the job was made.

    Raises
    ------
    StateError
        The file is not a job's record.
    """
    try:
        columns: dict[str, Any] = json.loads(path.read_text())
        return JobRow(run=1, attempts=1, **{name: columns[name] for name in COLUMNS})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path.name} is not the record of a job: {error!r}") from error
