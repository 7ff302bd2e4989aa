"""Saved weights answer as the network did, and the maps come back to their place in the patient."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair.five_slices import model
from pipelines.flair.five_slices.model import FiveSliceModel, key_slices, map_to_native
from pipelines.flair.five_slices.network import five_slice_network
from pipelines.flair.five_slices.slices import PLANES_MM, Slices, slices_from_brain
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.preprocess import Brain
from pipelines.weights import save_weights

pytestmark = pytest.mark.slow

CARD = {
    "version": "0",
    "device_uid": "2.25.1",
    "trained_on": "synthetic",
    "purpose": "test",
}
NOD = np.array([[1.0, 0.0, 0.0], [0.0, 0.985, -0.174], [0.0, 0.174, 0.985]])
ALONG = {
    "3 mm": np.diag([2.0, 2.0, 3.0]),
    "2 mm": np.diag([2.0, 2.0, 2.0]),
    "upside-down": np.diag([2.0, 2.0, -5.0]),
    "mirrored": np.diag([-2.0, -2.0, 3.0]),
    "tilted": NOD @ np.diag([2.0, 2.0, 3.0]),
}
ACROSS = {
    "sagittal": np.array([[0.0, 0, -2.0], [2.0, 0, 0], [0, -2.0, 0]]),
    "coronal": np.array([[2.0, 0, 0], [0, 0, 3.0], [0, -2.0, 0]]),
}
POSE = np.array([[0.95, 0, 0, 12.0], [0, 1.02, 0, -20.0], [0, 0, 0.97, 35.0], [0, 0, 0, 1]])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model build the tiny network."""
    monkeypatch.setattr(model, "five_slice_network", functools.partial(five_slice_network, small=True))


def saved(folder: Path) -> torch.nn.Module:
    torch.manual_seed(3)
    network = five_slice_network(small=True).eval()
    network.half().float()  # what storage in half precision keeps
    save_weights("five-slices", network.state_dict(), CARD, "", folder)
    return network


def some_slices() -> Slices:
    images = np.random.default_rng(0).normal(0, 1, (5, 128, 128)).astype(np.float32)
    images[:, :20] = BACKGROUND
    return Slices(images, np.eye(4))


@pytest.mark.usefixtures("small")
def test_saved_network_gives_the_same_answer(tmp_path: Path) -> None:
    network = saved(tmp_path)
    slices = some_slices()
    answer = FiveSliceModel("cpu", tmp_path)(slices)
    with torch.inference_mode():
        expected = network(torch.from_numpy(slices.images)[None])[0].numpy()
    np.testing.assert_allclose(answer.logits, expected, atol=1e-4)
    assert answer.class_name == ("NMOSD" if expected[1] > expected[0] else "MS")
    for values, shape in ((answer.grad_cam, (128, 128)), (answer.per_slice, (5, 128, 128))):
        assert values.shape == shape
        assert values.dtype == np.float32
        assert 0.0 <= values.min() <= values.max() <= 1.0
        assert not values[..., :20, :].any()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)  # the tiny one, where the full one is asked for
    with pytest.raises(PipelineError, match="five-slices"):
        FiveSliceModel("cpu", tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="five-slices"):
        FiveSliceModel("cpu", tmp_path)


@pytest.mark.usefixtures("small")
def test_answer_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path)
    slices = some_slices()
    slices.images[2, 64, 64] = np.nan
    with pytest.raises(PipelineError, match="not numbers"):
        FiveSliceModel("cpu", tmp_path)(slices)


def spot(plane: int) -> np.ndarray:
    """Return maps with a spot at P = 32, L = -15 mm of one plane: row 73.5, column 53.5."""
    maps = np.zeros((5, 128, 128), dtype=np.float32)
    maps[plane, 71:77, 51:57] = 1.0
    return maps


def mni_of(native: np.ndarray, brain: Brain, pose: np.ndarray) -> np.ndarray:
    """Return the MNI points of the voxels of a native map that are bright."""
    points = brain.whole.positions_lps(np.argwhere(native > 0.5))
    back = np.linalg.inv(pose)
    return np.asarray(points @ back[:3, :3].T + back[:3, 3])


