"""The source images as the result objects need them: UTF-8, every type 2 attribute there, and where each slice lies."""

from __future__ import annotations

import warnings
from copy import copy as shallow_copy
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.errors import ResultError
from dicom_node.series.reading import BAD_FILE_ERRORS

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

UTF_8 = "ISO_IR 192"
_YEARS_IN: Final = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
"""Years in a unit of PatientAge (PS3.5 6.2, VR AS)."""

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Patient, General Study (PS3.3 C.7.1.1, C.7.2.1): what a source lacks becomes empty; it does not stop a result."""

_PATIENT_AND_STUDY = (
    *_TYPE_2,
    "StudyInstanceUID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "StudyDescription",
    "ProcedureCodeSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "IssuerOfAccessionNumberSequence",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ReferencedStudySequence",
    "RequestingService",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "SmokingStatus",
    "Occupation",
    "AdditionalPatientHistory",
    "PatientState",
    "AdmissionID",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "TimezoneOffsetFromUTC",
)


@dataclass(frozen=True)
class Slice:
    """One slice of the volume: where it lies, exactly as its source states it, and which image and frame it is.

    ``image_number`` is what viewers show: the source's InstanceNumber, for Enhanced MR the frame, without either k + 1.
    """

    source: Dataset
    frame: int | None
    image_number: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness_mm: float | None


def sources_of(series: LoadedSeries) -> list[Dataset]:
    """Return copies of the sources' headers that can be encoded as UTF-8 and that lack no type 2 attribute.

    SpacingBetweenSlices is dropped: vendors state it wrongly, and highdicom trusts it over the positions. A
    SliceThickness that is missing becomes the distance between slices.

    Raises
    ------
    ResultError
        There is no source image.
    """
    if not series.datasets:
        raise ResultError("a result needs at least one source image to refer to")
    spacing_k = series.volume.spacing_mm[0] if series.volume is not None else 1.0
    return [_tolerant_copy(ds, spacing_k) for ds in series.datasets]


def _tolerant_copy(ds: Dataset, spacing_k: float) -> Dataset:
    with warnings.catch_warnings():
        # A wrong or unknown character set is the source's fault; pydicom then falls back to its default.
        warnings.simplefilter("ignore")
        _decode(ds)
        copy = Dataset()
        for element in ds:
            if not element.tag.is_private:
                copy.add(shallow_copy(element))  # a value that is set below must not reach the source
    copy.SpecificCharacterSet = UTF_8
    for keyword in _TYPE_2:
        if copy.get(keyword) is None:
            setattr(copy, keyword, "")
    if copy.PatientSex not in ("M", "F", "O", ""):
        copy.add_new("PatientSex", "CS", "")
    if "SpacingBetweenSlices" in copy:
        del copy.SpacingBetweenSlices
    if not is_enhanced(copy) and not copy.get("SliceThickness"):
        copy.SliceThickness = f"{spacing_k:.6g}"
    if not copy.get("FrameOfReferenceUID"):
        copy.FrameOfReferenceUID = generate_uid(
            entropy_srcs=[str(copy.SeriesInstanceUID), "frame of reference"]
        )
    return copy


def _decode(ds: Dataset) -> None:
    """Decode all texts; elements that can't be read are dropped, so that the others still make a report."""
    try:
        ds.decode()
    except BAD_FILE_ERRORS:
        for tag in list(ds.keys()):
            try:
                part = Dataset()
                part.add(ds[tag])
                part.decode()
            except BAD_FILE_ERRORS:
                del ds[tag]
        ds.decode()


def without_name(sources: list[Dataset]) -> list[Dataset]:
    """Return the sources with no PatientName in the first one, for highdicom.

    highdicom takes the patient from the first source, and puts a name of a single component into a Python warning; no
    patient's name may reach a log. `copy_patient_and_study` writes the name into the finished object.
    """
    first = Dataset()
    for element in sources[0]:
        if element.keyword != "PatientName":
            first.add(element)
    first.PatientName = ""
    return [first, *sources[1:]]


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Write the source's patient and study attributes into a result, whole, and make its text UTF-8.

    ``source`` is one of `sources_of`.
    """
    target.SpecificCharacterSet = UTF_8
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source:
            target.add(deepcopy(source[keyword]))


def age_years(source: Dataset) -> float | None:
    """Return the patient's age in years, as PatientAge (0010,1010) states it, or else by birth and study date; None without."""
    stated = str(source.get("PatientAge") or "").strip()
    if stated[:-1].isdecimal() and stated[-1:] in _YEARS_IN:
        return int(stated[:-1]) * _YEARS_IN[stated[-1]]
    born, studied = (_date(source.get(keyword)) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or studied is None or studied < born:
        return None
    return (studied - born).days / 365.25


def _date(value: object) -> date | None:
    """Return a date, also in the form of ACR-NEMA, with dots (PS3.5 6.2, VR DA)."""
    digits = str(value or "").replace(".", "").strip()
    try:
        return datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None


def is_enhanced(source: Dataset) -> bool:
    """Tell whether a source keeps its geometry for each frame in functional groups (PS3.3 C.7.6.16)."""
    return "PerFrameFunctionalGroupsSequence" in source


def slice_of(series: LoadedSeries, sources: list[Dataset], k: int) -> Slice:
    """Return where slice ``k`` of the volume lies; ``sources`` are those of `sources_of`."""
    index, frame = series.frames[k]
    source = sources[index]
    if is_enhanced(source):
        frame = frame or 1
    if frame is None:
        measures = position = orientation = source
        number = source.get("InstanceNumber")
    else:
        position = _group(source, frame, "PlanePositionSequence")
        orientation = _group(source, frame, "PlaneOrientationSequence")
        measures = _group(source, frame, "PixelMeasuresSequence")
        number = frame
    rows_mm, columns_mm = (float(value) for value in measures.PixelSpacing)
    thickness = measures.get("SliceThickness")
    return Slice(
        source=source,
        frame=frame,
        image_number=k + 1 if number is None else int(number),
        position=tuple(float(value) for value in position.ImagePositionPatient),
        orientation=tuple(float(value) for value in orientation.ImageOrientationPatient),
        spacing=(rows_mm, columns_mm),
        thickness_mm=None if thickness is None else float(thickness),
    )


def _group(source: Dataset, frame: int, keyword: str) -> Dataset:
    """Return a functional group of a frame: its own, or the shared one (PS3.3 C.7.6.16)."""
    own = source.PerFrameFunctionalGroupsSequence[frame - 1]
    groups = own if keyword in own else source.SharedFunctionalGroupsSequence[0]
    item: Dataset = groups[keyword].value[0]
    return item
