"""One member of the ensemble, trained by paper 0's recipe: Adam 3e-4, cross-entropy, batch 16, an early stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.fatsat.network import LESION, OpticNerveCNN
from pipelines.fatsat.settings import CropKind
from pipelines.training.fatsat.crops import EyeSet, augmented, centred
from pipelines.training.fatsat.recipe import EPOCHS
from pipelines.training.papers.optic_nerve_protocol import STOP_SHARE, balanced, scores, split
from pipelines.types import FloatArray

RATE = 3e-4
BATCH = 16
PATIENCE = 10
"""Epochs without a lower validation loss after which a training ends."""
Watch = Callable[[int, dict[str, float]], None]
"""Told of each epoch: its number, the losses."""


@dataclass
class Member:
    """A trained network and how it went.

    Parameters
    ----------
    network : OpticNerveCNN
        With the parameters of its best epoch.
    history : list of dict
        For each epoch: training and validation loss, validation balanced accuracy.
    eyes : int
        How many it learnt from.
    """

    network: OpticNerveCNN
    history: list[dict[str, float]] = field(default_factory=list)
    eyes: int = 0

    def save(self, path: Path) -> None:
        """Write the member; whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        content = {"state": self.network.state_dict(), "history": self.history, "eyes": self.eyes}
        torch.save(content, part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Member:
        """Read a member."""
        content = torch.load(path, weights_only=True)
        network = OpticNerveCNN()
        network.load_state_dict(content["state"])
        return cls(network.eval(), content["history"], content["eyes"])


def train_member(
    eyes: EyeSet,
    kind: CropKind,
    *,
    seed: int,
    epochs: int = EPOCHS,
    other_looks: bool = False,
    start: OpticNerveCNN | None = None,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Member:
    """Train one network on its own balanced sub-sample of the eyes.

    A fifth of the patients is kept out of it, and their loss ends the training and chooses the epoch [ours: the paper does not
    say by which eyes the final networks are stopped]. They differ from member to member, so the ensemble has seen all.

    Parameters
    ----------
    eyes : EyeSet
        All that may be learnt from.
    kind : "published" or "along-nerve"
    seed : int
        Of the sub-sample, the start and everything drawn.
    epochs : int
        At most.
    other_looks : bool
        Of phantoms: see `pipelines.training.fatsat.looks`.
    start : OpticNerveCNN, optional
        A trained network to go on from.
    """
    rng = np.random.default_rng((seed, 17))
    learnt, stopping = split(eyes.patients, eyes.labels, STOP_SHARE, rng)
    learnt, stopping = (balanced(eyes.labels, part, rng) for part in (learnt, stopping))
    torch.manual_seed(seed)
    network = OpticNerveCNN()
    if start is not None:
        network.load_state_dict(start.state_dict())
    network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    validation = centred(eyes.take(stopping), kind)
    truth = torch.from_numpy(eyes.labels[stopping]).to(device)
    member = Member(network, eyes=len(learnt))
    best, since = float("inf"), 0
    state = network.state_dict()
    for epoch in range(1, epochs + 1):
        loss = _epoch(network, optimizer, eyes, kind, rng.permutation(learnt), rng, other_looks)
        said = logits(network, validation)
        after = float(nn.functional.cross_entropy(said, truth))
        reached = scores(eyes.labels[stopping], torch.softmax(said, 1)[:, LESION].cpu().numpy())
        member.history.append(
            {"loss": loss, "validation loss": after, "validation score": reached["balanced accuracy"]}
        )
        if watch:
            watch(epoch, member.history[-1])
        since += 1
        if after < best:
            best, since = after, 0
            state = {key: value.detach().clone() for key, value in network.state_dict().items()}
        if since >= PATIENCE:
            break
    network.load_state_dict(state)
    network.eval().cpu()
    return member


def _epoch(
    network: OpticNerveCNN,
    optimizer: torch.optim.Optimizer,
    eyes: EyeSet,
    kind: CropKind,
    order: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
    rng: np.random.Generator,
    other_looks: bool,
) -> float:
    """Train on each eye once and return the mean loss."""
    network.train()
    device = next(network.parameters()).device
    total = 0.0
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        wide = eyes.crops[kind]
        batch = np.stack([augmented(wide[number], rng, other_looks=other_looks) for number in chosen])
        crops = _given(batch, device)
        labels = torch.from_numpy(eyes.labels[chosen]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(network(crops).float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(order)


@torch.inference_mode()
def logits(network: OpticNerveCNN, crops: FloatArray) -> Tensor:
    """Return the logits (n, 2) of z-scored crops (n, 13, 31, 40), in eval mode and float32."""
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(_given(crops[at : at + BATCH], device)) for at in range(0, len(crops), BATCH)])


def probability(network: OpticNerveCNN, crops: FloatArray) -> FloatArray:
    """Return the probability of a lesion of z-scored crops (n, 13, 31, 40)."""
    return np.asarray(torch.softmax(logits(network, crops), 1)[:, LESION].cpu().numpy(), dtype=np.float32)


def _given(crops: FloatArray, device: torch.device) -> Tensor:
    return torch.from_numpy(crops)[:, None].to(device).contiguous(memory_format=torch.channels_last_3d)
