"""Codes are those of the standard where it has them, and an unknown key is an error that names the known ones."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary

from dicom_node.standard import codes


@pytest.mark.parametrize(
    ("code", "keyword"),
    [
        (codes.LESION_OF_BRAIN, "LesionOfBrain"),
        (codes.OPTIC_NERVE, "OpticNerve"),
        (codes.ABNORMAL_STRUCTURE, "MorphologicallyAbnormalStructure"),
        (codes.ANATOMICAL_STRUCTURE, "AnatomicalStructure"),
        (codes.PRESENT, "Present"),
        (codes.ABSENT, "Absent"),
        (codes.VOLUME, "Volume"),
        (codes.LESION_COUNT, "NumberOfLesions"),
        (codes.change_code("enlarging"), "IncreaseInSize"),
        (codes.change_code("shrinking"), "DecreaseInSize"),
        (codes.change_code("stable"), "NoChange"),
        (codes.LATERALITY["left"], "Left"),
        (codes.LATERALITY["right"], "Right"),
    ],
)
def test_snomed_codes_are_those_of_the_standard(code: object, keyword: str) -> None:
    assert code == getattr(dictionary.SCT, keyword)


@pytest.mark.parametrize(
    ("code", "keyword"),
    [
        (codes.SUMMARY, "CADProcessingAndFindingsSummary"),
        (codes.SUMMARY_OF_ANALYSES, "SummaryOfAnalyses"),
        (codes.SUMMARY_BY_STATUS["findings"], "AllAlgorithmsSucceededWithFindings"),
        (codes.SUMMARY_BY_STATUS["none"], "AllAlgorithmsSucceededWithoutFindings"),
        (codes.SUMMARY_BY_STATUS["failed"], "NoAlgorithmsSucceededWithoutFindings"),
        (codes.ANALYSIS_BY_STATUS["failed"], "Failed"),
        (codes.ANALYSIS_BY_STATUS["unsuitable"], "NotAttempted"),
        (codes.PROBABILITY, "Probability"),
        (codes.DIFFERENTIAL, "DifferentialDiagnosisImpression"),
        (codes.ARTIFICIAL_INTELLIGENCE, "ArtificialIntelligence"),
        (codes.PROCESSING_EQUIPMENT, "ProcessingEquipment"),
        (codes.SOURCE_IMAGE, "SourceImageForImageProcessingOperation"),
        (codes.CENTRE, "Center"),
    ],
)
def test_dicom_codes_are_those_of_the_standard(code: object, keyword: str) -> None:
    assert code == getattr(dictionary.DCM, keyword)


def test_diseases_take_the_scheme_that_the_hospital_uses() -> None:
    assert codes.disease_code("multiple_sclerosis").value == "24700007"
    other = codes.disease_code("neuromyelitis_optica", "http://snomed.info/sct")
    assert (other.value, other.scheme_designator) == ("25044007", "http://snomed.info/sct")


def test_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(codes.UnknownCodeError) as caught:
        codes.unit_code("furlong")
    assert str(caught.value) == "no unit has the code key 'furlong'; known: %, 1, d, mL, mm, mm3, {lesions}"


def test_regions_are_told_from_sites() -> None:
    assert codes.is_region("periventricular")
    assert not codes.is_region("brain")
    assert codes.site_code("periventricular").scheme_designator == "99DCMNODE"
