"""Lesions of both diseases in one and the same real scan: nothing but the priors tells them apart."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipelines.errors import DataSetError
from pipelines.training.data_sets.cases import read_index
from pipelines.training.data_sets.sample import Sample
from pipelines.training.synthetic.anatomy import Anatomy, Tissue
from pipelines.training.synthetic.generator import make_generator
from pipelines.training.synthetic.mixing import brain_of, local_white, signal
from pipelines.training.synthetic.painted import anatomy_of, paint_class, painted_cases, without_lesions
from pipelines.training.synthetic.phantom_sets import painted_phantoms
from tests.pipelines.training.phantom_data import phantom_data


@pytest.fixture(scope="module")
def scan() -> Sample:
    """A head with lesions, as if it were a real scan."""
    case = replace(make_generator(None), flair_order_share=1.0).case(np.random.default_rng(5), "MS")
    assert case.lesions.sum() > 500
    return Sample(case.network_input(), case.lesions, -1)


@pytest.fixture(scope="module")
def filled(scan: Sample) -> Sample:
    return without_lesions(scan, np.random.default_rng(0))


@pytest.fixture(scope="module")
def anatomy(filled: Sample) -> Anatomy:
    return anatomy_of(filled)


@pytest.mark.slow
def test_own_lesions_are_filled_with_white_matter_and_all_else_stays(scan: Sample, filled: Sample) -> None:
    white = local_white(signal(scan), brain_of(scan) & ~scan.lesions)
    assert (signal(scan) / white)[scan.lesions].mean() > 1.2
    assert (signal(filled) / white)[scan.lesions].mean() == pytest.approx(1.0, abs=0.08)
    assert not filled.lesions.any()
    far = brain_of(scan) & ~ndimage.binary_dilation(scan.lesions, iterations=6)
    # but for the brain's mode, by which both are normalised
    ratio = signal(filled)[far] / np.maximum(signal(scan)[far], 0.05)
    assert np.ptp(np.percentile(ratio, [5, 95])) < 0.02


@pytest.mark.slow
def test_tissues_are_the_templates_with_the_scans_own_fluid(filled: Sample, anatomy: Anatomy) -> None:
    ventricle = anatomy.labels == Tissue.VENTRICLE
    ml = ventricle.sum() * 1.2**3 / 1000
    assert 5 < ml < 60
    assert signal(filled)[ventricle & brain_of(filled)].mean() < 0.6
    white = anatomy.labels == Tissue.WHITE
    assert signal(filled)[white].mean() == pytest.approx(1.0, abs=0.15)
    assert anatomy.ventricle_mm[ventricle].max() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("label", "target"), [("MS", 0), ("NMOSD", 1)])
def test_painted_lesions_are_as_bright_as_real_ones(
    filled: Sample, anatomy: Anatomy, label: str, target: int
) -> None:
    case = paint_class(filled, anatomy, label, np.random.default_rng(3))  # type: ignore[arg-type]
    assert case.target == target
    assert case.lesions.sum() > 200
    white = local_white(signal(case), brain_of(case) & ~case.lesions)
    assert 1.2 < (signal(case) / white)[case.lesions].mean() < 1.6


@pytest.mark.slow
def test_classes_take_turns_and_a_seed_gives_the_same(scan: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, Anatomy] = {}

    def found_once(filled: Sample) -> Anatomy:
        key = filled.image.tobytes()
        if key not in known:
            known[key] = anatomy_of(filled)
        return known[key]

    monkeypatch.setattr("pipelines.training.synthetic.painted.anatomy_of", found_once)
    one, two = (list(itertools.islice(painted_cases(scan, 4), 3)) for _ in range(2))
    assert [case.target for case in one] == [0, 1, 0]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0].image, one[2].image)


@pytest.mark.slow
def test_data_set_is_painted_into(tmp_path: Path) -> None:
    phantom_data(tmp_path / "in", 2)
    with pytest.raises(DataSetError, match="has no real cases with lesion masks; draw them with"):
        painted_phantoms(tmp_path / "out", 2, 0, tmp_path / "in")
    index = tmp_path / "in" / "index.csv"
    index.write_text(index.read_text().replace("synthetic", "pseudo-labelled"))
    lines: list[str] = []
    painted_phantoms(tmp_path / "out", 3, 0, tmp_path / "in", lines.append)
    entries = read_index(tmp_path / "out")
    assert [(e.case, e.patient, e.label, e.origin) for e in entries] == [
        ("phantom0000-painted000", "phantom0000", "MS", "synthetic"),
        ("phantom0000-painted001", "phantom0000", "NMOSD", "synthetic"),
        ("phantom0001-painted000", "phantom0001", "NMOSD", "synthetic"),
    ]
    assert len(lines) == 3
    with (tmp_path / "out" / "index.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
