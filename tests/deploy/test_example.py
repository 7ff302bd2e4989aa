"""The example of a configuration: every key is in it, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.config.schema import fields_of, model_of
from dicom_node.config.settings import Settings, load_settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "example.toml"
SECTIONS = [name for name in Settings.model_fields if name != "route"]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_stands_in_its_table(section: str) -> None:
    (table,) = re.findall(rf"(?ms)^\[+{section}\]+\n(.*?)(?=^\[|\Z)", EXAMPLE.read_text())
    keys = set(re.findall(r"(?m)^(?:# )?(\w+) = ", table))
    model = model_of([section], Settings)
    assert model is not None
    assert keys == set(fields_of(model))


def test_values_are_the_defaults() -> None:
    example, plain = load_settings(EXAMPLE).model_dump(), load_settings().model_dump()
    assert example["node"].pop("data") == EXAMPLE.parent / "node-data"
    assert plain["node"].pop("data") == Path.cwd() / "node-data"
    for section in set(SECTIONS) - {"destination"}:
        assert example[section] == plain[section]
    assert example["destination"][0]["objects"] == ("summary", "outline", "seg", "sr", "text-sr", "heatmap")
