"""The version stands in several places, and is the same in all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from dicom_node import __version__

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_package_is_built_under_the_version_that_it_states() -> None:
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == __version__


def test_conformance_statement_is_that_of_this_version() -> None:
    stated = re.findall(
        r"dicom-node (\d+\.\d+\.\d+)|DICOM_NODE_(\d+\.\d+\.\d+)", read("deploy/CONFORMANCE.md")
    )
    assert {one or other for one, other in stated} == {__version__}


def test_container_image_is_tagged_with_this_version() -> None:
    images = {
        service["image"] for service in yaml.safe_load(read("deploy/compose.yaml"))["services"].values()
    }
    assert f"dicom-node:{__version__}" in images


def test_changelog_has_a_section_of_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", read("CHANGELOG.md"), re.MULTILINE)


def test_version_fits_into_the_implementation_version_name() -> None:
    assert len(f"DICOM_NODE_{__version__}") <= 16  # PS3.7 D.3.3.2.4
