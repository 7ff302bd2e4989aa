from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import affine_for, mr_series, phantom_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import GeometryError, UnreadableError
from dicom_node.series.volume import load_series, load_sources
from dicom_node.standard.geometry import Gap

SHAPE = (7, 40, 32)
SPACING = (3.0, 0.8, 1.1)
KINDS: dict[str, dict[str, Any]] = {
    "axial": {},
    "sagittal": {"orientation": "sagittal"},
    "coronal": {"orientation": "coronal"},
    "oblique": {"orientation": "oblique"},
    "feet-first": {"feet_first": True},
    "reversed": {"reversed": True, "orientation": "oblique"},
    "interleaved": {"interleaved": True},
    "enhanced": {"enhanced": True, "orientation": "oblique"},
    "enhanced-reversed": {"enhanced": True, "reversed": True},
    "wrong-spacing": {"wrong_spacing_between_slices": 0.3, "orientation": "sagittal"},
    "thin-slices": {"SliceThickness": 1.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_series_comes_back_as_it_was_written(tmp_path: Path, kind: str) -> None:
    paths = mr_series(tmp_path, shape=SHAPE, spacing=SPACING, **KINDS[kind])
    random.Random(7).shuffle(paths)
    loaded = load_series(paths)
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE))
    assert loaded.volume.array.dtype == np.float32
    expected = affine_for(KINDS[kind].get("orientation", "axial"), SPACING)
    if kind == "feet-first":
        expected = expected @ np.diag([-1.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(loaded.volume.affine, expected, atol=1e-6)
    assert loaded.volume.spacing_mm == pytest.approx(SPACING)
    assert loaded.volume.attributes["InversionTime"] == 2500.0
    assert loaded.volume.attributes["ScanningSequence"] == ("SE", "IR")


def test_sources_follow_the_normal_whatever_their_numbers(tmp_path: Path) -> None:
    loaded = load_series(mr_series(tmp_path, shape=SHAPE, reversed=True))
    assert [int(ds.InstanceNumber) for ds in loaded.datasets] == [7, 6, 5, 4, 3, 2, 1]
    assert loaded.frames == tuple((k, None) for k in range(7))


def test_frames_of_an_enhanced_image_follow_the_normal(tmp_path: Path) -> None:
    loaded = load_series(mr_series(tmp_path, shape=SHAPE, enhanced=True, reversed=True))
    assert len(loaded.datasets) == 1
    assert loaded.frames == tuple((0, 7 - k) for k in range(7))


@pytest.mark.parametrize("enhanced", [False, True])
def test_sources_have_neither_pixels_nor_spacing_between_slices(tmp_path: Path, enhanced: bool) -> None:
    loaded = load_series(mr_series(tmp_path, shape=SHAPE, enhanced=enhanced))
    for ds in loaded.datasets:
        assert "PixelData" not in ds
        assert [e for e in ds.iterall() if e.keyword == "SpacingBetweenSlices"] == []
        assert ds.PatientID == "PHANTOM"


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_lossless_transfer_syntax_is_decoded(tmp_path: Path, syntax: str, enhanced: bool) -> None:
    loaded = load_series(mr_series(tmp_path, shape=SHAPE, transfer_syntax=syntax, enhanced=enhanced))
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE))


def test_lossy_jpeg_2000_is_decoded_nearly(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.compress(JPEG2000, j2k_psnr=[60], generate_instance_uid=False)
        ds.save_as(path)
    loaded = load_series(paths)
    assert loaded.volume is not None
    assert np.abs(loaded.volume.array - phantom_array(SHAPE)).mean() < 70


def rewrite(paths: list[Path], **changes: Any) -> None:
    for path in paths:
        ds = pydicom.dcmread(path)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def test_rescale_is_applied(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    rewrite(paths, RescaleSlope="0.5", RescaleIntercept="-10")
    loaded = load_series(paths)
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE) * 0.5 - 10)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.PhotometricInterpretation, ds.BitsStored, ds.HighBit = "MONOCHROME1", 12, 11
        ds.PixelData = (4095 - ds.pixel_array).tobytes()
        ds.save_as(path)
    loaded = load_series(paths)
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE))


def test_signed_pixels_keep_their_sign(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.PixelRepresentation = 1
        ds.PixelData = (ds.pixel_array.astype(np.int16) - 300).tobytes()
        ds.save_as(path)
    loaded = load_series(paths)
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE) - 300)


