"""C-FIND for the earlier studies of a patient, and for their series.

References
----------
DICOM PS3.4 C.6.2.1 (Study Root information model), table C.6-5 (attributes of studies)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.association import Association

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import NoContextError, RejectedError, Timeouts, associate
from dicom_node.deliver.c_find import FindBrokenError, FindRefusedError, answers_of, find_context
from dicom_node.errors import PriorError
from dicom_node.priors.acquisition import ACQUISITION_KEYS
from dicom_node.priors.again import AskAgainError
from dicom_node.priors.examination import Examination, PatientKey, date_of
from dicom_node.series.identity import Identity, identity_of
from dicom_node.series.reading import json_value, tolerant

MOST_ANSWERS = 2000
"""More studies, or series of one study, than a patient has: the archive does not match what it is asked for."""
STUDY_KEYS = (
    "StudyInstanceUID",
    "StudyTime",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientName",
    "ModalitiesInStudy",
    "StudyDescription",
    "AccessionNumber",
    "NumberOfStudyRelatedInstances",
)
SERIES_KEYS = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
    *ACQUISITION_KEYS,
)
IMAGE_KEYS = ("SOPInstanceUID", "InversionTime", "EchoTime")


@dataclass(frozen=True)
class StudyFound:
    """Study that an archive has of a patient; digests of its identity alone are kept."""

    study_uid: str
    day: date | None
    identity: Identity
    modalities: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class SeriesFound:
    """Series that an archive has of a study.

    Attributes
    ----------
    images : int or None
        None where it does not count them.
    values : mapping of DICOM keyword to value
        What it answers of the acquisition.
    unlike : tuple of str
        Why it is of another kind than the examination's by that, in a few words each; empty where nothing says so.
    """

    study_uid: str
    series_uid: str
    modality: str
    description: str
    protocol: str
    body_part: str
    images: int | None
    values: Mapping[str, object] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()


@contextmanager
def asking(address: Address, ae_title: str, timeouts: Timeouts) -> Iterator[Association]:
    """Hold an association for questions to an archive.

    Raises
    ------
    AskAgainError
        It can't be reached, or breaks off: a later try may succeed.
    PriorError
        It takes no questions from us.
    """
    try:
        with associate(address, ae_title, [find_context()], timeouts=timeouts) as assoc, tolerant():
            yield assoc
    except (NoContextError, FindRefusedError) as error:
        raise PriorError(f"{error}; allow queries by {ae_title} there") from error
    except RejectedError as error:
        raise PriorError(str(error)) from error
    except FindBrokenError as error:
        raise AskAgainError(str(error)) from error


def find_studies(
    assoc: Association, examination: Examination, patient: PatientKey, key: bytes
) -> list[StudyFound]:
    """Return the studies of a patient before the day of an examination, the newest first.

    Parameters
    ----------
    key : bytes
        Of the digests, the node's own.
    """
    ds = _question("STUDY", STUDY_KEYS)
    if not patient.patient_id.isascii():  # some archives refuse a character set that is not needed
        ds.SpecificCharacterSet = patient.character_set
    ds.PatientID = patient.patient_id
    ds.StudyDate = f"-{examination.day - timedelta(days=1):%Y%m%d}"
    found: dict[str, StudyFound] = {}
    for answer in _answers(assoc, ds):
        if uid := _text(answer, "StudyInstanceUID"):
            found[uid] = StudyFound(
                study_uid=uid,
                day=date_of(_text(answer, "StudyDate")),
                identity=identity_of(answer, key),
                modalities=_texts(answer, "ModalitiesInStudy"),
                description=_text(answer, "StudyDescription"),
            )
    return sorted(found.values(), key=lambda study: (study.day or date.min, study.study_uid), reverse=True)


def find_series(assoc: Association, study_uid: str) -> list[SeriesFound]:
    """Return the series of a study."""
    ds = _question("SERIES", SERIES_KEYS)
    ds.StudyInstanceUID = study_uid
    return [
        SeriesFound(
            study_uid=study_uid,
            series_uid=uid,
            modality=_text(answer, "Modality").upper(),
            description=_text(answer, "SeriesDescription"),
            protocol=_text(answer, "ProtocolName"),
            body_part=_text(answer, "BodyPartExamined"),
            images=_integer(answer, "NumberOfSeriesRelatedInstances"),
            values=_values(answer),
        )
        for answer in _answers(assoc, ds)
        if (uid := _text(answer, "SeriesInstanceUID"))
    ]


def find_times(assoc: Association, series: SeriesFound) -> tuple[float, float] | None:
    """Return inversion and echo time (ms) of the first image of a series that tells them; None where the archive does not."""
    ds = _question("IMAGE", IMAGE_KEYS)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series.study_uid, series.series_uid
    found: tuple[float, float] | None = None
    for answer in _answers(assoc, ds):  # all of them, or the association could not be used again
        times = [_number(answer, keyword) for keyword in ("InversionTime", "EchoTime")]
        if found is None and times[0] is not None and times[1] is not None:
            found = times[0], times[1]
    return found


def _question(level: str, keywords: tuple[str, ...]) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword in keywords:
        setattr(ds, keyword, None)
    return ds


def _answers(assoc: Association, ds: Dataset) -> Iterator[Dataset]:
    for number, answer in enumerate(answers_of(assoc, ds), start=1):
        if number > MOST_ANSWERS:
            assoc.abort()
            raise PriorError(
                f"it answers C-FIND with more than {MOST_ANSWERS} {ds.QueryRetrieveLevel} matches, as if it matched nothing"
            )
        yield answer


def _text(ds: Dataset, keyword: str) -> str:
    return "\\".join(_texts(ds, keyword))


def _texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element; none where it is blank or can't be read."""
    try:
        value = ds.get(keyword)
    except Exception:  # noqa: BLE001 - elements are decoded where they are looked at, and strangers sent them
        return ()
    values = value if isinstance(value, (list, MultiValue)) else [value]
    return tuple(text for one in values if one is not None and (text := str(one).strip(" \0")))


def _values(answer: Dataset) -> dict[str, object]:
    keywords = ("SeriesDescription", "ProtocolName", *ACQUISITION_KEYS)
    return {key: value for key in keywords if (value := json_value(answer, key)) not in (None, "")}


def _number(ds: Dataset, keyword: str) -> float | None:
    try:
        return float(_text(ds, keyword))
    except ValueError:
        return None


def _integer(ds: Dataset, keyword: str) -> int | None:
    number = _number(ds, keyword)
    return int(number) if number is not None and abs(number) < 1e9 else None
