import torch

from pipelines.fatsat.crop_grid import SEEN
from pipelines.fatsat.network import OpticNerveCNN


def test_network_has_the_published_parameters():
    network = OpticNerveCNN()
    sizes = [p.numel() for p in network.parameters()]
    assert sizes == [64 * 27, 64, 128 * 64 * 27, 128, 128 * 256, 256, 256 * 2, 2]
    assert sum(sizes) == 256_642


def test_network_has_the_published_shapes():
    network = OpticNerveCNN().eval()
    at = torch.zeros(2, 1, 13, 31, 40)
    shapes = []
    for layer in network.features:
        at = layer(at)
        shapes.append(tuple(at.shape[1:]))
    assert shapes[0] == (64, 11, 29, 38)
    assert shapes[2] == (64, 5, 14, 19)
    assert shapes[4] == (128, 3, 12, 17)
    assert shapes[6] == (128, 1, 6, 8)
    assert shapes[-1] == (128,)
    assert network(torch.zeros(2, 1, 13, 31, 40)).shape == (2, 2)
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.1, 0.1, 0.1]


def test_what_the_poolings_drop_is_not_computed_and_changes_nothing():
    torch.manual_seed(0)
    network = OpticNerveCNN().eval()
    crops = torch.randn(2, 1, 13, 31, 40)
    whole = network.classes(network.features(crops))
    assert torch.allclose(network(crops), whole, atol=1e-6)
    crops.requires_grad_(True)
    network.classes(network.features(crops))[0, 0].backward()
    reached = (crops.grad[0, 0] != 0).nonzero().amax(0) + 1
    assert tuple(reached.tolist()) == SEEN
