"""Images that belong together, and those that do not: patients, studies, frames of reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.series.completeness import assess
from dicom_node.series.headers import ImageHeader, header_of
from dicom_node.series.identity import doubts, identity_of, is_correction, mixture
from dicom_node.series.reading import tolerant

KEY = b"a key"


def dataset(**elements: object) -> Dataset:
    ds = Dataset()
    values = {"PatientID": "4711", "PatientName": "Phantom^One", "StudyInstanceUID": "1.2.3", **elements}
    with tolerant():
        for keyword, value in values.items():
            if value is not None:
                setattr(ds, keyword, value)
    return ds


def mixed(*datasets: Dataset) -> str:
    found = mixture((str(ds.StudyInstanceUID), identity_of(ds, KEY)) for ds in datasets)
    return "" if found is None else found.reason + ("" if found.may_be_released else "!")


PATIENT = "images of more than one patient in one series!"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, ""),
        ({}, {"PatientID": " 4711 "}, ""),
        ({}, {"PatientName": "Other^Name"}, ""),
        ({}, {"PatientID": "0815"}, PATIENT),
        ({}, {"PatientID": "04711"}, PATIENT),
        ({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}, PATIENT),
        ({"IssuerOfPatientID": "A"}, {}, ""),
        ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": "19700102"}, PATIENT),
        ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": ""}, ""),
        ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": "1970.01.01"}, ""),
        ({"PatientID": ""}, {"PatientID": None}, ""),
        ({"PatientID": ""}, {"PatientID": "", "PatientName": "PHANTOM^ONE^"}, ""),
        ({"PatientID": ""}, {"PatientID": "", "PatientName": "Other^Name"}, PATIENT),
        ({"PatientID": ""}, {}, ""),
        ({"PatientID": "", "PatientName": "Other^Name"}, {}, PATIENT),
        ({"PatientID": "", "PatientName": ""}, {}, PATIENT),
        ({"StudyInstanceUID": "1.2.4"}, {}, "images of more than one study in one series!"),
        (
            {"FrameOfReferenceUID": "1.1"},
            {"FrameOfReferenceUID": "1.2"},
            "images of more than one frame of reference in one series",
        ),
        ({"FrameOfReferenceUID": "1.1"}, {}, ""),
    ],
)
def test_two_images_belong_together_or_not(
    first: dict[str, str], second: dict[str, str], expected: str
) -> None:
    one, other = dataset(**first), dataset(**second)
    assert mixed(one, other) == mixed(other, one) == expected


def test_blank_between_two_issuers_joins_nothing() -> None:
    images = [dataset(IssuerOfPatientID=issuer) for issuer in ("A", "", "B")]
    assert mixed(*images) == PATIENT


def test_header_names_nobody_and_comes_back_from_json_as_it_was() -> None:
    ds = dataset(
        PatientID="SECRET-ID",
        PatientName="Secret^Name",
        PatientBirthDate="19700101",
        IssuerOfPatientID="SECRET",
    )
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.4",
        "1.2.3.4",
        "1.2.3.5",
    )
    header = header_of(ds, key=KEY)
    kept = json.dumps(header.to_json())
    assert not any(word in kept.casefold() for word in ("secret", "name^", "1970"))
    assert ImageHeader.from_json(json.loads(kept)) == header
    assert header_of(ds, key=b"another").identity != header.identity


def test_header_of_an_earlier_version_has_no_identity_and_disturbs_nothing() -> None:
    old = ImageHeader("1.2", "1.2.3.4", "1.2.3.5", "1.2.3")
    assert ImageHeader.from_json({k: v for k, v in old.to_json().items() if k != "identity"}) == old
    assert mixture([("1.2.3", None), ("1.2.3", identity_of(dataset(), KEY))]) is None


def test_mixture_is_no_volume_and_is_seen_before_the_geometry() -> None:
    headers = []
    for number in range(6):
        ds = dataset(PatientID=str(number % 2))
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
            "1.2.840.10008.5.1.4.1.1.4",
            f"1.2.3.{number}",
            "1.2.3",
        )
        headers.append(header_of(ds, key=KEY))
    found = assess(headers)
    assert (found.state, found.reason, found.may_be_released) == ("not-a-volume", PATIENT[:-1], False)


def test_frames_of_reference_may_be_overlooked_patients_never() -> None:
    one, other = dataset(FrameOfReferenceUID="1.1"), dataset(FrameOfReferenceUID="1.2")
    for number, ds in enumerate((one, other)):
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
            "1.2.840.10008.5.1.4.1.1.4",
            f"1.2.3.{number}",
            "1.2.3",
        )
    headers = [header_of(ds, key=KEY) for ds in (one, other)]
    assert assess(headers).reason.startswith("images of more than one frame of reference")
    assert assess(headers, any_frame_of_reference=True).reason.startswith("no image")
    other.PatientID = "0815"
    headers = [header_of(ds, key=KEY) for ds in (one, other)]
    assert assess(headers, any_frame_of_reference=True).reason == PATIENT[:-1]


def test_scanners_and_dates_that_differ_are_told_midnight_is_not() -> None:
    night = [
        dataset(Manufacturer="A", StudyDate="20260101", AcquisitionDate=day)
        for day in ("20260101", "20260102")
    ]
    assert doubts(night) == ()
    assert doubts([*night, dataset(Manufacturer="B", StudyDate="20260101")]) == (
        "The images of this series name more than one scanner.",
    )
    assert doubts(
        [dataset(StudyDate="20260101"), dataset(StudyDate="20251230"), dataset(StudyDate="no date")]
    ) == ("The images of this series are dated up to 2 days apart.",)


VALUES = st.sampled_from(["", "A", "B"])
IMAGE = st.fixed_dictionaries(
    {
        "PatientID": VALUES,
        "IssuerOfPatientID": VALUES,
        "PatientBirthDate": st.sampled_from(["", "19700101", "19800101"]),
    }
)


@given(st.lists(IMAGE, min_size=1, max_size=6), st.randoms())
def test_verdict_depends_on_no_order_and_more_images_make_no_mixture_pure(images, random) -> None:
    datasets = [dataset(**image) for image in images]
    verdict = mixed(*datasets)
    shuffled = random.sample(datasets, len(datasets))
    assert mixed(*shuffled) == verdict
    if mixed(*datasets[:-1]):
        assert verdict


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ({}, {}, False),
        ({}, {"PatientID": "0815"}, True),
        ({}, {"PatientBirthDate": "19700101"}, False),
        ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": "19700102"}, True),
        ({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}, True),
        ({}, {"PatientName": "Other^Name"}, False),
        ({"PatientID": ""}, {"PatientID": "", "PatientName": "Other^Name"}, True),
        ({}, {"StudyInstanceUID": "1.2.4"}, True),
        ({"FrameOfReferenceUID": "1.1"}, {"FrameOfReferenceUID": "1.2"}, False),
        ({"PatientID": ""}, {}, True),
        ({}, {"PatientID": ""}, False),
    ],
)
def test_later_copy_corrects_the_identity_or_not(
    earlier: dict[str, str], later: dict[str, str], expected: bool
) -> None:
    pairs = [
        (str(ds.StudyInstanceUID), identity_of(ds, KEY)) for ds in (dataset(**earlier), dataset(**later))
    ]
    assert is_correction(*pairs) is expected


def test_unknown_identity_is_corrected_by_another_study_alone() -> None:
    known = identity_of(dataset(), KEY)
    assert not is_correction(("1.2.3", None), ("1.2.3", known))
    assert is_correction(("1.2.3", None), ("1.2.4", known))
