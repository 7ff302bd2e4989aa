from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories import mr_series

from dicom_node.series.completeness import assess
from dicom_node.series.headers import ImageHeader, read_header

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


def header(number: int, position: float | None, **changes: object) -> ImageHeader:
    """An axial image at z = `position` mm."""
    made = ImageHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"1.2.3.{number}",
        series_uid="1.2.3",
        study_uid="1.2",
        instance_number=number,
        rows=64,
        columns=48,
        pixel_spacing=(0.9, 0.9),
        positions=() if position is None else ((10.0, -20.0, position),),
        orientations=() if position is None else ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def stack(count: int = 24, spacing: float = 3.0, start: float = -30.0) -> list[ImageHeader]:
    return [header(n + 1, start + n * spacing) for n in range(count)]


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_even_unbroken_series_is_whole_in_any_orientation_and_order(tmp_path: Path, orientation: str) -> None:
    paths = mr_series(tmp_path, orientation=orientation, interleaved=True, reversed=True)
    found = assess([read_header(path) for path in paths])
    assert (found.state, found.slices, found.provable) == ("whole", 12, False)
    assert found.spacing_mm == pytest.approx(3.0, abs=1e-6)
    assert found.reason == "12 slices, 3.00 mm apart"


def test_missing_slice_is_told_with_its_place() -> None:
    images = stack(24)
    del images[15]  # z = 15
    found = assess(images)
    assert found.state == "incomplete"
    assert found.reason == "slice missing between 12.0 and 18.0 mm (1 of 24)"
    assert found.spacing_mm == pytest.approx(3.0)


def test_neighbours_missing_are_one_gap() -> None:
    images = stack(24)
    del images[10:12]
    assert assess(images).reason == "slices missing between -3.0 and 6.0 mm (2 of 24)"


def test_two_gaps_are_counted() -> None:
    images = stack(24)
    del images[20], images[5]
    assert assess(images).reason == "slices missing at 2 places, first between -18.0 and -12.0 mm (2 of 24)"


def test_gap_is_seen_without_instance_numbers() -> None:
    images = [replace(image, instance_number=None) for image in stack(24)]
    del images[3]
    assert assess(images).state == "incomplete"


@pytest.mark.parametrize("numbers", [range(0, 24), range(100, 124), range(1, 48, 2), [7] * 24, [None] * 24])
def test_numbers_that_count_otherwise_do_not_hold_a_series(numbers: list[int | None]) -> None:
    images = [replace(image, instance_number=n) for image, n in zip(stack(24), numbers, strict=True)]
    assert assess(images).state == "whole"


def test_missing_end_slice_shows_in_interleaved_numbers() -> None:
    # Numbered as acquired: the last slice of the odd half is image 12, at the upper end.
    acquired = [*range(1, 24, 2), *range(0, 24, 2)]
    images = [header(number, -30 + 3 * k) for number, k in enumerate(acquired, 1)]
    assert assess(images).state == "whole"
    del images[11]
    found = assess(images)
    assert (found.state, found.reason) == ("incomplete", "image 12 of 1 to 24 missing (1 of 24)")


@pytest.mark.parametrize(
    ("total", "state", "provable"),
    [(24, "whole", True), (26, "incomplete", False), (48, "whole", False), (20, "whole", False)],
)
def test_images_in_acquisition_proves_or_holds(total: int, state: str, provable: bool) -> None:
    found = assess([replace(image, images_in_acquisition=total) for image in stack(24)])
    assert (found.state, found.provable) == (state, provable)


def test_enhanced_image_proves_itself(tmp_path: Path) -> None:
    found = assess([read_header(path) for path in mr_series(tmp_path, enhanced=True, orientation="oblique")])
    assert (found.state, found.provable, found.slices) == ("whole", True, 12)


def test_enhanced_image_that_lacks_a_frame_is_incomplete(tmp_path: Path) -> None:
    whole = read_header(mr_series(tmp_path, enhanced=True)[0])
    places = [n for n in range(12) if n != 4]
    found = assess(
        [
            replace(
                whole,
                frames=11,
                positions=tuple(whole.positions[n] for n in places),
                orientations=whole.orientations[:11],
            )
        ]
    )
    assert (found.state, found.provable) == ("incomplete", False)


def test_positions_within_tolerance_are_even_and_beyond_it_are_not() -> None:
    images = stack(10)
    jitter = [0.0, 0.04, -0.04, 0.03, 0.0, -0.04, 0.04, 0.0, 0.02, 0.0]
    moved = [header(n + 1, -30 + 3 * n + jitter[n]) for n in range(10)]
    assert assess(moved).state == "whole"
    uneven = [*images[:9], header(10, -30 + 3 * 9 + 1.2)]
    assert (assess(uneven).state, assess(uneven).reason) == (
        "not-a-volume",
        "uneven slice spacing, 3.00 to 4.20 mm",
    )


def test_two_echoes_are_no_volume() -> None:
    images = stack(12) + [replace(image, sop_instance_uid=f"1.2.4.{n}") for n, image in enumerate(stack(12))]
    found = assess(images)
    assert found.state == "not-a-volume"
    assert found.reason.startswith("up to 2 images at one position, 24 at 12 positions")


def test_localizer_is_no_volume() -> None:
    other = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    images = [*stack(6), *(replace(image, orientations=(other,)) for image in stack(6))]
    assert assess(images).reason == "images of different orientations (a localizer, or several stacks)"


def test_groups_of_slices_are_no_volume() -> None:
    images = [header(1, z) for z in (0.0, 3.0, 6.0, 90.0, 93.0, 96.0)]
    assert assess(images).state == "not-a-volume"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 32}, "images of different sizes: 32 x 48, 64 x 48"),
        ({"pixel_spacing": (1.0, 1.0)}, "images of different PixelSpacing"),
        ({"positions": (), "orientations": ()}, "1 of 12 images have no ImagePositionPatient or"),
        ({"positions": ((13.0, -20.0, -30.0),)}, "slices are shifted against each other by 3.0 mm"),
        ({"is_image": False, "sop_class_uid": BASIC_TEXT_SR}, "no image: 1 x Basic Text SR Storage"),
    ],
)
def test_one_image_of_another_kind_breaks_the_volume(changes: dict[str, object], reason: str) -> None:
    images = stack(12)
    images[0] = replace(images[0], **changes)  # type: ignore[arg-type]
    found = assess(images)
    assert found.state == "not-a-volume"
    assert found.reason.startswith(reason)


def test_bad_orientation_is_no_volume() -> None:
    flat = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    found = assess([replace(image, orientations=(flat,)) for image in stack(8)])
    assert found.reason == "ImageOrientationPatient is no pair of perpendicular unit vectors"


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_slices_are_no_volume(count: int) -> None:
    assert assess(stack(count)).state == "not-a-volume"


@pytest.mark.parametrize(
    ("uid", "named"),
    [
        ("1.2.840.10008.5.1.4.1.1.66", "Raw Data Storage"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.\0evil", "what is no UID"),
    ],
)
def test_sop_class_is_named_as_the_standard_does_and_text_in_its_place_is_not_quoted(
    uid: str, named: str
) -> None:
    assert assess([header(1, None, is_image=False, sop_class_uid=uid)]).reason == f"no image: 1 x {named}"
