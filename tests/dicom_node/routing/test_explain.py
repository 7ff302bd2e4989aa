"""What ``dicom-node route`` shows of a decision."""

from __future__ import annotations

import io
import re

from rich.console import Console

from dicom_node.routing.explain import explain
from dicom_node.routing.match import Decision, decide
from dicom_node.routing.rules import parse_rules

RULES = parse_rules(
    [
        {
            "name": "long-echo",
            "pipeline": "flair",
            "all": {"EchoTime": {"min": 70}},
            "none": {"SeriesDescription": {"words": "t1"}},
            "any": {"kind": {"Names": {"words": ["flair", "dark fluid"]}, "FlipAngle": {"min": 90}}},
        }
    ]
)


def shown(decision: Decision) -> list[str]:
    """Return the lines that a wide terminal without colours shows."""
    console = Console(width=240, file=io.StringIO())
    console.print(explain(decision))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def rows(decision: Decision) -> list[list[str]]:
    """Return the cells of the tables' rows, without headings."""
    lines = [re.split("[│┃]", line)[1:-1] for line in shown(decision)]
    cells = [[cell.strip() for cell in line] for line in lines if line]
    return [line for line in cells if line[0] != "section"]


def test_row_shows_value_wanted_and_verdict_of_each_condition(make_header):
    series = [
        make_header(number=n, EchoTime=te, SeriesDescription="t2_flair") for n, te in ((1, 20.0), (2, 80.0))
    ]
    decision = decide(series, RULES)
    assert shown(decision)[:2] == [
        "no pipeline: no rule wants it: TE 20 to 80 ms, axial; nearest rule long-echo fails on EchoTime "
        "(20 ms on 1 of 2 images, wanted at least 70 ms)",
        "rule long-echo -> flair: does not apply",
    ]
    assert rows(decision) == [
        ["all", "EchoTime", "20 ms (on 1 of 2 images)", "at least 70 ms", "NO"],
        ["any.kind", "Names", "t2_flair", "words: flair, dark fluid", "yes"],
        ["any.kind", "FlipAngle", "missing", "at least 90 degrees", "-"],
        ["none", "SeriesDescription", "t2_flair", "not words: t1", "yes"],
    ]


def test_table_shows_the_rule_that_applies_and_its_values(make_header):
    text = "\n".join(shown(decide([make_header(EchoTime=80.0, SeriesDescription="[bold]flair")], RULES)))
    assert "flair: rule long-echo: TE 80 ms, axial" in text
    assert "rule long-echo -> flair: applies" in text
    assert "at least 70 ms" in text
    assert "[bold]flair" in text


def test_refused_series_has_its_reason_and_no_rules(make_header):
    decision = decide([make_header(Modality="CT")], RULES)
    assert shown(decision) == ["no pipeline: modality CT: only MR is analysed"]


def test_long_lists_of_words_are_cut_and_the_word_that_was_found_is_named(make_header):
    words = [f"word{letter}" for letter in "abcdefghij"]
    rules = parse_rules(
        [{"name": "r", "pipeline": "p", "all": {"EchoTime": {"min": 1}}, "none": {"Names": {"words": words}}}]
    )
    decision = decide([make_header(EchoTime=80.0, SeriesDescription="t2 wordj")], rules)
    assert rows(decision)[-1] == [
        "none",
        "Names",
        "t2 wordj",
        "not words: worda, wordb, wordc, wordd, worde, wordf, wordg, wordh, and 2 more (found: wordj)",
        "NO",
    ]
