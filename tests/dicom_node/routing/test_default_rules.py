"""The built-in rules on real headers, and on plausible ones of six vendors."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules

RULES = built_in_rules()


def test_all_real_headers_go_where_they_belong(shared_data: Path, real_series):
    lines = (shared_data / "mr_headers" / "series.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    decisions = [decide(real_series(record), RULES) for record in records]
    wrong = [
        f"{record['SeriesDescription']}: {decision.reason}"
        for record, decision in zip(records, decisions, strict=True)
        if (decision.pipeline or "none") != record["_expected"]
    ]
    assert wrong == []
    assert Counter(decision.pipeline for decision in decisions) == {None: 74, "flair": 2}


def test_vendor_header_goes_where_it_belongs(vendor_entry, vendor_series):
    decision = decide(vendor_series(vendor_entry), RULES)
    assert (decision.pipeline or "none") == vendor_entry["expected"], decision.reason


def test_decision_does_not_depend_on_the_order_of_the_images(vendor_entry, vendor_series):
    headers = vendor_series(vendor_entry)
    shuffled = random.Random(7).sample(headers, len(headers))
    assert decide(shuffled, RULES) == decide(headers, RULES)


def test_without_any_geometry_flair_is_recognised_and_orbits_are_not(vendor_entry, make_header):
    if vendor_entry["orientation"] == "three planes":
        return  # nothing but its geometry tells a localizer
    header = make_header(rows=None, pixel_spacing=None, orientation=None, **vendor_entry["tags"])
    expected = "flair" if vendor_entry["expected"] == "flair" else None
    assert decide([header], RULES).pipeline == expected


def test_anonymised_series_without_names_is_judged_by_physics(make_header):
    header = make_header(EchoTime=120.0, RepetitionTime=9000.0, InversionTime=2400.0, ImageType=None)
    assert decide([header], RULES).rule == "flair-by-physics"


def test_numbers_written_as_text_are_numbers(make_header):
    header = make_header(EchoTime="120.0 ", RepetitionTime="9000", InversionTime="2400")
    assert decide([header], RULES).pipeline == "flair"


def test_double_inversion_with_both_times_is_nothing(make_header):
    header = make_header(EchoTime=325.0, RepetitionTime=7500.0, InversionTime=[450.0, 2550.0])
    assert decide([header], RULES).pipeline is None
