"""One Enhanced MR image from slices (PS3.3 A.36.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.series.slices import SLICE_TIME_S, Slices, frame_order, put, window
from dicom_node.standard.uids import derived_uid

IN_GROUPS = frozenset(
    {
        "BodyPartExamined",
        "EchoNumbers",
        "EchoTime",
        "EchoTrainLength",
        "FlipAngle",
        "InversionTime",
        "Laterality",
        "RepetitionTime",
        "ScanOptions",
        "ScanningSequence",
        "SequenceName",
        "SequenceVariant",
        "SliceThickness",
        "SpacingBetweenSlices",
    }
)
"""Classic attributes that the Enhanced MR image says within its functional groups, or in other words."""

PULSE_SEQUENCE: Mapping[str, Any] = {
    "PulseSequenceName": "tse",
    "MultipleSpinEcho": "NO",
    "MultiPlanarExcitation": "NO",
    "PhaseContrast": "NO",
    "TimeOfFlightContrast": "NO",
    "OversamplingPhase": "NONE",
    "SteadyStatePulseSequence": "NONE",
    "SaturationRecovery": "NO",
    "SpectrallySelectedSuppression": "NONE",
    "GeometryOfKSpaceTraversal": "RECTILINEAR",
    "RectilinearPhaseEncodeReordering": "LINEAR",
    "SegmentedKSpaceTraversal": "PARTIAL",
    "NumberOfKSpaceTrajectories": 1,
    "CoverageOfKSpace": None,
}
IMAGE: Mapping[str, Any] = {
    "ResonantNucleus": "1H",
    "KSpaceFiltering": "NONE",
    "ApplicableSafetyStandardAgency": "IEC",
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "UNKNOWN",
    "ContentQualification": "PRODUCT",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
}
FRAME_TYPE = (
    "PixelPresentation",
    "VolumetricProperties",
    "VolumeBasedCalculationTechnique",
    "ComplexImageComponent",
    "AcquisitionContrast",
)


def enhanced_image(slices: Slices, values: Mapping[str, Any]) -> Dataset:
    """Return an Enhanced MR image without its own UIDs and pixels, its frames in the order of numbers.

    Parameters
    ----------
    slices : Slices
    values : mapping of DICOM keyword to value
        Classic keywords; those that belong into functional groups are put there.
    """
    scanning = _words(values.get("ScanningSequence"))
    image = {**IMAGE, **{keyword: values[keyword] for keyword in IMAGE if keyword in values}}
    image_type = [
        *_words(values.get("ImageType"))[:2],
        *_words(values.get("ImageType"))[2:3],
        "NONE",
        "NONE",
    ][:4]
    start, duration_s = slices.times[slices.acquired[0]], SLICE_TIME_S * len(slices.times)
    sequence = {
        **PULSE_SEQUENCE,
        "EchoPulseSequence": "GRADIENT" if "GR" in scanning else "SPIN",
        "EchoPlanarPulseSequence": "YES" if "EP" in scanning else "NO",
    }
    if sequence["EchoPulseSequence"] == "GRADIENT":
        del sequence["MultipleSpinEcho"]
    if "FS" in _words(values.get("ScanOptions")):
        sequence["SpectrallySelectedSuppression"] = "FAT"
    if values.get("MRAcquisitionType") == "3D":
        sequence["CoverageOfKSpace"] = "FULL"
    computed: dict[str, Any] = {
        **image,
        **sequence,
        "ImageType": image_type,
        "InstanceNumber": 1,
        "AcquisitionNumber": 1,
        "AcquisitionDateTime": start.strftime("%Y%m%d%H%M%S.%f"),
        "AcquisitionDuration": duration_s,
        "ContentDate": start.strftime("%Y%m%d"),
        "ContentTime": start.strftime("%H%M%S.%f"),
        "SeriesDate": values["StudyDate"],
        "SeriesTime": values["StudyTime"],
    }
    ds = Dataset()
    rest = {key: value for key, value in values.items() if key not in IN_GROUPS and key != "ImageType"}
    for keyword, value in {**computed, **rest}.items():
        put(ds, keyword, value)
    ds.AcquisitionContextSequence = []
    _add_dimensions(ds, str(values["SeriesInstanceUID"]))
    ds.SharedFunctionalGroupsSequence = [_shared_groups(slices, values, image, image_type)]
    ds.PerFrameFunctionalGroupsSequence = [
        _frame_groups(slices, k, number + 1) for number, k in enumerate(frame_order(slices))
    ]
    return ds


def _words(value: Any) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list | tuple) else str(value or "").split("\\")


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        put(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _add_dimensions(ds: Dataset, series_uid: str) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): stack, and position in it."""
    organization = derived_uid(series_uid, "dimension organization")
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    content = Tag("FrameContentSequence")
    ds.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=content,
            DimensionDescriptionLabel=keyword,
        )
        for keyword in ("StackID", "InStackPositionNumber")
    ]


