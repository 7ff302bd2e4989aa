"""The ensemble's weights with a model card that says plainly what they are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.fatsat.crop_grid import SHAPE, SPACING_MM
from pipelines.fatsat.ensemble import stacked
from pipelines.fatsat.network import NAME, OpticNerveCNN
from pipelines.fatsat.settings import WEIGHTS, CropKind
from pipelines.training.cards import LABEL_MAPS
from pipelines.training.fatsat.crops import EyeSet
from pipelines.training.fatsat.phantoms import heads_in
from pipelines.weights import card_details, save_weights

VERSION = "0.2.0"
_NAMESPACE = uuid.UUID("6b1d6cf2-4d0c-4ac5-9f5c-3f4b1f0a0d57")
PURPOSE = "Optic-nerve lesions on coronal fat-suppressed T2; research use only"
REFERENCE = "NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187"
GEOMETRY = {
    "what": "phantoms of orbits from geometry alone",
    "licence": "Apache-2.0",
    "citation": "made by this program",
}
SYNTHETIC_LIMITS = (
    "No real FAT-SAT image was seen, healthy or ill: every training image is a phantom.",
    "What it has learnt is how this program draws lesions, nerves, vessels, sheaths, noise and failed fat suppression. "
    "What it says of a patient's nerve has no known accuracy: neither a high nor a low probability may be relied on.",
    "Published figures of the method (68 % balanced accuracy on its own scanner, 64 % on another) were reached on patients, "
    "ours on phantoms: they cannot be compared.",
    "Before any use: train on a hospital's own labelled series ('dicom-node models train fatsat --data FOLDER') and "
    "test on its own patients.",
)
LIMITS = (
    "The probability is a mean of softmax outputs and not calibrated: training is balanced, patients are not.",
    "Faint lesions are missed: see the figures by contrast, where there are any.",
    "The published network never sees the last three slices of its crop: lesions more than 24 mm behind the globe, in the "
    "optic canal or in the chiasm are missed, whatever their contrast.",
)
CROP_LIMITS: dict[CropKind, str] = {
    "published": "The crop is fixed: the nerve beyond some 20 mm behind the globe is often outside; each report states the "
    "share that is inside.",
    "along-nerve": "The crop follows the nerve as it was found: where its course is wrong, so is the crop.",
}


def sources_of(data: Path | None, eyes: EyeSet, origin: str) -> list[dict[str, str]]:
    """Return what a training drew on."""
    if data is not None and heads_in(data) is None:
        what = f"{len(eyes)} eyes of the data set {data.name} ({origin})"
        return [{"what": what, "licence": "its owner's", "citation": "none"}]
    if data is None:
        return [GEOMETRY]
    heads = sorted({str(name) for name in eyes.patients})
    return [{**LABEL_MAPS, "what": f"orbits of {len(heads)} {LABEL_MAPS['what']} ({', '.join(heads)})"}]


def export(
    networks: Sequence[OpticNerveCNN],
    folder: Path,
    *,
    crop: CropKind,
    origin: str,
    data: Path | None,
    eyes: EyeSet,
    threshold: float,
    figures: Mapping[str, Mapping[str, object]],
    earlier: Mapping[str, Any] | None = None,
) -> Path:
    """Write weights and cards, and return the card for programs.

    Parameters
    ----------
    origin : "synthetic", "real" or "real and synthetic"
        Of the eyes.
    figures : mapping of heading to figures
        Of real and of synthetic eyes under headings of their own.
    earlier : mapping, optional
        The card of the weights that the training went on from: what these have seen, the new ones have seen, too.

    Raises
    ------
    WeightsError
        A parameter is not finite, or there are too many members for one file.
    """
    name = WEIGHTS[crop]
    limits = [*(SYNTHETIC_LIMITS if origin == "synthetic" else ()), CROP_LIMITS[crop], *LIMITS]
    sources = sources_of(data, eyes, origin)
    seen = set() if origin == "synthetic" else set(eyes.patients.tolist())
    if earlier is not None:
        sources += [source for source in earlier["sources"] if source not in sources]
        seen |= set(earlier.get("seen_patients", ()))
        if earlier["trained_on"] != origin:
            origin = "real and synthetic"
        limits.append(f"Its members went on from those of weights {earlier['digest'][:12]}.")
    details: dict[str, Any] = {
        "name": name,
        "version": VERSION,
        "device_uid": f"2.25.{uuid.uuid5(_NAMESPACE, name).int}",
        "network": NAME,
        "crop": crop,
        "members": len(networks),
        "parameters": len(networks) * sum(p.numel() for p in networks[0].parameters()),
        "trained_on": origin,
        "purpose": PURPOSE,
        "threshold": threshold,
        "calibrated": False,
        **({} if origin == "synthetic" else {"seen_patients": sorted(seen)}),
        "licence": "Apache-2.0",
        "reference": REFERENCE,
        "sources": sources,
        "learnt": {
            "eyes": len(eyes),
            "with a lesion": int(eyes.labels.sum()),
            "patients": len(set(eyes.patients.tolist())),
            "scanners": sorted(set(eyes.scanners.tolist())),
        },
        "figures": figures,
        "limitations": limits,
    }
    save_weights(name, stacked(list(networks)), details, readme(details), folder)
    return folder / f"{name}.json"


def figures_for_card(found: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Return the figures of an evaluation (`evaluation.Evaluation.figures`) as they stand on a card."""
    figures: dict[str, dict[str, object]] = {}
    for heading, group in found["groups"].items():
        figures[heading] = {
            name: {key: round(float(value), 3) for key, value in reached.items()}
            for name, reached in group.items()
        }
    if "junctions" in found:
        (heading,) = found["groups"]
        figures[heading] |= {
            **{
                f"{name}, mm": {key: round(float(value), 3) for key, value in found[name].items()}
                for name in ("junctions", "junctions with a lesion in every eye")
            },
            **{
                f"balanced accuracy by lesion contrast, {name}": {
                    f"{contrast:g}": round(float(value), 3) for contrast, value in curve.items()
                }
                for name, curve in found["contrast"].items()
            },
            "balanced accuracy by members": {
                f"{point['members']:.0f}": round(float(point["mean"]), 3) for point in found["members"]
            },
            "targets": [target["text"] for target in found["targets"]],
        }
    return figures


