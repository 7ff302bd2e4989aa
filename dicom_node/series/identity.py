"""Identity of images: the patient, the study and the frame of reference that they belong to.

A series is one patient's, of one study and in one frame of reference. Archives mix them all the same, after a merge or a
restore for instance. What identifies a patient is kept as keyed digests only: they can be compared, and name nobody.

References
----------
DICOM PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.4.1 (Frame of Reference); PS3.3 A.1.2 (a series has one of each)
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import Dataset

from dicom_node.series.reading import json_value, tolerant

DIGEST_LENGTH = 16
"""Hex digits of an HMAC that stand for a value: 64 bits, enough to tell the patients of one series apart."""

PROCESS_KEY = secrets.token_bytes(16)
"""Key of digests that are compared within this process alone and never kept."""

SEVERAL_PATIENTS = "images of more than one patient in one series"
SEVERAL_STUDIES = "images of more than one study in one series"
MAY_NOT_BE_RELEASED = (SEVERAL_PATIENTS, SEVERAL_STUDIES)
"""Reasons of a series that is held which no person may overrule."""

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate")


@dataclass(frozen=True)
class Identity:
    """Patient and frame of reference of one image; "" where the image leaves a value blank.

    Parameters
    ----------
    patient_id, issuer, birth_date, name, sex : str
        Keyed digests of PatientID (0010,0020), IssuerOfPatientID (0010,0021), PatientBirthDate (0010,0030), PatientName
        (0010,0010) and PatientSex (0010,0040), without padding and, of the name, without differences of case; "O" (other)
        counts as a blank sex.
    frame_of_reference : str
        FrameOfReferenceUID (0020,0052).
    """

    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    name: str = ""
    frame_of_reference: str = ""
    sex: str = ""


@dataclass(frozen=True)
class Mixture:
    """Finding that images do not belong together: the reason, which names nobody, and whether a person may overrule it."""

    reason: str
    may_be_released: bool


def identity_of(ds: Dataset, key: bytes = PROCESS_KEY) -> Identity:
    """Return the identity of an image or a result object, its digests made with `key`."""
    return Identity(
        patient_id=_digest(key, _text(ds, "PatientID")),
        issuer=_digest(key, _text(ds, "IssuerOfPatientID")),
        birth_date=_digest(key, "".join(filter(str.isdigit, _text(ds, "PatientBirthDate")))),
        name=_digest(key, _plain_name(_text(ds, "PatientName"))),
        frame_of_reference=_text(ds, "FrameOfReferenceUID"),
        sex=_digest(key, sex if (sex := _text(ds, "PatientSex").upper()) != "O" else ""),
    )


def mixture(images: Iterable[tuple[str, Identity | None]]) -> Mixture | None:
    """Return why images can't be of one series, or None when they can.

    A blank issuer, birth date or frame of reference agrees with any. A blank PatientID does not: where one is blank, the
    names must agree.

    Parameters
    ----------
    images : iterable of (str, Identity or None)
        Study Instance UID and identity of each; None where it is not known.
    """
    studies: set[str] = set()
    known: list[Identity] = []
    for study_uid, identity in images:
        studies.add(study_uid)
        if identity is not None:
            known.append(identity)
    if _are_of_several_patients(known):
        return Mixture(SEVERAL_PATIENTS, may_be_released=False)
    if len(studies) > 1:
        return Mixture(SEVERAL_STUDIES, may_be_released=False)
    if _several(identity.frame_of_reference for identity in known):
        return Mixture("images of more than one frame of reference in one series", may_be_released=True)
    return None


def is_correction(earlier: tuple[str, Identity | None], later: tuple[str, Identity | None]) -> bool:
    """Tell whether the later of two copies of one image names another patient or study, or a PatientID that was blank.

    Parameters
    ----------
    earlier, later : (str, Identity or None)
        Study Instance UID and identity of each; None where it is not known.
    """
    found = mixture((earlier, later))
    if found is not None and not found.may_be_released:
        return True
    return bool(earlier[1] and later[1] and later[1].patient_id and not earlier[1].patient_id)


def doubts(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """Return what is odd about images of one patient and study in one series, in sentences for the report.

    Dates that are one day apart are not odd: an examination may run over midnight.
    """
    with tolerant():
        return tuple(_doubts(datasets))


def _doubts(datasets: Sequence[Dataset]) -> Iterator[str]:
    makers = {(_text(ds, "Manufacturer"), _text(ds, "ManufacturerModelName")) for ds in datasets}
    if len(makers) > 1:
        yield "The images of this series name more than one scanner."
    apart = max((_days_apart(datasets, keyword) for keyword in DATES), default=0)
    if apart > 1:
        yield f"The images of this series are dated up to {apart} days apart."


def _are_of_several_patients(known: Sequence[Identity]) -> bool:
    ids = {identity.patient_id for identity in known}
    if len(ids - {""}) > 1:
        return True
    if any(_several(getattr(identity, part) for identity in known) for part in ("issuer", "birth_date")):
        return True
    return "" in ids and len({identity.name for identity in known}) > 1


def _several(values: Iterable[str]) -> bool:
    """Tell whether there are different values beside blanks."""
    return len(set(values) - {""}) > 1


def _days_apart(datasets: Sequence[Dataset], keyword: str) -> int:
    days = []
    for ds in datasets:
        digits = "".join(filter(str.isdigit, _text(ds, keyword)))
        try:
            days.append(date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])))
        except ValueError:  # blank, or no date
            continue
    return (max(days) - min(days)).days if days else 0


def _digest(key: bytes, value: str) -> str:
    return (
        hmac.digest(key, value.encode("utf-8", "surrogateescape"), "sha256").hex()[:DIGEST_LENGTH]
        if value
        else ""
    )


def _plain_name(name: str) -> str:
    """Return the first group of a person's name that is not empty, without padding and case (PS3.5 6.2.1)."""
    for group in name.split("="):
        parts = [" ".join(part.split()) for part in group.split("^")]
        if plain := "^".join(parts).rstrip("^"):
            return unicodedata.normalize("NFKC", plain).casefold()
    return ""


def _text(ds: Dataset, keyword: str) -> str:
    value = json_value(ds, keyword)
    parts = value if isinstance(value, list) else [value]
    return "\\".join(str(part).strip(" \0") for part in parts if part is not None)
