"""Findings on small real series for the tests of results: ``from result_factories import Case``."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from factories import mr_series
from pydicom import Dataset, dcmread

from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import ResultObject
from dicom_node.series.volume import LoadedSeries, load_series
from pipelines.types import Findings, Heatmap, Hypothesis, Lesion, Measurement, ModelCard, Segment

REAL = ModelCard("joint", "1.2.0", "sha256:" + "ab" * 32, "1.2.3.4", "real", "lesion segmentation")
SYNTHETIC = replace(REAL, trained_on="synthetic")
CONTEXT = ResultContext(
    node_id="node-1",
    node_version="0.1.0",
    job_id="3f9a1c20" * 4,
    run=1,
    pipeline="flair",
    title="FLAIR lesions",
    created_at=datetime(2026, 11, 21, 8, 12, 3, tzinfo=UTC),
)
BOXES = ((slice(3, 6), slice(20, 26), slice(30, 38)), (slice(8, 9), slice(40, 43), slice(20, 22)))
"""Two lesions (k, j, i): 144 voxels and 6 voxels."""


def mask_of(shape: tuple[int, ...], boxes: Sequence[tuple[slice, ...]] = BOXES) -> npt.NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[box] = True
    return mask


def findings_on(series: LoadedSeries, model: ModelCard = SYNTHETIC, **changes: Any) -> Findings:
    """Two lesions, one segment, both diseases and one heatmap on a loaded series of 12 slices or so."""
    volume = series.volume
    assert volume is not None
    lesions = []
    for number, box in enumerate(BOXES, start=1):
        voxels = np.argwhere(mask_of(volume.array.shape, [box]))
        x, y, z = volume.position_lps(voxels.mean(axis=0))
        slices = (int(voxels[:, 0].min()), int(voxels[:, 0].max()))
        volume_mm3 = len(voxels) * volume.voxel_volume_mm3
        lesions.append(Lesion(number, "Lesion", volume_mm3, (x, y, z), 0.9 - 0.25 * number, slices))
    heat = np.zeros(volume.array.shape, np.float32)
    heat[2:7, 10:40, 20:50] = np.linspace(0, 1, 30, dtype=np.float32)
    found = Findings(
        status="findings",
        segments=(Segment("Lesion", "lesion_of_brain", mask_of(volume.array.shape)),),
        lesions=tuple(lesions),
        measurements=(
            Measurement("lesion_count", 2, "{lesions}"),
            Measurement("volume", sum(item.volume_mm3 for item in lesions), "mm3", derivation="total"),
        ),
        hypotheses=(
            Hypothesis("multiple_sclerosis", "MS", 0.834, False, model.name),
            Hypothesis("neuromyelitis_optica", "NMOSD", 0.166, False, model.name),
        ),
        heatmaps=(Heatmap("localisation map", "Paper, equation 9.", "MS", 0.834, heat, (3, 5), model.name),),
        models=(model,),
    )
    return replace(found, **changes)


@functools.cache
def plain_series() -> tuple[list[Path], LoadedSeries]:
    """Return the series of every case that asks for no other, written and loaded once; it is only read."""
    folder = Path(tempfile.mkdtemp(prefix="plain-series-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sources = mr_series(folder)
    return sources, load_series(sources)


@dataclass
class Case:
    """A series on disk, its findings, and the objects made of them."""

    sources: list[Path]
    series: LoadedSeries
    findings: Findings
    out: Path
    objects: list[ResultObject]

    @classmethod
    def make(
        cls,
        tmp_path: Path,
        *,
        model: ModelCard = SYNTHETIC,
        context: ResultContext = CONTEXT,
        findings: dict[str, Any] | None = None,
        **series: Any,
    ) -> Case:
        if series:
            sources = mr_series(tmp_path / "source", **series)
            loaded = load_series(sources)
        else:
            sources, loaded = plain_series()
        return cls.of(tmp_path, sources, loaded, context, model, **(findings or {}))

    @classmethod
    def of(
        cls,
        tmp_path: Path,
        sources: list[Path],
        series: LoadedSeries,
        context: ResultContext,
        model: ModelCard,
        **changes: Any,
    ) -> Case:
        findings = findings_on(series, model, **changes)
        out = tmp_path / "out"
        out.mkdir(parents=True, exist_ok=True)
        return cls(sources, series, findings, out, build_results(findings, series, context, out))

    def paths(self, role: str) -> list[Path]:
        return [self.out / item.path for item in self.objects if item.role == role]

    def read(self, role: str) -> Dataset:
        return dcmread(self.paths(role)[0])


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a validator of the test extra; it is there wherever the tests are."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is missing: install the test extra"
    return subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def texts(item: Dataset) -> list[str]:
    """All TEXT values of an SR, depth first."""
    found = [str(item.TextValue)] if "TextValue" in item else []
    for child in item.get("ContentSequence") or ():
        found += texts(child)
    return found


def own_texts(ds: Dataset) -> str:
    """All texts of an object, one a line; the meanings of codes are not ours."""
    return "\n".join(
        str(item.value)
        for item in ds.iterall()
        if item.VR in ("LO", "LT", "SH", "ST", "UC", "UT") and item.keyword != "CodeMeaning"
    )


def sentences(item: Dataset) -> list[str]:
    """All TEXT values of an SR as sentences, however their lines are broken."""
    return [text.replace("\r\n", " ") for text in texts(item)]


def concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def part(report: Dataset, code: str) -> Dataset:
    """A container of a TID 1500 report by its concept; empty where there is none."""
    empty = Dataset()
    empty.ContentSequence = []
    return next((item for item in report.ContentSequence if concept(item) == code), empty)


def measurement_groups(report: Dataset) -> dict[str, Dataset]:
    """The measurement groups of a TID 1500 report by tracking identifier."""
    return {
        next(str(child.TextValue) for child in group.ContentSequence if concept(child) == "112039"): group
        for group in part(report, "126010").ContentSequence
    }


def totals(report: Dataset) -> dict[str, float]:
    """The numbers of a TID 1500 report that belong to no single finding, by code value."""
    return numbers(part(report, "126011"))


def outcome(report: Dataset) -> Dataset:
    """The qualitative evaluations of a TID 1500 report: how the analysis went."""
    return part(report, "C0034375")


def numbers(group: Dataset) -> dict[str, float]:
    """The NUM values of a group by code value."""
    return {
        concept(item): float(item.MeasuredValueSequence[0].NumericValue)
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def coded(group: Dataset) -> dict[str, str]:
    """The CODE values of a group by code value of their name; a value of more than 16 characters is a long one."""
    codes = {
        concept(item): item.ConceptCodeSequence[0]
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }
    return {name: str(code.get("CodeValue") or code.LongCodeValue) for name, code in codes.items()}
