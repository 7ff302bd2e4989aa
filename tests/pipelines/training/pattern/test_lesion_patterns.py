"""Patterns are found as networks find lesions, and the perceptron learns from them which disease they are of."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.pattern.features import NAMES
from pipelines.flair.pattern.model import PatternModel
from pipelines.flair.segmenter import MaskAnswer
from pipelines.training.cli import models
from pipelines.training.data_sets.cases import load_case, read_index
from pipelines.training.pattern import training as pattern_training
from pipelines.training.pattern.lesion_patterns import VIEWS, as_found, features_of_cube, numbered, pattern
from pipelines.training.pattern.scorer import PatternScorer
from pipelines.training.pattern.trainable import LesionPattern
from pipelines.training.pattern.training import INPUT, train_pattern
from pipelines.training.scoring.recalibration import recalibrate
from pipelines.training.synthetic.anatomy import Anatomy, load_anatomies
from pipelines.types import FloatArray
from tests.pipelines.training.phantom_data import phantom_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return load_anatomies(None)[0]


def test_large_lesions_are_found_and_specks_missed(head: Anatomy) -> None:
    large, specks = (np.zeros(head.labels.shape, bool) for _ in range(2))
    large[80:90, 60:70, 60:70] = True  # 1.7 mL
    specks[100:140:8, 50:110:8, 60:100:8] = True
    specks &= head.brain
    found = [as_found(large | specks, head, np.random.default_rng(seed)) for seed in range(20)]
    assert np.mean([(mask & large).sum() / large.sum() for mask in found]) > 0.85
    assert np.mean([mask[specks].mean() for mask in found]) < 0.2
    assert all(not (mask & ~head.brain).any() for mask in found)
    assert not np.array_equal(found[0], found[1])


def test_pattern_is_the_same_for_the_same_number() -> None:
    one, other = pattern(None, 3, 1), pattern(None, 3, 1)
    assert one.shape == (VIEWS, len(NAMES))
    assert np.array_equal(one, other)
    assert np.isfinite(one).all()
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, pattern(None, 3, 3))


def test_specks_are_no_lesions(head: Anatomy) -> None:
    mask = np.zeros(head.labels.shape, bool)
    mask[80, 60, 60] = True
    assert numbered(mask).max() == 0
    mask[80, 60, 61:63] = True
    assert numbered(mask).max() == 0
    mask[80, 61, 60] = True  # four voxels
    assert numbered(mask).max() == 1


def made_up(data: Path | None, seed: int, numbers: range, workers: int) -> Iterator[FloatArray]:
    """Patterns of which one feature tells the disease."""
    for number in numbers:
        features = np.random.default_rng((seed, number)).normal(size=(VIEWS, len(NAMES))).astype(np.float32)
        features[:, 2] += 2.5 * (number % 2)
        yield features


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern_training, "drawn", made_up)


@pytest.mark.usefixtures("quick")
def test_training_learns_and_leaves_a_results_folder(tmp_path: Path) -> None:
    steps: list[int] = []
    card = train_pattern(None, tmp_path, patterns=300, progress=str, watch=lambda _, n, __: steps.append(n))
    assert steps == list(range(1, 301))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("config.json", "patterns.npz", "history.json", "curves.png", "metrics.json"),
        *("lesion-pattern.json", "lesion-pattern.md", "lesion-pattern.safetensors"),
    }
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["class"] < 0.5 * history[0]["class"]
    validation = json.loads((tmp_path / "metrics.json").read_text())["validation"]
    assert validation["cases"] == 60
    assert validation["auc"] > 0.9
    details = json.loads(card.read_text())
    assert (details["trained_on"], details["calibrated"]) == ("synthetic", True)
    text = card.with_suffix(".md").read_text()
    assert "no clinical accuracy known" in text
    assert "1.6 k parameters" in text
    features = np.zeros(len(NAMES), np.float32)
    model = PatternModel(tmp_path)
    ms = model(features)
    features[2] = 2.5
    nmosd = model(features)
    assert ms[0] > ms[1]
    assert nmosd[1] > nmosd[0]


@pytest.mark.usefixtures("quick")
def test_training_goes_on_with_the_patterns_that_are_there(tmp_path: Path) -> None:
    train_pattern(None, tmp_path / "whole", patterns=120, progress=str)
    train_pattern(None, tmp_path / "parts", patterns=100, progress=str)
    with pytest.raises(WeightsError, match=r"patterns\.npz exists; resume it, or give another folder"):
        train_pattern(None, tmp_path / "parts", patterns=120, progress=str)
    with pytest.raises(WeightsError, match="are of another seed, data set or version"):
        train_pattern(None, tmp_path / "parts", patterns=120, seed=1, resume=True, progress=str)
    train_pattern(None, tmp_path / "parts", patterns=120, resume=True, progress=str)
    whole, parts = (
        (tmp_path / folder / "lesion-pattern.safetensors").read_bytes() for folder in ("whole", "parts")
    )
    assert whole == parts


def test_options_of_images_do_not_apply(tmp_path: Path) -> None:
    said = CliRunner().invoke(
        models, ["train", "lesion-pattern", "--out", str(tmp_path), "--given-share", "0.2"]
    )
    assert isinstance(said.exception, DataSetError)
    assert str(said.exception) == "--given-share does not apply to lesion-pattern; leave it out"
    said = CliRunner().invoke(models, ["train", "lesion-pattern", "--out", str(tmp_path), "--device", "cpu"])
    assert str(said.exception) == "--device does not apply to the training of lesion-pattern; leave it out"
    said = CliRunner().invoke(models, ["train", "lesion-pattern", "--out", str(tmp_path), "--steps", "3"])
    assert str(said.exception) == "3 patterns are too few to learn from; --steps 20 at least"


class Masks:
    """Finds the lesions of the case, which are all that is bright."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, cube: FloatArray, **_: object) -> MaskAnswer:
        found = (cube > 1.2).astype(np.float32)
        return MaskAnswer(found, found[None].astype(np.float16), ())


