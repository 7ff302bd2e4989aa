"""Records beside the objects of a result: dataclasses as JSON files, durably written and checked when read."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dicom_node.errors import ResultError
from dicom_node.spool.durable import write_durably

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record")


def write_record(record: DataclassInstance, path: Path) -> Path:
    """Write a record, durably, and return its path.

    Raises
    ------
    SpoolError
        It can't be written.
    """
    write_durably(path, json.dumps(asdict(record), default=_plain, indent=1))
    return path


def read_record(form: TypeAdapter[Record], path: Path, what: str) -> Record | None:
    """Read a record; None where there is none.

    Parameters
    ----------
    form : TypeAdapter
        Of the record's class.
    what : str
        What it is, for the error ("record of findings").

    Raises
    ------
    ResultError
        It can't be read.
    """
    try:
        return form.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ResultError(f"{path} is no {what}: {type(error).__name__}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)
