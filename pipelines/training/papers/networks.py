"""The networks that paper 3 compares the joint one with, by name; all but one are MONAI's.

Each starts from random weights. MONAI is imported with the first network: it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.errors import PipelineError
from pipelines.flair.networks import NNUNET, PRIOR_LOGIT, SegmentationNetwork, nnunet
from pipelines.training.extra import package

SEGMENTATION = (NNUNET, "unet3d", "vnet", "attention-unet", "swin-unetr")
"""Networks for lesion masks."""
CLASSIFICATION = ("resnet50", "resnet101", "resnet152", "densenet121", "senet50", "squeezenet")
"""Networks for MS against NMOSD."""
CLASSES = 2
"""Outputs of a classification network: MS, NMOSD."""
_FILTERS = (16, 32, 64, 128)
_NARROW = (4, 6, 8, 10)


def _unet(small: bool) -> nn.Module:
    from monai.networks.nets import UNet  # noqa: PLC0415

    channels = (*_NARROW, 12) if small else (*_FILTERS, 256)
    # [ours] A 1x1x1 head of its own: MONAI's would put an instance norm on the single channel of the output.
    body = UNet(3, 1, channels[0], channels=channels, strides=(2, 2, 2, 2), num_res_units=2, norm="INSTANCE")
    return nn.Sequential(body, nn.Conv3d(channels[0], 1, 1))


def _vnet(small: bool) -> nn.Module:
    from monai.networks.nets import VNet  # noqa: PLC0415

    network: nn.Module = VNet(3, 1, 1)  # MONAI fixes its widths
    return network


def _attention_unet(small: bool) -> nn.Module:
    from monai.networks.nets import AttentionUnet  # noqa: PLC0415

    channels = (*_NARROW, 12) if small else (*_FILTERS, 256)
    network: nn.Module = AttentionUnet(3, 1, 1, channels=channels, strides=(2, 2, 2, 2))
    return network


def _swin_unetr(small: bool) -> nn.Module:
    from monai.networks.nets import SwinUNETR  # noqa: PLC0415

    package("einops")  # MONAI's SwinUNETR says no more than that an optional import failed
    tiny = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 2}
    network: nn.Module = SwinUNETR(1, 1, **(tiny if small else {"feature_size": 48}))
    return network


_SEGMENTATION: dict[str, tuple[Callable[[bool], nn.Module], int, str]] = {
    "unet3d": (_unet, 16, "1"),
    "vnet": (_vnet, 16, "out_tr.conv2"),
    "attention-unet": (_attention_unet, 16, "model.2.conv"),
    "swin-unetr": (_swin_unetr, 32, "out.conv.conv"),
}
"""Builder, step of the edges and last convolution of each by its name; `nnunet`, which ships, has its own."""


def segmentation_network(name: str, *, small: bool = False) -> SegmentationNetwork:
    """Return a segmentation network with random weights: (B, 1, D, D, D) normalised to logits of lesion.

    ============== ============================================================================== ==========
    name           MONAI's                                                                        parameters
    ============== ============================================================================== ==========
    nnunet         DynUNet: see `pipelines.flair.networks.nnunet`                                       4.6 M
    unet3d         UNet: five levels (16 to 256 channels), two residual units each, instance norm       4.9 M
    vnet           VNet: 5x5x5 convolutions, residual, 16 to 256 channels                              45.6 M
    attention-unet AttentionUnet: five levels (16 to 256 channels), gated skip connections              5.9 M
    swin-unetr     SwinUNETR: feature size 48, windows of 7                                            62.2 M
    ============== ============================================================================== ==========

    Parameters
    ----------
    name : str
        One of `SEGMENTATION`.
    small : bool
        A narrow variant of the same class, for tests; MONAI's VNet has none.

    Raises
    ------
    PipelineError
        There is no network of that name, or einops, which MONAI's SwinUNETR needs, is not installed.

    References
    ----------
    Çiçek et al., MICCAI 2016 (3D U-Net), residual units of Kerfoot et al.,
    STACOM 2018; Milletari et al., 3DV 2016 (V-Net); Oktay et al., MIDL 2018 (Attention U-Net); Hatamizadeh et al.,
    BrainLes 2021 (Swin UNETR).
    """
    if name == NNUNET:
        return nnunet(small=small)
    if name not in _SEGMENTATION:
        raise PipelineError(
            f"no segmentation network is called '{name}'; there are {', '.join(SEGMENTATION)}"
        )
    build, step, last = _SEGMENTATION[name]
    network = build(small)
    nn.init.constant_(network.get_submodule(last).bias, PRIOR_LOGIT)  # type: ignore[arg-type]
    return SegmentationNetwork(network, step)


class Fire(nn.Module):
    """Squeeze by a 1x1x1 convolution, expand by 1x1x1 and 3x3x3 ones side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv3d(inputs, squeezed, 1)
        self.expand_one = nn.Conv3d(squeezed, expanded, 1)
        self.expand_three = nn.Conv3d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Take (B, inputs, n, n, n); return (B, 2 * expanded, n, n, n)."""
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand_one(x), self.expand_three(x)], 1))


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 in three dimensions: (B, 1, n, n, n) to (B, 2) logits.

    [ours] No ReLU on the logits, which two classes would not survive, and weights start as in He et al., ICCV 2015.

    Parameters
    ----------
    share : float
        Of the published channels.

    References
    ----------
    Iandola et al., SqueezeNet, 2016, arXiv:1602.07360; version 1.1 of the authors' code.
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        inputs = round(64 * share)
        layers: list[nn.Module] = [nn.Conv3d(1, inputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        for squeezed, expanded, pooled in (
            (16, 64, True),
            (16, 64, False),
            (32, 128, True),
            (32, 128, False),
            (48, 192, True),
            (48, 192, False),
            (64, 256, False),
            (64, 256, False),
        ):
            if pooled:
                layers.append(nn.MaxPool3d(3, stride=2, padding=1))
            layers.append(Fire(inputs, round(squeezed * share), round(expanded * share)))
            inputs = 2 * round(expanded * share)
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv3d(inputs, CLASSES, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        return self.last(self.dropout(self.features(x))).mean((2, 3, 4))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """MONAI's DenseNet, whose last block computes in float32 in any case.

    Its maps of a volume of 80 cubed are 2 cubed, and the gradient of a 3x3x3 convolution's weights in bfloat16 reads memory
    that was never written where maps are so small (torch 2.13 on CPUs with avx512_bf16). Maps of 3 cubed and more are right.

    Parameters
    ----------
    network : Module
        `monai.networks.nets.DenseNet`; its weights keep their names.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features = network.get_submodule("features")
        self.class_layers = network.get_submodule("class_layers")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        for name, part in self.features.named_children():
            if name == "denseblock4":
                with torch.autocast(x.device.type, enabled=False):
                    x = part(x.float())
            else:
                x = part(x)
        return self.class_layers(x)  # type: ignore[no-any-return]