def recalibrated(data: Path, weights: Path) -> dict[str, float]:
    scorer = LesionPattern().scorer()
    return recalibrate("lesion-pattern", scorer, data, read=INPUT, weights=weights, report=str)


@pytest.mark.usefixtures("quick")
def test_cases_are_scored_behind_the_masks_networks_and_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.training.pattern.scorer.MaskModel", Masks)
    monkeypatch.setattr("pipelines.training.pattern.scorer.load_case", functools.cache(load_case))
    monkeypatch.setattr("pipelines.training.scoring.recalibration.MIN_CALIBRATION_CASES", 1)
    data = tmp_path / "data"
    phantom_data(data)
    # of MS and of NMOSD in turn; one of them has no class
    lines = (
        (data / "index.csv").read_text().replace("2_lesions.nii.gz,MS", "2_lesions.nii.gz,none").splitlines()
    )
    (data / "index.csv").write_text("\n".join(lines[:2]))
    train_pattern(None, tmp_path / "run", patterns=60, progress=str)
    scorer = PatternScorer(tmp_path / "run")
    result = scorer.score(read_index(data)[0])
    assert (result.label, result.origin, result.scores) == ("MS", "synthetic", None)
    assert result.nmosd is not None
    assert 0 < result.nmosd < 1
    with pytest.raises(DataSetError, match="has 0 cases of a class that lesion-pattern tells"):
        recalibrated(data, tmp_path / "run")
    (data / "index.csv").write_text("\n".join(lines))
    weights = (tmp_path / "run" / "lesion-pattern.safetensors").read_bytes()
    said = recalibrated(data, tmp_path / "run")
    assert said["n"] == 2
    details = json.loads((tmp_path / "run" / "lesion-pattern.json").read_text())
    assert details["temperature"] == said["temperature"]
    assert details["undecided"] == [said["low"], said["high"]] == [0.0, 1.0]  # two cases decide nothing
    assert details["calibrated_on"] == "fitted on 2 synthetic cases that it has not learnt from"
    assert "fitted on 2 synthetic cases" in (tmp_path / "run" / "lesion-pattern.md").read_text()
    assert (tmp_path / "run" / "lesion-pattern.safetensors").read_bytes() == weights
    # the same cases again find the same temperature, whatever stands on the card
    again = recalibrated(data, tmp_path / "run")
    assert again["temperature"] == pytest.approx(said["temperature"], rel=1e-3)
    assert again["before"] == said["temperature"]


def test_features_of_a_cube_need_a_brain_and_no_lesions() -> None:
    values = np.full((160, 160, 160), -5, np.float32)
    values[40:120, 30:130, 40:120] = 0.0
    assert not features_of_cube(values, np.zeros(values.shape, bool)).any()
