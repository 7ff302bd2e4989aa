"""Identities of lesions over the years: the table of the database, and the file ``tracking.json`` of a comparison behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, select

from dicom_node.errors import ResultError
from dicom_node.jobs.message import KnownLesion
from dicom_node.jobs.schema import LesionRow
from dicom_node.jobs.store import Store
from dicom_node.spool.durable import write_durably

FILE_NAME: Final = "tracking.json"
PREFIX: Final = "L"

Tracked = Mapping[str, Sequence[KnownLesion]]
"""Lesions of series, by Series Instance UID."""


def identifier_of(number: int) -> str:
    """Return the tracking identifier with a number ("L07")."""
    return f"{PREFIX}{number:02d}"


def number_of(identifier: str) -> int:
    """Return the number of a tracking identifier."""
    return int(identifier.removeprefix(PREFIX))


def write_tracking(folder: Path, tracked: Tracked) -> None:
    """Write the identities that a comparison gave or took over, durably.

    Raises
    ------
    SpoolError
        They can't be written.
    """
    content = {uid: [asdict(lesion) for lesion in lesions] for uid, lesions in tracked.items()}
    write_durably(folder / FILE_NAME, json.dumps(content, indent=1))


def read_tracking(folder: Path) -> dict[str, tuple[KnownLesion, ...]]:
    """Return the identities that a comparison gave or took over; none where nothing was compared.

    Raises
    ------
    ResultError
        The file can't be read.
    """
    path = folder / FILE_NAME
    try:
        return _form().validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ResultError(f"{path} does not hold tracked lesions: {type(error).__name__}") from error


def record_lesions(store: Store, patient: str, tracked: Tracked) -> None:
    """Take over the identities of a patient's lesions, in place of those that the table has of the same series."""
    with store.session() as session:
        for series_uid, lesions in tracked.items():
            session.execute(delete(LesionRow).where(LesionRow.series_uid == series_uid))
            session.add_all(
                LesionRow(
                    series_uid=series_uid,
                    number=lesion.number,
                    examined=lesion.examined,
                    centre_lps=list(lesion.centre_lps),
                    tracking_uid=lesion.uid,
                    tracking_number=number_of(lesion.identifier),
                    patient=patient,
                )
                for lesion in lesions
            )


def known_lesions(store: Store, series_uid: str) -> tuple[KnownLesion, ...]:
    """Return the lesions of a series that comparisons have tracked."""
    query = select(LesionRow).where(LesionRow.series_uid == series_uid).order_by(LesionRow.number)
    with store.reading() as session:
        return tuple(
            KnownLesion(
                row.number,
                (row.centre_lps[0], row.centre_lps[1], row.centre_lps[2]),
                row.tracking_uid,
                identifier_of(row.tracking_number),
                row.examined,
            )
            for row in session.scalars(query)
        )


def last_number(store: Store, patient: str) -> int:
    """Return the highest number that a lesion of a patient has; 0 while none has."""
    query = select(func.max(LesionRow.tracking_number)).where(LesionRow.patient == patient)
    with store.reading() as session:
        return session.scalar(query) or 0


@cache
def _form() -> TypeAdapter[dict[str, tuple[KnownLesion, ...]]]:
    return TypeAdapter(dict[str, tuple[KnownLesion, ...]])
