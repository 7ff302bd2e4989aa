"""Fit of the weights of the evidence, on cores whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.change.evidence import Evidence, Regression
from pipelines.errors import DataSetError
from pipelines.training.change.fitting import USED, Case, cases_of_pair, fit, fitted
from pipelines.training.change.pairs import TrueChange
from tests.pipelines.change.heads import examination

KNOWN = Regression(-4.0, (2.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0))


def made_up(count: int) -> list[Case]:
    """Return cases whose truth is drawn from a known regression."""
    rng = np.random.default_rng(5)
    cases = []
    for number in range(count):
        signal, volume = np.exp(rng.normal(1, 0.7)), np.exp(rng.normal(3.5, 1))
        excess, rise = rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.9)
        evidence = Evidence(volume, 0.1, signal, 0.5, 20.0, 50.0, 0.0, excess, rise, 0.0)
        is_true = bool(rng.random() < KNOWN.likelihood(evidence))
        cases.append(Case(f"head {number % 10}", evidence, True, is_true))
    return cases


def test_fit_recovers_a_known_regression() -> None:
    result = fit(made_up(6000), USED["APART"])
    assert result.regression.intercept == pytest.approx(KNOWN.intercept, abs=0.5)
    assert result.regression.weights == pytest.approx(KNOWN.weights, abs=0.4)
    assert result.true + result.other == 6000
    assert result.true_sure > 2 * result.other_sure


def test_fit_of_one_head_is_refused() -> None:
    cases = [Case("head 1", case.evidence, True, case.is_true) for case in made_up(40)]
    with pytest.raises(DataSetError, match="several patients"):
        fit(cases, USED["APART"])


def test_folder_that_lacks_what_the_fit_needs_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no label maps in head_labels/"):
        fitted(tmp_path, pytest.fail, pytest.fail)
    (tmp_path / "head_labels").mkdir()
    (tmp_path / "head_labels" / "head01.nii.gz").touch()
    with pytest.raises(DataSetError, match="no FLAIR scans"):
        fitted(tmp_path, pytest.fail, pytest.fail)


def test_core_at_a_lesion_that_has_come_is_true_and_any_other_is_not() -> None:
    prior, current = examination([]), examination([(16.0, -14.0, 4.0, 4.0)], seed=1)
    nothing = np.zeros(current.labels.shape, np.int32)
    changes = (TrueChange("new", 268.0, 0.0),)
    (case,) = cases_of_pair(current, prior, (current.labels, nothing), changes, "head 1")
    assert (case.is_true, case.is_new, case.regression) == (True, True, "APART")
    (case,) = cases_of_pair(current, prior, (nothing, nothing), (), "a copy")
    assert not case.is_true
    assert list(cases_of_pair(prior, current, (nothing, current.labels), changes, "turned back")) == []
