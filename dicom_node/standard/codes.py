"""Coded concepts of the result objects: what a pipeline names by a short key, as DICOM writes it.

Meanings are those of PS3.16; SNOMED CT codes that DICOM's value sets lack are written out here. The scheme of this project
(``SCHEME``) holds only what DICOM's value sets have no code for: the McDonald regions, some kinds of change, and how well a
classifier saw the structure that it judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.sr.coding import Code

SCHEME: Final = "99DCMNODE"
SCHEME_NAME: Final = "dicom-node codes"

LESION_OF_BRAIN: Final = Code("301766008", "SCT", "Lesion of Brain")
LESION: Final = Code("52988006", "SCT", "Lesion")
OPTIC_NERVE: Final = Code("18234004", "SCT", "Optic nerve")
BRAIN: Final = Code("12738006", "SCT", "Brain")
ABNORMAL_STRUCTURE: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")
PRESENT: Final = Code("52101004", "SCT", "Present")
ABSENT: Final = Code("272519000", "SCT", "Absent")
VOLUME: Final = Code("118565006", "SCT", "Volume")
LONG_AXIS: Final = Code("103339001", "SCT", "Long axis")
LESION_COUNT: Final = Code("246206008", "SCT", "Number of lesions")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
THRESHOLD: Final = Code("122411", "DCM", "Threshold Value")
PERCENTILE_RANKING: Final = Code("121415", "DCM", "Percentile Ranking of measurement")
COVERAGE: Final = Code("coverage", SCHEME, "Share of the structure's course that was analysed")
SALIENCY_SHARE: Final = Code("saliency-share", SCHEME, "Share of the saliency inside the structure")
TOTAL: Final = Code("255619001", "SCT", "Total")

LATERALITY: Final[Mapping[str, Code]] = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
}

SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
SUMMARY_OF_ANALYSES: Final = Code("111065", "DCM", "Summary of Analyses")
"""PS3.16 CID 6047 and 6042: how the analysis went, by the status of the findings."""
SUMMARY_BY_STATUS: Final[Mapping[str, Code]] = {
    "findings": Code("111242", "DCM", "All algorithms succeeded; with findings"),
    "none": Code("111241", "DCM", "All algorithms succeeded; without findings"),
    "unsuitable": Code("111245", "DCM", "No algorithms succeeded; without findings"),
    "failed": Code("111245", "DCM", "No algorithms succeeded; without findings"),
}
SUMMARY_OF_PART: Final[Mapping[str, Code]] = {
    "findings": Code("111244", "DCM", "Not all algorithms succeeded; with findings"),
    "none": Code("111243", "DCM", "Not all algorithms succeeded; without findings"),
}
"""PS3.16 CID 6047 as well: where one side could not be analysed."""
ANALYSIS_BY_STATUS: Final[Mapping[str, Code]] = {
    "unsuitable": Code("111225", "DCM", "Not Attempted"),
    "failed": Code("111224", "DCM", "Failed"),
}

DIFFERENTIAL: Final = Code("111023", "DCM", "Differential Diagnosis/Impression")
FINDING: Final = Code("121071", "DCM", "Finding")
MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
DERIVED_MEASUREMENTS: Final = Code("126011", "DCM", "Derived Imaging Measurements")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
SEGMENT: Final = Code("121191", "DCM", "Referenced Segment")
SEGMENTATION_FRAMES: Final = Code("121214", "DCM", "Referenced Segmentation Frame")
IMAGE_REGION: Final = Code("111030", "DCM", "Image Region")
SOURCE_OF_REGION: Final = Code("111040", "DCM", "Original Source")
MARK: Final = Code("mark", SCHEME, "Point within the finding")
REGION_CERTAINTY: Final = Code("region-certainty", SCHEME, "Certainty of the region")
BORDERLINE: Final = Code("borderline", SCHEME, "Borderline with another region")
ALSO_REACHES: Final = Code("also-reaches", SCHEME, "Region that is touched as well")
CENTRE: Final = Code("111010", "DCM", "Center")
COMMENT: Final = Code("121106", "DCM", "Comment")
CHANGE: Final = Code("change", SCHEME, "Change since the prior study")
CERTAINTY_OF_CHANGE: Final = Code("change-certainty", SCHEME, "Certainty of the change")
POSSIBLE: Final = Code("possible", SCHEME, "Possible")
COMPARISON_DONE: Final = Code("122140", "DCM", "Comparison with Prior Study Done")
YES: Final = Code("373066001", "SCT", "Yes")
NO: Final = Code("373067005", "SCT", "No")
TEMPORAL_PREDECESSOR: Final = Code("121348", "DCM", "Temporal Predecessor")
FRACTIONAL_CHANGE: Final = Code("125314", "DCM", "Fractional Change")
PRIOR_VOLUME: Final = Code("prior-volume", SCHEME, "Volume in the prior study")
PRIOR_STUDY: Final = Code("prior-study", SCHEME, "Prior study")
TOTAL_CHANGE: Final = Code("total-change", SCHEME, "Change of the total volume since the prior study")
WITHIN_ERROR: Final = Code("within-error", SCHEME, "Within measurement error")
BEYOND_ERROR: Final = Code("beyond-error", SCHEME, "Beyond measurement error")
COMPARABILITY: Final = Code("comparability", SCHEME, "Comparability with the prior study")
COMPARABILITY_BY_GRADE: Final[Mapping[str, Code]] = {
    "A": Code("comparability-a", SCHEME, "A, acquired alike"),
    "B": Code("comparability-b", SCHEME, "B, acquired slightly differently"),
    "C": Code("comparability-c", SCHEME, "C, acquired differently: no change is certain"),
    "D": Code("comparability-d", SCHEME, "D, not comparable"),
}
LOCATED: Final = Code("located", SCHEME, "How the structure was located")
LOCATED_BY: Final[Mapping[str, Code]] = {
    "automatic": Code("automatic", SCHEME, "Automatically"),
    "manual": Code("manual", SCHEME, "By a point that a person gave"),
}
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
ACQUISITION_EQUIPMENT: Final = Code("109101", "DCM", "Acquisition Equipment")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
MR_OF_BRAIN: Final = Code("816077007", "SCT", "Magnetic resonance imaging of brain")
MR_IMAGING: Final = Code("113091000", "SCT", "Magnetic resonance imaging")

REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")

_FINDINGS: Final[Mapping[str, Code]] = {
    "lesion_of_brain": LESION_OF_BRAIN,
    "lesion": LESION,
    "optic_nerve": OPTIC_NERVE,
}
_MEASUREMENTS: Final[Mapping[str, Code]] = {
    "volume": VOLUME,
    "lesion_count": LESION_COUNT,
    "probability": PROBABILITY,
    "fractional_change": FRACTIONAL_CHANGE,
}
_DERIVATIONS: Final[Mapping[str, Code]] = {
    "total": TOTAL,
    "mean": Code("373098007", "SCT", "Mean"),
    "maximum": Code("56851009", "SCT", "Maximum"),
}
_SITES: Final[Mapping[str, Code]] = {
    "brain": BRAIN,
    "optic_nerve": OPTIC_NERVE,
    "eye": Code("81745001", "SCT", "Eye"),
    "orbit": Code("363654007", "SCT", "Orbit"),
}
_REGIONS: Final[Mapping[str, Code]] = {
    "periventricular": Code("periventricular", SCHEME, "Periventricular"),
    "juxtacortical": Code("juxtacortical", SCHEME, "Juxtacortical or cortical"),
    "infratentorial": Code("infratentorial", SCHEME, "Infratentorial"),
    "deep_white_matter": Code("deep-white-matter", SCHEME, "Deep white matter"),
    "deep_grey_matter": Code("deep-grey-matter", SCHEME, "Deep grey matter"),
}
_WHITE_MATTER: Final = Code("68523003", "SCT", "Cerebral White Matter")
_SITES_OF_REGIONS: Final[Mapping[str, Code]] = {
    "periventricular": _WHITE_MATTER,
    "juxtacortical": Code("40146001", "SCT", "Cerebral cortex"),
    "infratentorial": BRAIN,
    "deep_white_matter": _WHITE_MATTER,
    "deep_grey_matter": Code("389081007", "SCT", "Gray Matter"),
}
"""Standard sites of the regions, which are their modifiers; brainstem and cerebellum have no common code in DICOM."""
_CHANGES: Final[Mapping[str, Code]] = {
    "new": Code("new", SCHEME, "New"),
    "enlarging": Code("15454001", "SCT", "Increase in size"),
    "unchanged": Code("260388006", "SCT", "No change"),
    "stable": Code("260388006", "SCT", "No change"),
    "shrinking": Code("19776001", "SCT", "Decrease in size"),
    "smaller": Code("19776001", "SCT", "Decrease in size"),
    "resolved": Code("resolved", SCHEME, "Resolved"),
}
"""SNOMED CT disorders, absent from DICOM's value sets."""
_DISEASES: Final[Mapping[str, tuple[str, str]]] = {
    "multiple_sclerosis": ("24700007", "Multiple sclerosis"),
    "neuromyelitis_optica": ("25044007", "Neuromyelitis optica"),
}
_DISEASE_CLASSES: Final = frozenset({"MS", "NMOSD"})
_UNITS: Final[Mapping[str, Code]] = {
    "mm3": Code("mm3", "UCUM", "cubic millimeter"),
    "mL": Code("mL", "UCUM", "milliliter"),
    "mm": Code("mm", "UCUM", "millimeter"),
    "d": Code("d", "UCUM", "day"),
    "1": Code("1", "UCUM", "no units"),
    "%": Code("%", "UCUM", "percent"),
    "{lesions}": Code("{lesions}", "UCUM", "lesions"),
}


