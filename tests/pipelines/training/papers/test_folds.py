from dataclasses import dataclass

import pytest

from pipelines.errors import DataSetError
from pipelines.training.papers.folds import by_patient, draws, folds_of, leave_one_patient_out


@dataclass(frozen=True)
class Scan:
    case: str
    patient: str
    label: str


def scans(ms: int, nmosd: int, follow_up: int = 0) -> list[Scan]:
    found = [Scan(f"m{n}", f"pm{n}", "MS") for n in range(ms)]
    found += [Scan(f"n{n}", f"pn{n}", "NMOSD") for n in range(nmosd)]
    return found + [Scan(f"m{n}b", f"pm{n}", "MS") for n in range(follow_up)]


def test_no_patient_is_on_both_sides_and_every_case_is_tested_once() -> None:
    entries = scans(10, 10, follow_up=5)
    folds = by_patient(entries, 5)
    tested = [case for fold in folds for case in fold.test]
    assert sorted(tested) == sorted(entry.case for entry in entries)
    for fold in folds:
        assert {e.patient for e in entries if e.case in fold.test} == set(fold.held_out)
        rest = [e for e in entries if e.case not in fold.test]
        assert not {e.patient for e in rest} & set(fold.held_out)


def test_folds_hold_both_classes_where_they_can() -> None:
    for fold in by_patient(scans(10, 10), 5):
        assert sum(case.startswith("m") for case in fold.test) == 2
        assert sum(case.startswith("n") for case in fold.test) == 2


def test_rare_class_does_not_stop_the_folds() -> None:
    assert len(by_patient(scans(6, 1), 3)) == 3


def test_same_seed_gives_the_same_folds() -> None:
    assert by_patient(scans(8, 8), 4, 3) == by_patient(scans(8, 8), 4, 3)
    assert by_patient(scans(8, 8), 4, 3) != by_patient(scans(8, 8), 4, 4)


def test_patients_are_left_out_one_by_one() -> None:
    folds = leave_one_patient_out(scans(2, 1, follow_up=1))
    assert [fold.test for fold in folds] == [("m0", "m0b"), ("m1",), ("n0",)]


def test_draws_take_both_classes_from_patients_without_follow_up() -> None:
    drawn = draws(scans(24, 20, follow_up=4))
    assert len(drawn) == 100
    assert len({fold.digest for fold in drawn}) > 90
    for fold in drawn:
        assert sum(case.startswith("m") for case in fold.test) == 15
        assert len(set(fold.test)) == 30
        assert not {"m0", "m1", "m2", "m3"} & set(fold.test)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("7", "7 folds need 7 patients or more and the data set has 5"),
        ("1", "1 folds leave nothing to learn from"),
        ("random", "no folds 'random'; give a number of folds, 'patients' or 'draws'"),
        ("draws", "draws 15 MS patients without follow-up, and the data set has 3"),
    ],
)
def test_wrong_folds_give_one_clear_line(wanted: str, message: str) -> None:
    with pytest.raises(DataSetError, match=message) as caught:
        folds_of(scans(3, 2), wanted)
    assert "\n" not in str(caught.value)


def test_one_patient_cannot_be_left_out() -> None:
    with pytest.raises(DataSetError, match="needs two patients or more"):
        folds_of(scans(1, 0, follow_up=1), "patients")
