"""Fixtures of the fault campaign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series

from dicom_node.results import picture_grid
from tests.integration.faults.fake import LEAST_SIDE_PX
from tests.integration.faults.inside import InsideNode
from tests.integration.faults.pacs import Pacs

Start = Callable[..., InsideNode]
Make = Callable[..., list[Path]]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pictures as small as their slices, in this process."""
    monkeypatch.setattr(picture_grid, "LEAST_SIDE_PX", LEAST_SIDE_PX)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a node with these destinations, which listen unless they are told not to."""
    nodes: list[InsideNode] = []
    listeners: list[Pacs] = []

    def make(*archives: Pacs, listening: bool = True, **tables: Any) -> InsideNode:
        listeners.extend(archives)
        for pacs in archives:
            if listening:
                pacs.start()
        nodes.append(InsideNode(tmp_path, monkeypatch, *archives, **tables))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()
    for pacs in listeners:
        pacs.stop()


@pytest.fixture
def make_series(tmp_path: Path) -> Make:
    """Write a small axial FLAIR series that the built-in rules want."""
    made = iter(range(1000))

    def make(**tags: Any) -> list[Path]:
        number = next(made)
        defaults = {"shape": (12, 16, 16), "EchoTime": 90.0, "RepetitionTime": 9000.0, "seed": number}
        return mr_series(tmp_path / f"sent-{number}", **{**defaults, **tags})

    return make


@pytest.fixture
def files(make_series: Make) -> list[Path]:
    return make_series()


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often to do what chance decides."""
    return 50 if request.config.getoption("--long") else 6
