"""A patient's place in a cohort: with whom, how sure, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cohort_factories import DIGEST, found, image, row, rows
from forbidden_words import forbidden_in
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.cohort.percentile import MATCHES, Person, matched, percentile_of, why_not_compared, wilson
from dicom_node.cohort.table import BY_HAND, Cohort, read_cohort
from dicom_node.results.percentile import percentile_sentence
from pipelines.types import Findings

PATIENTS = st.lists(st.builds(row, age=st.integers(18, 90), sex=st.sampled_from("FM")), max_size=260)


def sentence(findings: Findings, cohort: Cohort, **header: Any) -> str:
    place = percentile_of(findings, image(**header), cohort, DIGEST)
    return percentile_sentence(replace(findings, percentile=place))


def test_sentence_names_rank_interval_number_source_and_matching() -> None:
    example = read_cohort("open-ms")
    assert example is not None
    said = sentence(found(18.0), example)
    assert said == (
        "Lesion volume: higher than 62 of 100 (44 to 78) of 29 MS patients (Ljubljana, outlined by hand; not matched "
        "for age)."
    )
    assert not forbidden_in(said)


@pytest.mark.parametrize(
    ("count", "ages", "said"),
    [
        (100, 47, "100 MS patients (Hospital; of the same sex, matched for age within 5 years)"),
        (99, 47, "99 MS patients (Hospital; of the same sex, matched for age within 10 years)"),
        (50, 32, "50 MS patients (Hospital; of the same sex, matched for age within 10 years)"),
        (100, 53, "100 MS patients (Hospital; not matched for age)"),
        (20, 42, "20 MS patients (Hospital; not matched for age)"),
        (19, 42, ""),
    ],
)
def test_matching_goes_as_far_as_the_number_allows(count: int, ages: int, said: str) -> None:
    assert said in sentence(found(), Cohort(tuple(rows(count, age=ages))))
    assert bool(said) == bool(sentence(found(), Cohort(tuple(rows(count, age=ages)))))


def test_the_other_sex_is_compared_with_only_where_nothing_is_matched() -> None:
    assert "not matched" in sentence(found(), Cohort(tuple(rows(100, sex="M"))))


def test_healthy_people_are_named_as_such_and_only_where_the_file_says_so() -> None:
    assert "20 healthy people (" in sentence(found(), Cohort(tuple(rows(20, group="healthy"))))
    assert "healthy" not in sentence(found(), Cohort(tuple(rows(20, group="unselected"))))


def test_rows_of_another_pipeline_are_left_out_and_hand_outlines_come_second() -> None:
    other = rows(500, pipeline="f" * 16)
    by_hand = [replace(one, source="Elsewhere") for one in rows(30, pipeline=BY_HAND)]
    assert sentence(found(), Cohort(tuple(other))) == ""
    assert "30 MS patients (Elsewhere, outlined by hand" in sentence(found(), Cohort((*other, *by_hand)))
    assert "20 MS patients (Hospital; not" in sentence(found(), Cohort((*other, *by_hand, *rows(20))))


@pytest.mark.parametrize(
    ("findings", "header"),
    [
        (found(), {"PatientSex": "O"}),
        (found(), {"PatientSex": ""}),
        (found(), {"PatientAge": ""}),
        (found(), {"PatientAge": "017Y"}),
        (found(), {"PatientAge": "200M"}),
        (found(), {"PatientAge": "", "PatientBirthDate": "20270101", "StudyDate": "20261130"}),
        (found(interval_ml=(1.0, 30.6)), {}),
        (Findings("unsuitable", "no FLAIR"), {}),
        (replace(found(), status="none"), {}),
    ],
)
def test_nothing_is_compared_that_must_not_be(findings: Findings, header: dict[str, Any]) -> None:
    assert sentence(findings, Cohort(tuple(rows(60))), **header) == ""


def test_age_is_that_of_the_dates_where_none_is_stated() -> None:
    dates = {"PatientAge": "", "PatientBirthDate": "19850101", "StudyDate": "20261130"}
    assert "within 5 years" in sentence(found(), Cohort(tuple(rows(100, age=46))), **dates)
    assert why_not_compared(found(), Person(None, "F")) == "age or sex is not known"


def test_interval_of_the_volume_may_be_as_wide_as_the_middle_half_of_the_cohort() -> None:
    assert sentence(found(interval_ml=(1.0, 30.0)), Cohort(tuple(rows(60))))


@given(rows=PATIENTS, age=st.integers(18, 95), sex=st.sampled_from("FM"))
@settings(max_examples=60)
def test_match_holds_enough_patients_and_everyone_who_is_near_enough(rows, age, sex) -> None:
    near = {
        years: [
            one for one in rows if years is None or (one.sex == sex and abs(one.age - min(age, 90)) <= years)
        ]
        for years, _ in MATCHES
    }
    expected = next(((years, near[years]) for years, fewest in MATCHES if len(near[years]) >= fewest), None)
    assert matched(rows, age + 0.9, sex) == expected


@given(trials=st.integers(1, 3000), data=st.data())
@settings(max_examples=80)
def test_wilson_holds_the_share_mirrors_and_narrows(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    narrower = wilson(4 * successes, 4 * trials)
    assert narrower[1] - narrower[0] < high - low


def test_wilson_gives_the_published_values() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, Table I
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
