"""The FAT-SAT pipeline from volume to findings: each eye by itself, each refusal with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from orbit_volumes import JUNCTIONS, orbit_course, orbit_eye, orbit_eyes, orbit_volume

from pipelines.errors import PipelineError, WeightsError
from pipelines.fatsat import pipeline as module
from pipelines.fatsat.course import nerve_mask
from pipelines.fatsat.crop_grid import SHAPE
from pipelines.fatsat.ensemble import Ensemble, EnsembleAnswer, stacked
from pipelines.fatsat.eyes import Eyes
from pipelines.fatsat.network import NAME, OpticNerveCNN
from pipelines.fatsat.pipeline import FatsatPipeline, load_fatsat
from pipelines.types import Findings, Volume
from pipelines.weights import save_weights

pytestmark = pytest.mark.slow

DETAILS = {
    "version": "0.0.1",
    "device_uid": "2.25.1",
    "trained_on": "synthetic",
    "purpose": "optic-nerve lesions on FAT-SAT",
    "network": NAME,
    "members": 2,
    "threshold": 0.5,
    "crop": "published",
}


class BrightNerve(Ensemble):
    """Two members that call a crop positive when a voxel in it shines, and look where it does."""

    def __call__(self, batch: Any, members: int | None = None) -> EnsembleAnswer:
        assert batch.shape[1:] == SHAPE
        mean = np.where(batch.max(axis=(1, 2, 3)) > 5, 0.8, 0.2).astype(np.float32)
        answers = np.stack([mean + 0.04, mean - 0.04])[: members or 2]
        return EnsembleAnswer(answers.mean(axis=0), answers)

    def gradient_saliency(self, values: Any, cls: int, members: int | None = None) -> Any:
        return (values > 5).astype(np.float32) if cls else np.ones(SHAPE, np.float32)

    integrated_gradients = gradient_saliency


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("weights")
    save_weights("fatsat", stacked([OpticNerveCNN(), OpticNerveCNN()]), DETAILS, "# {digest}", made)
    return made


@pytest.fixture
def pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FatsatPipeline:
    """The pipeline with eyes that are known and networks that see the bright nerve."""
    find_with(monkeypatch, orbit_eyes())
    return FatsatPipeline("cpu", folder, {"published": BrightNerve("cpu", folder)})


def find_with(monkeypatch: pytest.MonkeyPatch, eyes: Eyes) -> list[Any]:
    asked: list[Any] = []

    def find(volume: Volume, points: Any = None) -> Eyes:
        asked.append(points)
        return eyes

    monkeypatch.setattr(module, "find_eyes", find)
    return asked


def run(pipeline: FatsatPipeline, volume: Volume, **settings: object) -> Findings:
    stages: list[str] = []
    found = pipeline(volume, settings, lambda stage, seconds: stages.append(stage))
    assert stages == list(found.timings_s)
    return found


@pytest.mark.parametrize(("bright", "other"), [("right", "left"), ("left", "right")])
def test_lesion_is_told_of_its_own_side(pipeline: FatsatPipeline, bright: Any, other: Any) -> None:
    found = run(pipeline, orbit_volume(bright=bright))
    assert found.status == "findings"
    assert [site.laterality for site in found.sites] == ["right", "left"]
    by_side = {site.laterality: site for site in found.sites}
    assert (by_side[bright].status, by_side[other].status) == ("positive", "negative")
    assert by_side[bright].probability == pytest.approx(0.8)
    assert (by_side[bright].threshold, by_side[bright].located) == (0.5, "automatic")
    interval = by_side[bright].interval
    assert interval is not None
    assert (interval.low, interval.high, interval.basis) == (
        pytest.approx(0.76),
        pytest.approx(0.84),
        "over 2 networks",
    )
    assert {segment.laterality for segment in found.segments} == {bright}
    assert list(found.timings_s) == ["eyes", "crop", "ensemble", "saliency"]


def test_segments_are_the_nerve_and_the_salient_part_inside_it(pipeline: FatsatPipeline) -> None:
    volume = orbit_volume(bright="left")
    nerve, candidate = run(pipeline, volume).segments
    assert (nerve.name, nerve.code) == ("optic nerve", "optic_nerve")
    assert (candidate.name, candidate.code) == ("candidate region (salient part inside the nerve)", "lesion")
    assert candidate.mask.any()
    assert not (candidate.mask & ~nerve.mask).any()
    positions = volume.position_lps(np.argwhere(nerve.mask))
    assert (positions[:, 0] > 0).all(), "the left is where x rises"
    assert (volume.array[candidate.mask] == 8.0).all()


def test_each_eye_has_two_maps_of_its_predicted_class_on_its_own_side(pipeline: FatsatPipeline) -> None:
    volume = orbit_volume(bright="right")
    found = run(pipeline, volume)
    told = [(item.laterality, item.name, item.class_name) for item in found.heatmaps]
    assert told == [
        ("right", "saliency", "lesion"),
        ("right", "integrated gradients", "lesion"),
        ("left", "saliency", "no lesion"),
        ("left", "integrated gradients", "no lesion"),
    ]
    assert [item.probability for item in found.heatmaps] == pytest.approx([0.8, 0.8, 0.8, 0.8])
    for item in found.heatmaps:
        assert item.outline is not None
        x = volume.position_lps(np.argwhere(item.outline))[:, 0]
        assert (x.mean() > 0) == (item.laterality == "left")
        assert item.values.shape == item.outline.shape == volume.array.shape
        assert 0 < len(item.key_slices_k) <= 5
        assert all(item.outline[k].any() for k in item.key_slices_k)


def test_threshold_is_the_settings_and_else_the_cards(pipeline: FatsatPipeline) -> None:
    found = run(pipeline, orbit_volume(bright="right"), threshold=0.9)
    assert found.status == "none"
    assert found.segments == ()
    assert {site.threshold for site in found.sites} == {0.9}
    low = run(pipeline, orbit_volume(), threshold=0.2)
    assert [site.status for site in low.sites] == ["positive", "positive"]


def test_missing_eye_is_said_and_the_other_is_analysed(
    pipeline: FatsatPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_with(monkeypatch, orbit_eyes("left"))
    found = run(pipeline, orbit_volume(bright="left"))
    right, left = found.sites
    assert (right.status, right.reason, right.probability) == ("not analysed", "no globe was found", None)
    assert left.status == "positive"
    assert {item.laterality for item in found.heatmaps} == {"left"}


def test_series_without_an_eye_is_unsuitable_with_the_reasons(
    pipeline: FatsatPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = Eyes(None, None, (0.0, 0.0, 0.0), 0.0, {"left": "too dark", "right": "no globe was found"}, ())
    find_with(monkeypatch, none)
    found = run(pipeline, orbit_volume())
    assert found.status == "unsuitable"
    assert found.reason == "no eye can be analysed: no globe was found; too dark"
    find_with(monkeypatch, Eyes(None, None, (0.0, 0.0, 0.0), 0.0, {}, ()))
    assert (
        run(pipeline, orbit_volume()).reason
        == "no eye can be analysed: no right eye was found; no left eye was found"
    )


def test_series_that_ends_behind_the_globe_is_unsuitable(pipeline: FatsatPipeline) -> None:
    found = run(pipeline, orbit_volume(slices=12))
    assert found.status == "unsuitable"
    assert found.reason.startswith(
        "no eye can be analysed: the series ends 9 mm behind the right globe, and 24 mm are needed; the series ends"
    )


def test_other_contrasts_and_protocols_are_unsuitable(pipeline: FatsatPipeline) -> None:
    volume = orbit_volume()
    dark = Volume(volume.array.max() - volume.array, volume.affine, volume.attributes)
    assert "vitreous is not bright" in run(pipeline, dark).reason
    short = Volume(volume.array, volume.affine, {"EchoTime": 12.0})
    assert "echo time 12 ms" in run(pipeline, short).reason
    sagittal = Volume(volume.array, volume.affine[[1, 0, 2, 3]], volume.attributes)
    found = run(pipeline, sagittal)
    assert (found.status, found.reason[:11]) == ("unsuitable", "not coronal")
    assert found.timings_s == {}


def test_points_of_a_person_reach_the_search_and_are_named(
    pipeline: FatsatPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = orbit_eyes(left=orbit_eye("left", source="manual"))
    asked = find_with(monkeypatch, by_hand)
    found = run(pipeline, orbit_volume(), points={"left": list(JUNCTIONS["left"])})
    assert asked == [{"left": JUNCTIONS["left"]}]
    assert [site.located for site in found.sites] == ["automatic", "manual"]


def test_report_warns_when_the_network_looks_elsewhere_or_sees_too_little(
    pipeline: FatsatPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an even map has as much inside the nerve as the nerve has of the crop
    warnings = run(pipeline, orbit_volume(bright="right")).warnings
    assert any(text.startswith("Left optic nerve: the network looks elsewhere, ") for text in warnings)
    assert not any("Right optic nerve: the network looks elsewhere" in text for text in warnings)
    up = orbit_course("left") + np.linspace(0, 1, 57)[:, None] * np.array([0.0, 0.0, 25.0])
    find_with(monkeypatch, orbit_eyes(left=orbit_eye("left", course_lps=up)))
    warnings = run(pipeline, orbit_volume()).warnings
    assert any("Left optic nerve: only" in text and "of its course" in text for text in warnings)


def test_one_member_has_no_spread(pipeline: FatsatPipeline) -> None:
    assert [site.interval for site in run(pipeline, orbit_volume(), members=1).sites] == [None, None]


def test_weights_on_disk_give_a_whole_answer_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_with(monkeypatch, orbit_eyes())
    loaded = load_fatsat("cpu", folder)
    first, second = run(loaded, orbit_volume()), run(loaded, orbit_volume())
    assert [site.probability for site in first.sites] == [site.probability for site in second.sites]
    assert first.models[0].name == "fatsat"
    assert all(0 <= (site.saliency_share or 0) <= 1 for site in first.sites)


def test_threads_are_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_with(monkeypatch, orbit_eyes())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(FatsatPipeline("cpu", folder), orbit_volume())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_missing_weights_are_an_error_that_names_them(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"fatsat\.json"):
        load_fatsat("cpu", tmp_path)
    with pytest.raises(PipelineError, match="fatsat-along-nerve"):
        load_fatsat("cpu", folder).ensemble("along-nerve")


def test_nerve_mask_follows_the_course_and_stays_out_of_the_globe() -> None:
    volume = orbit_volume()
    mask = nerve_mask(volume, orbit_course("right"))
    positions = volume.position_lps(np.argwhere(mask))
    away = np.linalg.norm(positions[:, None] - orbit_course("right"), axis=-1).min(axis=1)
    assert away.max() <= 2.6
    assert positions[:, 1].min() > JUNCTIONS["right"][1] - 2.5
    assert 250 < mask.sum() * volume.voxel_volume_mm3 < 650  # a rod of 28 mm and 2.5 mm radius has 550
