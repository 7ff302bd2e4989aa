"""deepbet finds the brain whatever the orientation, and only with the weights that were tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.brain.mask import BrainMaskError, brain_mask, check_weights
from pipelines.phantoms.flair import AXIAL_2D, Acquisition, flair_phantom

COARSE = Acquisition((40, 96, 96), (4.0, 2.4, 2.4), "axial", dict(AXIAL_2D.attributes))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    for name in ("bbox_model.pt", "model.pt"):
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(BrainMaskError, match=r"bbox_model\.pt is not that of deepbet 1\.0\.2"):
        check_weights(tmp_path)


def test_missing_weights_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BrainMaskError, match=r"missing: reinstall deepbet 1\.0\.2"):
        check_weights(tmp_path)


def test_empty_volume_has_no_brain() -> None:
    assert not brain_mask(np.zeros((20, 30, 30), dtype=np.float32), np.diag([2.0, 2.0, 4.0, 1.0])).any()


@pytest.mark.slow
def test_brain_is_found_in_any_orientation() -> None:
    phantom = flair_phantom(5, COARSE)
    array, affine = phantom.volume.array, phantom.volume.affine
    axial = brain_mask(array, affine)
    assert dice(axial, phantom.brain) > 0.95
    # the same voxels stored as left-handed sagittal slices, back to front
    stored = np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1, :])
    permuted = np.eye(4)
    permuted[:3, :3] = np.column_stack([affine[:3, 1], -affine[:3, 2], affine[:3, 0]])
    permuted[:3, 3] = affine[:3, 3] + affine[:3, 2] * (array.shape[0] - 1)
    sagittal = brain_mask(stored, permuted)
    assert dice(sagittal, phantom.brain.transpose(2, 0, 1)[:, ::-1, :]) > 0.95
