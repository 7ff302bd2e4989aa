"""The manifest survives its way through the file, and the node reads it without loading highdicom."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from result_factories import CONTEXT, Case

from dicom_node.errors import ResultError
from dicom_node.results.manifest import Manifest, figures_of, manifest_of
from pipelines.types import Findings, Hypothesis, Interval, Measurement


@pytest.mark.slow
def test_manifest_reads_back_as_written(tmp_path: Path) -> None:
    case = Case.make(tmp_path, findings={"warnings": ("noisy",), "timings_s": {"mask": 2.5}})
    written = manifest_of(case.findings, CONTEXT, case.objects, {"objects": 0.5})
    written.write(case.out)
    read = Manifest.read(case.out)
    assert read == written
    assert read.timings_s == {"mask": 2.5, "objects": 0.5}
    assert read.figures == {"lesions": 2, "volume_ml": 0.36}
    assert [item.role for item in read.with_role("heatmap")] == ["heatmap", "heatmap"]
    assert read.models[0]["name"] == "joint"
    assert not list(case.out.glob("*.part"))


def test_figures_of_an_analysis_that_did_not_run_are_empty() -> None:
    assert figures_of(Findings("failed", reason="out of memory")) == {}


def test_sides_are_figures_too() -> None:
    measurements = (
        Measurement("probability", 0.914, "1", laterality="left"),
        Measurement("volume", 0.5, "mL"),
    )
    figures = figures_of(Findings("findings", measurements=measurements))
    assert figures == {"volume_ml": 0.5, "probability": {"left": 0.91}}


def test_volume_has_its_interval_and_no_disease_is_a_figure() -> None:
    volume = Measurement("volume", 16700.0, "mm3", interval=Interval(14100.0, 18900.0, "over 4 predictions"))
    hypotheses = (Hypothesis("multiple_sclerosis", "MS", 0.7, True, "joint"),)
    assert figures_of(Findings("findings", measurements=(volume,), hypotheses=hypotheses)) == {
        "volume_ml": 16.7,
        "volume_low_ml": 14.1,
        "volume_high_ml": 18.9,
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"objects": [{}]}'])
def test_broken_manifest_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ResultError, match="is not a manifest"):
        Manifest.read(tmp_path)


def test_folder_without_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="is not a manifest"):
        Manifest.read(tmp_path)


def test_context_gives_each_thing_its_own_lasting_uid() -> None:
    assert CONTEXT.derive_uid("seg", "instance") == replace(CONTEXT).derive_uid("seg", "instance")
    others = {
        CONTEXT.derive_uid("seg", "series"),
        CONTEXT.derive_uid("sr", "instance"),
        replace(CONTEXT, run=2).derive_uid("seg", "instance"),
        replace(CONTEXT, node_id="node-2").derive_uid("seg", "instance"),
        replace(CONTEXT, job_id="0" * 32).derive_uid("seg", "instance"),
        CONTEXT.derive_uid("seg", "instance"),
    }
    assert len(others) == 6


def test_node_is_the_same_device_in_all_its_results() -> None:
    assert CONTEXT.node_uid == replace(CONTEXT, run=2, job_id="0" * 32).node_uid
    assert CONTEXT.node_uid != replace(CONTEXT, node_id="node-2").node_uid


def test_reading_manifests_loads_neither_highdicom_nor_torch() -> None:
    code = (
        "import sys, dicom_node.results.manifest, dicom_node.results.context;"
        "print([name for name in ('highdicom', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
