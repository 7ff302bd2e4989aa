"""A trained network as weights with a model card that says plainly what they are, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pipelines.errors import WeightsError
from pipelines.training.cards import CLASSIFIER_LIMIT, NOT_CALIBRATED, VERSION, device_uid, readme
from pipelines.training.flair.recipes import JOINT, Kind, ablation_of, check_name
from pipelines.training.flair.task import Task
from pipelines.training.flair.task_by_name import make_task
from pipelines.weights import card_details, load_weights, save_weights

_MASK = "White matter lesions on brain FLAIR"
_CLASS = "MS versus NMOSD"
PURPOSES: dict[Kind, str] = {
    "joint": f"{_MASK}, {_CLASS}; research use only",
    "segmentation": f"{_MASK}; research use only",
    "classification": f"{_CLASS} on brain FLAIR; research use only",
    "five-slices": f"{_CLASS} from five slices of a brain FLAIR; research use only",
}
_PAPER_THREE = "Front Neurosci 2024, doi:10.3389/fnins.2024.1351387"
REFERENCES: dict[Kind, str] = {
    "joint": _PAPER_THREE,
    "segmentation": f"compared in {_PAPER_THREE}; MONAI's implementation",
    "classification": f"compared in {_PAPER_THREE}; MONAI's implementation",
    "five-slices": "ResNet18 on five FLAIR slices, in the protocol of paper 1; MONAI's implementation",
}
_CUBE_INPUT = (
    "FLAIR, brain-extracted, bias-corrected, 160 voxels of 1.2 mm towards Superior, Posterior, Left, normalised by "
    "`pipelines.flair.intensity.normalise`"
)
INPUTS: dict[Kind, str] = {
    "joint": _CUBE_INPUT,
    "segmentation": f"{_CUBE_INPUT}; the brain's box of it",
    "classification": f"{_CUBE_INPUT}; averaged over 2x2x2 voxels",
    "five-slices": "five axial slices of 128x128 pixels, `pipelines.flair.five_slices.slices`",
}

PARTLY_SYNTHETIC_CLASSES = (
    "A part of what the classification has learnt is synthetic: written priors of where MS and NMOSD "
    "lesions lie."
)
SYNTHETIC_LIMIT = "Every training image is synthetic. No real FLAIR image was seen."


def weights_name(name: str) -> str:
    """Return the name under which a network's weights lie, if not told otherwise."""
    return name.replace(":", "-")


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
    name: str = JOINT,
    weights: str | None = None,
    temperature: float | None = None,
    calibrated_on: str = "",
    real_classes: bool = False,
    seen: Sequence[str] = (),
    small: bool = False,
) -> Path:
    """Write weights and cards.

    Parameters
    ----------
    network : Module
    folder : Path
    provenance : "synthetic", "real" or "real and synthetic"
    sources : sequence of mappings
        From `sources_of`.
    figures : mapping of heading to figures
        Of real and of synthetic cases under headings of their own.
    limitations : sequence of str
        Beside those that hold for every training here.
    threshold : float
        Of the lesion probability; stated where the network segments.
    name : str
        Of the network; see `recipes.NAMES`.
    weights : str, optional
        Name of the weights, "nnunet"; that of the network by default.
    temperature : float, optional
        See `pipelines.flair.calibration`; None: not calibrated.
    calibrated_on : str
        "fitted on 40 synthetic cases that it has not learnt from".
    real_classes : bool
        Labelled patients are among those that the classes come from.
    seen : sequence of str
        Patients that have a part in the training; their figures stand under a heading of their own.
    small : bool
        The tiny variant for tests.

    Returns
    -------
    Path
        The card for programs.

    Raises
    ------
    WeightsError
        There is no such network, or a file would be too large.
    """
    kind = check_name(name)
    segments, classifies = _abilities(name, kind)
    priors_alone = segments and classifies and not real_classes
    weights = weights or weights_name(name)
    details: dict[str, Any] = {
        "version": version,
        "device_uid": device_uid(weights),
        "network": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_on": provenance,
        **({"classes_trained_on": "synthetic"} if priors_alone and provenance != "synthetic" else {}),
        "purpose": PURPOSES[kind],
        **({"threshold": threshold} if segments else {}),
        **({"calibrated": temperature is not None} if classifies else {}),
        **({} if temperature is None else {"temperature": temperature, "calibrated_on": calibrated_on}),
        **({"seen_patients": sorted(seen)} if seen else {}),
        **({"small": True} if small else {}),
        "licence": "Apache-2.0",
        "reference": REFERENCES[kind],
        "sources": list(sources),
        "figures": figures,
        "limitations": [
            *limitations,
            *_limits(provenance, classifies=classifies, real_classes=real_classes, temperature=temperature),
        ],
    }
    card = readme({**details, "name": weights}, INPUTS[kind])
    save_weights(weights, network.state_dict(), details, card, folder)
    return folder / f"{weights}.json"


def _limits(provenance: str, *, classifies: bool, real_classes: bool, temperature: float | None) -> list[str]:
    """Return what the kind of the training says of its weights."""
    limits = [SYNTHETIC_LIMIT] if provenance == "synthetic" else []
    if classifies and not real_classes:
        limits.append(CLASSIFIER_LIMIT)
    elif classifies and provenance != "real":
        limits.append(PARTLY_SYNTHETIC_CLASSES)
    if classifies and temperature is None:
        limits.append(NOT_CALIBRATED)
    return limits


def _abilities(name: str, kind: Kind) -> tuple[bool, bool]:
    only = ablation_of(name)
    segments = kind in {"joint", "segmentation"} and only != "only-classification"
    return segments, kind != "segmentation" and only != "only-segmentation"


def restore(weights: str, folder: Path, device: str) -> tuple[Task, dict[str, Any]]:
    """Return the task with its network, on a device in eval mode, from weights that `export` wrote; and their card.

    Raises
    ------
    WeightsError
        Weights or card are missing or damaged, or do not fit their network.
    """
    state, _ = load_weights(weights, folder)
    details = card_details(weights, folder)
    name = str(details.get("network", weights))
    task = make_task(name, small=bool(details.get("small", False)))
    fit(task, state, weights)
    task.network.eval().requires_grad_(False).to(device)
    return task, details


def fit(task: Task, state: Mapping[str, Any], weights: str) -> None:
    """Put parameters into a task's network.

    Raises
    ------
    WeightsError
        They are of another network.
    """
    try:
        task.network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise WeightsError(f'weights "{weights}" do not fit the network {task.name}') from error


def weights_of(name: str, folder: Path) -> list[str]:
    """Return the weights in a folder that are of a network: one set, or the members of an ensemble.

    Raises
    ------
    WeightsError
        There is no such network, or the folder has no weights of it.
    """
    check_name(name)
    # A results folder holds other JSON; a card has its Markdown beside it.
    stems = sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".md").exists())
    found = [s for s in stems if card_details(s, folder).get("network", s) == name]
    if not found:
        raise WeightsError(
            f"no weights of {name} in {folder}; make them with 'dicom-node models train {name} --out FOLDER'"
        )
    return found
