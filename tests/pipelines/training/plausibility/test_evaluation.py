"""Judging of the check of plausibility, with cases made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.regions.brain_map import Midline
from pipelines.training.networks import network_of
from pipelines.training.plausibility.cases import (
    SETTING_HEADS,
    Known,
    has_other_contrast,
    head_files,
    kind_of,
)
from pipelines.training.plausibility.evaluation import (
    ALL,
    NOTHING,
    Judged,
    counts_by_sign,
    judged,
    shares_by_kind,
    targets_of,
)
from pipelines.training.regions.evaluation import box_grid
from pipelines.training.synthetic.other_lesions import KINDS
from pipelines.types import NotTypical

SIGN = NotTypical("midline shift", "third ventricle off the midline", 7.0, "mm", 5.0)


def test_limits_are_judged_on_other_heads_than_they_were_set_on(tmp_path: Path) -> None:
    folder = tmp_path / "head_labels"
    folder.mkdir()
    for number in range(SETTING_HEADS + 2):
        (folder / f"head_{number:02d}.nii.gz").touch()
    setting, judging = (head_files(tmp_path, judging=of) for of in (False, True))
    assert (len(setting), len(judging)) == (SETTING_HEADS, 2)
    assert not set(setting) & set(judging)
    with pytest.raises(DataSetError, match="more than 8 of them"):
        head_files(folder, judging=True)


def test_half_of_the_cases_have_ms_and_every_other_kind_comes_in_turn() -> None:
    kinds = [kind_of(number) for number in range(2 * len(KINDS))]
    assert kinds[1::2] == ["MS"] * len(KINDS)
    assert tuple(kinds[::2]) == KINDS
    rounds = [has_other_contrast(number) for number in range(4 * len(KINDS))]
    assert rounds == [False] * 2 * len(KINDS) + [True] * 2 * len(KINDS)


def test_another_lesion_is_judged_with_and_without_a_mask_of_it() -> None:
    shape = (32, 32, 32)
    brain = np.ones(shape, bool)
    empty = np.zeros(shape, bool)
    midline = Midline(np.array([1.0, 0.0, 0.0]), 0.0)
    image, structures = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for kind, drawn in (("MS", [""]), ("bleed", [NOTHING, ALL])):
        known = Known("case", kind, image, brain, empty, empty, box_grid(shape), midline)
        assert [of.drawn for of in judged(known, structures)] == drawn


def test_targets_count_heads_with_a_sign() -> None:
    found = [
        *(Judged("a", "tumour", drawn, (SIGN,)) for drawn in (NOTHING, ALL)),
        Judged("b", "bleed", NOTHING, ()),
        Judged("b", "bleed", ALL, (SIGN,)),
        Judged("c", "MS", "", ()),
        Judged("d", "real", "", ()),
    ]
    assert [target.met for target in targets_of(found)] == [False, True, True, True]
    assert counts_by_sign(found) == {"midline shift": (3, 0)}
    assert shares_by_kind(found)[f"bleed, {NOTHING}"] == (0, 1)
    assert found[0].text() == "a, none of it drawn: midline shift 7.0 mm"


def test_it_is_evaluated_by_its_name() -> None:
    assert network_of("plausibility").name == "plausibility"
