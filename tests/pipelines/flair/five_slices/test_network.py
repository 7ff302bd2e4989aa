"""The ResNet18 has the paper's shape."""

from __future__ import annotations

import torch

from pipelines.flair.five_slices.network import five_slice_network


def test_128_pixels_end_as_4x4_and_two_classes() -> None:
    network = five_slice_network().eval()
    sizes = []
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        layer = network.get_submodule(name)
        layer.register_forward_hook(lambda module, given, output: sizes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        logits = network(torch.zeros(1, 5, 128, 128))
    assert logits.shape == (1, 2)
    assert sizes == [(64, 64, 64), (64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_network_is_the_resnet18_of_he() -> None:
    network = five_slice_network()
    assert tuple(network.conv1.weight.shape) == (64, 5, 7, 7)
    # 11.69 M of ImageNet's, with 2 instead of 1000 classes and 5 instead of 3 channels
    assert sum(p.numel() for p in network.parameters()) == 11_184_706


def test_small_variant_has_the_same_layers() -> None:
    small, full = (five_slice_network(small=s).state_dict() for s in (True, False))
    assert small.keys() == full.keys()
    assert sum(p.numel() for p in small.values()) < 250_000
