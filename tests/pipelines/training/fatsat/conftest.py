from collections.abc import Callable

import numpy as np
import pytest

from pipelines.training.fatsat.crops import WIDE, EyeSet

Made = Callable[..., EyeSet]


def random_eyes(count: int = 24, patients: int = 8, seed: int = 0, bright: float = 3.0) -> EyeSet:
    """Noise; every third eye has a bright spot where the nerve runs, which is the lesion."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.int64)
    crops = {}
    for kind in ("published", "along-nerve"):
        values = rng.standard_normal((count, *WIDE))
        values[labels == 1, 4:9, 12:22, 12:24] += bright
        crops[kind] = values.astype(np.float16)
    numbers = np.arange(count) % patients
    return EyeSet(
        crops,
        labels,
        np.array([f"patient{number:02d}" for number in numbers]),
        np.where(numbers < patients / 2, "A", "B"),
        np.array([f"case{number:03d}" for number in range(count)]),
        np.where(np.arange(count) % 2, "left", "right"),
        np.where(labels == 1, 1.5, 1.0).astype(np.float32),
        np.full(count, 1.5, np.float32),
    )


@pytest.fixture
def made() -> Made:
    return random_eyes
