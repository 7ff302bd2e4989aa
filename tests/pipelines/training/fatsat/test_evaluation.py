import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipelines.errors import DataSetError
from pipelines.fatsat.network import OpticNerveCNN
from pipelines.training.cli import models
from pipelines.training.fatsat import classic, comparison, networks, phantoms
from pipelines.training.fatsat.comparison import compare
from pipelines.training.fatsat.crops import EyeSet
from pipelines.training.fatsat.evaluation import evaluate, junction_figures
from pipelines.training.fatsat.export import export
from pipelines.training.papers.optic_nerve_table import METHODS


@pytest.fixture(autouse=True)
def quick(monkeypatch, made):
    """Two eyes of noise for each series, with a spot as lesion; the finder misses one of the first series. Few shifts."""

    def eyes_of(plan, number):
        eyes = made(12, 12, seed=7).take(np.array([number % 12, (number + 3) % 12]))
        labels = np.ones(2, np.int64) if plan.every_eye else eyes.labels
        errors = np.array([math.inf if plan.located == "found" and number == 0 else 1.0, 2.0], np.float32)
        changed = {**vars(eyes), "labels": labels, "errors_mm": errors}
        return EyeSet(**changed)

    monkeypatch.setattr(phantoms, "_eyes_of", eyes_of)
    monkeypatch.setattr(networks, "RATE", 3e-3)
    monkeypatch.setattr(classic, "LARGEST_SAMPLES", 1)


@pytest.fixture
def weights(tmp_path, made):
    torch.manual_seed(0)
    made_of = [OpticNerveCNN(), OpticNerveCNN(), OpticNerveCNN()]
    for crop in ("published", "along-nerve"):
        export(
            made_of,
            tmp_path / "weights",
            crop=crop,
            origin="synthetic",
            data=None,
            eyes=made(6, 6),
            threshold=0.5,
            figures={},
        )
    return tmp_path / "weights"


@pytest.mark.slow
def test_evaluation_states_junctions_contrasts_members_and_targets(tmp_path, weights, made):
    made(12, 12).save(weights / "phantoms" / "series00000.npz")
    found = evaluate(
        None,
        tmp_path / "out",
        weights=weights,
        series=12,
        contrast_series=2,
        on_card=True,
        device="cpu",
        report=print,
    )
    text = "\n".join(found.lines)
    card = (weights / "fatsat.md").read_text()
    assert (
        "## Figures: synthetic phantoms, scanner B, not trained on\n\n- ensemble: balanced accuracy" in card
    )
    assert "- balanced accuracy by lesion contrast, RF: 1.05 " in card
    assert found.figures["not found"] == 1
    apart = found.figures["junctions with a lesion in every eye"]
    assert (found.figures["junctions"]["eyes"], found.figures["junctions"]["not found"]) == (24, 1)
    assert (apart["eyes"], apart["not found"]) == (28, 7)
    assert "- junctions with a lesion in every eye, mm: within 6 mm 0.75" in card
    (group,) = found.figures["groups"].values()
    assert set(group) == {"ensemble", "SVM", "RF"}
    assert group["ensemble"]["eyes"] == 23
    assert list(found.figures["contrast"]["RF"]) == [1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0]
    assert [point["members"] for point in found.figures["members"]] == [1, 2, 3]
    assert "synthetic phantoms, scanner B, not trained on" in text
    asked = [target["asked"] for target in found.figures["targets"]]
    assert len(asked) == 3
    assert sum("MISSED" in line or "met by" in line for line in found.lines) == 3
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored["groups"] == found.figures["groups"]
    assert (tmp_path / "out" / "members.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out" / "contrast.png").exists()


@pytest.mark.slow
def test_baselines_need_the_eyes_of_a_training(tmp_path, weights):
    lines = []
    found = evaluate(
        None,
        tmp_path / "out",
        weights=weights,
        series=12,
        contrast_series=2,
        device="cpu",
        report=lines.append,
    )
    (group,) = found.figures["groups"].values()
    assert set(group) == {"ensemble"}
    assert lines == [
        "SVM and RF: not beside it, because the folder of the weights holds no eyes to train them on"
    ]


def test_junction_that_is_not_found_counts_as_far_away():
    found = junction_figures(np.array([1.0, 2.0, 5.0, 7.0, math.inf], np.float32))
    assert found["within 6 mm"] == pytest.approx(0.6)
    assert found["median mm"] == 5
    assert found["not found"] == 1
    assert found["largest mm"] == 7
    with pytest.raises(DataSetError):
        junction_figures(np.array([math.inf], np.float32))


