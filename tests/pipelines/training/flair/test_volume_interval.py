"""The interval of the volume is fitted on cases that the networks have not learnt from, and goes on their card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.flair.segmenter import MaskAnswer
from pipelines.flair.volume_calibration import VolumeCalibration
from pipelines.training.data_sets.cases import Entry
from pipelines.training.data_sets.sample import Sample
from pipelines.training.flair import volume_interval as volume_fit
from pipelines.training.flair.volume_interval import calibrate_volume
from pipelines.types import FloatArray
from pipelines.weights import FOLDER, card, card_details

SHAPE = (40, 40, 40)


class Ensemble:
    """Draws the voxels that shine at 2, and sees those at 1."""

    def __init__(self, device: str, folder: Path) -> None:
        self.cards = (card("nnunet", folder), card("nnunet-thick", folder))

    def __call__(self, cube: FloatArray, *, members: int | None, flips: bool) -> MaskAnswer:
        assert (members, flips) == (2, True)
        probability = np.select([cube > 1.5, cube > 0.5], [0.9, 0.2], 0.0).astype(np.float32)
        return MaskAnswer(probability, probability[None].astype(np.float16), self.cards)


class Case:
    def __init__(self, number: int) -> None:
        self.number = number

    def sample(self, label: str) -> Any:
        """As much again is seen as is drawn, and between a part and all of it is lesion in truth."""
        image, lesions = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)
        drawn = 400 + 20 * self.number
        image.reshape(-1)[:drawn] = 2.0
        image.reshape(-1)[drawn : 2 * drawn] = 1.0
        lesions.reshape(-1)[: drawn * (10 + self.number % 10) // 10] = True
        return Sample(image, lesions, -1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the cards, without the weights."""
    for name in ("nnunet", "nnunet-thick"):
        for kind in ("json", "md"):
            shutil.copy(FOLDER / f"{name}.{kind}", tmp_path / f"{name}.{kind}")
    return tmp_path


def entries(count: int, patients: int, **others: Any) -> list[Entry]:
    some = Path("some.nii.gz")
    return [
        Entry(f"case{n}", f"own{n % patients}", some, None, some, "none", origin="synthetic", **others)
        for n in range(count)
    ]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """The cases of the data set, which the test fills in."""
    cases: list[Entry] = []
    monkeypatch.setattr(volume_fit, "MaskModel", Ensemble)
    monkeypatch.setattr(volume_fit, "read_index", lambda data: cases)
    monkeypatch.setattr(volume_fit, "load_case", lambda entry: Case(int(entry.case.removeprefix("case"))))
    return cases


def test_fitted_interval_stands_on_the_card_and_nothing_else_changes(
    folder: Path, given: list[Entry]
) -> None:
    given += entries(40, 4)
    before, lines = card_details("nnunet", folder), list[str]()
    said = calibrate_volume(Path("data"), weights=folder, progress=lines.append)
    after = card_details("nnunet", folder)
    assert {**after, "volume_interval": None} == {**before, "volume_interval": None}
    found = VolumeCalibration.all_of(after)[0]
    assert (found.cases, found.origins, found.level) == (40, "synthetic", 0.8)
    assert found.digests == {name: card(name, folder).digest for name in ("nnunet", "nnunet-thick")}
    assert (found.threshold, found.flips) == (0.5, True)
    # twice as much is seen as drawn in every case, and the truth is 1.0 to 1.9 times what is drawn
    assert found.largest == pytest.approx(np.log(2.0))
    below, above = (line[0] + line[1] * found.largest for line in (found.low, found.high))
    assert np.exp([below, above]) == pytest.approx([1.05, 1.85], abs=0.06)
    assert said["cases"] == 40
    assert said["held"] == found.held >= 0.7
    assert len(lines) == 40
    assert "case0: 0.69 mL reported, 1.38 mL seen at all, 0.69 mL in truth" in lines
    text = (folder / "nnunet.md").read_text(encoding="utf-8")
    share = f"{100 * found.held:.0f}"
    assert (
        f"fitted on 40 synthetic cases: it held {share} % of the true volumes with their patient left out"
        in text
    )
    assert (folder / "nnunet-thick.json").read_bytes() == (FOLDER / "nnunet-thick.json").read_bytes()


def test_cases_that_were_learnt_from_or_have_no_truth_do_not_count(folder: Path, given: list[Entry]) -> None:
    given += entries(29, 4)
    given += [Entry("case50", "patient07", Path("a"), None, Path("b"), "none")]  # seen by nnunet-thick
    given += [Entry("case51", "own1", Path("a"), None, None, "none")]
    given += [Entry("case52", "own1", Path("a"), None, Path("b"), "none", origin="pseudo-labelled")]
    given += [Entry("case53", "own1", Path("a"), None, Path("b"), "none", ignore=Path("c"))]
    before = json.loads((folder / "nnunet.json").read_text(encoding="utf-8"))
    with pytest.raises(DataSetError, match=r"29 cases of 4 patients .* at least 30 of 3 patients are needed"):
        calibrate_volume(Path("data"), weights=folder, progress=lambda line: None)
    assert json.loads((folder / "nnunet.json").read_text(encoding="utf-8")) == before


def test_cases_of_two_patients_are_too_few(folder: Path, given: list[Entry]) -> None:
    given += entries(40, 2)
    with pytest.raises(DataSetError, match="40 cases of 2 patients"):
        calibrate_volume(Path("data"), weights=folder, progress=lambda line: None)
