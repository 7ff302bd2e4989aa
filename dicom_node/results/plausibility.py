"""Sentences on findings that are not like demyelination; where none is, nothing is said."""

from __future__ import annotations

from typing import Final

from dicom_node.results.manifest import total_volume_mm3
from pipelines.types import Findings, NotTypical

NOT_TYPICAL: Final = "Not typical of demyelination. Not assessed here: tumour, infarct, haemorrhage, surgery."


def noun_of(findings: Findings) -> str:
    """Return what an outlined part is called: what is not like demyelination is no lesion of it."""
    return "Component" if findings.not_typical else "Lesion"


def outlined_sentence(findings: Findings) -> str:
    """Return how much was outlined in findings that are not typical; nothing for others."""
    if not findings.not_typical:
        return ""
    volume_mm3 = total_volume_mm3(findings) or 0.0
    if not findings.lesions:
        return "Nothing was outlined."
    return f"Outlined, whatever it is: {volume_mm3 / 1000:.2f} mL in all."


def signs_sentence(findings: Findings) -> str:
    """Return the signs by which findings are not typical, with their figures; nothing without any."""
    if not findings.not_typical:
        return ""
    return f"Not typical by: {'; '.join(map(_sign, findings.not_typical))}."


def _sign(item: NotTypical) -> str:
    return f"{item.sign}, {item.value:.1f} {item.unit} (limit {item.limit:.1f} {item.unit})"
