"""Lesions that a network draws: what is kept, what is ignored, and the data set that comes of it."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.flair.intensity import BACKGROUND
from pipelines.training.data_sets.cases import load_case, read_index, write_cube
from pipelines.training.flair import pseudo_labels as module
from pipelines.training.flair.pseudo_labels import label_cases, pseudo_labels
from pipelines.types import FloatArray

LESION = (slice(28, 32), slice(28, 32), slice(28, 32))
PALE = (slice(28, 32), slice(14, 18), slice(28, 32))
IN_FLUID = (slice(28, 32), slice(42, 46), slice(28, 32))
SPECK = (slice(20, 21), slice(28, 30), slice(28, 30))


@pytest.fixture
def image() -> FloatArray:
    """A block of tissue of 0 with a lesion, a pale spot, choroid plexus in fluid and a speck."""
    cube = np.full((60, 60, 60), BACKGROUND, np.float32)
    cube[4:56, 4:56, 4:56] = 0
    cube[24:36, 38:50, 24:36] = -3.5
    for where, value in ((LESION, 2), (PALE, 0.5), (IN_FLUID, 2), (SPECK, 2)):
        cube[where] = value
    return cube


@pytest.fixture
def probability(image: FloatArray) -> FloatArray:
    """A network that is sure of all of them."""
    found = np.zeros_like(image)
    for where in (LESION, PALE, IN_FLUID, SPECK):
        found[where] = 0.9
    return found


def test_only_what_looks_like_a_lesion_is_kept(image: FloatArray, probability: FloatArray) -> None:
    lesions, ignore = pseudo_labels(image, probability)
    kept = np.zeros_like(lesions)
    kept[LESION] = True
    assert np.array_equal(lesions, kept)
    assert not (lesions & ignore).any()


def test_rim_and_suspicions_in_the_depth_are_ignored(image: FloatArray, probability: FloatArray) -> None:
    probability[10:12, 30:34, 30:34] = 0.3
    probability[5:7, 10:14, 10:14] = 0.3
    _, ignore = pseudo_labels(image, probability)
    assert ignore[27, 30, 30]
    assert ignore[26, 30, 30]
    assert not ignore[25, 30, 30]
    assert ignore[PALE].all()
    assert ignore[SPECK].all()
    assert ignore[10:12, 30:34, 30:34].all()
    assert not ignore[5:7, 10:14, 10:14].any(), "bright cortex near the surface is normal tissue"


def test_lesions_are_kept_however_much_of_the_brain_they_take(
    image: FloatArray, probability: FloatArray
) -> None:
    large = (slice(38, 54), slice(10, 50), slice(8, 52))
    image[large], probability[large] = 2, 0.95
    assert (image[image > BACKGROUND] == 2).mean() > 0.1
    lesions, _ = pseudo_labels(image, probability)
    assert lesions[large].all()
    assert lesions[LESION].all()


def test_what_the_network_is_never_quite_sure_of_is_ignored(
    image: FloatArray, probability: FloatArray
) -> None:
    probability[LESION] = 0.8
    lesions, ignore = pseudo_labels(image, probability)
    assert not lesions.any()
    assert ignore[LESION].all()


def test_nothing_is_drawn_without_a_brain() -> None:
    empty = np.full((8, 8, 8), BACKGROUND, np.float32)
    lesions, ignore = pseudo_labels(empty, np.ones_like(empty))
    assert not lesions.any()
    assert not ignore.any()


@pytest.mark.slow
def test_data_set_gets_the_lesions_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    scan = np.zeros((120, 120, 120), np.float32)
    scan[20:100, 20:100, 20:100] = 100
    scan[50:56, 50:56, 50:56] = 180
    known = np.zeros(scan.shape, np.uint8)
    known[30:33, 30:33, 30:33] = 1
    write_cube(scan, data / "flair.nii.gz")
    write_cube(known, data / "known.nii.gz")
    rows = [
        ["case", "patient", "flair", "lesions", "label", "age", "sex"],
        ["a", "p1", "flair.nii.gz", "", "MS", "41", "F"],
        ["b", "p2", "flair.nii.gz", "known.nii.gz", "none", "", ""],
    ]
    with (data / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.setattr(
        module,
        "MaskModel",
        lambda *_: lambda cube, **_k: SimpleNamespace(probability=(cube > 2).astype(np.float32)),
    )
    lines: list[str] = []
    assert label_cases(data, out, progress=lines.append) == 1
    assert lines[0].startswith("a: 0.4 mL of lesions drawn, ")
    assert lines[1] == "b: lesions are known"
    first, second = read_index(out)
    assert (first.origin, first.label, first.age, first.sex) == ("pseudo-labelled", "MS", 41.0, "F")
    assert (second.origin, second.ignore) == ("real", None)
    drawn = load_case(first)
    assert drawn.lesions is not None
    assert drawn.ignore is not None
    assert drawn.lesions.sum() == 6**3
    assert drawn.ignore.sum() > 0
    assert not (drawn.lesions & drawn.ignore).any()
    assert first.ignore is not None
    assert drawn.sample("MS").ignore is not None
    again = load_case(second)
    assert again.lesions is not None
    assert again.lesions.sum() == known.sum()


def test_a_data_set_is_not_written_over(tmp_path: Path) -> None:
    write_cube(np.ones((8, 8, 8), np.float32), tmp_path / "flair.nii.gz")
    (tmp_path / "index.csv").write_text("case,flair\na,flair.nii.gz\n")
    with pytest.raises(DataSetError, match="is the data set itself; give another folder"):
        label_cases(tmp_path, tmp_path)
