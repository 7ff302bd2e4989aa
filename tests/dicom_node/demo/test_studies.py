"""The demonstration's judgement: it fails on the wrong side, and on a mask that lies on the other one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import mr_series, volume
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.demo.studies import PICTURE, TEXT, Series, Study, by_block, sides_judged
from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import write
from dicom_node.results.text_document import IMPRESSIONS, section, text_document
from dicom_node.series.volume import load_series
from dicom_node.standard.uids import MR_IMAGE
from pipelines.types import Findings, Heatmap, ModelCard, Segment, SiteFinding

MODEL = ModelCard("fatsat", "1", "ab" * 32, "2.25.1", "synthetic", "optic nerves")
CONTEXT = ResultContext("node", "0", "a" * 32, 1, "fatsat", "FAT-SAT", datetime(2026, 11, 21, tzinfo=UTC))
SHAPE = (14, 64, 64)


def lesion_at(columns: slice) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:7, 30:34, columns] = True
    return mask


RIGHT, LEFT = lesion_at(slice(10, 14)), lesion_at(slice(50, 54))
"""Coronal, columns run to the patient's left."""


Answer = tuple[Series, dict[str, list[Path]], Path]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """What makes studies and their answers, each once: they are only read."""
    made: dict[tuple[tuple[str, ...], bytes], Answer] = {}

    def make(positive: tuple[str, ...], marked: Any) -> Answer:
        key = (positive, marked.tobytes())
        if key not in made:
            folder = tmp_path_factory.mktemp("answered")
            made[key] = (*answer(folder, positive, marked), folder)
        return made[key]

    return make


def answer(tmp_path: Path, positive: tuple[str, ...], marked: Any) -> tuple[Series, dict[str, list[Path]]]:
    """A study with a lesion in the right eye, and objects that call these sides positive and mark a place."""
    orbits = replace(volume(SHAPE, "coronal", (3.0, 0.5, 0.5)), attributes={"SeriesDescription": "orbits"})
    series = Series("fatsat", "Orbits", orbits, RIGHT, side="right")
    files = Study("phantom", (series,)).write(tmp_path / "source")
    sites = tuple(
        SiteFinding(
            side,
            "positive" if side in positive else "negative",
            "",
            0.9 if side in positive else 0.1,
            None,
            0.5,
            point_lps=(float(x), float(y), float(z)),
        )
        for side, (x, y, z) in zip(
            ("right", "left"), orbits.position_lps([(6, 32, 12), (6, 32, 52)]), strict=True
        )
    )
    segments = tuple(Segment("candidate", "lesion", marked, laterality=side) for side in positive)
    heat = Heatmap(
        "saliency", "Paper.", "lesion", 0.9, marked.astype(np.float32), (5, 6), "fatsat", laterality="right"
    )
    found = Findings(
        "findings" if positive else "none", segments=segments, sites=sites, heatmaps=(heat,), models=(MODEL,)
    )
    out = tmp_path / "out"
    out.mkdir()
    paths = [out / item.path for item in build_results(found, load_series(files), CONTEXT, out)]
    return series, by_block(paths)["fatsat"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("positive", "marked", "good", "said"),
    [
        (("right",), RIGHT, True, "right positive, left negative, candidate region 0 mm"),
        (("left",), LEFT, False, "right negative, left positive, candidate region 20 mm"),
        (("right", "left"), RIGHT, False, "right positive, left positive"),
        (("right",), LEFT, False, "right positive, left negative, candidate region 20 mm"),
    ],
)
def test_only_the_right_side_at_the_right_place_is_good(
    answered: Callable[..., Answer], positive: tuple[str, ...], marked: Any, good: bool, said: str
) -> None:
    series, objects, _ = answered(positive, marked)
    verdict, line = series.judged(objects)
    assert (verdict, said in line) == (good, True), line


def test_nothing_found_is_not_good(answered: Callable[..., Answer]) -> None:
    series, objects, _ = answered((), RIGHT)
    assert series.judged(objects) == (False, "no mask or no measurements came back")


