"""The FLAIR pipeline on a data set: upright volumes, thick slices, and the scores of what it draws on native voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.differential import DISEASES
from pipelines.training.cli import models
from pipelines.training.data_sets.cases import read_index
from pipelines.training.flair import pipeline_scorer as module
from pipelines.training.flair.pipeline_scorer import PipelineScorer, in_thick_slices
from pipelines.training.flair.trainable import FlairPipeline
from pipelines.training.scoring.evaluation import evaluate
from pipelines.types import Findings, Hypothesis, Interval, Measurement, Segment, Volume
from pipelines.weights import FOLDER

SPACING_XYZ_MM = (2.0, 1.0, 1.0)
SHAPE_XYZ = (12, 20, 40)


def bright_is_lesion(volume: Volume, _: Mapping[str, object], __: Callable[[str, float], None]) -> Findings:
    """A pipeline that marks what is brighter than 150, and refuses volumes of another brightness."""
    if volume.array.max() > 500:
        return Findings("unsuitable", "too bright")
    if volume.spacing_mm[0] > 5:
        return Findings("unsuitable", "too thick")
    mask = volume.array > 150
    said = tuple(
        Hypothesis(DISEASES["NMOSD"][0], "NMOSD", share, calibrated=True, model=model)
        for model, share in (("joint", 0.3), ("five-slices", 0.6))
    )
    segments = (Segment("Lesion", "lesion_of_brain", mask),) if mask.any() else ()
    found_mm3 = float(mask.sum()) * volume.voxel_volume_mm3
    interval = Interval(0.9 * found_mm3, 1.2 * found_mm3, "of this test")
    return Findings(
        "findings" if segments else "none",
        segments=segments,
        hypotheses=said,
        measurements=(Measurement("volume", found_mm3, "mm3", interval=interval),),
    )


def write_case(folder: Path, level: float = 200.0, shift: float = 0.0) -> Path:
    """A volume whose first axis runs to the left and third downwards, with a lesion of 4 by 4 by 8 voxels."""
    image, lesions = np.full(SHAPE_XYZ, 100, np.float32), np.zeros(SHAPE_XYZ, np.uint8)
    lesions[2:6, 10:14, 8:16] = 1
    image[lesions > 0] = level
    affine = np.diag([-SPACING_XYZ_MM[0], SPACING_XYZ_MM[1], -SPACING_XYZ_MM[2], 1])
    nib.save(nib.Nifti1Image(image, affine), folder / "flair.nii.gz")
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(lesions, affine), folder / "lesions.nii.gz")
    (folder / "index.csv").write_text("case,flair,lesions,label\nc,flair.nii.gz,lesions.nii.gz,MS\n")
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_flair", lambda *_: bright_is_lesion)


def test_thick_slices_are_means_in_their_place() -> None:
    array = np.arange(11, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    affine = np.array([[1.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    thick = in_thick_slices(Volume(array, affine), 5.0)
    # 22 mm hold four slices of 5 mm; 1 mm, half a slice, is cut off at either end.
    assert thick.array.shape == (4, 2, 2)
    np.testing.assert_allclose(thick.array[:, 0, 0], [1.2, 3.8, 6.2, 8.8], atol=1e-5)
    assert thick.spacing_mm == pytest.approx((5, 1, 1))
    # Own slice k lies at 7 + 2 k mm.
    np.testing.assert_allclose(
        thick.affine[2, 3] + 5 * np.arange(4), 7 + 2 * np.array([1.25, 3.75, 6.25, 8.75])
    )
    with pytest.raises(DataSetError, match="11 slices of 2 mm do not make two of 15 mm"):
        in_thick_slices(Volume(array, affine), 15.0)


@pytest.mark.usefixtures("installed")
def test_what_the_pipeline_draws_is_scored_on_native_voxels(tmp_path: Path) -> None:
    lines: list[str] = []
    scores = evaluate(
        "flair",
        FlairPipeline().scorer(),
        write_case(tmp_path),
        device="cpu",
        degrade=(4.0,),
        report=lines.append,
    )
    groups = scores["groups"]
    assert isinstance(groups, dict)
    figures = groups["real cases"]["cases"]["c"]
    assert figures["dice"] == 1
    assert figures["volume_ml"] == figures["truth_ml"] == pytest.approx(4 * 4 * 8 * 2 / 1000)
    assert figures["interval_low_ml"] == pytest.approx(0.9 * figures["volume_ml"], abs=1e-4)
    assert figures["interval_high_ml"] == pytest.approx(1.2 * figures["volume_ml"], abs=1e-4)
    assert figures["interval_holds_truth"] == 1
    assert figures["nmosd"] == 0.3
    assert figures["degraded"]["4 mm"]["dice"] == 1
    assert figures["opinions"] == {"joint": 0.3, "five-slices": 0.6}
    assert lines[0].startswith("c (real cases), NMOSD 0.30 by joint and 0.60 by five-slices, dice 1.000")


@pytest.mark.usefixtures("installed")
def test_thickness_of_its_own_is_left_out_and_nothing_found_scores_0(tmp_path: Path) -> None:
    scorer = PipelineScorer(FOLDER)
    (entry,) = read_index(write_case(tmp_path, level=120.0))
    result = scorer.score(entry, (1.0,))
    assert result.degraded == {}
    assert result.scores is not None
    assert result.scores["dice"] == 0
    assert result.found_ml == 0
    assert result.scores["interval_holds_truth"] == 0


@pytest.mark.usefixtures("installed")
def test_what_is_refused_says_why_and_is_not_scored(tmp_path: Path) -> None:
    lines: list[str] = []
    scores = evaluate(
        "flair",
        FlairPipeline().scorer(),
        write_case(tmp_path, level=900.0),
        device="cpu",
        report=lines.append,
    )
    assert lines == ["c (real cases), not analysed: too bright"]
    assert scores["targets"] == []


@pytest.mark.usefixtures("installed")
def test_thick_slices_that_are_refused_are_told(tmp_path: Path) -> None:
    (entry,) = read_index(write_case(tmp_path))
    result = PipelineScorer(FOLDER).score(entry, (4.0, 6.0))
    assert list(result.degraded) == [4.0]
    assert result.refused == "at 6 mm slices: too thick"


@pytest.mark.usefixtures("installed")
def test_lesions_of_another_grid_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"lesions\.nii\.gz is not on the grid of flair\.nii\.gz"):
        evaluate("flair", FlairPipeline().scorer(), write_case(tmp_path, shift=3.0), device="cpu")


@pytest.mark.usefixtures("installed")
def test_file_that_is_cut_off_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = (write_case(tmp_path) / "flair.nii.gz").read_bytes()
    (tmp_path / "flair.nii.gz").write_bytes(whole[: len(whole) - 40])
    with pytest.raises(DataSetError, match=r"flair\.nii\.gz is damaged or cut off"):
        evaluate("flair", FlairPipeline().scorer(), tmp_path, device="cpu")


def test_weights_of_one_training_are_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"has no weights of joint, .*put yours into a copy of"):
        evaluate("flair", FlairPipeline().scorer(), write_case(tmp_path), weights=tmp_path, device="cpu")


def test_flips_of_the_pipeline_are_its_setting(tmp_path: Path) -> None:
    told = CliRunner().invoke(models, ["evaluate", "flair", "--data", str(tmp_path), "--flips"])
    assert isinstance(told.exception, DataSetError)
    assert "--flips does not apply to flair" in str(told.exception)
