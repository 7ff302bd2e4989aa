"""What a lesion mask says of its disease: places, shapes and numbers, the same however the head lies and is sliced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair.lesions import LabelArray
from pipelines.flair.matthews import places_with, values_at
from pipelines.flair.pattern.features import NAMES, pattern_features
from pipelines.flair.pattern.model import PatternModel, PatternNetwork
from pipelines.flair.settings import PATTERN_WEIGHTS
from pipelines.weights import save_weights

STRAIGHT = Alignment(np.eye(4), 0.0)
CARD = {
    "version": "1",
    "device_uid": "2.25.9",
    "trained_on": "synthetic",
    "purpose": "MS or NMOSD",
    "temperature": 2.0,
}


def grid_of(spacing_k: float = 1.0) -> Grid:
    """Voxels of 1 mm around MNI152, towards Left, Posterior and Superior."""
    affine = np.diag([1.0, 1.0, spacing_k, 1.0])
    affine[:3, 3] = (-80.0, -80.0, -70.0)
    return Grid((round(160 / spacing_k), 200, 160), affine)


def ellipsoids(grid: Grid, *lesions: tuple[tuple[float, ...], tuple[float, ...]]) -> LabelArray:
    """Lesions of these centres and half axes along L, P and S, mm, numbered in their order."""
    labels = np.zeros(grid.shape_kji, np.int32)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in grid.shape_kji)]
    x, y, z = (grid.affine[a, 3] + grid.affine[a, a] * n for a, n in enumerate((i, j, k)))
    for number, ((a, b, c), (p, q, r)) in enumerate(lesions, start=1):
        labels[((x - a) / p) ** 2 + ((y - b) / q) ** 2 + ((z - c) / r) ** 2 <= 1] = number
    return labels


def said(labels: LabelArray, grid: Grid, alignment: Alignment = STRAIGHT) -> dict[str, float]:
    return dict(zip(NAMES, pattern_features(labels, grid, alignment).tolist(), strict=True))


@pytest.mark.parametrize(
    ("centre", "region"),
    [
        ((0.0, 28.0, -30.0), "pons"),
        ((0.0, 22.0, -12.0), "midbrain"),
        ((0.0, 38.0, -50.0), "medulla"),
        ((20.0, 62.0, -40.0), "cerebellum"),
        ((2.0, -26.0, 16.0), "callosal"),
        ((25.0, 6.0, 2.0), "deep grey"),
    ],
)
def test_lesion_counts_where_it_lies(centre: tuple[float, ...], region: str) -> None:
    grid = grid_of()
    features = said(ellipsoids(grid, (centre, (3.0, 3.0, 3.0))), grid)
    assert features[f"number, {region}"] == pytest.approx(np.log(2))
    assert features[f"share, {region}"] > 0.6
    assert sum(features[name] > 0 for name in NAMES if name.startswith("number, ")) == 1
    # 123 voxels of a ball of 3 mm
    assert features["volume"] == pytest.approx(np.log1p(123 / 50), abs=0.02)
    assert features["largest"] == features["volume"]


def test_lesion_at_a_right_angle_to_the_ventricle_is_told_from_one_along_it() -> None:
    grid = grid_of()
    # beside the body of the left lateral ventricle, whose wall runs from front to back
    across = said(ellipsoids(grid, ((25.0, 10.0, 28.0), (6.5, 2.5, 2.5))), grid)
    along = said(ellipsoids(grid, ((19.5, 10.0, 28.0), (2.5, 6.5, 2.5))), grid)
    assert across["across the band"] == pytest.approx(np.log(2))
    assert along["along the band"] == pytest.approx(np.log(2))
    assert across["mean angle to the ventricle"] < 0.4 < 0.7 < along["mean angle to the ventricle"]


@pytest.mark.slow
def test_band_along_the_ventricles_is_filled() -> None:
    grid = grid_of()
    k, j, i = np.indices(grid.shape_kji).reshape(3, -1)
    points = grid.positions_lps(np.stack([k, j, i], axis=1))
    near = values_at(places_with(None).ventricle_mm, points)
    band = ((near > 0) & (near < 3) & (points[:, 0] > 0)).reshape(grid.shape_kji)
    features = said(band.astype(np.int32), grid)
    assert features["filled share of the band along the ventricles"] > 0.3
    assert features["share in the band"] > 0.95
    assert features["share on the lesser side"] == 0.0


def test_pose_and_slices_change_little() -> None:
    grid, thick = grid_of(), grid_of(4.0)
    lesions = (
        ((26.0, 18.0, 24.0), (6.0, 4.0, 5.0)),
        ((-30.0, 50.0, 30.0), (5.0, 5.0, 6.0)),
        ((3.0, 28.0, -30.0), (4.0, 4.0, 5.0)),
    )
    plain = said(ellipsoids(grid, *lesions), grid)
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = (12.0, -5.0, 30.0)
    moved = Grid(grid.shape_kji, turn @ grid.affine)
    turned = said(ellipsoids(grid, *lesions), moved, Alignment(turn, 0.0))
    sliced = said(ellipsoids(thick, *lesions), thick)
    for name in NAMES:
        assert turned[name] == pytest.approx(plain[name], abs=1e-3), name
    for name in ("volume", "number", "number, pons", "share on the lesser side", "longest"):
        assert sliced[name] == pytest.approx(plain[name], abs=0.2), name


def test_no_lesions_say_nothing() -> None:
    grid = grid_of()
    assert not any(said(np.zeros(grid.shape_kji, np.int32), grid).values())


def test_model_gives_what_its_network_gave(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = PatternNetwork().eval()
    network.mean.fill_(0.5)
    save_weights(PATTERN_WEIGHTS, network.state_dict(), CARD, "", tmp_path)
    features = np.linspace(-1, 2, len(NAMES), dtype=np.float32)
    expected = network(torch.from_numpy(features)[None])[0].detach().numpy()
    assert PatternModel(tmp_path)(features) == pytest.approx(expected, abs=2e-3)


def test_one_strange_feature_does_not_decide_alone() -> None:
    network = PatternNetwork().eval()
    features = torch.zeros(2, len(NAMES))
    features[0, 3], features[1, 3] = 3.0, 1000.0
    first, second = network(features)
    assert torch.equal(first, second)


def test_missing_and_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="lesion-pattern"):
        PatternModel(tmp_path)
    save_weights(PATTERN_WEIGHTS, torch.nn.Linear(3, 2).state_dict(), CARD, "", tmp_path)
    with pytest.raises(PipelineError, match='weights "lesion-pattern" do not fit'):
        PatternModel(tmp_path)
