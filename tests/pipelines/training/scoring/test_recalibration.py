"""How many cases a calibration needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.errors import DataSetError
from pipelines.training.scoring import recalibration


def test_fewer_than_four_cases_of_a_class_calibrate_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [SimpleNamespace(label=label) for label in 4 * ["MS"] + 3 * ["NMOSD"]]
    monkeypatch.setattr(recalibration, "card_details", lambda *_: {})
    monkeypatch.setattr(recalibration, "temperature_of", lambda _: (1.0, False))
    monkeypatch.setattr(recalibration, "_answers", lambda *_: said)
    scorer: Any = SimpleNamespace(weights=("a network",))
    with pytest.raises(
        DataSetError, match=r"has 3 cases of a class .* at least 4 of MS and of NMOSD are needed"
    ):
        recalibration.recalibrate(
            "a network", lambda *_: scorer, tmp_path, read="", weights=tmp_path, report=str, device="cpu"
        )
