"""Objects of findings that are not typical of demyelination."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forbidden_words import forbidden_in
from pydicom import dcmread
from result_factories import CONTEXT, Case, own_texts, sentences, tool

from dicom_node.results.dissemination import dissemination_sentences
from dicom_node.results.findings_record import FindingsRecord
from dicom_node.results.plausibility import NOT_TYPICAL, outlined_sentence, signs_sentence
from dicom_node.results.wording import headline
from pipelines.types import Anatomy, Findings, NotTypical

SIGN = NotTypical("one-sided fluid", "fluid without a counterpart on the other side", 8.84, "mL", 3.0)
FLAGGED: dict[str, Any] = {
    "hypotheses": (),
    "not_typical": (SIGN,),
    "anatomy": Anatomy(not_available="the findings are not typical of demyelination"),
}
NEVER = (
    "criteria",
    "spinal cord",
    "From 50 years",
    "Regions are",
    "lesions",
    "MS versus",
    "dissemination in space",
    "supports",
    "percentile",
    "brain regions",
    "MOGAD",
)


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the objects of flagged findings."""
    return Case.make(tmp_path_factory.mktemp("flagged"), findings=FLAGGED)


FALSE_FINDING = "Error - Missing attribute for Type 2C Conditional - Element=<Laterality>"
"""Of dciodvfy, on every Secondary Capture."""


def _said(case: Case, role: str) -> list[str]:
    """Return the sentences of a report, without names of the observer and of groups."""
    return [text for text in sentences(case.read(role)) if text.endswith(".")]


def test_first_line_of_each_report_is_plain(flagged: Case) -> None:
    assert NOT_TYPICAL == (
        "Not typical of demyelination. Not assessed here: tumour, infarct, haemorrhage, surgery."
    )
    assert _said(flagged, "text-sr")[0].startswith(NOT_TYPICAL)
    assert _said(flagged, "sr")[0] == NOT_TYPICAL


@pytest.mark.parametrize("role", ["text-sr", "sr"])
def test_flagged_findings_have_their_volume_and_reasons_and_nothing_that_names_a_disease(
    flagged: Case, role: str
) -> None:
    said = " ".join(_said(flagged, role))
    assert "Outlined, whatever it is: " in said
    assert "fluid without a counterpart on the other side, 8.8 mL (limit 3.0 mL)" in said
    assert not [words for words in NEVER if words in said]


def test_what_was_outlined_is_no_lesion_of_demyelination_and_is_not_counted(flagged: Case) -> None:
    said = " ".join(sentences(flagged.read("text-sr")))
    assert "Component 1: " in said
    assert "Lesion 1" not in said
    measured = flagged.read("sr")
    assert "Component 1" in str(measured)
    assert "{lesions}" not in str(measured)


def test_flagged_objects_are_clean(flagged: Case) -> None:
    assert {item.role for item in flagged.objects} >= {"seg", "sr", "text-sr", "outline"}
    for item in flagged.objects:
        done = tool("dciodvfy", flagged.out / item.path)
        said = (done.stdout + done.stderr).splitlines()
        errors = [line for line in said if line.startswith("Error") and not line.startswith(FALSE_FINDING)]
        assert errors == [], item.role
        assert forbidden_in(own_texts(dcmread(flagged.out / item.path))) == []


def test_signs_are_kept_in_the_record(tmp_path: Path) -> None:
    found = Findings("findings", not_typical=(SIGN,))
    FindingsRecord.of(found, CONTEXT, ()).write(tmp_path)
    record = FindingsRecord.read(tmp_path)
    assert record is not None
    assert record.findings().not_typical == (SIGN,)


def test_nothing_outlined_is_said_without_reassurance() -> None:
    found = Findings("findings", not_typical=(SIGN,))
    assert headline(found) == NOT_TYPICAL
    assert outlined_sentence(found) == "Nothing was outlined."


def test_findings_without_signs_say_nothing_of_it() -> None:
    found = Findings("findings")
    assert outlined_sentence(found) == signs_sentence(found) == ""
    assert "typical of demyelination" not in headline(found)


def test_no_site_is_counted_where_regions_are_withheld() -> None:
    found = replace(Findings("findings"), not_typical=(SIGN,), anatomy=FLAGGED["anatomy"])
    assert dissemination_sentences(found, None, 60.0) == ["The optic nerves were not examined."]