def test_sides_are_read_from_the_report_alone(answered: Callable[..., Answer]) -> None:
    _, objects, _ = answered(("left",), LEFT)
    assert sides_judged(dcmread(objects["1.2.840.10008.5.1.4.1.1.88.34"][0])) == {
        "right": False,
        "left": True,
    }


def test_previews_show_the_mask_and_the_side_that_was_found(
    answered: Callable[..., Answer], tmp_path: Path
) -> None:
    series, objects, _ = answered(("right",), RIGHT)
    written = series.previews(objects, tmp_path / "previews", "phantom")
    assert [path.name for path in written] == ["phantom-fatsat-outlines.png", "phantom-fatsat-map.png"]
    assert len(objects[PICTURE]) == SHAPE[0] + 2
    assert all(path.stat().st_size > 1000 for path in written)


@pytest.fixture
def study() -> Study:
    series = Series("fatsat", "Orbits", volume(SHAPE, "coronal", (3.0, 0.5, 0.5)), RIGHT, side="right")
    return Study("phantom", (replace(series, name="flair", side=None), series))


def page_on(study: Study, series_uids: tuple[str, ...], folder: Path) -> dict[str, list[Path]]:
    """A page and its text, which speaks of these series."""
    evidence = []
    for number, uid in enumerate(series_uids):
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID = study.uid, uid
        image.SOPClassUID, image.SOPInstanceUID = MR_IMAGE, f"1.2.{number}"
        evidence.append(image)
    said = section(IMPRESSIONS, ["2 lesions in the brain,\r\n0.36 mL in all."])
    text = text_document([said], evidence, CONTEXT)
    text.SOPClassUID, text.SOPInstanceUID = TEXT, "1.2.3"
    text.file_meta = FileMetaDataset()
    text.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write(text, folder / "text.dcm")
    return {TEXT: [folder / "text.dcm"], PICTURE: [folder / "page.dcm"]}


def test_page_that_speaks_of_all_series_of_the_study_is_good(study: Study, tmp_path: Path) -> None:
    objects = page_on(study, study.series_uids, tmp_path)
    assert study.judged(objects) == (True, "2 lesions in the brain, 0.36 mL in all.")


def test_page_that_leaves_a_series_out_is_not_good(study: Study, tmp_path: Path) -> None:
    verdict, _ = study.judged(page_on(study, study.series_uids[:1], tmp_path))
    assert not verdict


def test_second_page_of_one_study_is_not_good(study: Study, tmp_path: Path) -> None:
    objects = page_on(study, study.series_uids, tmp_path)
    objects[PICTURE].append(tmp_path / "another.dcm")
    assert study.judged(objects) == (False, "2 pages came back, and 1 as text, for one study")


def test_series_of_a_study_are_of_one_patient_and_session(study: Study, tmp_path: Path) -> None:
    headers = [dcmread(path, stop_before_pixels=True) for path in study.write(tmp_path)]
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert len({header[keyword].value for header in headers}) == 1, keyword
    assert {header.SeriesInstanceUID for header in headers} == set(study.series_uids)
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)


def test_page_must_tell_what_is_new_since_the_earlier_study():
    series = Series("flair", "FLAIR", volume(), np.zeros((12, 64, 64), bool))
    earlier = Study("before", (series,), day="20241203")
    assert (
        Study("now", (series,), earlier=earlier, new_lesions=2).change_told
        == "2 new lesions since 2024-12-03"
    )
    assert (
        Study("now", (series,), earlier=earlier, new_lesions=1).change_told == "1 new lesion since 2024-12-03"
    )
    assert Study("now", (series,)).change_told == ""


@pytest.mark.parametrize(
    ("number", "name"), [(9000, ""), (9012, "flair"), (9018, "change"), (9022, "fatsat")]
)
def test_what_came_back_is_told_apart_by_its_series_number(tmp_path: Path, number: int, name: str):
    (path,) = mr_series(tmp_path, shape=(1, 8, 8), series_number=number)
    assert {of for of, objects in by_block([path]).items() if objects} == {name}
