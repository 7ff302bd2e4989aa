from pathlib import Path

import numpy as np
import torch

from pipelines.flair.intensity import BACKGROUND
from pipelines.training.flair.case_pool import ready
from pipelines.training.flair.class_tasks import SCALE_SD, SHIFT_PIXELS, TURN_DEGREES, Seen, moved
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.phase import WHOLE, Phase


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


def test_volume_is_mirrored_together_with_its_kinds(large_pool: Path) -> None:
    task = make_task("squeezenet", small=True)
    phase = Phase("volumes", WHOLE, 4, 1, 1.0, 1e-3, joint=True)
    centres = set()
    for seed in range(6):
        image, kinds, known, target = task.draw(ready(large_pool), phase, np.random.default_rng(seed))
        assert image.shape == (4, 1, 32, 32, 32)
        assert known.all()
        for volume, kind, label in zip(image[:, 0], kinds, target, strict=True):
            assert set(kind.unique().tolist()) == {0, 1 + int(label)}
            bright = (volume > 1.5).nonzero().double().mean(0)
            place = (kind > 0).nonzero().double().mean(0)
            torch.testing.assert_close(2 * bright + 0.5, place, atol=1.0, rtol=0)
            centres.add(tuple(place.round().int().tolist()))
    assert len(centres) == 8  # four balls, on either side


def test_volumes_without_known_kinds_teach_the_class_alone(pool: Path) -> None:
    task = make_task("squeezenet", small=True)
    phase = Phase("volumes", WHOLE, 2, 1, 1.0, 1e-3, joint=True)
    batch = task.draw(ready(pool), phase, np.random.default_rng(0))
    assert set(task.loss(task.network, batch, phase)[1]) == {"class"}
