"""The network that tells MS from NMOSD by the features of a lesion mask."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.errors import PipelineError
from pipelines.flair.joint.network import CLASSES
from pipelines.flair.pattern.features import NAMES
from pipelines.flair.settings import PATTERN_WEIGHTS
from pipelines.types import FloatArray
from pipelines.weights import FOLDER, load_weights

HIDDEN = 32
LIMIT = 3.0
"""Features are limited to so many standard deviations: no patient is told by one of them that hardly any other has."""


class PatternNetwork(nn.Module):
    """A perceptron with one hidden layer: (B, len(NAMES)) features to (B, 2) logits of MS and NMOSD.

    Mean and spread of the features, over the cases that it was trained on, are kept with it.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(NAMES)))
        self.register_buffer("spread", torch.ones(len(NAMES)))
        self.hidden = nn.Linear(len(NAMES), HIDDEN)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(HIDDEN, len(CLASSES))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        scaled = ((features - self.mean) / self.spread).clamp(-LIMIT, LIMIT)
        logits: Tensor = self.last(self.drop(torch.relu(self.hidden(scaled))))
        return logits


class PatternModel:
    """The network with its weights, ready to be asked.

    Parameters
    ----------
    folder : Path
        Of the weights.

    Raises
    ------
    WeightsError
        The weights or their card are missing or damaged.
    PipelineError
        The weights are of another network.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        state, self.card = load_weights(PATTERN_WEIGHTS, folder)
        self._network = PatternNetwork()
        try:
            self._network.load_state_dict(state)
        except RuntimeError as error:
            raise PipelineError(
                f'weights "{PATTERN_WEIGHTS}" do not fit the network of this version'
            ) from error
        self._network.eval()

    @torch.inference_mode()
    def __call__(self, features: FloatArray) -> FloatArray:
        """Return the logits of MS and NMOSD, float32, shape (2,), not calibrated.

        Parameters
        ----------
        features : float32 array, shape (len(NAMES),)
            See `pattern_features`.
        """
        logits: FloatArray = self._network(torch.from_numpy(features)[None])[0].numpy()
        return logits
