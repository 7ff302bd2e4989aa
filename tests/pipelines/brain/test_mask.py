"""deepbet finds the brain whatever the orientation, and only with the weights that were tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.brain.mask import _extractor, brain_mask, checked_weights
from pipelines.errors import WeightsError
from tests.pipelines.coarse_head import brain_found, coarse_head


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of deepbet's weight files as they are installed."""
    from deepbet import utils  # with pandas, which takes seconds

    folder = tmp_path / "models"
    shutil.copytree(Path(utils.DATA_PATH) / "models", folder)
    return folder


def test_installed_weights_are_those_that_were_tested(installed: Path) -> None:
    contents = checked_weights(installed)
    assert sorted(contents) == ["bbox_model.pt", "model.pt"]
    assert contents["model.pt"] == (installed / "model.pt").read_bytes()


@pytest.mark.parametrize("name", ["bbox_model.pt", "model.pt"])
def test_damaged_copy_is_refused_by_name(installed: Path, name: str) -> None:
    content = bytearray((installed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (installed / name).write_bytes(content)
    with pytest.raises(
        WeightsError, match=rf"/{name} is not that of deepbet 1\.0\.2 .*deepbet==1\.0\.2$"
    ) as caught:
        checked_weights(installed)
    assert "\n" not in str(caught.value)


def test_damaged_network_is_never_loaded(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("TorchScript was loaded unchecked")

    (installed / "model.pt").write_bytes(b"something else")
    monkeypatch.setattr("deepbet.utils.DATA_PATH", str(installed.parent))
    monkeypatch.setattr("torch.jit.load", run)
    _extractor.cache_clear()
    with pytest.raises(WeightsError, match=r"model\.pt is not that of deepbet"):
        brain_mask(np.ones((20, 30, 30), dtype=np.float32), np.diag([2.0, 2.0, 4.0, 1.0]))


def test_missing_weights_name_the_way_out(installed: Path) -> None:
    (installed / "bbox_model.pt").unlink()
    with pytest.raises(WeightsError, match=r"bbox_model\.pt is missing; reinstall it: .*deepbet==1\.0\.2"):
        checked_weights(installed)


def test_empty_volume_has_no_brain() -> None:
    assert not brain_mask(np.zeros((20, 30, 30), dtype=np.float32), np.diag([2.0, 2.0, 4.0, 1.0])).any()


@pytest.mark.slow
def test_brain_is_found_in_any_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = coarse_head()
    array, affine = phantom.volume.array, phantom.volume.affine
    axial, shown, answer = brain_found()
    assert dice(axial, phantom.brain) > 0.95
    # the same voxels stored as left-handed sagittal slices, back to front
    stored = np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1, :])
    permuted = np.eye(4)
    permuted[:3, :3] = np.column_stack([affine[:3, 1], -affine[:3, 2], affine[:3, 0]])
    permuted[:3, 3] = affine[:3, 3] + affine[:3, 2] * (array.shape[0] - 1)

    def answer_again(canonical: np.ndarray) -> np.ndarray:
        np.testing.assert_array_equal(canonical, shown)
        return answer.copy()

    extractor = _extractor("cpu")
    monkeypatch.setattr(extractor, "run_model", answer_again)
    monkeypatch.setattr(extractor, "bbox", tuple(slice(0, n) for n in shown.shape))
    sagittal = brain_mask(stored, permuted)
    assert dice(sagittal, phantom.brain.transpose(2, 0, 1)[:, ::-1, :]) > 0.95
    np.testing.assert_array_equal(sagittal, axial.transpose(2, 0, 1)[:, ::-1, :])
