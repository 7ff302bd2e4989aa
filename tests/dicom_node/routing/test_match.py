"""How rules are applied: all images, missing tags, groups, the guard, and the one line that says why."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.routing.match import decide
from dicom_node.routing.rules import Rule, built_in_rules, parse_rules
from dicom_node.series.headers import header_of

FLAIR = {"EchoTime": 133.0, "RepetitionTime": 10000.0, "InversionTime": 2569.99, "SliceThickness": 4.0}


def rule(**sections: object) -> list[Rule]:
    return parse_rules([{"name": "r", "pipeline": "p", **sections}])


def test_reason_of_a_match_gives_the_physics(make_header):
    decision = decide([make_header(**FLAIR)], built_in_rules())
    assert (decision.pipeline, decision.rule) == ("flair", "flair-by-physics")
    assert decision.reason == "rule flair-by-physics: TI 2570 ms, TE 133 ms, TR 10000 ms, 4 mm axial"


def test_reason_of_no_match_says_what_it_is_and_what_fails(make_header):
    header = make_header(
        EchoTime=89.0,
        RepetitionTime=4500.0,
        ScanningSequence="EP",
        DiffusionBValue=1000.0,
        SeriesDescription="x",
    )
    decision = decide([header], built_in_rules())
    assert decision.reason == (
        "no rule wants it: DWI (b 1000), echo planar, TE 89 ms, TR 4500 ms, axial; nearest rule "
        "flair-by-name fails on ScanningSequence (EP), DiffusionBValue (1000 s/mm2), and 1 more"
    )


def test_reason_never_holds_text_that_a_person_typed(make_header):
    header = make_header(
        **FLAIR, SeriesDescription="DIR Mustermann", ProtocolName="Mustermann", StudyDescription="Mustermann"
    )
    decision = decide([header], built_in_rules())
    assert decision.pipeline is None
    assert "fails on Names (the rule excludes dir)" in decision.reason
    assert "mustermann" not in decision.reason.casefold()


def test_condition_must_hold_on_every_image(make_header):
    mixed = [make_header(number=n, EchoTime=20.0 if n <= 2 else 100.0) for n in range(1, 6)]
    decision = decide(mixed, rule(all={"EchoTime": {"min": 70}}))
    assert decision.pipeline is None
    assert "fails on EchoTime (20 ms on 2 of 5 images, wanted at least 70 ms)" in decision.reason
    (check,) = decision.trials[0].checks
    assert (check.met, check.against, check.images) == (False, 2, 5)


def test_none_is_broken_by_one_image(make_header):
    series = [make_header(number=1), make_header(number=2, DiffusionBValue=1000.0)]
    decision = decide(series, rule(all={"Modality": {"has": "MR"}}, none={"DiffusionBValue": {"min": 1}}))
    assert decision.pipeline is None
    assert "fails on DiffusionBValue (1000 s/mm2 on 1 of 2 images)" in decision.reason


def test_each_group_needs_one_condition_that_holds_throughout(make_header):
    rules = rule(
        any={"a": {"EchoTime": {"min": 70}, "RepetitionTime": {"min": 70}}, "b": {"FlipAngle": {"min": 70}}}
    )
    assert decide([make_header(EchoTime=80.0, FlipAngle=90.0)], rules).pipeline == "p"
    assert decide([make_header(RepetitionTime=80.0, FlipAngle=90.0)], rules).pipeline == "p"
    refused = decide([make_header(EchoTime=80.0)], rules)
    assert "fails on b (nothing shows it)" in refused.reason
    alternating = [
        make_header(number=1, EchoTime=80.0, FlipAngle=90.0),
        make_header(number=2, FlipAngle=90.0),
    ]
    assert decide(alternating, rules).pipeline is None


@pytest.mark.parametrize(("missing", "pipeline"), [("pass", "p"), ("fail", None)])
@pytest.mark.parametrize("value", [None, "", [], " "])
def test_missing_tag_counts_as_the_condition_says(make_header, missing, pipeline, value):
    decision = decide([make_header(EchoTime=value)], rule(all={"EchoTime": {"min": 70, "missing": missing}}))
    assert decision.pipeline == pipeline


def test_missing_tag_does_not_break_none(make_header):
    rules = rule(all={"Modality": {"has": "mr"}}, none={"EchoTime": {"min": 70}})
    assert decide([make_header()], rules).pipeline == "p"


def test_limits_are_inclusive_and_forgive_rounding(make_header):
    rules = rule(all={"PixelSpacing": {"max": 0.8}, "EchoTime": {"min": 70}})
    assert decide([make_header(pixel_spacing=(0.8000001, 0.8), EchoTime=69.9999)], rules).pipeline == "p"
    assert decide([make_header(pixel_spacing=(0.81, 0.8), EchoTime=70.0)], rules).pipeline is None


@pytest.mark.parametrize(("tilt_sine", "pipeline"), [(0.0, "p"), (0.4999, "p"), (0.52, None)])
def test_plane_is_judged_by_the_angle_of_the_slice_normal(make_header, tilt_sine, pipeline):
    cosine = (1 - tilt_sine**2) ** 0.5
    header = make_header(orientation=(1.0, 0.0, 0.0, 0.0, tilt_sine, -cosine))
    assert decide([header], rule(all={"Plane": {"has": "coronal", "within_deg": 30}})).pipeline == pipeline


@pytest.mark.parametrize(
    "orientation", [None, (0.0,) * 6, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0), (float("nan"),) * 6, (1.0, 0.0)]
)
def test_headers_with_unusable_geometry_are_decided(make_header, orientation):
    header = make_header(orientation=orientation)
    decision = decide([header], rule(all={"Plane": {"has": "axial"}}))
    assert "fails on Plane (missing, wanted axial within 30 degrees)" in decision.reason


def test_field_of_view_is_the_longer_side(make_header):
    rules = rule(all={"FieldOfView": {"min": 179.9, "max": 180.1}})
    assert decide([make_header(rows=360, pixel_spacing=(0.5, 0.4))], rules).pipeline == "p"
    assert decide([make_header(rows=None, ReconstructionDiameter=180.0)], rules).pipeline == "p"


def test_first_rule_that_applies_decides(make_header):
    tables = [
        {"name": name, "pipeline": name, "all": {"EchoTime": {"min": low}}}
        for name, low in (("a", 90), ("b", 70), ("c", 10))
    ]
    assert decide([make_header(EchoTime=80.0)], parse_rules(tables)).rule == "b"


def test_without_rules_nothing_is_wanted(make_header):
    assert decide([make_header(**FLAIR)], []).reason.startswith("no rule wants it: TI 2570 ms")


def test_odd_uids_do_not_matter(make_header):
    assert decide([make_header(**FLAIR)] * 2, built_in_rules()).pipeline == "flair"


ANYTHING = [
    {"name": "all", "pipeline": "p", "all": {"SeriesDescription": {"matches": "", "missing": "pass"}}}
]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"ContentQualification": "RESEARCH", "SeriesDescription": "Lesions RESEARCH"},
            "a result of this node or of another research algorithm; results are not analysed again",
        ),
        (
            {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4"},
            "Segmentation Storage: only MR images are analysed",
        ),
        (
            {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.104.1"},
            "Encapsulated PDF Storage: only MR images are analysed",
        ),
        ({"sop_class_uid": "9.9"}, "9.9: only MR images are analysed"),
        ({"sop_class_uid": ""}, "no SOP class: only MR images are analysed"),
        ({"Modality": "CT"}, "modality CT: only MR is analysed"),
        ({"is_image": False}, "no image: pixel data or image size is missing"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "MPR"]},
            "image type DERIVED/PRIMARY/MPR: only original, primary images are analysed",
        ),
        (
            {"ImageType": ["ORIGINAL", "SECONDARY"]},
            "image type ORIGINAL/SECONDARY: only original, primary images are analysed",
        ),
    ],
)
def test_guard_refuses_whatever_the_rules_say(make_header, changes, reason):
    decision = decide([make_header(**FLAIR, **changes)], parse_rules(ANYTHING))
    assert decision == type(decision)(None, None, reason, ())


def test_research_sequence_of_a_scanner_is_not_taken_for_a_result(make_header):
    header = make_header(**FLAIR, ContentQualification="RESEARCH", SeriesDescription="t2_flair_wip")
    assert decide([header], built_in_rules()).pipeline == "flair"


def test_one_derived_image_refuses_the_series_and_is_counted(make_header):
    series = [make_header(number=n, **FLAIR) for n in range(1, 4)]
    series.append(make_header(number=4, **FLAIR, ImageType=["DERIVED", "PRIMARY"]))
    assert decide(series, parse_rules(ANYTHING)).reason == (
        "image type DERIVED/PRIMARY: only original, primary images are analysed (1 of 4 images)"
    )


def test_images_in_three_planes_are_a_localizer(make_header):
    series = [make_header(orientation=plane, **FLAIR) for plane in ("axial", "coronal", "sagittal")]
    assert decide(series, parse_rules(ANYTHING)).reason == (
        "its images lie in 3 orientations: a localizer, or several stacks in one series"
    )


def test_rounded_orientations_are_one_orientation(make_header):
    series = [make_header(number=1), make_header(number=2, orientation=(1.0, 0.0, 0.0, 0.0, 0.9999, 0.0141))]
    assert decide(series, parse_rules(ANYTHING)).pipeline == "p"


def test_series_without_images_is_refused():
    assert decide([], parse_rules(ANYTHING)).reason == "the series has no images"


def test_orientation_without_position_is_still_a_plane(make_header):
    header = make_header(orientation=None, ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    assert decide([header], rule(all={"Plane": {"has": "coronal"}})).pipeline == "p"


def classic_dataset() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = "1.2.3.4", "1.2.3", "1.2"
    ds.Modality = "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    ds.ScanningSequence = ["SE", "IR"]
    ds.EchoTime, ds.RepetitionTime, ds.InversionTime, ds.SliceThickness = "132.96", "10000", "2569.99", "4"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.Rows, ds.Columns, ds.PixelSpacing = 2, 2, [0.5, 0.5]
    ds.PixelData = bytes(8)
    return ds


def enhanced_dataset() -> Dataset:
    def group(name: str, **values: object) -> None:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(shared, name, [item])

    ds = classic_dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    for keyword in ("EchoTime", "RepetitionTime", "InversionTime", "SliceThickness", "ScanningSequence"):
        delattr(ds, keyword)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(ds, keyword)
    ds.EchoPulseSequence, ds.EchoPlanarPulseSequence, ds.NumberOfFrames = "SPIN", "NO", 2
    shared = Dataset()
    group("MREchoSequence", EffectiveEchoTime=84.0)
    group("MRTimingAndRelatedParametersSequence", RepetitionTime=4000.0)
    group("MRModifierSequence", InversionRecovery="NO", SpectrallySelectedSuppression="FAT")
    group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.5], SliceThickness=3.0)
    group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    for k, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        position = Dataset()
        position.ImagePositionPatient = [0, 3 * k, 0]
        frame.PlanePositionSequence = [position]
    return ds


def test_dataset_of_classic_mr_is_routed():
    decision = decide([header_of(classic_dataset())], built_in_rules())
    assert decision.reason == "rule flair-by-physics: TI 2570 ms, TE 133 ms, TR 10000 ms, 4 mm axial"


def test_dataset_of_enhanced_mr_is_routed_by_its_functional_groups():
    decision = decide([header_of(enhanced_dataset())], built_in_rules())
    assert decision.reason == "rule orbit-t2-fatsat: TE 84 ms, TR 4000 ms, 3 mm coronal"


def test_enhanced_mr_whose_frames_differ_must_fit_in_every_frame():
    ds = enhanced_dataset()
    for frame, te in zip(ds.PerFrameFunctionalGroupsSequence, (15.0, 84.0), strict=True):
        echo = Dataset()
        echo.EffectiveEchoTime = te
        frame.MREchoSequence = [echo]
    decision = decide([header_of(ds)], built_in_rules())
    assert decision.pipeline is None
    assert "orbit-t2-fatsat fails on EchoTime (15, 84 ms, wanted 40 to 120 ms)" in decision.reason
