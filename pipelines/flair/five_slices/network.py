"""The ResNet18 of paper 1: five slices as the channels of one image, two classes."""

from __future__ import annotations

from monai.networks.nets.resnet import ResNet, resnet18

CLASSES = ("MS", "NMOSD")
"""The network's outputs; NMOSD is the positive class [ours]."""
SMALL = 0.125
"""Share of the channels that the tiny variant keeps."""


def five_slice_network(*, small: bool = False) -> ResNet:
    """Return the network with random weights: (B, 5, 128, 128) normalised slices to (B, 2) logits of MS and NMOSD.

    ResNet18 in 2D with its 7x7 first convolution of stride 2 and its max pooling, so that 128 becomes 64, 32, 32, 16, 8
    and 4: the last convolution gives 512 maps of 4x4, a cell for each 48 mm. 11.2 M parameters (22 MB in half precision).

    Parameters
    ----------
    small : bool
        An eighth of the channels (64 last maps, 0.18 M parameters), for tests.

    References
    ----------
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, table 1; MONAI's implementation.
    """
    return resnet18(
        spatial_dims=2,
        n_input_channels=5,
        num_classes=len(CLASSES),
        conv1_t_size=7,
        conv1_t_stride=2,  # MONAI's own default is 1, which would end at 8x8
        widen_factor=SMALL if small else 1.0,
    )
