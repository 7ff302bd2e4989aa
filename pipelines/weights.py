"""The weights that ship: safetensors files, each with a model card beside it.

``weights/<name>.safetensors`` holds the parameters in half precision, ``<name>.json`` the card that programs
read, ``<name>.md`` the same for people. Reading a card needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import WeightsError
from pipelines.types import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).with_suffix("")
"""Where the weights lie: the folder ``weights`` beside this module."""
LARGEST_BYTES = 16 * 1024 * 1024
"""A weight file is smaller than this."""
_REINSTALL = "reinstall dicom-node, or make it again with 'dicom-node models train'"


def card_details(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return everything that a model card says: data, licences, figures, limits.

    Raises
    ------
    WeightsError
        The card is missing or unreadable.
    """
    path = folder / f"{name}.json"
    try:
        details = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise WeightsError(f"no model card {path} (installed: {known}); {_REINSTALL}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"model card {path} cannot be read ({error}); {_REINSTALL}") from error
    missing = {"name", "version", "digest", "device_uid", "trained_on", "purpose"} - set(details)
    if missing:
        raise WeightsError(f"model card {path} lacks {', '.join(sorted(missing))}; {_REINSTALL}")
    return dict(details)


def card(name: str, folder: Path = FOLDER) -> ModelCard:
    """Return what a report says of a network; needs no torch.

    Raises
    ------
    WeightsError
        The card is missing, unreadable or incomplete.
    """
    details = card_details(name, folder)
    return ModelCard(
        name=str(details["name"]),
        version=str(details["version"]),
        digest=str(details["digest"]),
        device_uid=str(details["device_uid"]),
        trained_on=details["trained_on"],
        purpose=str(details["purpose"]),
    )


def installed(folder: Path = FOLDER) -> dict[str, str]:
    """Return the digest (sha256, hex) that each installed model card states, by name."""
    return {path.stem: card(path.stem, folder).digest for path in sorted(folder.glob("*.json"))}


def verify(folder: Path = FOLDER) -> str:
    """Check every weight file against its card, without torch, and return a line that says which there are.

    Raises
    ------
    WeightsError
        A file or card is missing, or a file is not the one that its card describes.
    """
    names = []
    for name in installed(folder):
        described, _ = _checked_content(name, folder)
        names.append(f"{described.name} {described.version} ({described.digest[:12]})")
    if not names:
        raise WeightsError(f"no model card in {folder}; {_REINSTALL}")
    return ", ".join(names)


def _checked_content(name: str, folder: Path) -> tuple[ModelCard, bytes]:
    described = card(name, folder)
    path = folder / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"no weight file {path}; {_REINSTALL}") from None
    except OSError as error:
        raise WeightsError(f"weight file {path} cannot be read ({error}); {_REINSTALL}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != described.digest:
        raise WeightsError(
            f"weight file {path} is not what its card says (sha256 {found[:12]}, not {described.digest[:12]}); {_REINSTALL}"
        )
    return described, content


def load_weights(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], ModelCard]:
    """Read a network's parameters, checked against their card.

    Returns
    -------
    state : dict of str to float32 Tensor
        For `torch.nn.Module.load_state_dict`, on the CPU.
    card : ModelCard

    Raises
    ------
    WeightsError
        The file or the card is missing, or the file is not the one that the card describes.
    """
    from safetensors.torch import load  # noqa: PLC0415 (cards are read where torch is not wanted)

    described, content = _checked_content(name, folder)
    return {key: tensor.float() for key, tensor in load(content).items()}, described


def save_weights(
    name: str, state: Mapping[str, Tensor], details: Mapping[str, Any], readme: str, folder: Path = FOLDER
) -> ModelCard:
    """Write parameters in half precision, and both cards.

    Parameters
    ----------
    state : mapping of str to Tensor
    details : mapping
        What the card says, without the digest.
    readme : str
        The card for people, Markdown; ``{digest}`` in it becomes the digest.

    Raises
    ------
    WeightsError
        The file would be larger than `LARGEST_BYTES`.
    """
    from safetensors.torch import save  # noqa: PLC0415

    content = save({key: tensor.detach().half().contiguous().cpu() for key, tensor in state.items()})
    if len(content) > LARGEST_BYTES:
        raise WeightsError(f"weights of {name} take {len(content)} bytes, more than {LARGEST_BYTES}")
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(content)
    text = json.dumps({**details, "name": name, "digest": digest}, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(readme.replace("{digest}", digest), encoding="utf-8")
    return card(name, folder)
