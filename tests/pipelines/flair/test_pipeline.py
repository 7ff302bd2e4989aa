"""The stages of the FLAIR pipeline and the findings that come out of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment
from pipelines.device import resolve_device
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair import pipeline as module
from pipelines.flair import segmenter
from pipelines.flair.differential import MIN_LESIONS, UNCALIBRATED, Calibration, JointReader
from pipelines.flair.five_slices.model import FiveSliceAnswer
from pipelines.flair.five_slices.slices import Slices
from pipelines.flair.joint.network import JointNetwork, JointOutput
from pipelines.flair.pattern.features import NAMES
from pipelines.flair.pipeline import FlairPipeline, Models, load_flair
from pipelines.flair.preprocess import Brain, Cube, to_cube
from pipelines.flair.segmenter import MaskAnswer
from pipelines.flair.settings import MASK_WEIGHTS, default_settings, settings_of
from pipelines.flair.volume_calibration import VolumeCalibration
from pipelines.regions.brain_map import StructureArray
from pipelines.regions.structures import Structure
from pipelines.stages import Verdict
from pipelines.types import BoolArray, Findings, FloatArray, Measurement, ModelCard, NotTypical, Volume
from tests.pipelines.coarse_head import brain_found, coarse_head

CARD = ModelCard("joint", "1", "ab12", "2.25.1", "synthetic", "Lesions on FLAIR")
FLAIR = {"InversionTime": 2500.0, "EchoTime": 90.0}
SPOTS = ((90, 70, 60), (90, 70, 90), (60, 90, 70), (110, 70, 60))
"""Corners (k, j, i) of lesions of 6x6x6 voxels of the cube."""


class Spot(torch.nn.Module):
    """Sees so many of the lesions, and gives NMOSD 0.8."""

    def __init__(self, lesions: int = 3, value: float = 6.0) -> None:
        super().__init__()
        self.lesions, self.value, self.calls = lesions, value, 0

    def forward(self, volume: torch.Tensor) -> JointOutput:
        self.calls += 1
        logit = torch.full_like(volume, -8.0)
        for k, j, i in SPOTS[: self.lesions]:
            logit[..., k : k + 6, j : j + 6, i : i + 6] = self.value
        maps = [torch.zeros(1, 1, n, n, n) for n in (20, 40, 80)]
        for small in maps:
            n = small.shape[-1]
            small[..., n * 93 // 160, n * 73 // 160, n * 63 // 160] = 2.0
        return JointOutput(logit, [], torch.log(torch.tensor([[0.2, 0.8]])), maps)


class Ensemble:
    """Two networks of which the second sees its lesions a voxel larger on the left, or nothing at all."""

    cards = (replace(CARD, name="nnunet"), replace(CARD, name="nnunet-thick", trained_on="real"))

    def __init__(self, lesions: int = 3) -> None:
        self.lesions = lesions
        self.asked: list[tuple[int | None, bool]] = []

    def __call__(
        self, cube: FloatArray, *, slices_mm: float, members: int | None = None, flips: bool = False
    ) -> MaskAnswer:
        self.asked.append((members, flips))
        samples = np.zeros((2, *cube.shape), np.float16)
        for k, j, i in SPOTS[: self.lesions]:
            samples[0, k : k + 6, j : j + 6, i : i + 6] = 0.8
            samples[1, k : k + 6, j : j + 6, i : i + 7] = 0.6
        return MaskAnswer(samples.mean(axis=0, dtype=np.float32), samples, self.cards[:members])


class SecondOpinion:
    """Gives MS 0.9, by the middle of all slices."""

    card = replace(CARD, name="five-slices", trained_on="real and synthetic")

    def __call__(self, slices: Slices) -> FiveSliceAnswer:
        heat = np.zeros((128, 128), np.float32)
        heat[54:74, 54:74] = 1.0
        per_slice = np.zeros((5, 128, 128), np.float32)
        per_slice[2, 60:68, 60:68] = 1.0
        logits = np.log(np.array([0.9, 0.1], np.float32))
        return FiveSliceAnswer(logits, "MS", heat, per_slice)


class ThirdOpinion:
    """Gives NMOSD 0.7, and keeps what it was asked."""

    card = replace(CARD, name="lesion-pattern")

    def __init__(self) -> None:
        self.asked: list[FloatArray] = []

    def __call__(self, features: FloatArray) -> FloatArray:
        self.asked.append(features)
        return np.log(np.array([0.3, 0.7], np.float32))


@pytest.fixture(scope="module")
def volume() -> Volume:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-79.0, -79.0, -76.5]
    return Volume(np.full((52, 80, 80), 100.0, dtype=np.float32), affine, FLAIR)


@pytest.fixture(scope="module")
def cube_of_all(volume: Volume) -> Cube:
    """The cube of the whole volume, made once."""
    array = volume.array
    grid = Grid(array.shape, volume.affine)
    box = (slice(0, array.shape[0]), slice(0, array.shape[1]), slice(0, array.shape[2]))
    brain = Brain(grid, box, grid, array, np.ones(array.shape, dtype=bool))
    return to_cube(array, brain, Alignment(np.eye(4), 0.0))


@pytest.fixture
def all_is_brain(monkeypatch: pytest.MonkeyPatch, volume: Volume, cube_of_all: Cube) -> None:
    """Take the whole volume for a brain that lies in MNI space already."""

    def cube_again(corrected: FloatArray, brain: Brain, alignment: Alignment) -> Cube:
        np.testing.assert_array_equal(corrected, volume.array)
        return replace(cube_of_all, values=cube_of_all.values.copy(), mask=cube_of_all.mask.copy())

    def find(volume: Volume, device: str) -> Brain:
        grid = Grid(volume.array.shape, volume.affine)
        box = tuple(slice(0, n) for n in volume.array.shape)
        return Brain(grid, box, grid, volume.array, np.ones(volume.array.shape, dtype=bool))  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_brain", find)
    monkeypatch.setattr(module, "without_bias", lambda brain: brain.array)
    monkeypatch.setattr(module, "align_to_mni", lambda array, mask, grid: Alignment(np.eye(4), 0.0))
    monkeypatch.setattr(module, "to_cube", cube_again)
    monkeypatch.setattr(module, "check_brain", lambda *_, **__: Verdict())
    monkeypatch.setattr(module, "check_contrast", lambda *_, **__: Verdict())


def models(network: torch.nn.Module, **others: object) -> Models:
    return Models(JointReader(network, CARD, UNCALIBRATED), **others)  # type: ignore[arg-type]


def analyse(
    given: torch.nn.Module | Models, volume: Volume, **settings: object
) -> tuple[Findings, list[str]]:
    stages: list[str] = []
    run = FlairPipeline(given if isinstance(given, Models) else models(given), "cpu")
    return run(volume, settings, lambda stage, seconds: stages.append(stage)), stages


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_lesions_come_back_on_the_native_grid_with_their_numbers(volume: Volume) -> None:
    findings, stages = analyse(Spot(lesions=1), volume)
    assert stages == ["mask", "N4", "MNI", "lesions", "plausibility", "differential"]
    assert set(findings.timings_s) == set(stages)
    assert findings.status == "findings"
    (segment,) = findings.segments
    assert (segment.name, segment.code) == ("Lesion", "lesion_of_brain")
    assert segment.mask.shape == volume.array.shape
    assert segment.probability is not None
    (lesion,) = findings.lesions
    # 6 voxels of 1.2 mm along each axis
    assert lesion.volume_mm3 == pytest.approx(7.2**3, rel=0.35)
    # cube voxel (92.5, 72.5, 62.5) is (13, -7, -17) voxels of 1.2 mm from the centre, which is the origin
    assert lesion.centre_lps == pytest.approx((-20.4, -8.4, 15.6), abs=1.0)
    assert {m.code: (m.value, m.unit, m.derivation) for m in findings.measurements} == {
        "volume": (lesion.volume_mm3, "mm3", "total"),
        "lesion_count": (1.0, "{lesions}", None),
    }
    interval = findings.measurements[0].interval
    assert interval is not None
    assert interval.low <= lesion.volume_mm3 <= interval.high
    assert interval.basis == "at thresholds from 0.30 to 0.70"


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_hypotheses_and_heatmap_are_those_of_the_network(volume: Volume) -> None:
    network = Spot()
    findings, _ = analyse(network, volume)
    assert network.calls == 1
    assert [(h.code, h.calibrated, h.model) for h in findings.hypotheses] == [
        ("multiple_sclerosis", False, "joint"),
        ("neuromyelitis_optica", False, "joint"),
    ]
    assert [h.probability for h in findings.hypotheses] == pytest.approx([0.2, 0.8])
    assert findings.no_differential == ""
    assert [rule.name for rule in findings.rules] == ["Matthews' rule"]
    (heatmap,) = findings.heatmaps
    assert heatmap.class_name == "NMOSD"
    assert heatmap.probability == pytest.approx(0.8)
    assert 0.0 <= heatmap.values.min() <= heatmap.values.max() <= 1.0
    peak = np.unravel_index(np.argmax(heatmap.values), heatmap.values.shape)
    assert volume.position_lps(peak) == pytest.approx([-20.4, -8.4, 15.6], abs=4.0)
    assert int(peak[0]) in heatmap.key_slices_k
    assert findings.models == (CARD,)
    assert findings.warnings == ()
    assert findings.tasks == {"mask": ("joint",), "intervals": ("joint",), "differential": ("joint",)}


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_all_three_models_give_mask_two_opinions_and_three_maps(volume: Volume) -> None:
    joint = JointReader(Spot(), CARD, Calibration(2.0, True))  # type: ignore[arg-type]
    ensemble = Ensemble()
    given = Models(joint, ensemble, SecondOpinion(), Calibration(1.0, True))  # type: ignore[arg-type]
    findings, _ = analyse(given, volume, members=2, flips=True)
    assert ensemble.asked == [(2, True)]
    assert [card.name for card in findings.models] == ["nnunet", "nnunet-thick", "joint", "five-slices"]
    # odds of 4 at temperature 2 are odds of 2
    assert [(h.model, h.calibrated) for h in findings.hypotheses] == [
        ("joint", True),
        ("joint", True),
        ("five-slices", True),
        ("five-slices", True),
    ]
    assert [h.probability for h in findings.hypotheses] == pytest.approx([1 / 3, 2 / 3, 0.9, 0.1])
    assert [(m.name, m.class_name, m.model) for m in findings.heatmaps] == [
        ("localisation map", "NMOSD", "joint"),
        ("Grad-CAM", "MS", "five-slices"),
        ("slice map", "MS", "five-slices"),
    ]
    assert [m.probability for m in findings.heatmaps] == pytest.approx([2 / 3, 0.9, 0.9])
    assert all(m.values.shape == volume.array.shape and m.key_slices_k for m in findings.heatmaps)
    # the third plane, S +18, is the native slice 31.5 of 3 mm above -76.5
    assert set(np.flatnonzero(findings.heatmaps[2].values.max(axis=(1, 2)))) <= {30, 31, 32}
    assert findings.warnings == ()
    assert findings.tasks == {
        "mask": ("nnunet", "nnunet-thick"),
        "intervals": ("nnunet", "nnunet-thick", "joint"),
        "differential": ("joint", "five-slices"),
    }
    volume_mm3 = findings.measurements[0]
    assert volume_mm3.interval is not None
    assert volume_mm3.interval.low < volume_mm3.interval.high
    assert volume_mm3.interval.basis == "over 3 predictions"
    assert all(lesion.probability_interval is not None for lesion in findings.lesions)


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_volume_has_the_fitted_interval_where_it_is_asked_as_it_was_fitted(volume: Volume) -> None:
    fitted = VolumeCalibration(
        low=(-0.5, 0.0),
        high=(0.25, 0.0),
        largest=1.0,
        level=0.8,
        held=0.8,
        cases=60,
        origins="synthetic",
        digests={"nnunet": CARD.digest, "nnunet-thick": CARD.digest},
        threshold=0.5,
        flips=True,
    )
    given = models(Spot(), mask=Ensemble(), volume_calibrations=(fitted,))

    def measured(**settings: object) -> Measurement:
        return analyse(given, volume, **settings)[0].measurements[0]

    found = measured()
    assert found.interval is not None
    assert found.interval.low == pytest.approx(found.value * np.exp(-0.5))
    assert found.interval.high == pytest.approx(found.value * np.exp(0.25))
    assert found.interval.basis == "that held the truth in 80 % of 60 synthetic cases"
    for other in (measured(threshold=0.4), measured(members=1), measured(flips=False)):
        assert other.interval is not None
        assert other.interval.basis == "over 3 predictions"


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_pattern_is_read_from_the_mask_beside_the_other_two(volume: Volume) -> None:
    joint = JointReader(Spot(), CARD, Calibration(2.0, True))  # type: ignore[arg-type]
    third = ThirdOpinion()
    given = Models(
        joint,
        Ensemble(),  # type: ignore[arg-type]
        SecondOpinion(),  # type: ignore[arg-type]
        pattern=third,  # type: ignore[arg-type]
        pattern_calibration=Calibration(1.0, True),
    )
    findings, _ = analyse(given, volume)
    assert [card.name for card in findings.models][-2:] == ["five-slices", "lesion-pattern"]
    said = [h for h in findings.hypotheses if h.model == "lesion-pattern"]
    assert [h.probability for h in said] == pytest.approx([0.3, 0.7])
    assert all(h.calibrated for h in said)
    (features,) = third.asked
    total_mm3 = sum(lesion.volume_mm3 for lesion in findings.lesions)
    assert features[NAMES.index("volume")] == pytest.approx(np.log1p(total_mm3 / 50), abs=1e-4)
    assert features[NAMES.index("number")] == pytest.approx(np.log1p(len(findings.lesions)))
    # it explains no map: the strongest of the other two still names theirs
    assert [m.name for m in findings.heatmaps] == ["localisation map", "Grad-CAM", "slice map"]


class Structures:
    """All white matter, but for a ventricle beside two of the lesions."""

    card = replace(CARD, name="regions")

    def __call__(self, cube: FloatArray, brain: BoolArray) -> StructureArray:
        found = np.full(cube.shape, Structure.WHITE, np.uint8)
        found[90:96, 70:76, 66:90] = Structure.LATERAL_VENTRICLE
        return found


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_lesions_are_sorted_into_regions_where_the_structures_are_believed(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the balls that stand for lesions are rounder and thicker than any of demyelination
    monkeypatch.setattr(module, "signs_of", lambda _: ())
    given = models(Spot(), mask=Ensemble(), regions=Structures())
    doubted, stages = analyse(given, volume)
    assert stages == ["mask", "N4", "MNI", "regions", "lesions", "plausibility", "differential"]
    assert doubted.anatomy is not None
    assert "not plausible" in doubted.anatomy.not_available
    assert [of.name for of in doubted.segments] == ["Lesion"]

    monkeypatch.setattr(module, "doubt", lambda *_: "")
    findings, _ = analyse(given, volume)
    assert findings.anatomy is not None
    assert {load.region: load.lesions for load in findings.anatomy.loads if load.lesions} == {
        "periventricular": 2,
        "deep_white_matter": 1,
    }
    assert [of.region for of in findings.segments] == ["periventricular", "deep_white_matter"]
    assert sum(of.mask.sum() for of in findings.segments) == doubted.segments[0].mask.sum()
    assert {of.segment for of in findings.lesions} == {of.name for of in findings.segments}
    assert findings.models[-1].name == "regions"


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_findings_that_are_not_typical_have_outlines_and_no_region_and_no_differential(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = NotTypical("one-sided fluid", "fluid without a counterpart", 8.0, "mL", 4.0)
    monkeypatch.setattr(module, "doubt", lambda *_: "")
    monkeypatch.setattr(module, "signs_of", lambda scene: (sign,))
    network = Spot()
    findings, stages = analyse(models(network, mask=Ensemble(), regions=Structures()), volume)
    assert stages[-1] == "plausibility"
    assert (findings.status, findings.not_typical, len(findings.lesions)) == ("findings", (sign,), 3)
    assert findings.hypotheses == findings.rules == ()
    assert findings.no_differential == ""
    assert findings.anatomy is not None
    assert findings.anatomy.loads == ()
    assert [of.name for of in findings.segments] == ["Lesion"]
    assert {(of.segment, of.region, of.also_reaches) for of in findings.lesions} == {("Lesion", None, ())}


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_too_few_lesions_have_no_differential_and_say_why(volume: Volume) -> None:
    network, second = Spot(), SecondOpinion()
    given = models(network, mask=Ensemble(lesions=MIN_LESIONS - 1), five_slices=second)
    findings, _ = analyse(given, volume)
    assert network.calls == 1  # for the intervals
    assert findings.hypotheses == ()
    assert findings.no_differential == "2 lesions found, at least 3 are needed"
    assert len(findings.rules) == 1
    assert [m.class_name for m in findings.heatmaps] == ["lesion"]
    assert [card.name for card in findings.models] == ["nnunet", "nnunet-thick", "joint"]


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_one_member_is_asked_for_and_named_alone(volume: Volume) -> None:
    ensemble = Ensemble(lesions=1)
    findings, _ = analyse(models(Spot(), mask=ensemble), volume, members=1)
    assert ensemble.asked == [(1, True)]
    assert [card.name for card in findings.models] == ["nnunet", "joint"]


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
@pytest.mark.parametrize("mask", [None, Ensemble(lesions=0)])
def test_negative_case_has_a_map_but_no_segment_and_no_differential(
    volume: Volume, mask: Ensemble | None
) -> None:
    given = models(Spot(lesions=0), mask=mask, five_slices=SecondOpinion())
    findings, stages = analyse(given, volume)
    assert stages == ["mask", "N4", "MNI", "lesions", "plausibility"]
    assert findings.status == "none"
    assert (findings.segments, findings.lesions, findings.hypotheses, findings.rules) == ((), (), (), ())
    assert findings.no_differential == ""
    assert [m.value for m in findings.measurements] == [0.0, 0.0]
    assert [(m.class_name, m.probability) for m in findings.heatmaps] == [("lesion", None)]


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_threshold_is_a_setting(volume: Volume) -> None:
    # logit -1 is probability 0.27; a lesion that is drawn from 0.1 on needs 0.18 in the mean, from 0.2 on 0.33
    assert analyse(Spot(value=-1.0), volume)[0].status == "none"
    assert analyse(Spot(value=-1.0), volume, threshold=0.1)[0].status == "findings"


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_brain")
def test_network_that_answers_nan_is_an_error(volume: Volume) -> None:
    with pytest.raises(PipelineError, match="joint gave values that are not numbers"):
        analyse(Spot(value=float("nan")), volume)


def test_other_sequence_is_unsuitable_before_any_stage() -> None:
    head = Volume(np.zeros((20, 30, 30), dtype=np.float32), np.diag([4.0, 4.0, 4.0, 1.0]), {"EchoTime": 12.0})
    findings, stages = analyse(Spot(), head)
    assert (findings.status, findings.reason) == ("unsuitable", "not FLAIR: echo time 12 ms is below 70 ms")
    assert stages == []


def test_volume_without_brain_is_unsuitable() -> None:
    empty = Volume(np.zeros((30, 32, 32), dtype=np.float32), np.diag([5.0, 5.0, 5.0, 1.0]), FLAIR)
    findings, stages = analyse(Spot(), empty)
    assert (findings.status, findings.reason) == ("unsuitable", "no brain found")
    assert findings.warnings == ("slices are 5.0 mm apart: small lesions may be missed",)
    assert stages == ["mask"]


@pytest.mark.parametrize("value", [0.0, 1.0, -3, "0.5", True, None])
def test_bad_threshold_is_an_error_that_names_it(value: object) -> None:
    with pytest.raises(PipelineError, match="threshold of the flair pipeline must be between 0 and 1"):
        settings_of({"threshold": value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"members": 0}, "members of the flair pipeline must be 1 or more, not 0"),
        ({"members": True}, "members of the flair pipeline must be 1 or more, not True"),
        ({"members": 1.5}, "members of the flair pipeline must be 1 or more, not 1.5"),
        ({"flips": 1}, "flips of the flair pipeline must be true or false, not 1"),
        (
            {"treshold": 0.4},
            'unknown setting "treshold" of the flair pipeline; it has: flips, members, threshold',
        ),
    ],
)
def test_bad_setting_is_an_error_that_names_it(given: dict[str, object], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        settings_of(given)


def test_defaults_are_settings_that_pass_their_own_check() -> None:
    assert settings_of(default_settings()) == settings_of({})


def test_settings_know_the_weights_of_the_ensemble() -> None:
    assert MASK_WEIGHTS == segmenter.MEMBERS


def test_unknown_device_is_an_error_that_names_it() -> None:
    with pytest.raises(PipelineError, match='unknown device "gpu"'):
        resolve_device("gpu")
    with pytest.raises(PipelineError, match='no device "cuda:99"'):
        resolve_device("cuda:99")


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model card .*joint\.json"):
        load_flair("cpu", tmp_path)


@pytest.mark.slow
def test_phantom_goes_the_whole_way_through_the_published_network(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = coarse_head()

    def brain_mask(array: FloatArray, affine: np.ndarray, device: str) -> np.ndarray:
        np.testing.assert_array_equal(array, phantom.volume.array)
        return brain_found()[0]

    monkeypatch.setattr("pipelines.flair.preprocess.brain_mask", brain_mask)
    torch.manual_seed(1)
    findings, stages = analyse(JointNetwork(), phantom.volume)
    assert stages[:4] == ["mask", "N4", "MNI", "lesions"]
    assert findings.status in ("findings", "none")
    (heatmap,) = findings.heatmaps
    assert heatmap.values.shape == phantom.volume.array.shape
    assert heatmap.values[~phantom.brain].mean() < 0.05
