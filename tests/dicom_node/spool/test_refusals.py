"""Word of workers that could not read a message, from worker to node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool.refusals import Refusal, refuse, take_refusals
from dicom_node.spool.spool import Spool

REFUSAL = Refusal(f"{'a' * 32}.run1", "gpu1:7", "0.9.0", 2, "the message is of version 1")


def test_refusal_is_taken_once(tmp_path: Path) -> None:
    folder = Spool(tmp_path).refused
    refuse(folder, REFUSAL)
    assert take_refusals(folder) == [REFUSAL]
    assert take_refusals(folder) == []
    assert list(folder.iterdir()) == []


def test_last_refusal_of_a_run_counts(tmp_path: Path) -> None:
    refuse(tmp_path, REFUSAL)
    refuse(tmp_path, replace(REFUSAL, worker="gpu2:8"))
    assert [refusal.worker for refusal in take_refusals(tmp_path)] == ["gpu2:8"]


def test_folder_is_made_where_the_node_made_none(tmp_path: Path) -> None:
    assert take_refusals(tmp_path / "refused") == []
    refuse(tmp_path / "refused", REFUSAL)
    assert (tmp_path / "refused").stat().st_mode & 0o777 == 0o700
    assert take_refusals(tmp_path / "refused") == [REFUSAL]


@pytest.mark.parametrize("name", ["../x", "a.run1", "", f"{'a' * 32}.run1/x"])
def test_name_that_is_not_of_a_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpoolError, match="not the name of a run"):
        refuse(tmp_path, replace(REFUSAL, run=name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"run": 1}',
        '{"run": "x", "worker": "w", "program": "p", "reads": 1, "reason": ""}',
        f'{{"run": "{REFUSAL.run}", "worker": "two\\nlines", "program": "p", "reads": 1, "reason": ""}}',
        f'{{"run": "{REFUSAL.run}", "worker": "w", "program": "p", "reads": "1", "reason": ""}}',
        f'{{"run": "{REFUSAL.run}", "worker": "w", "program": "p", "reads": 1, "reason": "{"x" * 1000}"}}',
    ],
)
def test_file_that_no_worker_writes_is_removed_and_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "b.json").write_text(content)
    refuse(tmp_path, REFUSAL)
    assert take_refusals(tmp_path) == [REFUSAL]
    assert list(tmp_path.iterdir()) == []
