"""The 3D CNN of paper 0 (NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187), as in the authors' code."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from pipelines.fatsat.crop_grid import SEEN

NAME = "optic-nerve-cnn"
LESION = 1
"""The class of an optic nerve with a lesion; 0: healthy."""
DROPOUT = 0.1


class OpticNerveCNN(nn.Module):
    """Two valid convolutions, each followed by pooling, then an average over the crop and two dense layers; 256,642 parameters.

    The text has a softmax over two classes, the code a single sigmoid: two-way softmax here, which is equivalent.

    Shapes: (B, 1, 13, 31, 40) to logits (B, 2); (64, 5, 14, 19) after the first pooling, (128, 1, 6, 8) after the second. The
    poolings drop what does not fill a window, so that the last three slices, the lowest row and the two most nasal columns
    never reach the output: a lesion more than 24 mm behind the junction is not seen, whatever the crop holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 64, 3),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Dropout(DROPOUT),
            nn.Conv3d(64, 128, 3),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Dropout(DROPOUT),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )
        self.classes = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(256, 2))

    def forward(self, crops: Tensor) -> Tensor:
        """Return the logits (B, 2) of z-scored crops (B, 1, 13, 31, 40)."""
        # What would be dropped is not computed: the same answer in two thirds of the time.
        k, j, i = SEEN
        return cast(Tensor, self.classes(self.features(crops[:, :, :k, :j, :i])))