@pytest.mark.slow
def test_comparison_prints_table_two_with_ours_beside_and_does_nothing_twice(tmp_path, monkeypatch):
    asked = {"repeats": 1, "members": 1, "series": 8, "test_series": 8, "epochs": 1, "device": "cpu"}
    lines = []
    text = compare(None, tmp_path, **asked, report=lines.append)
    assert "## Synthetic phantoms" in text
    assert "| 3D CNN | published | 68.11 | 67.97 | 68.26 | 64.11 | 74.28 | 53.39 |" in text
    assert "| SVM | published | 50.80 | 48.61 | 52.99 | 51.70 | 68.57 | 34.83 |" in text
    ours = [line for line in text.splitlines() if "| ours |" in line]
    assert [line.split(" | ")[0] for line in ours] == [
        "| SVM",
        "| RF",
        "| 3D CNN",
        "| 3D CNN, along-nerve crop",
    ]
    assert not any("| -" in line for line in ours)
    assert len(lines) == len(METHODS) + 2
    monkeypatch.setattr(comparison, "train_member", None)
    assert compare(None, tmp_path, **asked, report=lines.append) == text
    assert len(lines) == len(METHODS) + 2


@pytest.mark.slow
def test_comparison_takes_given_weights_for_the_unseen_scanner(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(comparison, "train_members", None)
    asked = {"repeats": 1, "members": 1, "series": 8, "test_series": 8, "epochs": 1, "device": "cpu"}
    text = compare(None, tmp_path, **asked, weights=weights, methods=METHODS[2:3])
    assert "| 3D CNN | ours |" in text


def test_comparison_of_other_eyes_takes_nothing_from_the_last_one(tmp_path, made):
    protocol = comparison.Protocol(1, 1, 1, "cpu", 0, False)
    eyes = made(12, 12)
    relabelled = EyeSet(**{**vars(eyes), "labels": 1 - eyes.labels})
    marks = {protocol.mark(eyes), protocol.mark(relabelled), protocol.mark(eyes.take(np.arange(11)))}
    assert len(marks) == 3
    assert protocol.mark(eyes) == protocol.mark(made(12, 12))
    for change in ({"seed": 1}, {"epochs": 2}):
        assert replace(protocol, **change).mark(eyes) != protocol.mark(eyes)


def test_comparison_trains_again_when_the_labels_were_mended(tmp_path, made):
    protocol = comparison.Protocol(1, 1, 1, "cpu", 0, False)
    eyes = made(12, 12)
    mended = EyeSet(**{**vars(eyes), "labels": 1 - eyes.labels})
    lines = []
    for given in (eyes, eyes, mended):
        comparison._cross_validation(METHODS[0], given, protocol, tmp_path, lines.append, None)
    assert len(lines) == 2


def test_weights_that_know_a_patient_of_the_unseen_scanner_are_refused(tmp_path, made):
    eyes = made(12, 12)
    known = {"crop": "published", "origin": "real", "data": tmp_path, "threshold": 0.5, "figures": {}}
    export([OpticNerveCNN()], tmp_path / "weights", eyes=eyes.take(np.arange(3)), **known)
    protocol = comparison.Protocol(1, 1, 1, "cpu", 0, False)
    with pytest.raises(DataSetError, match="trained on 1 of the patients of the other scanners"):
        comparison._final(
            METHODS[2], eyes.take(np.arange(8, 12)), eyes.take(np.arange(2, 6)), protocol, tmp_path,
            tmp_path / "weights", print, None,
        )  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_commands_train_evaluate_and_compare(tmp_path):
    out = tmp_path / "out"
    said = invoke(
        "train", "fatsat", "--out", out, "--members", 1, "--series", 12, "--epochs", 1, "--device", "cpu"
    )
    assert said.exit_code == 0, said.output
    assert "fatsat.json" in said.output
    said = invoke(
        "evaluate",
        "fatsat",
        "--weights",
        out,
        "--series",
        12,
        "--json",
        tmp_path / "e.json",
        "--device",
        "cpu",
    )
    assert said.exit_code == 0, said.output
    assert "balanced accuracy at least 0.8" in said.output
    assert json.loads((tmp_path / "e.json").read_text())["junctions"]["not found"] > 0
    said = invoke(
        "compare", "fatsat", "--out", tmp_path / "c", "--repeats", 1, "--members", 1, "--series", 8, "--epochs", 1,
        "--device", "cpu",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "Table 2" in said.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "fatsat", "--out", "x", "--steps", "5"), "--steps does not apply to fatsat"),
        (("train", "nnunet", "--out", "x", "--members", "5"), "--members does not apply to nnunet"),
        (("train", "fatsat", "--out", "x", "--crop", "wide"), "--crop is published or along-nerve"),
        (("evaluate", "fatsat", "--degrade", "3"), "--degrade does not apply to fatsat"),
        (("evaluate", "nnunet"), "give --data"),
        (("compare", "fatsat", "nnunet", "--out", "x"), "name it alone"),
        (("phantom", "--out", "x", "--kind", "ct"), "--kind is flair or fatsat"),
    ],
)
def test_options_that_do_not_apply_are_refused(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = invoke(*arguments).exception
    assert isinstance(error, DataSetError)
    assert said in str(error)


def test_fatsat_is_listed_with_the_networks():
    assert "fatsat" in invoke("list", "--networks").output
