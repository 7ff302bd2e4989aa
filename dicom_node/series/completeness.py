"""Completeness: do the images of a series form one even, unbroken volume? Judged from their headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dicom_node.series.headers import ImageHeader
from dicom_node.series.identity import mixture
from dicom_node.standard.geometry import DRIFT_TOLERANCE_MM, Stack, same_orientation, stack_slices
from dicom_node.standard.uids import uid_name

MIN_SLICES = 5
"""Fewer slices are a localizer or a sample, not a volume."""


@dataclass(frozen=True)
class Assessment:
    """Assessment of a series' geometry.

    Parameters
    ----------
    state : str
        "whole"; "incomplete": slices are missing; "not-a-volume": it never will be one.
    reason : str
        One line for people.
    provable : bool
        The headers themselves say that nothing more will come.
    slices : int
        Number of frames at hand.
    spacing_mm : float or None
        Distance between slices along their normal.
    may_be_released : bool
        A person may have it analysed as it is; never where patients or studies are mixed.
    """

    state: Literal["whole", "incomplete", "not-a-volume"]
    reason: str
    provable: bool
    slices: int
    spacing_mm: float | None
    may_be_released: bool = True


def assess(headers: Sequence[ImageHeader], *, any_frame_of_reference: bool = False) -> Assessment:
    """Say whether the images form a whole volume, what they lack, or why they are none.

    Images of more than one patient, study or frame of reference are none (the last can be overlooked, as a person may).

    Positions are projected on the slice normal; the order in which images came or were numbered does not
    matter.

    Slices that are missing at an end leave no gap. They are seen only where other numbers tell: a hole in
    otherwise consecutive InstanceNumbers, or an ImagesInAcquisition (0020,1002) of somewhat more than the
    images at hand (twice as many or more mean that the acquisition was split into several series).

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1
    """
    slices = sum(len(header.positions) for header in headers)
    mixed = mixture((header.study_uid, header.identity) for header in headers)
    if mixed is not None and not (mixed.may_be_released and any_frame_of_reference):
        return Assessment("not-a-volume", mixed.reason, False, slices, None, mixed.may_be_released)
    fault = _no_volume(headers)
    if fault:
        return Assessment("not-a-volume", fault, False, slices, None)
    try:
        stack = stack_slices(
            [position for header in headers for position in header.positions], headers[0].orientations[0]
        )
    except ValueError as error:
        return Assessment("not-a-volume", str(error), False, slices, None)
    fault = _not_one_stack(stack, slices)
    if fault:
        return Assessment("not-a-volume", fault, False, slices, None)
    lack = _gap(stack) or _missing_numbers(headers) or _missing_of_acquisition(headers)
    if lack:
        return Assessment("incomplete", lack, False, slices, stack.spacing_mm)
    reason = f"{slices} slices, {stack.spacing_mm:.2f} mm apart"
    return Assessment("whole", reason, _provable(headers), slices, stack.spacing_mm)


def main_stack(headers: Sequence[ImageHeader]) -> list[ImageHeader]:
    """Return the images of the most frequent orientation, if these could be a volume; else none."""
    groups: list[list[ImageHeader]] = []
    for header in headers:
        if not header.orientations:
            continue
        for group in groups:
            if same_orientation(group[0].orientations[0], header.orientations[0]):
                group.append(header)
                break
        else:
            groups.append([header])
    largest = max(groups, key=len, default=[])
    return largest if sum(len(header.positions) for header in largest) >= MIN_SLICES else []


def _no_volume(headers: Sequence[ImageHeader]) -> str:
    """Return why images can't be slices of one volume, before their order is looked at."""
    if not headers:
        return "no images"
    others = Counter(uid_name(header.sop_class_uid) for header in headers if not header.is_image)
    if others:
        return "no image: " + ", ".join(f"{count} x {name}" for name, count in others.items())
    without = sum(not header.positions for header in headers)
    if without:
        return f"{without} of {len(headers)} images have no ImagePositionPatient or ImageOrientationPatient"
    return _different_planes(headers)


