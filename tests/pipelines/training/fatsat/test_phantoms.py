import csv
from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.training.fatsat import phantoms
from pipelines.training.fatsat.dataset import read_index, read_volume
from pipelines.training.fatsat.phantoms import (
    PhantomPlan,
    phantom_cases,
    phantom_eyes,
    test_plan,
    training_plan,
)


def test_test_phantoms_share_neither_head_nor_scanner_nor_seed_with_the_training():
    learnt, tested = training_plan(None, 10, 0), test_plan(None, 10, 0)
    assert learnt.heads == tuple(range(1, 13))
    assert learnt.swing_mm > 0 == tested.swing_mm, "the heads kept out have the nerves of their label maps"
    assert tested.heads == (13, 14, 15)
    assert (learnt.scanner, tested.scanner) == ("A", "B")
    assert (learnt.located, tested.located) == ("displaced", "found")
    assert len({learnt.seed, tested.seed, *(test_plan(None, 10, 0, c).seed for c in (1.05, 1.1, 2.0))}) == 5


@pytest.fixture
def one():
    """A plan and its first phantom, small enough for a test; the phantom is real, from geometry."""
    plan = PhantomPlan(None, (1,), "A", 1, 3, every_eye=True)
    return plan, *phantoms.draw(plan, 0)


@pytest.mark.slow
def test_phantoms_become_crops_around_displaced_junctions(one, monkeypatch):
    plan, phantom, patient = one
    monkeypatch.setattr(phantoms, "draw", lambda plan, number: (phantom, patient))
    eyes = phantoms._eyes_of(plan, 0)
    assert eyes.labels.tolist() == [1, 1]
    assert eyes.sides.tolist() == [eye.side for eye in phantom.eyes]
    assert (eyes.contrasts > 1).all()
    drawn = np.concatenate([phantoms._eyes_of(plan, number).errors_mm for number in range(40)])
    assert np.median(drawn) == pytest.approx(1.7, abs=0.35), "as the finder's"
    again = phantoms._eyes_of(plan, 0)
    assert np.array_equal(again.crops["published"], eyes.crops["published"])


@pytest.mark.slow
def test_eye_that_the_finder_misses_counts_as_far_away(one, monkeypatch):
    _, phantom, _ = one

    class Nothing:
        midpoint_lps = (0.0, 0.0, 0.0)

        def of(self, side):
            if side == "left":
                return None
            eye = phantom.eye(side)
            x, y, z = eye.junction_lps
            return type("Eye", (), {"junction_lps": (x, y + 2.5, z), "course_lps": eye.course_lps})

    monkeypatch.setattr(phantoms, "find_eyes", lambda volume: Nothing())
    found = {eye.side: eye for eye in phantoms._found(phantom)}
    assert found["left"].error_mm == np.inf
    assert found["right"].error_mm == pytest.approx(2.5)


def test_phantoms_are_kept_and_not_mistaken_for_others(tmp_path, made, monkeypatch):
    asked = []

    def eyes_of(plan, number):
        asked.append(number)
        return made(2, 2, seed=number)

    monkeypatch.setattr(phantoms, "_eyes_of", eyes_of)
    plan = training_plan(None, 2, 0)
    first = phantom_eyes(plan, tmp_path)
    assert len(first) == 4
    assert asked == [0, 1]
    assert len(phantom_eyes(replace(plan, count=3), tmp_path)) == 6
    assert asked == [0, 1, 2]
    with pytest.raises(DataSetError, match="holds phantoms of another training"):
        phantom_eyes(replace(plan, seed=1), tmp_path)


@pytest.mark.slow
def test_phantom_cases_are_a_data_set(tmp_path, one, monkeypatch):
    _, phantom, _ = one
    monkeypatch.setattr(phantoms, "draw", lambda plan, number: (phantom, "geometry7"))
    lines = []
    (file,) = phantom_cases(tmp_path, 1, progress=lines.append)
    (entry,) = read_index(tmp_path)
    assert entry.labels == {"left": 1, "right": 1}
    assert entry.origin == "synthetic"
    assert entry.points["left"] == pytest.approx(phantom.eye("left").junction_lps, abs=0.01)
    assert entry.points["left"][0] > entry.points["right"][0]
    assert np.allclose(read_volume(file).array, phantom.volume.array)
    assert np.allclose(read_volume(file).affine, phantom.volume.affine, atol=1e-3)
    lesions = read_volume(tmp_path / "phantom0000_lesions.nii.gz").array > 0
    assert np.array_equal(lesions, phantom.eyes[0].lesion | phantom.eyes[1].lesion)
    assert lines == ["phantom0000: scanner A, lesion left and right, geometry7"]
    with (tmp_path / "index.csv").open() as table:
        assert len(list(csv.reader(table))) == 2


def test_folder_without_label_maps_is_named(tmp_path):
    with pytest.raises(DataSetError, match="no head_labels/head_"):
        phantom_cases(tmp_path / "out", 1, data=tmp_path)
