"""The network that draws the lesion mask: nnU-Net's plain U-Net, in MONAI's implementation.

MONAI is imported with the first network: it takes seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.intensity import BACKGROUND

NNUNET = "nnunet"
"""Its name on model cards."""
NNUNET_STEP = 16
"""Its edges are multiples of it."""
PRIOR_LOGIT = -4.0
"""[ours] Start of the full-size head's bias, in every segmentation network: lesions are rare."""


class SegmentationNetwork(nn.Module):
    """A network between volumes of one channel, with one interface for all kinds.

    Parameters
    ----------
    network : Module
        From (B, 1, n, n, n) to logits of that shape, or in training to (B, heads, 1, n, n, n), full-size head first.
    step : int
        The edges that it takes are multiples of this, and at least two of them. Other volumes are padded with air and
        their logits cut back.
    """

    def __init__(self, network: nn.Module, step: int) -> None:
        super().__init__()
        self.network = network
        self.step = step

    def forward(self, volume: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run on normalised volumes.

        Parameters
        ----------
        volume : Tensor, shape (B, 1, D, D, D)
            From `pipelines.flair.intensity.normalise`; axes (k, j, i), 1.2 mm.

        Returns
        -------
        Tensor, or tuple of Tensor, shapes (B, 1, D, D, D)
            Logits of lesion; in training those of every head, the full-size one first.
        """
        size = volume.shape[2:]
        missing = [max(2 * self.step, -(-n // self.step) * self.step) - n for n in size]
        pads = [m for n in reversed(missing) for m in (n // 2, n - n // 2)]
        output = self.network(functional.pad(volume, pads, value=BACKGROUND) if any(pads) else volume)
        kept = getattr(self.network, "heads", None)
        if isinstance(kept, list):
            # DynUNet keeps the activations of its last run: memory, and a network that cannot be copied.
            kept[:] = [torch.empty(0) for _ in kept]
        inner = tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, size, strict=True))
        if not self.training:
            return output[(..., *inner)]  # type: ignore[no-any-return]
        heads = output.unbind(1) if output.dim() == 6 else (output,)
        return tuple(head[(..., *inner)] for head in heads)


def nnunet(*, small: bool = False) -> SegmentationNetwork:
    """Return nnU-Net's plain U-Net with random weights: (B, 1, D, D, D) normalised to logits of lesion.

    MONAI's DynUNet of five levels (16 to 192 channels), two deep-supervision heads, [ours] batch norm, half of nnU-Net's
    widths; 4.6 M parameters.

    Parameters
    ----------
    small : bool
        A narrow variant of the same class, for tests.

    References
    ----------
    Isensee et al., Nat Methods 2021.
    """
    from monai.networks.nets import DynUNet  # noqa: PLC0415

    filters = (4, 6, 8, 10, 12) if small else (16, 32, 64, 128, 192)
    levels = len(filters)
    network: nn.Module = DynUNet(
        3,
        1,
        1,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=filters,
        # [ours] nnU-Net has instance norm. It stretches each image to the same spread, so that the brightest cortex of a brain
        # without lesions looks like a lesion; the volume comes on an absolute scale, and batch norm keeps it.
        norm_name="BATCH",
        deep_supervision=True,
        deep_supr_num=2,
    )
    nn.init.constant_(network.get_submodule("output_block.conv.conv").bias, PRIOR_LOGIT)  # type: ignore[arg-type]
    return SegmentationNetwork(network, NNUNET_STEP)
