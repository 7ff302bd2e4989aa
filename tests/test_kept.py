"""What takes long to make is made once, and anew when what made it has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import kept as module
from tests.kept import kept


def numbers(folder: Path, count: int) -> list[int]:
    """Note that it was called, and return something."""
    with (folder / "calls").open("a") as calls:
        calls.write("called\n")
    return list(range(count))


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "FOLDER", tmp_path / "kept")
    return tmp_path


def test_thing_is_made_once_for_the_same_arguments(folder: Path) -> None:
    first = kept(numbers, folder, 3)
    first.append(99)
    assert kept(numbers, folder, 3) == [0, 1, 2]
    assert calls(folder) == 1
    assert kept(numbers, folder, count=2) == [0, 1]
    assert calls(folder) == 2


def test_thing_is_made_anew_when_the_sources_have_changed_and_the_old_one_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(numbers, folder, 3)
    monkeypatch.setattr(module, "sources_digest", lambda: "changed")
    kept(numbers, folder, 3)
    assert calls(folder) == 2
    assert len([path for path in module.FOLDER.iterdir() if path.suffix != ".lock"]) == 1


def test_those_that_ask_at_once_wait_for_the_first(folder: Path) -> None:
    with ThreadPoolExecutor(
        4
    ) as askers:  # the lock is of an open file: threads that open their own are as processes
        found = list(askers.map(lambda _: kept(numbers, folder, 5), range(4)))
    assert found == [[0, 1, 2, 3, 4]] * 4
    assert calls(folder) == 1


def test_thing_that_could_not_be_made_is_not_kept(folder: Path) -> None:
    with pytest.raises(TypeError):
        kept(numbers, folder, "three")  # type: ignore[arg-type]
    assert kept(numbers, folder, 3) == [0, 1, 2]