@pytest.mark.parametrize("axes", [*ALONG.values(), *ACROSS.values()], ids=[*ALONG, *ACROSS])
def test_spot_of_a_slice_returns_to_its_place(sliced: Any, axes: np.ndarray) -> None:
    brain, slices = sliced(axes, POSE)
    native = map_to_native(spot(2), slices, brain)
    assert native.shape == brain.whole.shape_kji
    points = mni_of(native, brain, POSE)
    thickness_mm = np.abs(np.linalg.norm(axes, axis=0)).max() / 0.95
    # where the head is tilted to the slices by 10 degrees, a place 15 mm behind and aside lies 3 mm above or below
    np.testing.assert_allclose(points.mean(axis=0), [-15.0, 32.0, 18.0], atol=thickness_mm / 2 + 3.0)
    np.testing.assert_allclose(points[:, :2].mean(axis=0), [-15.0, 32.0], atol=1.5)
    assert np.abs(points[:, 2] - 18.0).max() < thickness_mm / 2 + 2.0 + 4.0


@pytest.mark.parametrize("axes", ALONG.values(), ids=ALONG.keys())
def test_slices_near_a_plane_are_shown_whole_and_others_dark(sliced: Any, axes: np.ndarray) -> None:
    brain, slices = sliced(axes, POSE)
    native = map_to_native(np.ones((128, 128), dtype=np.float32), slices, brain)
    mask = brain.on_whole(brain.mask)
    lit = [k for k in range(len(native)) if native[k].any()]
    dark = [k for k in range(len(native)) if mask[k].any() and k not in lit]
    assert dark
    for k in lit:
        np.testing.assert_allclose(native[k][mask[k]], 1.0, atol=1e-6)
        assert not native[k][~mask[k]].any()
    keys = key_slices(slices, brain)
    assert len(keys) == 5
    assert set(keys) <= set(lit)
    # the middle of each key slice lies within half a slice of its plane
    heights = []
    for k in keys:
        j, i = ndimage.center_of_mass(mask[k])
        point = np.linalg.inv(POSE) @ [*brain.whole.positions_lps([k, j, i]), 1.0]
        heights.append(point[2])
    thickness_mm = np.linalg.norm(axes[:, 2]) / 0.97
    np.testing.assert_allclose(sorted(heights, reverse=True), PLANES_MM, atol=thickness_mm / 2 + 0.8)
    assert len(lit) == pytest.approx(5 * (thickness_mm + 4.0) / thickness_mm, abs=3)


@pytest.mark.parametrize("axes", ACROSS.values(), ids=ACROSS.keys())
def test_slices_across_the_planes_show_them_as_lines(sliced: Any, axes: np.ndarray) -> None:
    brain, slices = sliced(axes, POSE)
    native = map_to_native(np.ones((5, 128, 128), dtype=np.float32), slices, brain)
    superior = mni_of(native, brain, POSE)[:, 2]
    distance = np.abs(superior[:, None] - np.array(PLANES_MM)).min(axis=1)
    assert distance.max() <= 3.6 / 2 + 2.0
    assert key_slices(slices, brain) == ()


def test_planes_outside_the_volume_have_no_key_slice(head: Any) -> None:
    brain, alignment = head(ALONG["3 mm"], POSE)
    top = slice(len(brain.mask) // 2, len(brain.mask))
    half = Grid((top.stop - top.start, *brain.grid.shape_kji[1:]), brain.grid.affine.copy())
    half.affine[:3, 3] = brain.grid.positions_lps([top.start, 0, 0])
    upper = Brain(
        brain.whole,
        (slice(brain.box[0].start + top.start, brain.box[0].stop), *brain.box[1:]),
        half,
        brain.array[top],
        brain.mask[top],
    )
    slices = slices_from_brain(upper.array, upper, alignment)
    assert key_slices(slices, upper) == key_slices(slices, brain)[-3:]
    assert not slices.brain[3:].any()


def test_full_network_goes_through_its_shards(tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = five_slice_network().eval()
    save_weights("five-slices", network.state_dict(), CARD, "", tmp_path)
    assert len(list(tmp_path.glob("five-slices*.safetensors"))) == 2
    network.half().float()
    slices = some_slices()
    with torch.inference_mode():
        expected = network(torch.from_numpy(slices.images)[None])[0].numpy()
    scored = FiveSliceModel("cpu", tmp_path)
    assert scored.card.trained_on == "synthetic"
    np.testing.assert_allclose(scored(slices).logits, expected, atol=1e-3)
