"""Received images into the database, many with one transaction: what it costs hardly depends on how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from dicom_node.jobs.schema import ImageRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import SeriesState
from dicom_node.series.headers import ImageHeader
from dicom_node.standard.uids import uid_key

_KNOWN = select(ImageRow.sop_instance_uid).where(
    ImageRow.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_SEEN = (
    update(SeriesRow)
    .where(SeriesRow.series_uid == bindparam("uid"))
    .values(last_at=func.max(SeriesRow.last_at, bindparam("at")))
)


@dataclass(frozen=True)
class NewImage:
    """An image that lies in the spool.

    Attributes
    ----------
    header : ImageHeader
        What it says.
    path : str
        Where it lies, relative to the data folder.
    calling_ae : str
        Who sent it; "" when that is not known.
    """

    header: ImageHeader
    path: str
    calling_ae: str


def series_identity(series_uid: str) -> str:
    """Return the ID, 32 hex digits, under which people and the spool know a series."""
    return uid_key(series_uid)


def known_images(connection: Connection, sop_instance_uids: Sequence[str]) -> set[str]:
    """Return which of some images have rows."""
    return set(connection.execute(_KNOWN, {"uids": list(sop_instance_uids)}).scalars())


def insert_images(connection: Connection, images: Sequence[NewImage], at: float) -> list[bool]:
    """Add the rows of images and of series that are new; say for each image whether it was not known.

    Statements rather than objects: this is done for each image that is received.
    """
    uids = [image.header.sop_instance_uid for image in images]
    known = known_images(connection, uids)
    added: list[bool] = []
    rows: list[dict[str, Any]] = []
    series: dict[str, NewImage] = {}
    for uid, image in zip(uids, images, strict=True):
        added.append(uid not in known)
        if uid not in known:
            known.add(uid)
            rows.append(_image_row(image, at))
            series.setdefault(image.header.series_uid, image)
    for series_uid, first in series.items():
        if connection.execute(_SEEN, {"uid": series_uid, "at": at}).rowcount == 0:
            _begin_series(connection, first, at)
    if rows:
        connection.execute(insert(ImageRow), rows)
    return added


def correct_images(connection: Connection, headers: Sequence[ImageHeader], at: float) -> None:
    """Give images that are known the headers of their corrected copies, and their series the study that these name."""
    for header in headers:
        connection.execute(
            update(ImageRow)
            .where(ImageRow.sop_instance_uid == header.sop_instance_uid)
            .values(header=header.to_json())
        )
    for series_uid, header in {header.series_uid: header for header in headers}.items():
        connection.execute(
            update(SeriesRow)
            .where(SeriesRow.series_uid == series_uid)
            .values(
                study_uid=header.study_uid,
                accession_number=header.accession_number,
                last_at=func.max(SeriesRow.last_at, at),
            )
        )


def _image_row(image: NewImage, at: float) -> dict[str, Any]:
    return {
        "sop_instance_uid": image.header.sop_instance_uid,
        "series_uid": image.header.series_uid,
        "path": image.path,
        "header": image.header.to_json(),
        "received_at": at,
    }


def _begin_series(connection: Connection, image: NewImage, at: float) -> None:
    """Add a series, as its first image has it, and the first line of its history."""
    header, state = image.header, SeriesState.RECEIVING
    series = {
        "series_uid": header.series_uid,
        "id": series_identity(header.series_uid),
        "study_uid": header.study_uid,
        "accession_number": header.accession_number,
        "series_number": header.series_number,
        "calling_ae": image.calling_ae,
        "state": state,
        "first_at": at,
        "last_at": at,
    }
    connection.execute(insert(SeriesRow), series)
    line = {"subject": header.series_uid, "at": at, "before": "", "after": state, "reason": ""}
    connection.execute(insert(TransitionRow), line)
