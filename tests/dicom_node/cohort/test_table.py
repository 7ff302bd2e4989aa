"""Files of cohorts: what may stand in them, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from cohort_factories import DIGEST, row, rows

from dicom_node.cohort.table import BY_HAND, COLUMNS, pipeline_digest, read_cohort, write_cohort
from dicom_node.errors import CohortError

HEAD = ",".join(COLUMNS)
GOOD = f"40,F,5.0,9,{DIGEST},MS,Hospital"


def test_file_that_was_written_is_read_and_never_written_over(tmp_path: Path) -> None:
    path, given = tmp_path / "own.csv", rows(3)
    write_cohort(reversed(given), path)
    found = read_cohort(str(path))
    assert found is not None and list(found.rows) == given
    with pytest.raises(CohortError, match="is there already"):
        write_cohort(given, path)


def test_example_is_29_patients_outlined_by_hand_with_source_and_licence() -> None:
    found = read_cohort("open-ms")
    assert found is not None and found.group == "MS" and len(found.rows) == 29
    assert {(one.pipeline, one.source) for one in found.rows} == {(BY_HAND, "Ljubljana")}
    assert sum(one.sex == "F" for one in found.rows) == 22
    text = Path("dicom_node/cohort/open_ms.csv").read_text(encoding="utf-8")
    assert "CC-BY" in text and "10.1007/s12021-017-9348-7" in text and "patient0" not in text


def test_nothing_is_read_where_no_file_is_named() -> None:
    assert read_cohort("") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,sex\n40,F\n", "the columns must be age,sex,volume_ml"),
        (f"{HEAD}\n", "not no row"),
        (f"# a source\n{HEAD}\n{GOOD}\n{GOOD[:-9]}\n", "line 4: 6 columns, not 7"),
        (
            f"{HEAD}\n{GOOD.replace('40', 'forty', 1)}\n",
            "line 2: age = 'forty': a whole number from 0 to 120",
        ),
        (f"{HEAD}\n{GOOD.replace('40', '40.5', 1)}\n", "a whole number"),
        (f"{HEAD}\n{GOOD.replace('F', 'female', 1)}\n", "sex = 'female': F or M"),
        (f"{HEAD}\n{GOOD.replace('5.0', '-1')}\n", "volume_ml = '-1': a number from 0 to 2000"),
        (f"{HEAD}\n{GOOD.replace('5.0', 'nan')}\n", "volume_ml = 'nan'"),
        (
            f"{HEAD}\n{GOOD.replace(DIGEST, 'v2')}\n",
            "pipeline = 'v2': 16 hex digits, or \"outlined by hand\"",
        ),
        (f"{HEAD}\n{GOOD.replace('Hospital', '')}\n", "source = '': 1 to 64 letters"),
        (f"{HEAD}\n{GOOD}\n{GOOD.replace('MS', 'healthy')}\n", "one group in one file, not MS and healthy"),
    ],
)
def test_mistake_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CohortError) as caught:
        read_cohort(str(path))
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"nowhere\.csv: can't be read: No such file"):
        read_cohort(str(tmp_path / "nowhere.csv"))


def test_digest_changes_with_pipeline_weights_and_settings_alone() -> None:
    first = pipeline_digest("flair", "ab", {"threshold": 0.5, "flips": True})
    assert first == pipeline_digest("flair", "ab", {"flips": True, "threshold": 0.5})
    others = [("fatsat", "ab", {}), ("flair", "ac", {}), ("flair", "ab", {"threshold": 0.4})]
    assert len({first, *(pipeline_digest(*other) for other in others)}) == 4


def test_name_that_breaks_a_line_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="source"):
        write_cohort([row(source="Hospital\nX")], tmp_path / "own.csv")
    assert not list(tmp_path.iterdir())