def _different_planes(headers: Sequence[ImageHeader]) -> str:
    """Return in what images with positions differ that slices of one volume have in common."""
    first = headers[0]
    sizes = {f"{header.rows} x {header.columns}" for header in headers}
    if len(sizes) > 1:
        return "images of different sizes: " + ", ".join(sorted(sizes))
    if first.pixel_spacing is None:
        return "no PixelSpacing, or several in one image"
    if any(not _same_spacing(header, first) for header in headers):
        return "images of different PixelSpacing"
    if any(not same_orientation(o, first.orientations[0]) for header in headers for o in header.orientations):
        return "images of different orientations (a localizer, or several stacks)"
    return ""


def _same_spacing(one: ImageHeader, other: ImageHeader) -> bool:
    if one.pixel_spacing is None or other.pixel_spacing is None:
        return False
    return all(abs(a - b) <= 1e-3 * b for a, b in zip(one.pixel_spacing, other.pixel_spacing, strict=True))


def _not_one_stack(stack: Stack, slices: int) -> str:
    if stack.repeats > 1:
        return (
            f"up to {stack.repeats} images at one position, {slices} at {stack.places} positions "
            "(several echoes, phases or b-values)"
        )
    if slices < MIN_SLICES:
        return f"only {slices} slice{'s' if slices != 1 else ''}, at least {MIN_SLICES} are needed"
    if stack.drift_mm > DRIFT_TOLERANCE_MM:
        return f"slices are shifted against each other by {stack.drift_mm:.1f} mm"
    if stack.spacing_mm is None:
        steps = [b - a for a, b in zip(stack.distances_mm, stack.distances_mm[1:], strict=False)]
        return f"uneven slice spacing, {min(steps):.2f} to {max(steps):.2f} mm"
    if stack.missing > slices:
        return f"several groups of slices, {stack.missing} slices would fit between the {slices} at hand"
    return ""


def _gap(stack: Stack) -> str:
    if not stack.gaps:
        return ""
    total = len(stack.order) + stack.missing
    first = stack.gaps[0]
    place = f"between {first.after_mm:.1f} and {first.before_mm:.1f} mm"
    if stack.missing == 1:
        return f"slice missing {place} ({stack.missing} of {total})"
    if len(stack.gaps) == 1:
        return f"slices missing {place} ({stack.missing} of {total})"
    return f"slices missing at {len(stack.gaps)} places, first {place} ({stack.missing} of {total})"


def _missing_numbers(headers: Sequence[ImageHeader]) -> str:
    """A hole in otherwise consecutive InstanceNumbers; numbers that count in other ways say nothing."""
    numbers = sorted(number for header in headers if (number := header.instance_number) is not None)
    if len(numbers) != len(headers) or len(set(numbers)) != len(numbers) or len(numbers) < MIN_SLICES:
        return ""
    holes = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if not holes or len(holes) > max(1, len(numbers) // 4):
        return ""
    first, last, total = numbers[0], numbers[-1], len(numbers) + len(holes)
    named = ", ".join(map(str, holes[:3])) + (", ..." if len(holes) > 3 else "")
    return f"image {named} of {first} to {last} missing ({len(holes)} of {total})"


def _missing_of_acquisition(headers: Sequence[ImageHeader]) -> str:
    """More than half of an acquisition, but not all of it."""
    wanted = {header.images_in_acquisition for header in headers}
    present = len(headers)
    if len(wanted) != 1 or (total := wanted.pop()) is None or not present < total < 2 * present:
        return ""
    numbers = [header.instance_number for header in headers]
    if any(number is None or not 1 <= number <= total for number in numbers):
        return ""
    return f"{total - present} of {total} images of the acquisition missing"


def _provable(headers: Sequence[ImageHeader]) -> bool:
    """One multi-frame image with all its frames, or as many images as ImagesInAcquisition says."""
    if len(headers) == 1:
        return headers[0].frames > 1
    return {header.images_in_acquisition for header in headers} == {len(headers)}
