from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.training.batches import draw_batch
from pipelines.training.cases import load_case, read_index
from pipelines.training.commands import evaluate, phantom_cases, recipe, train
from pipelines.training.loop import Phase, Trainer
from pipelines.training.pool import Sample, pack_sample, ready, unpack

SMALL = JointConfig(
    shared=4, segmentation=(4, 6, 8), last=4, classification=(4, 6, 8), embedding=6, heads=3, window=2
)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Four cases of 32 cubed with one bright ball each."""
    ring = tmp_path / "pool" / "ring0"
    ring.mkdir(parents=True)
    grid = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
    for number in range(4):
        rng = np.random.default_rng(number)
        centre = rng.integers(10, 22, 3).reshape(3, 1, 1, 1)
        lesions = ((grid - centre) ** 2).sum(0) < 25
        image = (2.5 * lesions + 0.2 * rng.standard_normal(lesions.shape)).astype(np.float32)
        pack_sample(Sample(image, lesions, number % 2), ring / f"case{number:05d}.npz")
    return tmp_path / "pool"


def trainer(folder: Path, steps: int, lines: list[str]) -> Trainer:
    torch.manual_seed(0)
    phases = [
        Phase("crops", 32, 2, steps, 5.0, 5e-3, joint=False),
        Phase("volumes", 32, 2, 4, 5.0, 1e-3, joint=True),
    ]
    return Trainer(JointNetwork(SMALL), phases, folder, seed=1, device="cpu", report=lines.append)


def test_packed_case_comes_back(pool: Path) -> None:
    sample = unpack(ready(pool)[1])
    assert sample.target == 1
    assert sample.image.shape == sample.lesions.shape == (32, 32, 32)
    assert sample.image[sample.lesions].mean() == pytest.approx(2.5, abs=0.1)


def test_batches_are_the_same_for_the_same_seed(pool: Path) -> None:
    one, other = (draw_batch(ready(pool), 2, 32, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert one[0].shape == one[1].shape == (2, 1, 32, 32, 32)


def test_loss_falls_in_a_few_steps_and_both_phases_run(pool: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    training = trainer(tmp_path / "out", 40, lines)
    training.run(pool, every=10)
    losses = [entry["mask"] for entry in training.state.history if entry["phase"] == 0]
    assert losses[-1] < 0.7 * losses[0]
    assert "class" in training.state.history[-1]
    assert training.state.phase == 2
    assert training.checkpoint.exists()


def test_training_goes_on_from_its_checkpoint(pool: Path, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", 4, [])
    whole.run(pool, every=2)
    again = trainer(tmp_path / "whole", 4, [])
    assert again.resume()
    assert again.state.phase == 2
    for a, b in zip(whole.best.parameters(), again.best.parameters(), strict=True):
        assert torch.equal(a, b)


def test_recipe_is_longer_on_a_gpu() -> None:
    assert recipe("cuda:0")[0].steps > 10 * recipe("cpu")[0].steps
    assert [phase.edge for phase in recipe("cpu")] == [80, 160]


def test_phantom_cases_need_no_data_and_are_a_data_set(tmp_path: Path) -> None:
    lines: list[str] = []
    written = phantom_cases(tmp_path / "cases", 2, seed=3, progress=lines.append)
    entries = read_index(tmp_path / "cases")
    assert [e.label for e in entries] == ["MS", "NMOSD"]
    assert [e.flair for e in entries] == written
    assert len(lines) == 2
    image = nib.load(written[0])
    assert image.shape == (160, 160, 160)
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    case = load_case(entries[0])
    assert case.lesions is not None
    stored = np.asarray(nib.load(entries[0].lesions).dataobj).sum()
    assert case.lesions.sum() == pytest.approx(stored, rel=0.25)
    assert case.image[case.lesions].mean() > case.image[case.brain].mean()


def index(folder: Path, text: str) -> Path:
    (folder / "index.csv").write_text(text)
    return folder


def test_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a data set is a folder with an index\.csv"):
        read_index(tmp_path)


def test_missing_file_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"line 2: flair a\.nii is not there"):
        read_index(index(tmp_path, "case,flair\na,a.nii\n"))


def test_unknown_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    with pytest.raises(DataSetError, match="label 'MOG' is not MS, NMOSD or none"):
        read_index(index(tmp_path, "case,flair,label\na,a.nii,MOG\n"))


def test_case_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    with pytest.raises(DataSetError, match="case a stands twice"):
        read_index(index(tmp_path, "case,flair\na,a.nii\na,a.nii\n"))


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("no image")
    entry = read_index(index(tmp_path, "case,flair\na,a.nii\n"))[0]
    with pytest.raises(DataSetError, match=r"a\.nii is not a readable NIfTI file"):
        load_case(entry)


def test_unstripped_flair_without_a_mask_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii")
    entry = read_index(index(tmp_path, "case,flair\na,a.nii\n"))[0]
    with pytest.raises(DataSetError, match="is not brain-extracted"):
        load_case(entry)


def test_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(np.ones((8, 8, 9), np.uint8), np.eye(4)), tmp_path / "m.nii")
    entry = read_index(index(tmp_path, "case,flair,brain\na,a.nii,m.nii\n"))[0]
    with pytest.raises(DataSetError, match=r"m\.nii is not on the grid of a\.nii"):
        load_case(entry)


def test_unknown_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no network 'vnet'; there is joint"):
        evaluate("vnet", tmp_path)
    with pytest.raises(WeightsError, match="no network 'vnet'"):
        train("vnet", None, tmp_path)


def test_existing_training_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(WeightsError, match="exists; resume it"):
        train("joint", None, tmp_path)
