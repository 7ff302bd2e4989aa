"""Raw scans become cases: a brain that is found, a field that is taken out, all else as it was."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.phantoms.flair import AXIAL_2D, Acquisition, flair_phantom
from pipelines.training.data_sets.cases import load_case, read_index
from pipelines.training.data_sets.extraction import import_nifti
from tests.kept import kept

COARSE = Acquisition((40, 96, 96), (4.0, 2.4, 2.4), "axial", dict(AXIAL_2D.attributes))


def index(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "index.csv").write_text(text)
    return folder


def written(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)


@pytest.mark.slow
def test_raw_scan_becomes_a_case(tmp_path: Path) -> None:
    phantom = kept(flair_phantom, 5, COARSE)
    raw = tmp_path / "raw"
    raw.mkdir()
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.volume.affine
    written(raw / "scan.nii.gz", phantom.volume.array, ras)
    written(raw / "expert.nii.gz", phantom.lesions.astype(np.uint8), ras)
    index(raw, "case,patient,flair,lesions,label,age,sex\na,P1,scan.nii.gz,expert.nii.gz,MS,34,F\n")
    lines: list[str] = []
    assert import_nifti(raw, tmp_path / "data", lines.append) == ["a"]
    assert lines == ["a: brain found"]
    entry = read_index(tmp_path / "data")[0]
    assert (entry.patient, entry.label, entry.age, entry.sex, entry.origin) == ("P1", "MS", 34.0, "F", "real")
    assert entry.brain is not None and entry.lesions is not None
    found = np.asarray(nib.load(entry.brain).dataobj).transpose(2, 1, 0) > 0
    both = (found & phantom.brain).sum()
    assert 2 * both / (found.sum() + phantom.brain.sum()) > 0.9
    assert entry.lesions.read_bytes() == (raw / "expert.nii.gz").read_bytes()
    case = load_case(entry)
    assert case.lesions is not None
    assert case.lesions.sum() * 1.2**3 == pytest.approx(
        phantom.lesions.sum() * phantom.volume.voxel_volume_mm3, rel=0.1
    )


def test_volume_without_a_brain_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    index(raw, "case,flair\na,scan.nii\n")
    written(raw / "scan.nii", np.zeros((30, 30, 30), np.float32), np.diag([5.0, 5.0, 5.0, 1.0]))
    with pytest.raises(DataSetError, match=r"scan\.nii: there is no brain in the FLAIR"):
        import_nifti(raw, tmp_path / "data")


def test_mask_on_another_grid_and_a_folder_in_use_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.training.data_sets.extraction.write_extracted", lambda *_: {})
    raw = index(tmp_path / "raw", "case,flair,lesions\na,scan.nii,mask.nii\n")
    written(raw / "scan.nii", np.ones((8, 8, 8), np.float32), np.eye(4))
    written(raw / "mask.nii", np.ones((8, 8, 9), np.uint8), np.eye(4))
    with pytest.raises(DataSetError, match=r"mask\.nii is not on the grid of scan\.nii"):
        import_nifti(raw, tmp_path / "data")
    index(tmp_path / "data", "case,flair\n")
    with pytest.raises(DataSetError, match="holds a data set already; give another folder"):
        import_nifti(raw, tmp_path / "data")
