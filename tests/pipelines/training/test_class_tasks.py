import numpy as np
import torch

from pipelines.flair.intensity import BACKGROUND
from pipelines.training.class_tasks import SCALE_SD, SHIFT_PIXELS, TURN_DEGREES, Seen, moved


def slices() -> Seen:
    """Five times the same brain of 0.5 with a lesion of 3 in it."""
    image = torch.full((5, 128, 128), BACKGROUND)
    image[:, 20:110, 30:100] = 0.5
    lesions = torch.zeros(5, 128, 128)
    lesions[:, 40:52, 60:76] = 1
    image[lesions > 0] = 3.0
    return Seen(image, lesions, True, 1)


def test_slices_are_moved_together_with_their_lesions_and_nothing_bleeds_into_the_brain() -> None:
    for seed in range(8):
        seen = moved(slices(), np.random.default_rng(seed))
        assert (seen.known, seen.target) == (True, 1)
        assert torch.equal(seen.image[0], seen.image[4])
        brain = seen.image > BACKGROUND
        torch.testing.assert_close(seen.image[brain], 0.5 + 2.5 * seen.lesions[brain], atol=1e-4, rtol=1e-4)
        assert not seen.lesions[~brain].any()


def test_slices_move_as_far_as_is_said() -> None:
    grid = torch.arange(128.0)
    areas, places = [], []
    for seed in range(200):
        lesions = moved(slices(), np.random.default_rng(seed)).lesions[0]
        areas.append(float(lesions.sum()) / (12 * 16))
        places.append([float((lesions.sum(axis) * grid).sum() / lesions.sum()) for axis in (1, 0)])
    assert abs(np.std(np.log(areas)) / (SCALE_SD * 2**0.5) - 1) < 0.2
    # The lesion's middle lies 17.9 pixels above that of the image, and 4 to its right.
    radians = np.deg2rad(TURN_DEGREES)
    expected = [np.hypot(SHIFT_PIXELS, 17.9 * SCALE_SD), np.hypot(SHIFT_PIXELS, 17.9 * radians)]
    assert np.allclose(np.std(places, axis=0) / expected, 1, atol=0.2)
    assert np.allclose(np.mean(places, axis=0), [45.5, 67.5], atol=1.0)
