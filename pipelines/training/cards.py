"""Model cards of trained weights: what they drew on, for programs and for people, said plainly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import DataSetError
from pipelines.flair.settings import JOINT_WEIGHTS
from pipelines.flair.volume_calibration import CARD_KEY as VOLUME_INTERVAL
from pipelines.flair.weighing import CARD_KEY as WEIGHING
from pipelines.training.results_folder import CONFIG, read_json
from pipelines.training.synthetic.lesion_masks import mask_files, patient_of
from pipelines.weights import card_details

VERSION = "0.1.0"
DEVICE_UID = "2.25.252966868961854504304752943661995248082"
"""Identifies the joint model in DICOM objects; one for the model, whatever its version."""
_NAMESPACE = uuid.UUID("6b1d6cf2-4d0c-4ac5-9f5c-3f4b1f0a0d57")
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
    "synthetic data, and no clinical accuracy is known."
)
NOT_CALIBRATED = "Its class probabilities are not calibrated."


def sources_of(
    data: Path | None, leave_out: tuple[str, ...], given: int, *, segments: bool = True
) -> list[dict[str, str]]:
    """Return what a training drew on: the template, and what ``data`` holds of label maps, lesion masks and cases.

    A network that does not segment learns from no lesion masks.
    """
    sources = [TEMPLATE]
    if data is None:
        return sources
    heads = len(list((data / "head_labels").glob("*.nii.gz")))
    masks = len([path for path in mask_files(data) if segments and patient_of(path) not in leave_out])
    without = f", none of {', '.join(leave_out)}" if leave_out else ""
    if heads:
        sources.append({**LABEL_MAPS, "what": f"{heads} {LABEL_MAPS['what']}"})
    if masks:
        sources.append({**LESION_MASKS, "what": f"{masks} {LESION_MASKS['what']}{without}"})
    if given:
        what = f"{given} cases of the data set {data.name}"
        sources.append({"what": what, "licence": "its owner's", "citation": "none"})
    return sources


def device_uid(name: str) -> str:
    """Return what identifies weights by their name in DICOM objects, the same for each version of them (PS3.5 B.2)."""
    return DEVICE_UID if name == JOINT_WEIGHTS else f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def band_line(details: Mapping[str, Any]) -> str:
    """Return the band of a card in one sentence, with the number of cases; nothing where there is none."""
    told = details.get("undecided_on")
    if told is None:
        return ""
    low, high = details["undecided"]
    outside = (
        f"{told['right']} of {told['decided']} were right" if told["decided"] else "there was none to decide"
    )
    return (
        f"Undecided while the probability of MS is from {low:.2f} to {high:.2f}: fitted on {told['cases']} {told['origins']} "
        f"cases that it has not learnt from, so that {100 * told['share']:.0f} % are right outside; {outside}"
    )


def readme(details: Mapping[str, Any], read: str) -> str:
    """Return the model card for people, in Markdown.

    Parameters
    ----------
    details : mapping
        With the name of the weights.
    read : str
        What the network reads.
    """
    lines = [
        f"# {details['name']} {details['version']}",
        "",
        f"{details['purpose']}. Network `{details['network']}`, {_amount(details['parameters'])} parameters in "
        f"{details.get('stored', 'half precision')}; {details['reference']}.",
        "",
        f"**Trained on {details['trained_on']} data; no clinical accuracy known.**",
        "",
        f"- Weights `{details['name']}*.safetensors`, sha256 `{{digest}}`",
        f"- Device UID {details['device_uid']}",
        f"- Input: {read}",
    ]
    if "threshold" in details:
        lines.append(f"- Lesion where the probability exceeds {details['threshold']}")
    if "temperature" in details:
        lines.append(
            f"- Class logits are divided by {details['temperature']:.3g}, {details['calibrated_on']}"
        )
    if band := band_line(details):
        lines.append(f"- {band}")
    if VOLUME_INTERVAL in details:
        lines += [
            f"- The interval of the total lesion volume, drawn by {' and '.join(sorted(told['digests']))}, is fitted on "
            f"{told['cases']} {told['origins']} cases: it held {100 * told['held']:.0f} % of the true volumes with their "
            "patient left out"
            for told in details[VOLUME_INTERVAL]
        ]
    for kind, told in details.get(WEIGHING, {}).items():
        shares = ", ".join(f"{name} {share:g}" for name, share in told["shares"].items())
        lines.append(
            f"- Shares in the mask of {kind} slices: {shares}{'; mirrored as well' if told['flips'] else ''}; logits times "
            f"{told['slope']:.3g}, {told['offset']:+.3g}"
        )
    lines += ["", "## Data", ""]
    lines += [f"- {s['what']}: {s['licence']}. {s['citation']}" for s in details["sources"]]
    for heading, figures in details["figures"].items():
        lines += ["", f"## Figures: {heading}", ""]
        lines += [f"- {name}: {_text(value)}" for name, value in figures.items()] or ["- none measured"]
    lines += ["", "## Limits", "", *(f"- {text}" for text in details["limitations"]), ""]
    return "\n".join(lines)


def _amount(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters >= 100_000 else f"{parameters / 1e3:.1f} k"


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {inner:.3g}" if isinstance(inner, float) else f"{key} {inner}"
            for key, inner in value.items()
        )
    return str(value)


def seen_patients(weights: str, folder: Path) -> set[str]:
    """Return the patients that had a part in a training: those of the card, and of the results folder if it is one.

    Raises
    ------
    DataSetError, WeightsError
        Card or ``config.json`` cannot be read.
    """
    told = set(card_details(weights, folder).get("seen_patients", ()))
    config = folder / CONFIG
    return told | set(read_json(config).get("seen_patients", ())) if config.exists() else told


def write_cards(weights: str, details: dict[str, object], read: str, folder: Path) -> None:
    """Write both cards of weights that lie in a folder; ``details`` as `card_details` gives them, changed.

    Parameters
    ----------
    read : str
        Input of the network; see `readme`.

    Raises
    ------
    DataSetError
        The folder cannot be written.
    """
    text = readme(details, read).replace("{digest}", str(details["digest"]))
    try:
        (folder / f"{weights}.json").write_text(
            json.dumps(details, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / f"{weights}.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataSetError(
            f"cannot write the cards in {folder}: {error.strerror}; give a copy of the weights"
        ) from error
