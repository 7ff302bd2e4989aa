"""The node's tables (SQLAlchemy 2 declarative). Times are UTC seconds since the epoch.

The database is an index of the spool and can be made again from it: see :mod:`dicom_node.jobs.store`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Common base of all tables."""


class SeriesRow(Base):
    """A series, by its Series Instance UID (0020,000E)."""

    __tablename__ = "series"

    series_uid: Mapped[str] = mapped_column(String, primary_key=True)
    id: Mapped[str] = mapped_column(String, unique=True)  # hex digest of the UID; people see its first 8
    study_uid: Mapped[str] = mapped_column(String, index=True)
    accession_number: Mapped[str] = mapped_column(String, index=True, default="")
    series_number: Mapped[int | None] = mapped_column(Integer, nullable=True)
    calling_ae: Mapped[str] = mapped_column(String, default="")
    state: Mapped[str] = mapped_column(String, index=True)
    reason: Mapped[str] = mapped_column(String, default="")
    first_at: Mapped[float] = mapped_column(Float)
    last_at: Mapped[float] = mapped_column(Float)


class ImageRow(Base):
    """One received SOP instance that lies in the spool."""

    __tablename__ = "images"

    sop_instance_uid: Mapped[str] = mapped_column(String, primary_key=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), index=True)
    path: Mapped[str] = mapped_column(String)  # relative to the data folder
    header: Mapped[dict[str, Any]] = mapped_column(JSON)  # ImageHeader.to_json()
    received_at: Mapped[float] = mapped_column(Float)


class JobRow(Base):
    """One analysis of one set of images by one pipeline with one set of weights and settings."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(
        String, primary_key=True
    )  # hex digest of the identity; people see its first 8
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), index=True)
    pipeline: Mapped[str] = mapped_column(String)
    rule: Mapped[str] = mapped_column(String, default="")
    state: Mapped[str] = mapped_column(String, index=True)
    reason: Mapped[str] = mapped_column(String, default="")
    run: Mapped[int] = mapped_column(Integer, default=1)
    attempts: Mapped[int] = mapped_column(Integer, default=1)  # runs since it was last asked for
    outcome: Mapped[str] = mapped_column(String, default="")  # Findings.status
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    images: Mapped[list[str]] = mapped_column(JSON, default=list)  # paths relative to the data folder
    note: Mapped[str] = mapped_column(
        String, default=""
    )  # what the report must say of the input ("2 images missing")
    replaces: Mapped[str] = mapped_column(String, default="")  # the job whose report this one replaces
    created_at: Mapped[float] = mapped_column(Float)
    enqueued_at: Mapped[float] = mapped_column(
        Float, default=0.0
    )  # 0: the broker was not told of this run yet
    ended_at: Mapped[float] = mapped_column(Float, default=0.0)
    events_read: Mapped[int] = mapped_column(
        Integer, default=0
    )  # bytes of the run's events.jsonl already passed on

    # Beside their lists of images the rows are long: what is asked every few seconds is found without them.
    __table_args__ = (Index("jobs_ended", "state", "ended_at"),)


class ObjectRow(Base):
    """One result object and how far its delivery to one destination has come."""

    __tablename__ = "objects"

    sop_instance_uid: Mapped[str] = mapped_column(String, primary_key=True)
    destination: Mapped[str] = mapped_column(String, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    run: Mapped[int] = mapped_column(Integer)
    role: Mapped[str] = mapped_column(String)  # outline, seg, sr, text-sr, heatmap
    sop_class_uid: Mapped[str] = mapped_column(String)
    path: Mapped[str] = mapped_column(String)  # relative to the data folder
    state: Mapped[str] = mapped_column(String)
    reason: Mapped[str] = mapped_column(String, default="")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_at: Mapped[float] = mapped_column(Float, default=0.0)
    sent_at: Mapped[float] = mapped_column(Float, default=0.0)
    confirmed_at: Mapped[float] = mapped_column(Float, default=0.0)

    __table_args__ = (
        Index("objects_due", "destination", "state", "next_at"),
        Index("objects_sent", "destination", "sent_at"),
        Index("objects_confirmed", "destination", "confirmed_at"),
    )


class CommitmentRow(Base):
    """One request for storage commitment to a destination; its answer may come much later."""

    __tablename__ = "commitments"

    transaction_uid: Mapped[str] = mapped_column(String, primary_key=True)
    destination: Mapped[str] = mapped_column(String)
    job_id: Mapped[str] = mapped_column(String, index=True)
    objects: Mapped[list[str]] = mapped_column(JSON)  # SOP Instance UIDs
    asked_at: Mapped[float] = mapped_column(Float)
    answered_at: Mapped[float] = mapped_column(Float, default=0.0)
    committed: Mapped[list[str]] = mapped_column(JSON, default=list)
    failed: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)  # with the failure reason of each
    settled: Mapped[bool] = mapped_column(Boolean, default=False)  # the answer is in the objects' rows


class LesionRow(Base):
    """One lesion of a compared series, and the identity that it keeps in later studies; it stays when the series goes."""

    __tablename__ = "lesions"

    series_uid: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)  # its ID in the findings
    examined: Mapped[str] = mapped_column(String)  # the analysis that gave it this number
    centre_lps: Mapped[list[float]] = mapped_column(JSON)  # mm
    tracking_uid: Mapped[str] = mapped_column(String)
    tracking_number: Mapped[int] = mapped_column(Integer)  # of "L07"
    patient: Mapped[str] = mapped_column(String, index=True)  # keyed digest of the patient ID


class TransitionRow(Base):
    """History: one line for each change of state of a series, job or object."""

    __tablename__ = "transitions"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    subject: Mapped[str] = mapped_column(
        String, index=True
    )  # series_uid, job id, or "<sop_instance_uid>@<destination>"
    at: Mapped[float] = mapped_column(Float)
    before: Mapped[str] = mapped_column(String)
    after: Mapped[str] = mapped_column(String)
    reason: Mapped[str] = mapped_column(String, default="")
