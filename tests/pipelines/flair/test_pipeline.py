"""The stages of the FLAIR pipeline and the findings that come out of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment
from pipelines.device import resolve_device
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair import pipeline as module
from pipelines.flair.joint.network import JointNetwork, JointOutput
from pipelines.flair.pipeline import FlairPipeline, load_flair, threshold_of
from pipelines.flair.preprocess import Brain
from pipelines.flair.suitability import Verdict
from pipelines.phantoms.flair import AXIAL_2D, Acquisition, flair_phantom
from pipelines.types import Findings, ModelCard, Volume

CARD = ModelCard("joint", "1", "ab12", "2.25.1", "synthetic", "Lesions on FLAIR")
FLAIR = {"InversionTime": 2500.0, "EchoTime": 90.0}


class Spot(torch.nn.Module):
    """Sees a lesion of 6x6x6 voxels of the cube, or none, and gives NMOSD 0.8."""

    def __init__(self, lesion: bool = True, value: float = 6.0) -> None:
        super().__init__()
        self.lesion, self.value = lesion, value

    def forward(self, volume: torch.Tensor) -> JointOutput:
        logit = torch.full_like(volume, -8.0)
        if self.lesion:
            logit[..., 90:96, 70:76, 60:66] = self.value
        maps = [torch.zeros(1, 1, n, n, n) for n in (20, 40, 80)]
        for small in maps:
            n = small.shape[-1]
            small[..., n * 93 // 160, n * 73 // 160, n * 63 // 160] = 2.0
        return JointOutput(logit, [], torch.log(torch.tensor([[0.2, 0.8]])), maps)


@pytest.fixture
def volume() -> Volume:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = [-79.0, -79.0, -76.5]
    return Volume(np.full((52, 80, 80), 100.0, dtype=np.float32), affine, FLAIR)


@pytest.fixture
def all_is_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the whole volume for a brain that lies in MNI space already."""

    def find(volume: Volume, device: str) -> Brain:
        grid = Grid(volume.array.shape, volume.affine)
        box = tuple(slice(0, n) for n in volume.array.shape)
        return Brain(grid, box, grid, volume.array, np.ones(volume.array.shape, dtype=bool))  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_brain", find)
    monkeypatch.setattr(module, "without_bias", lambda brain: brain.array)
    monkeypatch.setattr(module, "align_to_mni", lambda array, mask, grid: Alignment(np.eye(4), 0.0))
    monkeypatch.setattr(module, "check_brain", lambda *_: Verdict())
    monkeypatch.setattr(module, "check_contrast", lambda *_: Verdict())


def analyse(network: torch.nn.Module, volume: Volume, **settings: object) -> tuple[Findings, list[str]]:
    stages: list[str] = []
    run = FlairPipeline(network, CARD, "cpu")  # type: ignore[arg-type]
    return run(volume, settings, lambda stage, seconds: stages.append(stage)), stages


@pytest.mark.usefixtures("all_is_brain")
def test_lesion_comes_back_on_the_native_grid_with_its_numbers(volume: Volume) -> None:
    findings, stages = analyse(Spot(), volume)
    assert stages == ["mask", "N4", "MNI", "network", "findings"]
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


@pytest.mark.usefixtures("all_is_brain")
def test_hypotheses_and_heatmap_are_those_of_the_network(volume: Volume) -> None:
    findings, _ = analyse(Spot(), volume)
    assert [(h.code, h.calibrated, h.model) for h in findings.hypotheses] == [
        ("multiple_sclerosis", False, "joint"),
        ("neuromyelitis_optica", False, "joint"),
    ]
    assert [h.probability for h in findings.hypotheses] == pytest.approx([0.2, 0.8])
    (heatmap,) = findings.heatmaps
    assert heatmap.class_name == "NMOSD"
    assert heatmap.probability == pytest.approx(0.8)
    assert 0.0 <= heatmap.values.min() <= heatmap.values.max() <= 1.0
    peak = np.unravel_index(np.argmax(heatmap.values), heatmap.values.shape)
    assert volume.position_lps(peak) == pytest.approx([-20.4, -8.4, 15.6], abs=4.0)
    assert int(peak[0]) in heatmap.key_slices_k
    assert findings.models == (CARD,)
    assert findings.warnings == ("joint was trained on synthetic data; no clinical accuracy known",)


@pytest.mark.usefixtures("all_is_brain")
def test_negative_case_has_a_map_but_no_segment_and_no_hypothesis(volume: Volume) -> None:
    findings, _ = analyse(Spot(lesion=False), volume)
    assert findings.status == "none"
    assert (findings.segments, findings.lesions, findings.hypotheses) == ((), (), ())
    assert [m.value for m in findings.measurements] == [0.0, 0.0]
    assert findings.heatmaps[0].probability is None
    assert findings.heatmaps[0].key_slices_k


@pytest.mark.usefixtures("all_is_brain")
def test_threshold_is_a_setting(volume: Volume) -> None:
    # logit -1 is probability 0.27
    assert analyse(Spot(value=-1.0), volume)[0].status == "none"
    assert analyse(Spot(value=-1.0), volume, threshold=0.2)[0].status == "findings"


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
        threshold_of({"threshold": value})


def test_unknown_setting_is_an_error_that_names_it() -> None:
    with pytest.raises(PipelineError, match='unknown setting "treshold"'):
        threshold_of({"treshold": 0.4})


def test_unknown_device_is_an_error_that_names_it() -> None:
    with pytest.raises(PipelineError, match='unknown device "gpu"'):
        resolve_device("gpu")
    with pytest.raises(PipelineError, match='no device "cuda:99"'):
        resolve_device("cuda:99")


def test_missing_weights_are_an_error() -> None:
    with pytest.raises(WeightsError, match="no-such-weights"):
        load_flair("cpu", "no-such-weights")


@pytest.mark.slow
def test_phantom_goes_the_whole_way_through_the_published_network() -> None:
    phantom = flair_phantom(3, Acquisition((40, 96, 96), (4.0, 2.4, 2.4), "axial", dict(AXIAL_2D.attributes)))
    torch.manual_seed(1)
    findings, stages = analyse(JointNetwork(), phantom.volume)
    assert stages == ["mask", "N4", "MNI", "network", "findings"]
    assert findings.status in ("findings", "none")
    (heatmap,) = findings.heatmaps
    assert heatmap.values.shape == phantom.volume.array.shape
    assert heatmap.values[~phantom.brain].mean() < 0.05