def add_figures(folder: Path, crop: CropKind, figures: Mapping[str, Mapping[str, object]]) -> None:
    """Put figures on the cards of weights that are there, in place of those of the same headings.

    Raises
    ------
    WeightsError
        There is no such card.
    """
    name = WEIGHTS[crop]
    details = card_details(name, folder)
    details["figures"] = {**details["figures"], **figures}
    text = json.dumps(details, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    card = readme(details).replace("{digest}", str(details["digest"]))
    (folder / f"{name}.md").write_text(card, encoding="utf-8")


def readme(details: Mapping[str, Any]) -> str:
    """Return the model card for people, in Markdown, with ``{digest}`` in the digest's place."""
    learnt = details["learnt"]
    lines = [
        f"# {details['name']} {details['version']}",
        "",
        f"{details['purpose']}. {details['members']} networks `{details['network']}`, "
        f"{details['parameters'] / 1e6:.1f} M parameters in half precision; {details['reference']}.",
        "",
        f"**Trained on {details['trained_on']} data; no clinical accuracy known.**",
        "",
        f"- Weights `{details['name']}*.safetensors`, sha256 `{{digest}}`",
        f"- Device UID {details['device_uid']}",
        f'- Input: crop "{details["crop"]}" around each optic nerve, {SHAPE[2]} x {SHAPE[1]} x {SHAPE[0]} voxels of '
        f"{SPACING_MM[2]:g} x {SPACING_MM[1]:g} x {SPACING_MM[0]:g} mm, z-scored, `pipelines.fatsat.crop`",
        f"- Positive where the mean probability of the members reaches {details['threshold']}",
        f"- Learnt from {learnt['eyes']} eyes, {learnt['with a lesion']} with a lesion, of {learnt['patients']} patients or "
        f"heads; scanner {', '.join(learnt['scanners'])}",
        "",
        "## Data",
        "",
        *(f"- {s['what']}: {s['licence']}. {s['citation']}" for s in details["sources"]),
    ]
    for heading, figures in details["figures"].items():
        lines += ["", f"## Figures: {heading}", ""]
        lines += [f"- {name}: {_text(value)}" for name, value in figures.items()] or ["- none measured"]
    lines += ["", "## Limits", "", *(f"- {text}" for text in details["limitations"]), ""]
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {inner:g}" if isinstance(inner, float) else f"{key} {inner}"
            for key, inner in value.items()
        )
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