def test_series_with_a_gap_is_refused(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    with pytest.raises(GeometryError, match=r"slice missing between -7\.5 and -1\.5 mm \(1 of 7\)"):
        load_series(paths[:4] + paths[5:])


@pytest.mark.parametrize("kind", ["axial", "oblique", "reversed"])
def test_series_with_gaps_is_loaded_when_they_are_allowed(tmp_path: Path, kind: str) -> None:
    paths = mr_series(tmp_path, shape=SHAPE, spacing=SPACING, **KINDS[kind])
    whole = load_series(paths)
    by_place = {tuple(ds.ImagePositionPatient): ds.SOPInstanceUID for ds in whole.datasets}
    kept = [place for k, place in enumerate(by_place) if k not in (2, 4)]
    files = [path for path in paths if tuple(pydicom.dcmread(path).ImagePositionPatient) in kept]
    loaded = load_series(files, allow_gaps=True)
    assert loaded.volume is not None and whole.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, np.delete(phantom_array(SHAPE), [2, 4], axis=0))
    np.testing.assert_allclose(loaded.volume.affine, whole.volume.affine, atol=1e-6)
    assert [(gap.after_k, gap.missing) for gap in loaded.gaps] == [(1, 1), (2, 1)]
    assert [ds.SOPInstanceUID for ds in loaded.datasets] == [by_place[place] for place in kept]
    assert loaded.frames == tuple((k, None) for k in range(5))


def test_enhanced_image_that_lacks_a_frame_is_loaded_when_that_is_allowed(tmp_path: Path) -> None:
    (path,) = mr_series(tmp_path, shape=SHAPE, enhanced=True)
    ds = pydicom.dcmread(path)
    frames = np.delete(ds.pixel_array, 3, axis=0)
    del ds.PerFrameFunctionalGroupsSequence[3]
    ds.NumberOfFrames, ds.PixelData = 6, frames.tobytes()
    ds.save_as(path)
    loaded = load_series([path], allow_gaps=True)
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, np.delete(phantom_array(SHAPE), 3, axis=0))
    assert loaded.volume.spacing_mm[0] == pytest.approx(3.0)
    assert loaded.gaps == (Gap(-10.5, -4.5, 1, 2),)
    assert loaded.frames == tuple((0, number) for number in range(1, 7))


def test_whole_series_has_no_gaps(tmp_path: Path) -> None:
    assert load_series(mr_series(tmp_path, shape=SHAPE), allow_gaps=True).gaps == ()


def test_series_that_lacks_only_its_end_is_loaded(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE, images_in_acquisition=True)
    loaded = load_series(paths[:6])
    assert loaded.volume is not None
    assert loaded.volume.array.shape == (6, 40, 32)


def test_series_of_two_orientations_is_refused(tmp_path: Path) -> None:
    same = {
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.2",
    }
    paths = mr_series(tmp_path / "a", shape=SHAPE, **same) + mr_series(
        tmp_path / "b", shape=SHAPE, orientation="coronal", seed=2, **same
    )
    with pytest.raises(GeometryError, match="different orientations"):
        load_series(paths)


def test_colour_is_refused(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    rewrite(
        paths,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=bytes(40 * 32 * 3),
    )
    with pytest.raises(GeometryError, match="in colour"):
        load_series(paths)


def test_damaged_compressed_pixels_are_unreadable(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE, transfer_syntax=JPEG2000Lossless)
    data = bytearray(paths[3].read_bytes())
    data[-200:-50] = bytes(150)
    start = data.rfind(b"\xff\x4f\xff\x51")
    data[start : start + 40] = bytes(40)
    paths[3].write_bytes(data)
    with pytest.raises(UnreadableError, match="can't be decoded"):
        load_series(paths)


def test_sources_alone_need_no_geometry(tmp_path: Path) -> None:
    paths = mr_series(tmp_path, shape=SHAPE)
    rewrite(paths[:3], ImagePositionPatient=[0, 0, 0])
    paths[5].write_bytes(paths[5].read_bytes()[:-100])
    loaded = load_sources(paths)
    assert loaded.volume is None
    assert len(loaded.datasets) == 6
    assert loaded.frames == tuple((k, None) for k in range(6))


def test_sources_of_an_enhanced_image_name_its_frames(tmp_path: Path) -> None:
    loaded = load_sources(mr_series(tmp_path, shape=SHAPE, enhanced=True))
    assert loaded.frames == tuple((0, number) for number in range(1, 8))


@pytest.mark.parametrize("load", [load_series, load_sources])
def test_nothing_readable_is_an_error(tmp_path: Path, load: Any) -> None:
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(UnreadableError, match="not a DICOM file"):
        load([tmp_path / "text"])
    with pytest.raises(UnreadableError, match="no files"):
        load([])
