"""The list of a study's series reads in one order, by number and by description, and names no disease."""

from __future__ import annotations

import re
from dataclasses import replace

from result_factories import CONTEXT

from dicom_node.results.series_list import PLACES, STUDY, ListedSeries, listed_series

FATSAT = replace(CONTEXT, pipeline="fatsat", title="FAT-SAT optic nerves")


def study() -> list[ListedSeries]:
    listed = [listed_series(CONTEXT, role) for role in STUDY]
    return [*listed, *(listed_series(context, role) for context in (CONTEXT, FATSAT) for role in PLACES)]


def test_numbers_are_those_of_the_conformance_statement() -> None:
    flair = {role: listed_series(CONTEXT, role).number for role in PLACES}
    assert flair == {
        "outline": 9011,
        "seg": 9012,
        "sr": 9013,
        "sr-enhanced": 9013,
        "text-sr": 9014,
        "heatmap": 9015,
        "change-seg": 9016,
        "change-picture": 9017,
        "change-sr": 9018,
        "change-sr-enhanced": 9018,
        "change-text": 9019,
    }
    assert listed_series(FATSAT, "outline").number == 9021
    assert listed_series(CONTEXT, "summary") == ListedSeries(9000, "RESEARCH 1 study summary")
    assert listed_series(replace(CONTEXT, series_number_base=500), "heatmap").number == 515


def test_numbers_and_descriptions_sort_alike() -> None:
    by_number = sorted(study(), key=lambda item: item.number)
    texts = [item.description for item in by_number]
    assert texts == sorted(texts) == sorted(texts, key=str.lower)


def test_no_description_names_a_disease_and_all_say_research() -> None:
    for item in study():
        assert item.description.startswith("RESEARCH ")
        assert len(item.description) <= 64
        assert not re.search(r"\b(MS|NMOSD|sclerosis|neuromyelitis)\b", item.description, re.IGNORECASE)


def test_at_most_thirteen_series_by_default() -> None:
    asked_for = {9003, *range(9016, 9020), *range(9026, 9030)}  # the PDF, and comparisons
    by_default = {item.number for item in study()} - asked_for
    assert len(by_default) == 13


def test_pipeline_of_ones_own_comes_behind_the_others() -> None:
    own = listed_series(replace(CONTEXT, pipeline="spine", title="Spine"), "seg")
    assert own == ListedSeries(9032, "RESEARCH 32 lesion mask: Spine")