class UnknownCodeError(KeyError):
    """A code key that the table lacks; the message names it and those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])


def _look_up(table: Mapping[str, Code], key: str, what: str) -> Code:
    try:
        return table[key]
    except KeyError:
        raise UnknownCodeError(
            f"no {what} has the code key {key!r}; known: {', '.join(sorted(table))}"
        ) from None


def finding_code(key: str) -> Code:
    """Return what a segment shows; raises `UnknownCodeError`, as do all functions here."""
    return _look_up(_FINDINGS, key, "finding")


def measurement_code(key: str) -> Code:
    """Return the quantity that a measurement states."""
    return _look_up(_MEASUREMENTS, key, "measurement")


def derivation_code(key: str) -> Code:
    """Return how a measurement was derived (PS3.16 CID 7464)."""
    return _look_up(_DERIVATIONS, key, "derivation")


def unit_code(key: str) -> Code:
    """Return a UCUM unit."""
    return _look_up(_UNITS, key, "unit")


def site_code(key: str) -> Code:
    """Return an anatomic site, or a region within the brain."""
    return _look_up({**_SITES, **_REGIONS}, key, "site")


def site_of_region(key: str) -> Code:
    """Return the standard anatomic site that a region within the brain is a modifier of."""
    return _look_up(_SITES_OF_REGIONS, key, "region")


def is_region(key: str) -> bool:
    """Tell whether a key names a region within the brain rather than an anatomic site."""
    return key in _REGIONS


def change_code(key: str) -> Code:
    """Return how a lesion changed since the prior study."""
    return _look_up(_CHANGES, key, "change")


def disease_code(key: str, scheme: str = "SCT") -> Code:
    """Return a disease; ``scheme`` is the designator that the hospital's systems use for SNOMED CT."""
    codes = {name: Code(value, scheme, meaning) for name, (value, meaning) in _DISEASES.items()}
    return _look_up(codes, key, "disease")


def names_disease(class_name: str) -> bool:
    """Tell whether a class of a classifier is a disease, by its abbreviation or its name."""
    return class_name in _DISEASE_CLASSES or class_name in {meaning for _, meaning in _DISEASES.values()}
