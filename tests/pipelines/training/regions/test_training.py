"""The training of the network of structures, its scores and its card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipelines.errors import PipelineError
from pipelines.regions.model import RegionsModel
from pipelines.regions.network import RegionsNetwork
from pipelines.regions.structures import Structure
from pipelines.training.cli import models
from pipelines.training.regions.cases import write
from pipelines.training.regions.evaluation import (
    RealScore,
    SyntheticScores,
    over_slices,
    score,
    targets_of,
)
from pipelines.training.regions.results import add_figures, export_regions
from pipelines.training.regions.training import RegionsTrainer
from pipelines.weights import card_details
from tests.pipelines.regions.brains import grid
from tests.pipelines.training.regions.test_cases import made


@pytest.mark.slow
def test_training_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    write(made(), pool / "case0.npz")
    losses: dict[int, float] = {}
    first = RegionsTrainer(tmp_path, 60.0, report=str)
    first.run(pool, 12, losses.__setitem__)
    again = RegionsTrainer(tmp_path, 60.0, report=str)
    again.resume()
    assert again.step == 12
    assert torch.equal(again.network.answer.weight, first.network.answer.weight)
    again.run(pool, 40, losses.__setitem__)
    assert sorted(losses) == list(range(1, 41))
    assert np.mean([losses[n] for n in range(36, 41)]) < 0.6 * losses[1]


def test_scores_are_those_of_the_true_structures_where_all_is_found() -> None:
    case, scores = made(), SyntheticScores()
    score(case, case.structures, scores)
    assert scores.mean_dice(Structure.CEREBELLUM) == 1
    assert scores.agreement() == 1
    assert scores.same_sites == [True]
    wrong = np.where(case.structures == Structure.WHITE, Structure.CEREBELLUM, case.structures)
    score(case, wrong, scores)
    assert scores.agreement() == 0.5
    assert scores.mean_dice(Structure.CEREBELLUM) < 1


def test_site_of_a_borderline_lesion_alone_is_no_difference_in_the_sites_of_a_report() -> None:
    case, scores = made(48), SyntheticScores()
    found = case.structures.copy()
    found[24:44, 24:44, 4:44] = Structure.CORTEX  # meets the lesion at an edge, by 1.1 mm
    score(case, found, scores)
    assert scores.regions == [("deep_white_matter", "juxtacortical")]
    assert (scores.clear, scores.same_sites, scores.same_sure_sites) == ([False], [False], [True])
    score(case, case.structures, scores)
    assert (scores.clear[1:], scores.clear_agreement()) == ([True], 1)


def test_map_of_the_cube_is_averaged_over_a_thick_slice() -> None:
    cube = grid()
    half = np.zeros(cube.shape_kji, np.float32)
    half[:33] = 1
    said = over_slices(half, cube, grid(6.0))
    assert said[4].min() == 1
    assert said[5].mean() == pytest.approx(0.5, abs=0.1)


def test_card_tells_the_figures_that_were_measured(tmp_path: Path) -> None:
    export_regions(RegionsNetwork(), tmp_path, heads=12, steps=900)
    RegionsModel(folder=tmp_path)
    case, scores = made(), SyntheticScores()
    case.structures[25:27, 5:9, 5:20] = Structure.CORTEX
    case.structures[25:27, 10:14, 5:20] = Structure.DEEP_GREY
    case.structures[5:7, 10:14, 5:20] = Structure.BRAINSTEM
    score(case, case.structures, scores)
    real = [RealScore("one", 0.8, {}, ""), RealScore("two", 0.9, {}, "")]
    assert [target.met for target in targets_of(scores, real)][-1]
    add_figures(tmp_path, scores, real)
    figures = card_details("regions", tmp_path)["figures"]
    assert figures["real, 2 scans"] == {"mean Dice of the ventricles at least 0.82": "0.850"}
    assert "two: 0.900" in (tmp_path / "regions.md").read_text()


def test_training_without_label_maps_says_what_it_needs(tmp_path: Path) -> None:
    said = CliRunner().invoke(models, ["train", "regions", "--out", str(tmp_path / "out")])
    assert isinstance(said.exception, PipelineError)
    assert "head_labels" in str(said.exception)
