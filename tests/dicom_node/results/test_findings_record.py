"""What a worker leaves for the page of a study: figures and pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from result_factories import BOXES, CONTEXT, Case, mask_of, plain_series

from dicom_node.errors import ResultError
from dicom_node.results.finding_pictures import SIDE_PX, chosen_lesions, write_finding_pictures
from dicom_node.results.findings_record import FindingsRecord
from pipelines.types import Anatomy, Counting, Findings, Interval, Lesion, RegionLoad, Segment, SiteFinding


def lesion(number: int, volume_mm3: float, region=None, **more) -> Lesion:
    return Lesion(number, "Lesion", volume_mm3, (0.0, 0.0, 0.0), 0.8, (1, 2), region=region, **more)


def test_record_is_read_as_it_was_written(tmp_path):
    findings = Findings(
        "findings",
        lesions=(
            lesion(1, 60.5, "periventricular", also_reaches=("juxtacortical",), long_axis_mm=np.float32(5.5)),
        ),
        counting=Counting(3.0, 9.0, 0.5, 2, 12.0),
        anatomy=Anatomy((RegionLoad("periventricular", 1, 0, 60.5, 5.5),), ("infratentorial",)),
        sites=(SiteFinding("right", "positive", probability=0.7, interval=Interval(0.6, 0.8, "x")),),
        warnings=("Die Aufnahme ist schräg",),
    )
    record = FindingsRecord.of(findings, CONTEXT, [])
    record.write(tmp_path)
    assert FindingsRecord.read(tmp_path) == record
    assert FindingsRecord.read(tmp_path).findings() == findings


def test_record_without_differential_names_no_disease(tmp_path):
    case = Case.make(tmp_path)
    record = FindingsRecord.of(case.findings, replace(CONTEXT, differential="off"), [])
    assert record.hypotheses == () and record.lesions


def test_folder_without_a_record_has_none_and_a_broken_one_is_told(tmp_path):
    assert FindingsRecord.read(tmp_path) is None
    (tmp_path / "findings.json").write_text("{")
    with pytest.raises(ResultError, match=r"findings\.json is no record"):
        FindingsRecord.read(tmp_path)


def test_each_region_shows_its_largest_lesion_first():
    lesions = (
        lesion(1, 500, "deep_white_matter"),
        lesion(2, 400, "deep_white_matter"),
        lesion(3, 300, "deep_white_matter"),
        lesion(4, 200, "periventricular"),
        lesion(5, 900, "infratentorial", borderline=True),
        lesion(6, 20, "infratentorial"),
    )
    assert [item.id for item in chosen_lesions(lesions)] == [1, 4, 5, 6]


def test_pictures_show_each_lesion_in_its_outline(tmp_path):
    _, series = plain_series()
    shape = series.volume.array.shape
    lesions = []
    for number, box in enumerate(BOXES, start=1):
        voxels = np.argwhere(mask_of(shape, [box]))
        centre = tuple(map(float, series.volume.position_lps(voxels.mean(axis=0))))
        lesions.append(
            Lesion(number, "Lesion", 1.0, centre, 0.8, (int(voxels[:, 0].min()), int(voxels[:, 0].max())))
        )
    segment = Segment("Lesion", "lesion_of_brain", mask_of(shape), colour_rgb=(255, 0, 1))
    findings = Findings("findings", segments=(segment,), lesions=tuple(lesions))
    pictures = write_finding_pictures(findings, series, tmp_path)
    assert [(item.file, item.lesion, item.image_number) for item in pictures] == [
        ("lesion-1.png", 1, 4),
        ("lesion-2.png", 2, 9),
    ]
    assert pictures[0].sides == ("R", "L", "A", "P")
    for item, box in zip(pictures, BOXES, strict=True):
        drawn = np.array(Image.open(tmp_path / item.file))
        assert drawn.shape == (SIDE_PX, SIDE_PX, 3)
        rows, columns = np.nonzero((drawn == segment.colour_rgb).all(axis=-1))
        # 64 pixels of 0.9 mm in the middle of 120 mm: the outline encloses the box
        for found, part in ((rows, box[1]), (columns, box[2])):
            scale, shift = SIDE_PX * 0.9 / 120, (SIDE_PX - 64 * SIDE_PX * 0.9 / 120) / 2
            assert abs(found.min() - (shift + part.start * scale)) < 6
            assert abs(found.max() - (shift + part.stop * scale)) < 6


def test_nothing_found_gives_no_picture(tmp_path):
    _, series = plain_series()
    assert write_finding_pictures(Findings("none"), series, tmp_path) == []
