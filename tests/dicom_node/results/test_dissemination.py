"""The fixed sentences on dissemination in space, word for word."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from forbidden_words import forbidden_in
from hypothesis import given, settings
from hypothesis import strategies as st
from result_factories import REAL, SYNTHETIC

import dicom_node
from dicom_node.results.dissemination import CORD, REGION_NAMES, count_sites, dissemination_sentences
from pipelines.types import Anatomy, Findings, Laterality, Region, RegionLoad, SiteFinding, SiteStatus

COUNTS = {
    "periventricular": (4, 0),
    "juxtacortical": (2, 0),
    "infratentorial": (0, 0),
    "deep_white_matter": (7, 0),
    "deep_grey_matter": (1, 0),
}


def anatomy(not_covered: tuple[Region, ...] = (), **counts: tuple[int, int]) -> Anatomy:
    """Lesions by region and how many of them are borderline, over those of `COUNTS`."""
    told = COUNTS | counts
    loads = tuple(
        RegionLoad(region, *told[region], volume_mm3=10.0 * told[region][0], long_axis_mm=5.0)
        for region in REGION_NAMES
    )
    return Anatomy(loads, not_covered)


def flair(*not_covered: Region, **counts: tuple[int, int]) -> Findings:
    return Findings("findings", anatomy=anatomy(not_covered, **counts))


def fatsat(right: SiteStatus, left: SiteStatus, model=SYNTHETIC) -> Findings:
    sides: tuple[tuple[Laterality, SiteStatus], ...] = (("right", right), ("left", left))
    sites = tuple(
        SiteFinding(side, status, probability=None if status == "not analysed" else 0.6, threshold=0.5)
        for side, status in sides
    )
    return Findings("findings", sites=sites, models=(model,))


def test_sentences_of_a_flair_and_a_fatsat_series():
    assert dissemination_sentences(flair(), fatsat("positive", "negative"), 34) == [
        "Lesions of 3 mm or more: periventricular 4, juxtacortical or cortical 2, infratentorial 0, deep white matter 7, "
        "deep grey 1.",
        "Imaging features compatible with dissemination in space: lesions in 2 of the 3 brain regions that this study shows.",
        "Optic nerves (another series of this study): right rated suspicious, left not, by a classifier that has never seen a "
        "patient. With it, 3 of 4 regions.",
        "The spinal cord was not examined. The criteria apply to typical symptoms without a better explanation; whether they "
        "are met is a clinical decision.",
    ]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"juxtacortical": (0, 0)}, "Lesions in 1 of the 3 brain regions that this study shows."),
        (
            {"juxtacortical": (0, 0), "periventricular": (0, 0)},
            "No lesion of 3 mm or more in the 3 brain regions that this study shows.",
        ),
        (
            {"juxtacortical": (2, 2)},
            "Lesions in 1 of the 3 brain regions that this study shows. Borderline lesions would add 1.",
        ),
        (
            {"juxtacortical": (0, 0), "periventricular": (1, 1)},
            "Borderline lesions alone in the 3 brain regions that this study shows. Borderline lesions would add 1.",
        ),
        (
            {"juxtacortical": (3, 2), "infratentorial": (1, 1)},
            "Imaging features compatible with dissemination in space: lesions in 2 of the 3 brain regions that this study "
            "shows. Borderline lesions would add 1.",
        ),
    ],
)
def test_sites_of_the_brain_alone_decide(counts, said):
    assert dissemination_sentences(flair(**counts), None, 34)[1] == said


def test_nerve_makes_no_dissemination():
    sentences = dissemination_sentences(flair(juxtacortical=(0, 0)), fatsat("positive", "positive"), 34)
    assert sentences[1] == "Lesions in 1 of the 3 brain regions that this study shows."
    assert sentences[2].endswith(
        "right and left rated suspicious, by a classifier that has never seen a patient. With it, 2 of 4 regions."
    )


@pytest.mark.parametrize(
    ("right", "left", "said"),
    [
        ("negative", "positive", "left rated suspicious, right not. With it, 3 of 4 regions."),
        ("negative", "negative", "right and left not rated suspicious. With them, 2 of 4 regions."),
        ("positive", "not analysed", "right rated suspicious, left not analysed. With it, 3 of 4 regions."),
        ("negative", "not analysed", "right not rated suspicious, left not analysed."),
        ("not analysed", "not analysed", "not analysed."),
    ],
)
def test_each_nerve_is_told_and_counted_only_where_it_was_seen(right, left, said):
    sentence = dissemination_sentences(flair(), fatsat(right, left, REAL), 34)[2]
    assert sentence == f"Optic nerves (another series of this study): {said}"


def test_classes_learnt_from_synthetic_data_are_said_to_be():
    model = replace(REAL, trained_on="real and synthetic", classes_trained_on="synthetic")
    assert (
        "left not, by a classifier whose ratings were learnt from synthetic data alone."
        in dissemination_sentences(flair(), fatsat("positive", "negative", model), 34)[2]
    )


def test_region_that_is_cut_off_leaves_the_denominator():
    sentences = dissemination_sentences(flair("infratentorial"), fatsat("positive", "negative"), 34)
    assert "infratentorial: not covered, deep white matter 7" in sentences[0]
    assert sentences[1].endswith("lesions in 2 of the 2 brain regions that this study shows.")
    assert sentences[2].endswith("With it, 3 of 3 regions.")


def test_only_region_shown_is_called_that():
    shown = flair("infratentorial", "juxtacortical")
    assert dissemination_sentences(shown, None, 34)[1] == (
        "Lesions in the only brain region that this study shows."
    )


@pytest.mark.parametrize("age", [50, 71.3, None])
def test_age_of_fifty_or_unknown_is_remarked(age):
    assert dissemination_sentences(flair(), None, age)[-1] == (
        "From 50 years on, white matter lesions without MS are common."
    )


def test_without_regions_nothing_is_said_of_sites():
    unknown = Findings("findings", anatomy=Anatomy(not_available="the brain is cut off."))
    assert dissemination_sentences(unknown, fatsat("positive", "negative", REAL), 34) == [
        "Regions are not available: the brain is cut off.",
        "Optic nerves (another series of this study): right rated suspicious, left not.",
        CORD,
    ]
    assert dissemination_sentences(Findings("findings"), None, 34)[0] == "Regions are not available."


@pytest.mark.parametrize("absent", [None, Findings("failed"), Findings("unsuitable")])
def test_without_flair_only_the_nerves_are_told(absent):
    assert dissemination_sentences(absent, None, None) == ["The optic nerves were not examined.", CORD]


REGION_COUNT = st.integers(0, 3).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(REGION_NAMES, REGION_COUNT)),
    st.sets(st.sampled_from([*REGION_NAMES])),
)
def test_counts_never_exceed_what_is_shown_and_no_word_is_forbidden(counts, hidden):
    findings = flair(*hidden, **counts)
    found = count_sites(findings.anatomy)
    assert 0 <= found.sites <= found.sites + found.borderline <= found.shown <= 3
    for text in dissemination_sentences(findings, fatsat("positive", "negative"), None):
        assert not forbidden_in(text)
        assert found.is_disseminated or "compatible" not in text


def test_no_text_of_the_results_has_a_forbidden_word():
    folder = Path(dicom_node.__file__).parent
    for path in [*folder.glob("results/*.py"), *folder.glob("study/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in statements:
                assert not forbidden_in(node.value), f"{path.name}, line {node.lineno}"
