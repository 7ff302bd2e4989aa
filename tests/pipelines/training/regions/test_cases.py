"""Brains whose structures are known, seen anew at each step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.flair.intensity import BACKGROUND
from pipelines.regions.structures import Structure
from pipelines.training.regions.cases import Known, cut_off, head_files, read, varied, write


def made(edge: int = 32) -> Known:
    rng = np.random.default_rng(3)
    inside = np.zeros((edge, edge, edge), bool)
    inside[4:-4, 4:-4, 4:-4] = True
    structures = np.where(inside, Structure.WHITE, 0).astype(np.uint8)
    structures[4:12, 4:-4, 4:-4] = Structure.CEREBELLUM
    structures[18:24, 10:22, 8:14] = Structure.LATERAL_VENTRICLE
    image = np.where(inside, rng.normal(0, 0.3, inside.shape) - 3.0 * (structures == 2), BACKGROUND)
    lesions = np.zeros_like(inside)
    lesions[20:24, 20:24, 20:24] = True
    return Known(image.astype(np.float32), structures, lesions)


def test_case_comes_back_from_its_file(tmp_path: Path) -> None:
    write(made(), tmp_path / "case.npz")
    again = read(tmp_path / "case.npz")
    assert np.abs(again.image - made().image).max() < 0.01
    assert (again.structures == made().structures).all()
    assert (again.lesions == made().lesions).all()
    assert [path.name for path in tmp_path.iterdir()] == ["case.npz"]


def test_what_lies_beyond_the_field_of_view_has_neither_signal_nor_structure() -> None:
    whole, rng = made(72), np.random.default_rng(0)
    for _ in range(8):
        cut = cut_off(whole, rng)
        gone = (whole.image > BACKGROUND) & (cut.image == BACKGROUND)
        assert 0 < gone.sum() < (whole.image > BACKGROUND).sum()
        assert not cut.structures[gone].any()
        assert not cut.lesions[gone].any()


def test_varied_case_keeps_each_voxel_with_its_structure() -> None:
    rng = np.random.default_rng(1)
    for _ in range(8):
        of = varied(made(), rng)
        assert (of.structures[of.image == BACKGROUND] == 0).all()
        dark = of.image[of.structures == Structure.LATERAL_VENTRICLE]
        if dark.size:
            assert np.median(dark) < np.median(of.image[of.structures == Structure.WHITE]) - 1
        assert of.image.flags["C_CONTIGUOUS"]


def test_last_heads_are_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "head_labels"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"head_{number:02d}.nii.gz").touch()
    learnt, kept = head_files(tmp_path)
    assert [path.name[5:7] for path in learnt] == ["01", "02"]
    assert [path.name[5:7] for path in kept] == ["03", "04", "05"]
    with pytest.raises(DataSetError, match="head_labels; give a folder that has them"):
        head_files(tmp_path / "empty")
    with pytest.raises(DataSetError, match="--data/head_labels"):
        head_files(None)