def _frame_groups(slices: Slices, k: int, number: int) -> Dataset:
    """Per-frame groups: Frame Content and Plane Position (PS3.3 C.7.6.16.2.2, C.7.6.16.2.3)."""
    time = slices.times[k].strftime("%Y%m%d%H%M%S.%f")
    content = _item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=time,
        FrameAcquisitionDateTime=time,
        FrameAcquisitionDuration=SLICE_TIME_S * 1000,
        StackID="1",
        InStackPositionNumber=k + 1,
        DimensionIndexValues=[1, k + 1],
    )
    return _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[_item(ImagePositionPatient=slices.positions[k])],
    )


def _shared_groups(
    slices: Slices, values: Mapping[str, Any], image: Mapping[str, Any], image_type: list[str]
) -> Dataset:
    """Shared groups of geometry and values (PS3.3 C.7.6.16.2), and those of MR."""
    middle, width = window(slices)
    thickness = values.get("SliceThickness", slices.spacing_mm)
    measures = _item(
        PixelSpacing=slices.pixel_spacing,
        SliceThickness=thickness,
        SpacingBetweenSlices=values.get("SpacingBetweenSlices", slices.spacing_mm),
    )
    anatomy = _item(FrameLaterality="U", AnatomicRegionSequence=[_code("12738006", "SCT", "Brain")])
    return _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=slices.orientation)],
        FrameAnatomySequence=[anatomy],
        FrameVOILUTSequence=[_item(WindowCenter=middle, WindowWidth=width)],
        PixelValueTransformationSequence=[
            _item(RescaleIntercept=slices.intercept, RescaleSlope=slices.slope, RescaleType="US")
        ],
        MRImageFrameTypeSequence=[_item(FrameType=image_type, **{key: image[key] for key in FRAME_TYPE})],
        **_mr_groups(slices, values),
    )


def _mr_groups(slices: Slices, values: Mapping[str, Any]) -> dict[str, list[Dataset]]:
    """MR functional groups (PS3.3 C.8.13.5) with what the values say, and plain defaults."""
    rows, columns = slices.stored.shape[1:]
    train = values.get("EchoTrainLength") or 1
    gradient = "GR" in _words(values.get("ScanningSequence"))
    inversion = values.get("InversionTime")
    modifier = _item(
        InversionRecovery="NO" if inversion is None else "YES",
        InversionTimes=None if inversion is None else [float(inversion)],
        FlowCompensation="NONE",
        Spoiling="NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )
    timing = _item(
        RepetitionTime=values.get("RepetitionTime"),
        FlipAngle=values.get("FlipAngle"),
        EchoTrainLength=train,
        RFEchoTrainLength=0 if gradient else int(train),
        GradientEchoTrainLength=int(train) if gradient else 0,
        GradientOutputType="ELECTRIC_FIELD",
        GradientOutput=0.0,
        SpecificAbsorptionRateSequence=[
            _item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=1.0)
        ],
        OperatingModeSequence=[
            _item(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
            _item(OperatingModeType="RF", OperatingMode="IEC_NORMAL"),
            _item(OperatingModeType="GRADIENT", OperatingMode="IEC_NORMAL"),
        ],
    )
    field_of_view = _item(
        InPlanePhaseEncodingDirection="ROW",
        MRAcquisitionFrequencyEncodingSteps=int(rows),
        MRAcquisitionPhaseEncodingStepsInPlane=int(columns),
        MRAcquisitionPhaseEncodingStepsOutOfPlane=(
            len(slices.stored) if values.get("MRAcquisitionType") == "3D" else None
        ),
        PercentSampling=100.0,
        PercentPhaseFieldOfView=100.0,
    )
    receive = _item(
        ReceiveCoilName="HEAD",
        ReceiveCoilManufacturerName="",
        ReceiveCoilType="VOLUME",
        QuadratureReceiveCoil="YES",
    )
    transmit = _item(TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
    return {
        "MRTimingAndRelatedParametersSequence": [timing],
        "MRFOVGeometrySequence": [field_of_view],
        "MREchoSequence": [_item(EffectiveEchoTime=values.get("EchoTime"))],
        "MRModifierSequence": [modifier],
        "MRImagingModifierSequence": [
            _item(
                MagnetizationTransfer="NONE",
                BloodSignalNulling="NO",
                Tagging="NONE",
                TransmitterFrequency=42.577 * float(values.get("MagneticFieldStrength") or 1.5),
                PixelBandwidth=200.0,
            )
        ],
        "MRReceiveCoilSequence": [receive],
        "MRTransmitCoilSequence": [transmit],
        "MRAveragesSequence": [_item(NumberOfAverages=1.0)],
    }