def classification_network(name: str, *, small: bool = False) -> nn.Module:
    """Return a classification network with random weights: (B, 1, n, n, n) normalised to (B, 2) logits of MS and NMOSD.

    [ours] They are fed with the cube average-pooled by 2, 80 cubed at 2.4 mm.

    =========== ======================================================= ==========
    name        what it is                                              parameters
    =========== ======================================================= ==========
    resnet50    MONAI's 3D ResNet, first convolution 7 of stride 2           46.2 M
    resnet101   the same, deeper                                             85.2 M
    resnet152   the same, deeper still                                      117.4 M
    densenet121 MONAI's 3D DenseNet121                                       11.2 M
    senet50     MONAI's 3D SEResNet50                                        48.7 M
    squeezenet  `SqueezeNet`                                                  1.8 M
    =========== ======================================================= ==========

    Parameters
    ----------
    name : str
        One of `CLASSIFICATION`.
    small : bool
        A narrow or shallow variant of the same class, for tests.

    Raises
    ------
    PipelineError
        There is no network of that name.

    References
    ----------
    He et al., CVPR 2016 (ResNet); Huang et al., CVPR 2017 (DenseNet); Hu et al., CVPR 2018 (SENet); Iandola et al. 2016
    (SqueezeNet).
    """
    if name not in CLASSIFICATION:
        raise PipelineError(
            f"no classification network is called '{name}'; there are {', '.join(CLASSIFICATION)}"
        )
    if name == "squeezenet":
        return SqueezeNet(0.125 if small else 1.0)
    from monai.networks import nets  # noqa: PLC0415

    network: nn.Module
    if name == "densenet121":
        sizes = {"init_features": 8, "growth_rate": 4, "block_config": (2, 2, 2, 2)} if small else {}
        network = DenseNet(nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=CLASSES, **sizes))
    elif name == "senet50":
        layers = (1, 1, 1, 1) if small else (3, 4, 6, 3)
        network = nets.SEResNet50(spatial_dims=3, in_channels=1, num_classes=CLASSES, layers=layers)
    else:
        network = getattr(nets, name)(
            spatial_dims=3,
            n_input_channels=1,
            num_classes=CLASSES,
            conv1_t_stride=2,  # MONAI's own default is 1
            widen_factor=0.125 if small else 1.0,
        )
    return network
