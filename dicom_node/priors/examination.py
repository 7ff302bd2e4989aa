"""The examination that priors are looked for: whose it is and when it was, from its job and from the node's own results."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from pydicom import dcmread

from dicom_node.errors import NodeError, PriorError
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.store import Store
from dicom_node.priors.acquisition import acquired_by_headers
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import ImageHeader
from dicom_node.series.identity import Identity
from dicom_node.series.reading import tolerant
from dicom_node.spool.spool import Spool
from pipelines.comparability import Acquisition


@dataclass(frozen=True)
class Examination:
    """Examination whose series a job has analysed.

    Attributes
    ----------
    job_id, pipeline, study_uid, series_uid : str
        Of the job and its series.
    identity : Identity
        Of the patient, in the node's digests.
    day : date
        Of the study.
    acquired_at : frozenset of str
        Times of acquisition of its images.
    description : str
        SeriesDescription (0008,103E); "" where it has none.
    images : int
        Number of images.
    acquisition : Acquisition
        By its headers.
    """

    job_id: str
    pipeline: str
    study_uid: str
    series_uid: str
    identity: Identity
    day: date
    acquired_at: frozenset[str]
    description: str
    images: int
    acquisition: Acquisition = field(default_factory=Acquisition)

    def days_since(self, day: date) -> int:
        """Return how many days before it a day was, by dates alone."""
        return (self.day - day).days


@dataclass(frozen=True)
class PatientKey:
    """PatientID (0010,0020) as the archive is asked for it, and the character set that it is written in; not to be logged."""

    patient_id: str
    character_set: str | list[str]


def examination_of(store: Store, job: JobRow) -> Examination:
    """Return the examination of a job.

    Raises
    ------
    PriorError
        Its images do not say whose they are or when it was, so that nothing can be compared with it.
    """
    rows = store.images(job.series_uid)
    headers = [ImageHeader.from_json(row.header) for row in rows if row.path in set(job.images)]
    identity = headers[0].identity if headers else None
    if identity is None or not identity.patient_id:
        raise PriorError("the images name no patient ID")
    if not identity.birth_date:
        raise PriorError("birth date missing: nothing tells that an earlier study is the same person's")
    day = date_of(headers[0].study_date)
    if day is None:
        raise PriorError("the images name no date of the study")
    return Examination(
        job_id=job.id,
        pipeline=job.pipeline,
        study_uid=headers[0].study_uid,
        series_uid=job.series_uid,
        identity=identity,
        day=day,
        acquired_at=acquisition_times(headers),
        description=str(headers[0].tags.get("SeriesDescription", "")),
        images=len(headers),
        acquisition=acquired_by_headers(headers),
    )


def patient_key(spool: Spool, job: JobRow) -> PatientKey:
    """Return the patient ID of a job, from its own results: of what was received, digests alone are kept.

    Raises
    ------
    PriorError
        It has no results yet, or they name none.
    """
    try:
        manifest = Manifest.read(spool.results / job.id)
        path = spool.results / job.id / manifest.objects[0].path
        with tolerant():
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "SpecificCharacterSet"])
            patient_id = str(ds.get("PatientID") or "").strip(" \0")
            character_set = ds.get("SpecificCharacterSet") or ""
    except (NodeError, IndexError) as error:
        raise PriorError(f"job {job.id[:8]} has no results yet: they name its patient") from error
    except Exception as error:  # a file that somebody meddled with
        raise PriorError(f"the results of job {job.id[:8]} can't be read ({type(error).__name__})") from error
    if not patient_id or any(character in patient_id for character in "*?\\"):
        raise PriorError("the patient ID is blank or can't be asked for exactly")
    return PatientKey(patient_id, character_set if isinstance(character_set, str) else list(character_set))


def date_of(text: str) -> date | None:
    """Return a date of the form YYYYMMDD or YYYY.MM.DD; None where it is none."""
    digits = "".join(filter(str.isdigit, text))
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def acquisition_times(headers: list[ImageHeader]) -> frozenset[str]:
    """Return the times of acquisition that images name."""
    return frozenset(header.acquired_at for header in headers if header.acquired_at)
