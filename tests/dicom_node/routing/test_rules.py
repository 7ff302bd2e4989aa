"""The form of a rule: what is read, and what a wrong one is told."""

from __future__ import annotations

import pytest

from dicom_node.errors import RoutingError
from dicom_node.routing.rules import built_in_rules, parse_rules, rules_from_toml, word_pattern, word_text

GOOD = {"name": "mine", "pipeline": "flair", "all": {"EchoTime": {"min": 70}}}


def fault_of(**changes: object) -> str:
    with pytest.raises(RoutingError) as caught:
        parse_rules([{**GOOD, **changes}])
    return str(caught.value)


def test_built_in_rules_serve_both_pipelines():
    rules = built_in_rules()
    assert [rule.name for rule in rules] == ["flair-by-physics", "flair-by-name", "orbit-t2-fatsat"]
    assert {rule.pipeline for rule in rules} == {"flair", "fatsat"}


def test_rules_are_read_from_toml_tables():
    (rule,) = rules_from_toml(
        '[[route]]\nname = "a"\npipeline = "flair"\n[route.all]\nEchoTime = { min = 70, missing = "pass" }\n'
        '[route.any.name]\nNames = { words = "flair" }\n'
    )
    assert rule.all["EchoTime"].missing == "pass"
    assert rule.any["name"]["Names"].words == ("flair",)


def test_unknown_key_of_rule_names_rule_key_and_what_is_allowed():
    message = fault_of(priority=1)
    assert (
        message == "[[route]] 1: rule 'mine': unknown key 'priority'; allowed: name, pipeline, all, any, none"
    )


def test_unknown_operator_names_place_and_what_is_allowed():
    message = fault_of(all={"EchoTime": {"minimum": 70}})
    assert (
        "rule 'mine': all.EchoTime: unknown key 'minimum'; allowed: min, max, has, words, matches" in message
    )


def test_unknown_operator_inside_a_group_names_the_group():
    message = fault_of(any={"name": {"Names": {"word": "x"}}})
    assert "rule 'mine': any.name.Names: unknown key 'word'" in message


def test_misspelt_dicom_keyword_is_refused_with_the_nearest():
    message = fault_of(all={"EchoTiem": {"min": 70}})
    assert (
        "rule 'mine': all.EchoTiem: not a key; did you mean EchoTime? allowed: Names, Plane, FieldOfView"
        in message
    )


def test_bad_regular_expression_is_refused():
    message = fault_of(all={"SeriesDescription": {"matches": "flair("}})
    assert "rule 'mine': all.SeriesDescription.matches: not a regular expression" in message


def test_condition_that_says_nothing_is_refused():
    assert "all.EchoTime: says nothing; give at least one of min, max" in fault_of(all={"EchoTime": {}})


def test_number_instead_of_a_table_is_refused():
    assert "all.EchoTime = 70: allowed: a table such as { min = 70 }" in fault_of(all={"EchoTime": 70})


def test_text_for_a_number_is_refused():
    assert "all.EchoTime.min" in fault_of(all={"EchoTime": {"min": "seventy"}})


def test_empty_range_is_refused():
    assert "min 80 is above max 70" in fault_of(all={"EchoTime": {"min": 80, "max": 70}})


def test_rule_that_would_take_every_series_is_refused():
    assert "it would take every series" in fault_of(all={})


def test_missing_accepts_two_words_only():
    assert "all.EchoTime.missing = 'ok': allowed: 'fail' or 'pass'" in fault_of(
        all={"EchoTime": {"min": 1, "missing": "ok"}}
    )


def test_unknown_plane_is_refused():
    message = fault_of(all={"Plane": {"has": "transverse"}})
    assert "all.Plane: allowed: has with axial, coronal, sagittal, and within_deg" in message


def test_within_deg_belongs_to_plane():
    assert "within_deg is for Plane only" in fault_of(all={"EchoTime": {"min": 1, "within_deg": 5}})


@pytest.mark.parametrize("pipeline", [3, "", "a b", "../x"])
def test_pipeline_must_be_a_plain_name(pipeline: object):
    assert "rule 'mine': pipeline = " in fault_of(pipeline=pipeline)


def test_missing_pipeline_is_named():
    with pytest.raises(RoutingError, match="rule 'x': pipeline is missing"):
        parse_rules([{"name": "x", "all": {"EchoTime": {"min": 1}}}])


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(RoutingError, match="the name 'mine' is used twice"):
        parse_rules([GOOD, GOOD])


def test_rule_that_is_no_table_is_refused():
    with pytest.raises(RoutingError, match="rule without a name"):
        parse_rules(["flair"])  # type: ignore[list-item]


def test_file_with_other_tables_is_refused():
    with pytest.raises(RoutingError, match=r"mine.toml: holds node; allowed: \[\[route\]\] tables"):
        rules_from_toml("[node]\nport = 1\n", "mine.toml")


def test_file_that_is_no_toml_is_refused():
    with pytest.raises(RoutingError, match="not valid TOML"):
        rules_from_toml("[[route", "mine.toml")


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("fs", "t2_tse_fs_cor", True),
        ("fs", "COR T2FS", True),
        ("fs", "FS", True),
        ("fs", "offset", False),
        ("fs", "COR FSE", False),
        ("fs", "tfs", False),
        ("fat sat", "T2 FatSat", True),
        ("fat sat", "t2_fat-sat_cor", True),
        ("t1", "T1FLAIR", True),
        ("t1", "T12 level", False),
        ("t1", "st1", False),
        ("*flair*", "T2FLAIRfs", True),
        ("diff*", "ep2d_diffusion", True),
        ("dir", "3D_DIR", True),
        ("dir", "direct", False),
        ("w/o fs", "cor T2 w/o FS", True),
        ("dixon w", "dixon_W", True),
        ("dixon w", "dixon weit", False),
        ("*spine", "t2_WholeSpine_sag", True),
    ],
)
def test_words_are_whole_words(phrase: str, text: str, found: bool):
    assert bool(word_pattern((phrase,)).search(word_text(text))) is found
