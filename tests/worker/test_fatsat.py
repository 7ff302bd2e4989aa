"""A FAT-SAT series from files to objects: whichever way its slices, rows and columns run, left stays left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import Dataset, dcmread

from dicom_node.demo.studies import sides_judged
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest
from dicom_node.results.preview import mask_frames
from dicom_node.series.writer import write_series
from pipelines.fatsat.crop_grid import SHAPE
from pipelines.fatsat.ensemble import Ensemble, EnsembleAnswer, stacked
from pipelines.fatsat.network import NAME, OpticNerveCNN
from pipelines.fatsat.pipeline import FatsatPipeline
from pipelines.phantoms.orbits import OrbitScan, geometric_orbits
from pipelines.types import Laterality, Volume
from pipelines.weights import save_weights
from worker.analyse import analyse_series

CONTEXT = ResultContext(
    node_id="test",
    node_version="0",
    job_id="a" * 32,
    run=1,
    pipeline="fatsat",
    title="FAT-SAT optic nerves",
    created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
)
DETAILS = {
    "version": "0.0.1",
    "device_uid": "2.25.1",
    "trained_on": "synthetic",
    "purpose": "optic-nerve lesions on FAT-SAT",
    "network": NAME,
    "members": 1,
    "threshold": 0.5,
    "crop": "published",
}
SHINES = 5.0
"""Standard deviations over the mean of its crop from which the stand-in for the networks calls a voxel lesion."""


class Shining(Ensemble):
    """A stand-in for the networks that sees what shines, so that the test knows the right answer for each side."""

    def __call__(self, batch: Any, members: int | None = None) -> EnsembleAnswer:
        answer = np.where(batch.max(axis=(1, 2, 3)) > SHINES, 0.9, 0.1).astype(np.float32)
        return EnsembleAnswer(answer, answer[None])

    def gradient_saliency(self, values: Any, cls: int, members: int | None = None) -> Any:
        return (values > SHINES).astype(np.float32) if cls else np.ones(SHAPE, np.float32)

    integrated_gradients = gradient_saliency


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> FatsatPipeline:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_weights("fatsat", stacked([OpticNerveCNN()]), DETAILS, "#", folder)
    return FatsatPipeline("cpu", folder, {"published": Shining("cpu", folder)})


@cache
def orbits(side: Laterality, tilt_deg: tuple[float, float] = (0.0, 0.0)) -> tuple[Volume, tuple[float, ...]]:
    """A phantom with a lesion in one nerve, which shines at one spot 9 mm behind the globe; and where, LPS."""
    phantom = geometric_orbits(12, lesions=(side,), scan=OrbitScan(tilt_deg=tilt_deg))
    eye = phantom.eye(side)
    assert eye is not None
    to_voxel = np.linalg.inv(phantom.volume.affine)
    spot = np.rint((to_voxel @ (*eye.course_lps[18], 1.0))[2::-1]).astype(int)
    array = phantom.volume.array.copy()
    k, j, i = spot
    array[k, j - 1 : j + 2, i - 1 : i + 2] = 3 * array.max()
    return replace(phantom.volume, array=array), tuple(phantom.volume.position_lps(spot))


def turned(volume: Volume, axis: int) -> Volume:
    """The same head, with one array axis (0: slices, 1: rows, 2: columns) running the other way."""
    affine = volume.affine.copy()
    column = 2 - axis
    affine[:3, 3] += affine[:3, column] * (volume.array.shape[axis] - 1)
    affine[:3, column] *= -1
    return replace(volume, array=np.flip(volume.array, axis).copy(), affine=affine)


def analysed(pipeline: FatsatPipeline, volume: Volume, tmp_path: Path, **settings: object) -> Manifest:
    files = write_series(volume, tmp_path / "source", attributes=volume.attributes)
    out = tmp_path / "out"
    out.mkdir()
    return analyse_series(files, pipeline, CONTEXT, out, settings, lambda stage, seconds: None)


def read(manifest: Manifest, tmp_path: Path, role: Any) -> list[Dataset]:
    return [dcmread(tmp_path / "out" / item.path) for item in manifest.with_role(role)]


def marked_at(seg: Dataset, segment: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The middle of a segment, LPS, from what the SEG alone says of its frames."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = [float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    points = []
    for frame in mask_frames(seg):
        if frame.segment == segment:
            for j, i in np.argwhere(frame.mask):
                points.append(np.array(frame.position) + row * i * spacing[1] + column * j * spacing[0])
    return np.mean(points, axis=0)


SLICES, ROWS, COLUMNS = 0, 1, 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "side"),
    [
        ((), "right"),
        ((SLICES,), "left"),
        ((ROWS,), "right"),
        ((COLUMNS,), "left"),
        ((COLUMNS,), "right"),
        ((SLICES, ROWS, COLUMNS), "left"),
    ],
    ids=["as scanned", "back to front", "feet up", "right to left", "right to left, right", "all turned"],
)
def test_left_and_right_are_the_patients_however_the_series_runs(
    pipeline: FatsatPipeline, tmp_path: Path, axes: tuple[int, ...], side: Laterality
) -> None:
    volume, spot = orbits(side)
    for axis in axes:
        volume = turned(volume, axis)
    check_side(analysed(pipeline, volume, tmp_path), tmp_path, side, spot)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "tilt_deg"), [("right", (15.0, 5.0)), ("left", (-20.0, -5.0))])
def test_left_and_right_are_the_patients_in_a_tilted_series(
    pipeline: FatsatPipeline, tmp_path: Path, side: Laterality, tilt_deg: tuple[float, float]
) -> None:
    volume, spot = orbits(side, tilt_deg)
    check_side(analysed(pipeline, volume, tmp_path), tmp_path, side, spot)


def check_side(manifest: Manifest, tmp_path: Path, side: Laterality, spot: tuple[float, ...]) -> None:
    other = "left" if side == "right" else "right"
    assert manifest.status == "findings", manifest.reason
    expected = {side: "positive (0.90)", other: "negative (0.10)"}
    assert manifest.figures["sides"] == f"right optic nerve {expected['right']}, left {expected['left']}"
    (report,) = read(manifest, tmp_path, "sr")
    assert sides_judged(report) == {side: True, other: False}
    (seg,) = read(manifest, tmp_path, "seg")
    labels = [str(item.SegmentLabel) for item in seg.SegmentSequence]
    assert labels[0] == f"{side.capitalize()} optic nerve"
    assert labels[1].startswith(f"{side.capitalize()} candidate region")
    assert np.linalg.norm(marked_at(seg, 2) - spot) < 4.0
    assert np.sign(marked_at(seg, 1)[0]) == np.sign(spot[0])
    maps = read(manifest, tmp_path, "heatmap")
    assert maps
    assert all(f"{side} optic nerve" in ds.ImageComments and "class" not in ds.ImageComments for ds in maps)
    assert read(manifest, tmp_path, "outline")


@pytest.mark.slow
def test_missing_slice_leaves_maps_and_lines_on_the_slices_at_hand(
    pipeline: FatsatPipeline, tmp_path: Path
) -> None:
    volume, _ = orbits("right")
    files = write_series(volume, tmp_path / "source", attributes=volume.attributes)
    out = tmp_path / "out"
    out.mkdir()
    context = replace(CONTEXT, note="released by a person with a gap")
    manifest = analyse_series(
        [*files[:12], *files[13:]], pipeline, context, out, {}, lambda stage, seconds: None
    )
    assert manifest.status == "findings", manifest.reason
    assert any("probabilities include what was found there" in text for text in manifest.warnings)
    assert manifest.with_role("heatmap")


@pytest.mark.slow
def test_point_of_a_person_is_named_in_both_reports(pipeline: FatsatPipeline, tmp_path: Path) -> None:
    phantom = geometric_orbits(12, lesions=("right",), scan=OrbitScan())
    eye = phantom.eye("left")
    assert eye is not None
    manifest = analysed(
        pipeline, phantom.volume, tmp_path, points={"left": [float(x) for x in eye.junction_lps]}
    )
    assert manifest.figures["sites"]["left optic nerve"]["located"] == "manual"
    assert manifest.figures["sites"]["right optic nerve"]["located"] == "automatic"
    for role in ("sr", "text-sr"):
        (report,) = read(manifest, tmp_path, role)
        assert "Left optic nerve: located by a point that a person gave" in report.to_json()


@pytest.mark.slow
def test_missing_eye_leaves_an_answer_for_the_other(pipeline: FatsatPipeline, tmp_path: Path) -> None:
    phantom = geometric_orbits(12, lesions=("right",), scan=OrbitScan(), missing=("left",))
    manifest = analysed(pipeline, phantom.volume, tmp_path)
    sites = manifest.figures["sites"]
    assert sites["left optic nerve"]["status"] == "not analysed"
    assert sites["left optic nerve"]["reason"]
    assert sites["right optic nerve"]["status"] in ("positive", "negative")
