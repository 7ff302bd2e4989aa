"""The weights that ship: safetensors files, each with a model card beside it.

``weights/<name>.safetensors`` holds the parameters in half precision, or those of its layers as integers of 8 bits with a scale
for each output channel, ``<name>.json`` the card that programs read, ``<name>.md`` the same for people. Reading a card needs no
torch. Parameters too many for one file lie in several (shards), ``<name>-00001-of-00002.safetensors`` and so on; the card
says how many.
"""

from __future__ import annotations

import hashlib
import json
import re
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
"""A weight file is no larger than this."""
SHIPPED_BYTES = 60_000_000
"""All weight files that ship together are smaller than this."""

SCALE = "{key}/scale"
"""Name of the scales of a tensor of integers, shape (output channels)."""
_EIGHT_BITS_FROM = 4096
"""Parameters from which a layer's tensor is worth it."""
EIGHT_BITS = "eight bits"
"""What a card says of such parameters under ``stored``."""


def _way_out(folder: Path) -> str:
    """Return what to do about weights that are missing or damaged: a folder of one's own cannot be reinstalled."""
    if folder == FOLDER:
        return "reinstall dicom-node, or make it again with 'dicom-node models train'"
    return "name another folder, or make it again with 'dicom-node models train'"


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
        raise WeightsError(f"no model card {path} (installed: {known}); {_way_out(folder)}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"model card {path} cannot be read ({error}); {_way_out(folder)}") from error
    missing = {"name", "version", "digest", "device_uid", "trained_on", "purpose"} - set(details)
    if missing:
        raise WeightsError(f"model card {path} lacks {', '.join(sorted(missing))}; {_way_out(folder)}")
    return dict(details)


def card(name: str, folder: Path = FOLDER) -> ModelCard:
    """Return what a report says of a network; needs no torch.

    Raises
    ------
    WeightsError
        The card is missing, unreadable or incomplete, or its undecided band is none.
    """
    details = card_details(name, folder)
    return ModelCard(
        name=str(details["name"]),
        version=str(details["version"]),
        digest=str(details["digest"]),
        device_uid=str(details["device_uid"]),
        trained_on=details["trained_on"],
        purpose=str(details["purpose"]),
        classes_trained_on=details.get("classes_trained_on"),
        undecided=_undecided(name, details, folder),
    )


def _undecided(name: str, details: Mapping[str, Any], folder: Path) -> tuple[float, float] | None:
    stated = details.get("undecided")
    if stated is None:
        return None
    try:
        low, high = (float(value) for value in stated)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0.0 <= low <= high <= 1.0:
        raise WeightsError(
            f"model card {folder / name}.json states undecided = {stated!r}: two probabilities, rising, are due; "
            f"{_way_out(folder)}"
        )
    return low, high


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
        raise WeightsError(f"no model card in {folder}; {_way_out(folder)}")
    return ", ".join(names)


def _files(name: str, shards: int, folder: Path) -> list[Path]:
    if shards == 1:
        return [folder / f"{name}.safetensors"]
    return [folder / f"{name}-{n:05d}-of-{shards:05d}.safetensors" for n in range(1, shards + 1)]


def _checked_content(name: str, folder: Path) -> tuple[ModelCard, list[bytes]]:
    described = card(name, folder)
    shards = card_details(name, folder).get("shards", 1)
    if not isinstance(shards, int) or shards < 1:
        raise WeightsError(f"model card {folder / name}.json states {shards!r} shards; {_way_out(folder)}")
    paths = _files(name, shards, folder)
    contents = []
    digest = hashlib.sha256()
    for path in paths:
        try:
            contents.append(path.read_bytes())
        except FileNotFoundError:
            raise WeightsError(f"no weight file {path}; {_way_out(folder)}") from None
        except OSError as error:
            raise WeightsError(f"weight file {path} cannot be read ({error}); {_way_out(folder)}") from error
        digest.update(contents[-1])
    found = digest.hexdigest()
    if found != described.digest:
        which = (
            f"weight file {paths[0]}"
            if shards == 1
            else f"one of the weight files {paths[0]} to {paths[-1].name}"
        )
        raise WeightsError(
            f"{which} is not what its card says (sha256 {found[:12]}, not {described.digest[:12]}); {_way_out(folder)}"
        )
    return described, contents


def load_weights(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], ModelCard]:
    """Read a network's parameters, checked against their card.

    Returns
    -------
    state : dict of str to Tensor
        For `torch.nn.Module.load_state_dict`, on the CPU: float32, and counters as they were.
    card : ModelCard

    Raises
    ------
    WeightsError
        A file or the card is missing, or the files are not those that the card describes.
    """
    from safetensors.torch import load  # noqa: PLC0415 (cards are read where torch is not wanted)

    described, contents = _checked_content(name, folder)
    stored: dict[str, Tensor] = {}
    for content in contents:
        stored |= load(content)
        stored |= {alias: stored[key] for alias, key in _aliases(content).items()}
    return _restored(stored), described


