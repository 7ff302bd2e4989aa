"""Guard before all rules: our own results, derived images, and what is no MR image are never analysed.

A PACS forwards everything that it gets, also what this node has sent to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.routing.values import angle_deg, normals
from dicom_node.series.headers import ImageHeader
from dicom_node.standard.defined_terms import term
from dicom_node.standard.uids import uid_name

ANALYSED_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
}
ORIENTATION_TOLERANCE_DEG = 5.0


def refusal(headers: Sequence[ImageHeader]) -> str | None:
    """Return why no pipeline may have this series, or None.

    The checks have an order, so that the reason does not depend on that of the images.
    """
    if not headers:
        return "the series has no images"
    checks = (_own_result, _not_mr_class, _not_mr_modality, _no_pixels, _not_original)
    for check in checks:
        reasons = sorted({reason for header in headers if (reason := check(header))})
        if reasons:
            count = sum(check(header) is not None for header in headers)
            share = f" ({count} of {len(headers)} images)" if count < len(headers) else ""
            return "; ".join(reasons) + share
    return _several_orientations(headers)


def _texts(header: ImageHeader, keyword: str) -> list[str]:
    value = header.tags.get(keyword)
    parts = value if isinstance(value, list | tuple) else [value]
    return [str(part).strip().upper() for part in parts if part is not None]


def _own_result(header: ImageHeader) -> str | None:
    """All results of this node say RESEARCH twice: ContentQualification and SeriesDescription.

    One of them alone is not enough: scanners qualify work-in-progress sequences so (PS3.3 C.8.13.1).
    """
    qualified = "RESEARCH" in _texts(header, "ContentQualification")
    if qualified and any("RESEARCH" in text for text in _texts(header, "SeriesDescription")):
        return "a result of this node or of another research algorithm; results are not analysed again"
    return None


def _not_mr_class(header: ImageHeader) -> str | None:
    if header.sop_class_uid in ANALYSED_SOP_CLASSES:
        return None
    name = uid_name(header.sop_class_uid) if header.sop_class_uid else "no SOP class"
    return f"{name}: only MR images are analysed"


def _not_mr_modality(header: ImageHeader) -> str | None:
    modality = [text for text in _texts(header, "Modality") if text]
    named = ", ".join(term("Modality", text) for text in modality)
    return None if modality in ([], ["MR"]) else f"modality {named}: only MR is analysed"


def _no_pixels(header: ImageHeader) -> str | None:
    return None if header.is_image else "no image: pixel data or image size is missing"


def _not_original(header: ImageHeader) -> str | None:
    """Values 1 and 2: are the pixels computed from other images, is the image from the examination itself.

    References
    ----------
    DICOM PS3.3 C.7.6.1.1.2
    """
    image_type = _texts(header, "ImageType")
    pixels, examination = [*image_type, "", ""][:2]
    if pixels not in ("", "ORIGINAL") or examination not in ("", "PRIMARY"):
        named = "/".join(term("ImageType", text) for text in image_type)
        return f"image type {named}: only original, primary images are analysed"
    return None


def _several_orientations(headers: Sequence[ImageHeader]) -> str | None:
    axes = normals(headers)
    planes: list[tuple[float, float, float]] = []
    for axis in sorted(axes):
        if all(angle_deg(axis, plane) > ORIENTATION_TOLERANCE_DEG for plane in planes):
            planes.append(axis)
    if len(planes) > 1:
        return f"its images lie in {len(planes)} orientations: a localizer, or several stacks in one series"
    return None
