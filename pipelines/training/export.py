"""A trained joint network as weights with a model card that says plainly what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pipelines.flair.joint.model import WEIGHTS
from pipelines.weights import save_weights

VERSION = "0.1.0"
DEVICE_UID = "2.25.252966868961854504304752943661995248082"
"""Identifies this model in DICOM objects; one for the model, whatever its version."""
PURPOSE = "White matter lesions on brain FLAIR, MS versus NMOSD; research use only"

TEMPLATE = {
    "what": "MNI152 template with its grey and white matter maps",
    "licence": "ICBM licence (free to use, with notice)",
    "citation": "Fonov et al., NeuroImage 2011, doi:10.1016/j.neuroimage.2010.07.033; shipped with nilearn",
}
LABEL_MAPS = {
    "what": "whole-head label maps, painted with random contrast",
    "licence": "Apache-2.0 (SynthSeg training labels)",
    "citation": "Billot et al., SynthSeg, Med Image Anal 2023, doi:10.1016/j.media.2023.102789",
}
LESION_MASKS = {
    "what": "consensus lesion masks in MNI space (shapes and places of lesions, no images)",
    "licence": "CC-BY",
    "citation": "Lesjak et al., Neuroinformatics 2017, doi:10.1007/s12021-017-9348-7",
}
CLASSIFIER_LIMIT = (
    "The classification has learnt written priors of where MS and NMOSD lesions lie, not patients: it is trained on "
    "synthetic data, its probabilities are not calibrated, and no clinical accuracy is known."
)
SYNTHETIC_LIMIT = "Every training image is synthetic. No real FLAIR image was seen."


def sources_of(data: Path | None, leave_out: tuple[str, ...], given: int) -> list[dict[str, str]]:
    """Return what a training drew on: the template, and what ``data`` holds of label maps, lesion masks and cases."""
    sources = [TEMPLATE]
    if data is None:
        return sources
    heads = len(list((data / "head_labels").glob("*.nii.gz")))
    names = [p.name.split(".")[0] for p in (data / "open_ms" / "lesions_mni").glob("*.nii.gz")]
    masks = len([name for name in names if name not in leave_out])
    without = f", none of {', '.join(leave_out)}" if leave_out else ""
    if heads:
        sources.append({**LABEL_MAPS, "what": f"{heads} {LABEL_MAPS['what']}"})
    if masks:
        sources.append({**LESION_MASKS, "what": f"{masks} {LESION_MASKS['what']}{without}"})
    if given:
        what = f"{given} cases of the data set {data.name}"
        sources.append({"what": what, "licence": "its owner's", "citation": "none"})
    return sources


def readme(details: Mapping[str, Any]) -> str:
    """Return the model card for people, in Markdown."""
    lines = [
        f"# {WEIGHTS} {details['version']}",
        "",
        f"{details['purpose']}. Joint segmentation and classification network after Front Neurosci 2024,",
        "10.3389/fnins.2024.1351387, in its published shape (5.3 M parameters, half precision).",
        "",
        f"**Trained on {details['trained_on']} data; no clinical accuracy known.**",
        "",
        f"- File `{WEIGHTS}.safetensors`, sha256 `{{digest}}`",
        f"- Device UID {details['device_uid']}",
        "- Input: FLAIR, brain-extracted, bias-corrected, 160 voxels of 1.2 mm towards Superior, Posterior, Left, normalised",
        "  by `pipelines.flair.intensity.normalise`",
        f"- Lesion where the probability exceeds {details['threshold']}",
        "",
        "## Data",
        "",
    ]
    lines += [f"- {s['what']}: {s['licence']}. {s['citation']}" for s in details["sources"]]
    for heading, figures in details["figures"].items():
        lines += ["", f"## Figures: {heading}", ""]
        lines += [f"- {name}: {_text(value)}" for name, value in figures.items()] or ["- none measured"]
    lines += ["", "## Limits", "", *(f"- {text}" for text in details["limitations"]), ""]
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {inner:.3g}" if isinstance(inner, float) else f"{key} {inner}"
            for key, inner in value.items()
        )
    return str(value)


def export(
    network: nn.Module,
    folder: Path,
    *,
    provenance: str,
    sources: Sequence[Mapping[str, str]],
    figures: Mapping[str, Mapping[str, object]],
    limitations: Sequence[str] = (),
    threshold: float = 0.5,
    version: str = VERSION,
) -> Path:
    """Write weights and cards.

    Parameters
    ----------
    network : JointNetwork
    folder : Path
    provenance : "synthetic", "real" or "real and synthetic"
    sources : sequence of mappings
        From `sources_of`.
    figures : mapping of heading to figures
        Of real and of synthetic cases under headings of their own.
    limitations : sequence of str
        Beside those that hold for every training here.
    threshold : float

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    WeightsError
        The file would be too large.
    """
    details = {
        "version": version,
        "device_uid": DEVICE_UID,
        "trained_on": provenance,
        "purpose": PURPOSE,
        "threshold": threshold,
        "calibrated": False,
        "licence": "Apache-2.0",
        "reference": "Front Neurosci 2024, doi:10.3389/fnins.2024.1351387",
        "sources": list(sources),
        "figures": figures,
        "limitations": [
            *limitations,
            *([SYNTHETIC_LIMIT] if provenance == "synthetic" else []),
            CLASSIFIER_LIMIT,
        ],
    }
    save_weights(WEIGHTS, network.state_dict(), details, readme(details), folder)
    return folder / f"{WEIGHTS}.safetensors"
