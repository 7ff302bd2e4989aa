"""Which of the earlier studies is compared with, and how few are asked for until that is decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.priors.catalogue import Choice
from dicom_node.priors.choose import candidates, with_unlikeness
from dicom_node.priors.examination import Examination
from dicom_node.priors.find import SeriesFound
from dicom_node.priors.preference import asked_in_turn, choice_in_words, choose_prior, is_good
from dicom_node.priors.prior import Prior
from dicom_node.series.identity import Identity
from pipelines.comparability import Acquisition
from pipelines.comparison import Comparability, Grade

NOW = date(2026, 3, 1)
JANE = Identity(patient_id="p", issuer="i", birth_date="b", name="n", sex="f")
KIND = Acquisition({"MagneticFieldStrength": 3.0, "MRAcquisitionType": "2D"}, "axial", 3.0)
PRESENT = Examination("j", "flair", "1.1", "1.1.1", JANE, NOW, frozenset(), "t2_flair_tra", 48, KIND)


def prior(days: int, grade: Grade, *reasons: str) -> Prior:
    uid = f"1.2.{days}"
    comparability = Comparability(grade, reasons)
    day = NOW - timedelta(days)
    return Prior(f"{uid}.1", uid, Path(uid), (), day, days, frozenset(), comparability)


def series(uid: str, description: str = "flair", **values: object) -> SeriesFound:
    return with_unlikeness(SeriesFound("1.9", uid, "MR", description, "", "", 48, values), PRESENT)


def choice(days: int, **values: object) -> Choice:
    found = series(f"1.2.{days}.1", **values)
    return Choice(f"1.2.{days}", NOW - timedelta(days), "", (found,))


UNLIKE: dict[str, object] = {"MagneticFieldStrength": 1.5}


class Archive:
    """Has the priors of some studies, and notes for which it is asked."""

    def __init__(self, has: Iterable[Prior]) -> None:
        self.has = {one.days: one for one in has}
        self.asked: list[int] = []

    def obtain(self, choice: Choice) -> Prior | None:
        days = (NOW - choice.day).days
        self.asked.append(days)
        return self.has.get(days)


@pytest.mark.parametrize(
    ("own", "days"),
    [
        ([prior(100, "C"), prior(200, "B"), prior(300, "A")], 200),
        ([prior(100, "C"), prior(200, "C")], 100),
        ([prior(100, "C"), prior(1095, "B")], 1095),
        ([prior(100, "C"), prior(1096, "B")], 100),
        ([prior(1200, "A")], 1200),
    ],
)
def test_newest_of_grade_a_or_b_within_three_years_is_chosen_else_the_newest(
    own: list[Prior], days: int
) -> None:
    chosen = choose_prior(own, PRESENT)
    assert chosen is not None and chosen.days == days
    assert choose_prior([], PRESENT) is None


def test_archive_is_asked_until_a_prior_is_good_and_last_for_what_it_says_is_of_another_kind() -> None:
    archive = Archive([prior(100, "C"), prior(200, "C"), prior(300, "A"), prior(400, "A")])
    options = [choice(100, **UNLIKE), choice(200), choice(300), choice(400)]
    chosen = choose_prior(options, PRESENT, 4, archive.obtain)
    assert chosen is not None and (chosen.days, archive.asked) == (300, [200, 300])
    assert [(NOW - one.day).days for one in asked_in_turn(options, PRESENT, 2)] == [200, 300]


def test_own_prior_that_is_good_spares_older_studies_of_the_archive_and_waits_for_newer_ones() -> None:
    archive = Archive([prior(100, "B")])
    options = [prior(200, "A"), choice(300)]
    assert choose_prior(options, PRESENT, 2, archive.obtain) == options[0]
    assert archive.asked == [] and asked_in_turn(options, PRESENT, 2) == []
    chosen = choose_prior([*options, choice(100)], PRESENT, 2, archive.obtain)
    assert chosen is not None and (chosen.days, archive.asked) == (100, [100])


def test_newest_is_asked_for_though_of_another_kind_where_no_other_is_good() -> None:
    archive = Archive([prior(100, "C"), prior(200, "C"), prior(300, "C")])
    options = [choice(100, **UNLIKE), choice(200), choice(300)]
    chosen = choose_prior(options, PRESENT, 1, archive.obtain)
    assert chosen is not None and (chosen.days, archive.asked) == (100, [200, 100])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(28, 1800), st.sampled_from("ABC"), st.booleans()), unique_by=lambda x: x[0]
    ),
    st.integers(1, 4),
)
def test_no_study_is_asked_for_twice_and_no_better_one_is_passed_over(
    found: list[tuple[int, Grade, bool]], most: int
) -> None:
    archive = Archive(prior(days, grade) for days, grade, _ in found)
    own = [prior(days, grade) for days, grade, is_here in found if is_here]
    chosen = choose_prior(
        [*own, *(choice(days) for days, _, is_here in found if not is_here)], PRESENT, most, archive.obtain
    )
    assert (chosen is None) == (not found)
    assert len(set(archive.asked)) == len(archive.asked) <= most + 1
    had = [*own, *(archive.has[days] for days in archive.asked)]
    assert chosen == choose_prior(had, PRESENT)


def test_reason_of_the_choice_names_what_else_there_was() -> None:
    newest = prior(100, "C", "the plane differs")
    chosen = prior(200, "B", "the echo time differs")
    assert is_good(chosen) and choice_in_words(chosen, [prior(300, "A"), newest]) == (
        "chosen: the study of 2025-08-13, grade B (the echo time differs): the newest of grade A or B within 3 years; "
        "also here: 2025-11-21 (C), 2025-05-05 (A)"
    )
    assert choice_in_words(newest, []) == (
        "chosen: the study of 2025-11-21, grade C (the plane differs): the newest: none within 3 years is of grade A or B"
    )


def test_series_of_the_same_kind_comes_before_one_of_the_same_name() -> None:
    found = [series("1", "t2_flair_tra", **UNLIKE), series("2", "flair 3d"), series("3", "t2_flair_tra")]
    assert [one.series_uid for one in candidates(found, PRESENT)] == ["3", "2"]
    assert found[0].unlike == ("the field strength differs",)
    assert series("4", ImageOrientationPatient=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0]).unlike == (
        "the plane differs",
    )
