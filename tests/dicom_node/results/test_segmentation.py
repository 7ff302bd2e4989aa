"""The mask comes back voxel by voxel, at its place, through dcmqi, whatever the source's geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from result_factories import CONTEXT, Case, mask_of, tool

from dicom_node.errors import ResultError
from dicom_node.results.segmentation import build_segmentation
from dicom_node.results.source import sources_of
from pipelines.types import Segment

GEOMETRIES = {
    "axial": {},
    "sagittal": {"orientation": "sagittal"},
    "coronal": {"orientation": "coronal"},
    "oblique": {"orientation": "oblique"},
    "feet first": {"feet_first": True},
    "reversed": {"reversed": True},
    "anisotropic": {"spacing": (6.5, 0.8, 1.1)},
    "interleaved": {"interleaved": True},
    "wrong SpacingBetweenSlices": {"wrong_spacing_between_slices": 0.3},
    "enhanced": {"enhanced": True},
    "enhanced, reversed": {"enhanced": True, "reversed": True, "orientation": "oblique"},
}


def voxel_centres(image: sitk.Image) -> np.ndarray:
    """Patient positions, mm, LPS, of the voxels that are set, sorted."""
    array = sitk.GetArrayFromImage(image)
    points = [image.TransformIndexToPhysicalPoint((int(i), int(j), int(k))) for k, j, i in np.argwhere(array)]
    return sorted_rows(np.array(points))


def sorted_rows(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 2) + 0.0
    return points[np.lexsort(rounded.T)]


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_dcmqi_gives_back_the_mask_at_its_place(tmp_path: Path, geometry: dict[str, object]) -> None:
    case = Case.make(tmp_path, **geometry)
    done = tool(
        "segimage2itkimage", "--inputDICOM", case.paths("seg")[0], "--outputDirectory", tmp_path, "-t", "nrrd"
    )
    assert done.returncode == 0, done.stderr

    image = sitk.ReadImage(str(tmp_path / "1.nrrd"))
    volume = case.series.volume
    assert volume is not None
    mask = mask_of(volume.array.shape)
    expected = sorted_rows(volume.position_lps(np.argwhere(mask)))
    np.testing.assert_allclose(voxel_centres(image), expected, atol=2e-3)
    voxel_mm3 = float(np.prod(image.GetSpacing()))
    assert voxel_mm3 == pytest.approx(volume.voxel_volume_mm3, rel=1e-5)
    assert int(sitk.GetArrayFromImage(image).astype(bool).sum()) == 150


def test_axial_mask_has_the_sources_axes_and_origin(plain: Case, tmp_path: Path) -> None:
    tool(
        "segimage2itkimage",
        "--inputDICOM",
        plain.paths("seg")[0],
        "--outputDirectory",
        tmp_path,
        "-t",
        "nrrd",
    )
    image = sitk.ReadImage(str(tmp_path / "1.nrrd"))
    assert image.GetSize() == (64, 64, 12)
    np.testing.assert_allclose(image.GetOrigin(), (-28.0, -30.0, -16.5), atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)
    assert (sitk.GetArrayFromImage(image).astype(bool) == mask_of((12, 64, 64))).all()


def test_each_frame_refers_to_the_source_slice_at_its_position(tmp_path: Path) -> None:
    case = Case.make(tmp_path, interleaved=True)
    where = {
        ds.SOPInstanceUID: [float(x) for x in ds.ImagePositionPatient] for ds in map(dcmread, case.sources)
    }
    seg = case.read("seg")
    assert int(seg.NumberOfFrames) == 12
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient] == where[source]


def test_frames_of_an_enhanced_source_are_named(tmp_path: Path) -> None:
    case = Case.make(tmp_path, enhanced=True)
    references = [
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for frame in case.read("seg").PerFrameFunctionalGroupsSequence
    ]
    assert sorted(references) == list(range(1, 13))


def test_segment_says_what_it_is_and_who_made_it(plain: Case) -> None:
    seg = plain.read("seg")
    (item,) = seg.SegmentSequence
    assert seg.SegmentationType == "BINARY"
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "301766008"
    assert item.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("joint", "1.2.0")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert len(item.RecommendedDisplayCIELabValue) == 3


def test_optic_nerve_segment_has_its_side(plain: Case, tmp_path: Path) -> None:
    assert plain.series.volume is not None
    mask = mask_of(plain.series.volume.array.shape)
    nerve = Segment("Optic nerve", "optic_nerve", mask, laterality="left")
    seg = build_segmentation(
        Case.make(tmp_path / "2", findings={"segments": (nerve,)}).findings,
        plain.series,
        sources_of(plain.series),
        CONTEXT,
    )
    (item,) = seg.SegmentSequence
    assert item.SegmentLabel == "Left Optic nerve"
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    region = item.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeValue) == ("18234004", "7771000")


def test_two_segments_are_told_apart(tmp_path: Path) -> None:
    first, second = mask_of((12, 64, 64)), np.zeros((12, 64, 64), bool)
    second[0, 0, :10] = True
    segments = (Segment("Old", "lesion_of_brain", first), Segment("New", "lesion_of_brain", second))
    case = Case.make(tmp_path, findings={"segments": segments, "lesions": ()})
    done = tool(
        "segimage2itkimage", "--inputDICOM", case.paths("seg")[0], "--outputDirectory", tmp_path, "-t", "nrrd"
    )
    assert done.returncode == 0
    counts = [
        int((sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{n}.nrrd"))) > 0).sum()) for n in (1, 2)
    ]
    assert counts == [150, 10]


def test_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    wrong = Segment("Lesion", "lesion_of_brain", np.ones((3, 4, 5), bool))
    with pytest.raises(ResultError, match=r"segment 'Lesion' has shape \(3, 4, 5\)"):
        Case.make(tmp_path, findings={"segments": (wrong,)})
