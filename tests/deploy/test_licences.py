"""Licences of what is installed with the node: none may be the GPL or AGPL, and the LGPL only where it is listed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LGPL = {"connected-components-3d", "fastremap", "fill-voids"}
"""Used as they are, as libraries of their own that anyone may exchange (LGPL-3.0, section 4)."""

EXCEPTION = re.compile(r"\bA?GPL[\w.+-]*\s+WITH\s+GCC-exception-[\d.]+", re.IGNORECASE)
COMPATIBLE = re.compile(r"\bA?GPL(v\d)?[- ]compatible\b", re.IGNORECASE)
KINDS = {
    "AGPL": re.compile(r"\bAGPL|Affero", re.IGNORECASE),
    "LGPL": re.compile(r"\bLGPL|\b(Lesser|Library) General Public", re.IGNORECASE),
    "GPL": re.compile(r"\bGPL|(?<!Lesser )(?<!Library )(?<!Affero )\bGeneral Public", re.IGNORECASE),
}


def copyleft(statement: str) -> set[str]:
    """Which of AGPL, LGPL and GPL a statement binds to; of "A OR B" the freer one is chosen."""
    choices = [
        {
            kind
            for kind, pattern in KINDS.items()
            if pattern.search(COMPATIBLE.sub("", EXCEPTION.sub("", choice)))
        }
        for choice in re.split(r"\s+OR\s+", statement)
    ]
    return min(choices, key=len)


def statements(found: Distribution) -> list[str]:
    """The licence in the metadata: expression, classifiers, and the field unless it is a whole licence text."""
    metadata = found.metadata
    stated = [text for text in metadata.get_all("License-Expression") or [] if text]
    stated += [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    fields = [text.strip() for text in metadata.get_all("License") or []]
    return stated + [text for text in fields if text and ("\n" not in text or not stated)]


def run_time_dependencies() -> dict[str, Distribution]:
    """What pip installs for the node without extras, on this platform."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, distribution(name))
        for extra in ("", *requirement.extras):
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            for text in found[name].requires or ():
                wanted = Requirement(text)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    waiting.append(wanted)
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def faults(found: dict[str, Distribution]) -> list[str]:
    wrong = []
    for name, installed in sorted(found.items()):
        stated = statements(installed)
        kinds = set().union(*map(copyleft, stated))
        if not stated:
            wrong.append(f"{name} states no licence")
        elif kinds - {"LGPL"} or ("LGPL" in kinds and name not in LGPL):
            wrong.append(f"{name}: {'; '.join(text.splitlines()[0] for text in stated)}")
    return wrong


def test_no_run_time_dependency_is_under_the_gpl() -> None:
    found = run_time_dependencies()
    assert {"pydicom", "torch", "numpy", "vine", "valkey"} <= set(found), (
        "those of dependencies are walked too"
    )
    assert faults(found) == []


def test_every_listed_lgpl_package_is_a_dependency_under_it() -> None:
    found = run_time_dependencies()
    under_it = {
        name for name, each in found.items() if any("LGPL" in copyleft(text) for text in statements(each))
    }
    assert under_it == LGPL


def test_licences_are_those_of_the_pinned_versions() -> None:
    pinned = pins()
    for name, installed in run_time_dependencies().items():
        if name in pinned:
            assert Version(installed.version).public == pinned[name], (
                f"{name} is not installed as it is pinned"
            )


def test_no_package_under_the_gpl_is_pinned() -> None:
    assert "pylibjpeg-libjpeg" not in pins()
    for name in pins():
        try:
            stated = statements(distribution(name))
        except PackageNotFoundError:
            continue  # pinned for another platform or Python
        assert not {"GPL", "AGPL"} & set().union(*map(copyleft, stated)), name


def test_dependency_under_the_gpl_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "pylibjpeg_libjpeg-2.5.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pylibjpeg-libjpeg\nVersion: 2.5.0\nLicense: GPL V3.0\n"
        "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)\n"
    )
    told = faults({"pylibjpeg-libjpeg": Distribution.at(folder)})
    assert told == [
        "pylibjpeg-libjpeg: License :: OSI Approved :: GNU General Public License v3 (GPLv3); GPL V3.0"
    ]


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("MIT", set()),
        ("BSD-3-Clause AND MPL-2.0", set()),
        ("GPL V3.0", {"GPL"}),
        ("GPL-2.0-only", {"GPL"}),
        ("GPLv2+", {"GPL"}),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", {"GPL"}),
        ("License :: OSI Approved :: GNU Affero General Public License v3", {"AGPL"}),
        ("AGPL-3.0-or-later", {"AGPL"}),
        ("LGPL-3.0-or-later", {"LGPL"}),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", {"LGPL"}),
        ("GNU Library General Public License", {"LGPL"}),
        ("MIT AND GPL-3.0-only", {"GPL"}),
        ("MIT OR GPL-2.0-or-later", set()),
        ("FTL OR GPL-2.0-or-later", set()),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", set()),
        ("PSF licence, GPL-compatible", set()),
    ],
)
def test_statement_of_a_licence_is_understood(statement: str, kinds: set[str]) -> None:
    assert copyleft(statement) == kinds
