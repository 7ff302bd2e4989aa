"""Missing slices: what the pipeline gets instead, and that no invented slice reaches a result."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import mr_series, volume
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.errors import GeometryError
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest
from dicom_node.series.volume import load_series
from dicom_node.standard.geometry import Gap
from pipelines.types import Findings, Heatmap, Lesion, Measurement, Progress, Segment, Volume
from worker.analyse import analyse_series
from worker.gaps import filled, invented_slices, without_invented

SHAPE = (30, 16, 16)
ABSENT = (4, 19, 20)
"""Slices of the whole stack that are missing."""
GAPS = (Gap(-7.5, -1.5, 1, 3), Gap(37.5, 46.5, 2, 17))
NOTE = "analysed with a gap: slices missing at 2 places, first between -7.5 and -1.5 mm (3 of 30)"
WARNING = (
    "3 missing slices were interpolated for the analysis (1 between -7.5 and -1.5 mm, 2 between 37.5 and 46.5 mm "
    "along the slice normal); volumes and counts include what was found there, the masks and maps do not"
)


def with_gaps(whole: Volume) -> Volume:
    return replace(whole, array=np.delete(whole.array, ABSENT, axis=0))


def test_missing_slices_are_linear_between_their_neighbours() -> None:
    whole = volume(SHAPE)
    given = filled(with_gaps(whole), GAPS).array
    assert (given.shape, given.dtype) == (SHAPE, np.float32)
    kept = [k for k in range(30) if k not in ABSENT]
    np.testing.assert_array_equal(given[kept], whole.array[kept])
    np.testing.assert_allclose(given[4], (whole.array[3] + whole.array[5]) / 2, rtol=1e-6)
    np.testing.assert_allclose(given[19], (2 * whole.array[18] + whole.array[21]) / 3, rtol=1e-5)
    np.testing.assert_allclose(given[20], (whole.array[18] + 2 * whole.array[21]) / 3, rtol=1e-5)


def test_whole_series_is_left_as_it_is() -> None:
    whole, findings = volume(SHAPE), Findings(status="none")
    assert filled(whole, ()).array is whole.array
    assert without_invented(findings, ()) is findings


def test_invented_slices_are_counted_in_the_filled_volume() -> None:
    assert invented_slices(GAPS) == ABSENT


@pytest.mark.parametrize(
    ("slices", "missing", "reason"),
    [
        (36, 4, r"4 of 40 slices missing \(4 between 0\.0 and 15\.0 mm\), more than can be interpolated"),
        (17, 2, r"2 of 19 slices missing .* 3 slices and 10 % of the stack"),
    ],
)
def test_too_many_missing_slices_are_refused(slices: int, missing: int, reason: str) -> None:
    gap = Gap(0.0, 3.0 * (missing + 1), missing, 5)
    with pytest.raises(GeometryError, match=reason):
        filled(volume((slices, 16, 16)), [gap])
    filled(volume((30, 16, 16)), [replace(gap, missing=3)])


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ((1, 3), (1, 3)),
        ((3, 5), (3, 4)),
        ((4, 6), (4, 5)),
        ((2, 4), (2, 3)),
        ((4, 4), (3, 4)),
        ((18, 22), (17, 19)),
        ((19, 20), (17, 18)),
        ((29, 29), (26, 26)),
    ],
)
def test_lesion_is_shown_on_slices_at_hand(found: tuple[int, int], shown: tuple[int, int]) -> None:
    lesion = Lesion(1, "Lesion", 10.0, (0.0, 0.0, 0.0), 0.9, found)
    (left,) = without_invented(Findings(status="findings", lesions=(lesion,)), GAPS).lesions
    assert left == replace(lesion, slices_k=shown)


def test_lesion_within_a_gap_is_told() -> None:
    lesions = [Lesion(n, "Lesion", 10.0, (0.0, 0.0, 0.0), 0.9, k) for n, k in ((1, (3, 4)), (2, (19, 20)))]
    left = without_invented(Findings(status="findings", lesions=tuple(lesions)), GAPS)
    assert left.warnings == (WARNING, "seen in interpolated slices only: lesion 2")


def test_masks_and_maps_lose_what_was_invented() -> None:
    numbers = np.broadcast_to(np.arange(30, dtype=np.float32)[:, None, None], SHAPE)
    findings = Findings(
        status="findings",
        segments=(
            Segment("Lesion", "lesion_of_brain", numbers > 19, numbers),
            Segment("Other", "lesion_of_brain", numbers > 19),
        ),
        heatmaps=(Heatmap("map", "method", "MS", None, numbers, (3, 4, 19, 25), "model"),),
        warnings=("low contrast",),
    )
    left = without_invented(findings, GAPS)
    kept = [k for k in range(30) if k not in ABSENT]
    first, second = left.segments
    assert first.probability is not None and second.probability is None
    assert first.probability[:, 0, 0].tolist() == left.heatmaps[0].values[:, 0, 0].tolist() == kept
    assert first.mask[:, 0, 0].tolist() == second.mask[:, 0, 0].tolist() == [k > 19 for k in kept]
    assert left.heatmaps[0].key_slices_k == (3, 4, 17, 18, 22)
    assert left.warnings == ("low contrast", WARNING)


class BrightBlock:
    """A pipeline that finds one lesion across all gaps, and keeps what it was given."""

    given: Volume
    mask: np.ndarray

    def __call__(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        self.given = volume
        self.mask = np.zeros(volume.array.shape, dtype=bool)
        self.mask[3:25, 5:9, 6:8] = True
        self.mask[7, 1, 2:13] = True
        volume_mm3 = float(self.mask.sum() * volume.voxel_volume_mm3)
        heat = self.mask.astype(np.float32)
        x, y, z = volume.position_lps((14, 6.5, 6.5))
        return Findings(
            status="findings",
            segments=(Segment("Lesion", "lesion_of_brain", self.mask),),
            lesions=(Lesion(1, "Lesion", volume_mm3, (x, y, z), 0.9, (3, 24)),),
            measurements=(Measurement("volume", volume_mm3, "mm3", derivation="total"),),
            heatmaps=(Heatmap("map", "method", "MS", None, heat, (4, 10), "model"),),
        )


def analyse(paths: list[Path], out: Path, note: str, pipeline: BrightBlock | None = None) -> Manifest:
    out.mkdir()
    context = ResultContext(
        node_id="test",
        node_version="0",
        job_id="a" * 32,
        run=1,
        pipeline="flair",
        title="FLAIR lesions",
        created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
        note=note,
    )
    return analyse_series(paths, pipeline or BrightBlock(), context, out, {}, lambda _stage, _seconds: None)


def gapped(tmp_path: Path, **options: object) -> list[Path]:
    """A series without the slices ABSENT, counted along the normal."""
    paths = mr_series(tmp_path / "series", shape=SHAPE, **options)
    uids = [str(ds.SOPInstanceUID) for ds in load_series(paths).datasets]
    return [path for path in paths if uids.index(str(dcmread(path).SOPInstanceUID)) not in ABSENT]


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is missing: install the test extra"
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def texts(item: Dataset) -> list[str]:
    own = [str(item.TextValue)] if "TextValue" in item else []
    return own + [text for child in item.get("ContentSequence") or () for text in texts(child)]


def test_gap_without_a_note_is_unsuitable(tmp_path: Path) -> None:
    manifest = analyse(gapped(tmp_path), tmp_path / "out", note="")
    assert (manifest.status, manifest.warnings) == ("unsuitable", ())
    assert manifest.reason == "slices missing at 2 places, first between -7.5 and -1.5 mm (3 of 30)"


def test_gap_that_is_too_large_stays_unsuitable(tmp_path: Path) -> None:
    paths = mr_series(tmp_path / "series", shape=SHAPE)
    manifest = analyse(paths[:5] + paths[9:], tmp_path / "out", NOTE)
    assert manifest.status == "unsuitable"
    assert manifest.reason.startswith("4 of 30 slices missing (4 between -4.5 and 10.5 mm)")
    assert {item.role for item in manifest.objects} == {"sr", "sr-enhanced", "text-sr"}


def test_pipeline_gets_the_whole_grid_and_reports_tell_of_it(tmp_path: Path) -> None:
    pipeline = BrightBlock()
    manifest = analyse(gapped(tmp_path), tmp_path / "out", NOTE, pipeline)
    assert pipeline.given.array.shape == SHAPE
    np.testing.assert_allclose(pipeline.given.affine, volume(SHAPE).affine, atol=1e-6)
    assert manifest.status == "findings"
    assert manifest.warnings == (WARNING,)
    assert manifest.figures["volume_ml"] == pytest.approx(pipeline.mask.sum() * 3 * 0.81 / 1000, abs=0.005)
    for role in ("sr", "text-sr", "sr-enhanced"):
        (item,) = manifest.with_role(role)
        said = " ".join(texts(dcmread(tmp_path / "out" / item.path)))
        assert f"{WARNING}." in said
        assert f"{NOTE[:1].upper()}{NOTE[1:]}." in said


def test_heatmaps_lie_on_sources(tmp_path: Path) -> None:
    paths = gapped(tmp_path)
    manifest = analyse(paths, tmp_path / "out", NOTE)
    places = {str(ds.SOPInstanceUID): ds.ImagePositionPatient for ds in map(dcmread, paths)}
    shown = [dcmread(tmp_path / "out" / item.path) for item in manifest.with_role("heatmap")]
    assert sorted(float(ds.ImagePositionPatient[2]) for ds in shown) == [-7.5, -1.5, 13.5]
    for ds in shown:
        assert ds.ImagePositionPatient == places[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [{}, {"orientation": "oblique"}, {"reversed": True}, {"SliceThickness": 5.0}, {"SliceThickness": 2.0}],
    ids=["axial", "oblique", "reversed", "thick", "thin"],
)
def test_dcmqi_puts_each_plane_of_the_mask_at_its_source(tmp_path: Path, kind: dict[str, object]) -> None:
    paths, out, pipeline = gapped(tmp_path, **kind), tmp_path / "out", BrightBlock()
    manifest = analyse(paths, out, NOTE, pipeline)
    (item,) = manifest.with_role("seg")
    assert "Error" not in tool("dciodvfy", "-new", out / item.path).stderr

    frames = dcmread(out / item.path).PerFrameFunctionalGroupsSequence
    places = {str(ds.SOPInstanceUID): ds.ImagePositionPatient for ds in map(dcmread, paths)}
    assert len(frames) == 27
    for frame in frames:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert frame.PlanePositionSequence[0].ImagePositionPatient == places[source]

    done = tool(
        "segimage2itkimage", "--inputDICOM", out / item.path, "--outputDirectory", tmp_path, "-t", "nrrd"
    )
    assert done.returncode == 0, done.stderr
    image = sitk.ReadImage(str(tmp_path / "1.nrrd"))
    voxels = np.argwhere(sitk.GetArrayFromImage(image))
    points = [image.TransformIndexToPhysicalPoint((int(i), int(j), int(k))) for k, j, i in voxels]
    expected = pipeline.mask.copy()
    expected[list(ABSENT)] = False
    np.testing.assert_allclose(
        _sorted(points), _sorted(pipeline.given.position_lps(np.argwhere(expected))), atol=2e-3
    )


def _sorted(points: object) -> np.ndarray:
    array = np.array(points)
    return array[np.lexsort((np.round(array, 2) + 0.0).T)]
