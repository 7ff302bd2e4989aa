from pathlib import Path

import numpy as np
import pytest

from pipelines.training.data_sets.sample import Sample, pack_sample


def ball(centre: np.ndarray, radius: float, edge: int = 32) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"))
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < radius**2


def write_pool(folder: Path, edge: int = 32, count: int = 4, *, kinds: bool = False) -> Path:
    """Cases of one ball each, in the upper half for MS and in the lower for NMOSD; of a kind for each class, or of none."""
    ring = folder / "ring0"
    ring.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        target = number % 2
        centre = np.array([edge * (0.7 - 0.4 * target), *rng.uniform(0.4 * edge, 0.6 * edge, 2)])
        lesions = ball(centre, 0.16 * edge, edge)
        image = (2.5 * lesions + 0.2 * rng.standard_normal(lesions.shape)).astype(np.float32)
        of_kind = lesions * np.uint8(1 + target) if kinds else None
        pack_sample(Sample(image, lesions, target, kinds=of_kind), ring / f"case{number:05d}.npz")
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Four cases of 32 cubed."""
    return write_pool(tmp_path / "pool")


@pytest.fixture
def kinds_pool(tmp_path: Path) -> Path:
    """The cases of `pool`, with two kinds of lesions that stand for the classes."""
    return write_pool(tmp_path / "kinds", kinds=True)


@pytest.fixture
def large_pool(tmp_path: Path) -> Path:
    """Four cases of 64 cubed, which DenseNet121 needs, with kinds."""
    return write_pool(tmp_path / "large", 64, kinds=True)