def _restored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file as a network takes them."""
    scales = {key: SCALE.format(key=key) for key in stored}
    state = {}
    for key, value in stored.items():
        if key in scales.values():
            continue
        scale = stored.get(scales[key])
        if scale is not None:
            state[key] = value.float() * scale.float().view(-1, *[1] * (value.dim() - 1))
        else:
            state[key] = value.float() if value.is_floating_point() else value
    return state


def _in_eight_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters with the large tensors as integers from -127 to 127, and a scale for each output channel."""
    import torch  # noqa: PLC0415

    stored: dict[str, Tensor] = {}
    for key, given in state.items():
        tensor = given.detach().cpu()
        if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < _EIGHT_BITS_FROM:
            stored[key] = tensor
            continue
        largest = tensor.float().abs().flatten(1).amax(dim=1)
        scale = (largest.clamp_min(1e-6) / 127).half()
        rows = scale.float().view(-1, *[1] * (tensor.dim() - 1))
        stored[key] = (tensor.float() / rows).round().clamp(-127, 127).to(torch.int8)
        stored[SCALE.format(key=key)] = scale
    return stored


def _aliases(content: bytes) -> dict[str, str]:
    """Return the names under which a safetensors file's tensors are meant to stand a second time."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(json.loads(header.get("__metadata__", {}).get("aliases", "{}")))


def _stored(name: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return parameters in half precision, and for each that equals an earlier one that one's name."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    for key, given in state.items():
        tensor = given.detach().cpu()
        tensor = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"{key} of {name} is not finite in half precision; train it again")
        content = hashlib.sha256(tensor.numpy().tobytes()).digest()
        first = seen.setdefault((str(tensor.dtype), tuple(tensor.shape), content), key)
        if first == key:
            tensors[key] = tensor
        else:
            aliases[key] = first
    return tensors, aliases


def _shards(name: str, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> list[bytes]:
    """Return the content of each file, tensors in their order."""
    from safetensors.torch import save  # noqa: PLC0415

    groups: list[dict[str, Tensor]] = [{}]
    taken = 0
    for key, tensor in tensors.items():
        again = [alias for alias, first in aliases.items() if first == key]
        # A file's header takes some hundred bytes, and for each entry its name, type, shape and place.
        cost = tensor.nbytes + sum(len(text.encode()) + 128 for text in (key, *again, *([key] * len(again))))
        if groups[-1] and taken + cost > LARGEST_BYTES - 512:
            groups.append({})
            taken = 0
        groups[-1][key] = tensor
        taken += cost
    contents = []
    for group in groups:
        own = {alias: key for alias, key in aliases.items() if key in group}
        # One entry: safetensors writes several in an order that differs from run to run, and the digest with it.
        content = save(group, {"aliases": json.dumps(own)} if own else None)
        if len(content) > LARGEST_BYTES:
            largest = max(group, key=lambda key: group[key].nbytes)
            raise WeightsError(
                f"{largest} of {name} alone takes {group[largest].nbytes} bytes, more than {LARGEST_BYTES}"
                " with its header: a narrower network is needed"
            )
        contents.append(content)
    return contents


def save_weights(
    name: str, state: Mapping[str, Tensor], details: Mapping[str, Any], readme: str, folder: Path = FOLDER
) -> ModelCard:
    """Write parameters, each once, in as many files as needed, and both cards.

    They are stored as the card says, in half precision by default.

    Files that an earlier network of this name left are removed.

    Parameters
    ----------
    state : mapping of str to Tensor
        Integers (counters of batch norms) stay as they are.
    details : mapping
        What the card says, without digest and number of shards. ``stored``: "eight bits" halves the size again; a layer's
        weights then err by a 254th of the largest of their channel at most.
    readme : str
        The card for people, Markdown; ``{digest}`` in it becomes the digest.

    Raises
    ------
    WeightsError
        A single tensor would make a file larger than `LARGEST_BYTES`, or a parameter is not finite in half precision.
    """
    kept = _in_eight_bits(state) if details.get("stored") == EIGHT_BITS else state
    contents = _shards(name, *_stored(name, kept))
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    paths = _files(name, len(contents), folder)
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    for stale in _all_files(name, folder):
        if stale not in paths:
            stale.unlink()
    described = {**details, "name": name, "digest": digest}
    described.pop("shards", None)
    if len(paths) > 1:
        described["shards"] = len(paths)
    text = json.dumps(described, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(readme.replace("{digest}", digest), encoding="utf-8")
    return card(name, folder)


def _all_files(name: str, folder: Path) -> list[Path]:
    numbered = re.compile(re.escape(name) + r"(-\d{5}-of-\d{5})?\.safetensors")
    return [path for path in folder.glob("*.safetensors") if numbered.fullmatch(path.name)]
