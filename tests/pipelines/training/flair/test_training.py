import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import DataSetError, WeightsError
from pipelines.training.data_sets.cases import load_case, read_index
from pipelines.training.data_sets.sample import unpack
from pipelines.training.flair.batches import draw_batch
from pipelines.training.flair.case_pool import ready
from pipelines.training.flair.export import export
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.flair.training import train
from pipelines.training.flair.training_settings import TrainingSettings
from pipelines.training.phase import Phase
from pipelines.weights import load_weights
from tests.pipelines.training.phantom_data import phantom_data


def test_packed_case_comes_back(pool: Path) -> None:
    sample = unpack(ready(pool)[1])
    assert sample.target == 1
    assert sample.image.shape == sample.lesions.shape == (32, 32, 32)
    assert sample.image[sample.lesions].mean() == pytest.approx(2.5, abs=0.1)


def test_batches_are_the_same_for_the_same_seed(pool: Path) -> None:
    one, other = (draw_batch(ready(pool), 2, 32, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert one[0].shape == one[1].shape == (2, 1, 32, 32, 32)


ONE = Phase("crops", 32, 1, 3, 5.0, 5e-3, joint=False, schedule="constant", epoch=2)


def trained(
    name: str, data: Path | None, out: Path, report: Callable[[str], object] = str, **more: Any
) -> Path:
    return train(TrainingSettings(name, data, out, **more), report=report)


def short(name: str, pool: Path, out: Path, **more: Any) -> Path:
    """Train the tiny variant of a network for three steps."""
    return trained(name, None, out, pool=pool, phases=(ONE,), small=True, device="cpu", **more)


@pytest.mark.slow
def test_training_leaves_a_results_folder(pool: Path, tmp_path: Path) -> None:
    card = short("nnunet", pool, tmp_path / "out", weights="nnunet", leave_out=("patient07",), seed=5)
    assert card.name == "nnunet.json"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"config.json", "checkpoint.pt", "history.json", "curves.png", "metrics.json"}
    assert names >= {"nnunet.json", "nnunet.md", "nnunet.safetensors"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["name"], config["seed"], config["leave_out"]) == ("nnunet", 5, ["patient07"])
    assert [h["step"] for h in json.loads((tmp_path / "out" / "history.json").read_text())] == [2, 3]
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (900, 600)
    details = json.loads(card.read_text())
    assert details["network"] == "nnunet"
    assert "temperature" not in details
    assert details["trained_on"] == "synthetic"
    assert "no clinical accuracy known" in card.with_suffix(".md").read_text()


def same(one: Path, other: Path) -> bool:
    """Return whether two cards describe the same parameters."""
    states = [load_weights(card.stem, card.parent)[0] for card in (one, other)]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_same_seed_gives_the_same_network(pool: Path, tmp_path: Path) -> None:
    first, again, other = (
        short("nnunet", pool, tmp_path / str(n), seed=seed) for n, seed in enumerate((3, 3, 4))
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.slow
def test_training_starts_from_given_weights(pool: Path, tmp_path: Path) -> None:
    short("unet3d", pool, tmp_path / "first")
    frozen = (replace(ONE, rate=0.0),)
    again = trained(
        "unet3d", None, tmp_path / "second", pool=pool, phases=frozen, small=True, init=tmp_path / "first",
        device="cpu",
    )  # fmt: skip
    assert same(again, tmp_path / "first" / "unet3d.json")
    with pytest.raises(WeightsError, match="no weights of nnunet in"):
        short("nnunet", pool, tmp_path / "third", init=tmp_path / "first")


def test_patients_and_sources_of_the_weights_at_the_start_stay_known(pool: Path, tmp_path: Path) -> None:
    source = {"what": "scans of a hospital", "licence": "its own", "citation": "none"}
    first = make_task("unet3d", small=True).network
    export(
        first, tmp_path / "first", name="unet3d", provenance="real", sources=[source], figures={},
        seen=["p7"], small=True,
    )  # fmt: skip
    card = short("unet3d", pool, tmp_path / "second", init=tmp_path / "first")
    details = json.loads(card.read_text())
    assert details["trained_on"] == "real and synthetic"
    assert details["seen_patients"] == ["p7"]
    assert source in details["sources"]
    assert not any("No real FLAIR" in text for text in details["limitations"])


def test_checkpoint_without_its_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(DataSetError, match=r"config\.json cannot be read"):
        trained("nnunet", None, tmp_path, resume=True)


@pytest.mark.slow
def test_resumed_training_keeps_its_plan(pool: Path, tmp_path: Path) -> None:
    short("nnunet", pool, tmp_path / "out", seed=5)
    lines: list[str] = []
    trained(
        "nnunet", None, tmp_path / "out", pool=pool, resume=True, steps=7, device="cpu", report=lines.append
    )
    assert lines == ["going on with phase 2, step 0"]
    with pytest.raises(WeightsError, match="holds a training of nnunet, not of unet3d"):
        trained("unet3d", None, tmp_path / "out", pool=pool, resume=True, device="cpu")


@pytest.mark.slow
@pytest.mark.slow
def test_training_without_a_validation_exports_its_last_state(pool: Path, tmp_path: Path) -> None:
    card = json.loads(short("nnunet", pool, tmp_path, learn_from_all=True).read_text())
    assert not (tmp_path / "best.pt").exists()
    assert not any("validation" in origin for origin in card["figures"])


def test_classes_are_calibrated_on_cases_that_were_kept_out(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "validation").mkdir(parents=True)
    for number in range(8):
        of = ready(pool)[number % 4]
        (tmp_path / "out" / "validation" / f"case{number:05d}.npz").write_bytes(of.read_bytes())
    card = json.loads(short("five-slices", pool, tmp_path / "out").read_text())
    assert card["calibrated"] is True
    assert card["temperature"] > 0
    assert card["calibrated_on"] == "fitted on 8 synthetic cases kept out of the training"
    assert any("written priors" in text for text in card["limitations"])
    uncalibrated = json.loads(short("five-slices", pool, tmp_path / "other").read_text())
    assert uncalibrated["calibrated"] is False
    assert "Its class probabilities are not calibrated." in uncalibrated["limitations"]


def test_empty_pool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with pytest.raises(DataSetError, match=r"no cases in .*pool; a pool has folders ring\*"):
        short("nnunet", tmp_path / "pool", tmp_path / "out")


@pytest.mark.slow
def test_phantom_cases_need_no_data_and_are_a_data_set(tmp_path: Path) -> None:
    written, lines = phantom_data(tmp_path / "cases", 2)
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


def test_index_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes("case,flair\nMüller,a.nii\n".encode("latin-1"))
    with pytest.raises(DataSetError, match=r"index\.csv cannot be read .* save it as CSV in UTF-8"):
        read_index(tmp_path)


def test_cut_off_or_undefined_voxels_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    values[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "b.nii.gz")
    one, other = read_index(index(tmp_path, "case,flair\na,a.nii.gz\nb,b.nii.gz\n"))
    with pytest.raises(DataSetError, match=r"a\.nii\.gz is damaged or cut off"):
        load_case(one)
    with pytest.raises(DataSetError, match=r"b\.nii\.gz has voxels that are not numbers"):
        load_case(other)


def test_unstripped_flair_without_a_mask_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii")
    entry = read_index(index(tmp_path, "case,flair\na,a.nii\n"))[0]
    with pytest.raises(DataSetError, match="is not brain-extracted"):
        load_case(entry)


@pytest.mark.slow
def test_head_in_the_dark_is_not_taken_as_brain_extracted(tmp_path: Path) -> None:
    # 70 % of the voxels are 0, as around a scanner's head; what is left are 2.9 litres.
    head = np.zeros((100, 100, 100), np.float32)
    head[15:82, 15:82, 15:82] = 1
    nib.save(nib.Nifti1Image(head, np.diag([2.13, 2.13, 2.13, 1])), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(head, np.diag([1.5, 1.5, 1.5, 1])), tmp_path / "b.nii")
    raw, brain = read_index(index(tmp_path, "case,flair\na,a.nii\nb,b.nii\n"))
    with pytest.raises(
        DataSetError, match=r"a\.nii is not brain-extracted; .* 'dicom-node models import-nifti'"
    ):
        load_case(raw)
    assert load_case(brain).brain.any()


def test_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(np.ones((8, 8, 9), np.uint8), np.eye(4)), tmp_path / "m.nii")
    entry = read_index(index(tmp_path, "case,flair,brain\na,a.nii,m.nii\n"))[0]
    with pytest.raises(DataSetError, match=r"m\.nii is not on the grid of a\.nii"):
        load_case(entry)


def test_unknown_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no network 'unet'; there is joint"):
        trained("unet", None, tmp_path)


def test_share_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a share lies between 0 and 1, not at 1\.5"):
        trained("nnunet", None, tmp_path, given_share=1.5)


def test_existing_training_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(WeightsError, match="exists; resume it"):
        trained("joint", None, tmp_path)
