from pathlib import Path

import numpy as np
import torch

from pipelines.training.data_sets.sample import Sample, pack_sample, unpack
from pipelines.training.flair.batches import draw_batch


def cube(value: float = 0.0) -> np.ndarray:
    return np.full((16, 16, 16), value, np.float32)


def test_ignored_voxels_come_back_and_weigh_nothing(tmp_path: Path) -> None:
    ignore = np.zeros((16, 16, 16), bool)
    ignore[2:5, 3, 4:9] = True
    image = cube()
    image[ignore] = 4  # so that crop and flip can be seen to move both alike
    pack_sample(Sample(image, ignore, 1, ignore), tmp_path / "a.npz")
    stored = unpack(tmp_path / "a.npz").ignore
    assert stored is not None
    assert np.array_equal(stored, ignore)
    for seed in range(6):
        x, lesions, weight, target, _ = draw_batch([tmp_path / "a.npz"], 2, 16, np.random.default_rng(seed))
        assert x.shape == lesions.shape == weight.shape == (2, 1, 16, 16, 16)
        assert weight.dtype == torch.float32
        assert torch.equal(weight, 1 - lesions)
        assert x[weight == 0].mean() > x[weight == 1].mean() + 2
        assert target.tolist() == [1, 1]


def test_case_without_ignored_voxels_weighs_one_everywhere(tmp_path: Path) -> None:
    pack_sample(Sample(cube(), cube() > 0, -1), tmp_path / "a.npz")
    assert unpack(tmp_path / "a.npz").ignore is None
    weight = draw_batch([tmp_path / "a.npz"], 1, 8, np.random.default_rng(0))[2]
    assert weight.min() == weight.max() == 1
