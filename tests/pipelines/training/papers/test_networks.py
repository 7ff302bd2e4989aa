import importlib.util
import subprocess
import sys

import pytest
import torch

from pipelines.errors import PipelineError
from pipelines.training.papers.networks import (
    CLASSIFICATION,
    SEGMENTATION,
    Fire,
    SqueezeNet,
    classification_network,
    segmentation_network,
)

HEADS = {"nnunet": 3}
MILLIONS = {
    "nnunet": 4.59,
    "unet3d": 4.85,
    "vnet": 45.59,
    "attention-unet": 5.91,
    "swin-unetr": 62.19,
    "resnet50": 46.2,
    "resnet101": 85.2,
    "resnet152": 117.4,
    "densenet121": 11.24,
    "senet50": 48.7,
    "squeezenet": 1.83,
}


NEEDS_EINOPS = pytest.mark.skipif(
    importlib.util.find_spec("einops") is None, reason="MONAI's SwinUNETR needs einops"
)
RUNNING = [pytest.param(n, marks=NEEDS_EINOPS) if n == "swin-unetr" else n for n in SEGMENTATION]


def moved(network: torch.nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    return [n for n, p in network.named_parameters() if not torch.equal(p, before[n])]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNING)
def test_segmentation_network_keeps_the_shape_and_learns(name: str) -> None:
    torch.manual_seed(0)
    network = segmentation_network(name, small=True)
    volume = torch.randn(1, 1, 32, 32, 32)
    heads = network.train()(volume)
    assert isinstance(heads, tuple)
    assert [tuple(head.shape) for head in heads] == [(1, 1, 32, 32, 32)] * HEADS.get(name, 1)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    sum(torch.nn.functional.softplus(head).mean() for head in heads).backward()
    optimiser.step()
    assert len(moved(network, before)) > len(before) // 2
    with torch.inference_mode():
        logit = network.eval()(volume)
    assert isinstance(logit, torch.Tensor)
    assert logit.shape == (1, 1, 32, 32, 32)
    assert torch.isfinite(logit).all()


def test_smallest_maps_of_densenet_are_computed_in_float32() -> None:
    torch.manual_seed(0)
    network = classification_network("densenet121", small=True)
    kinds: dict[str, torch.dtype] = {}
    for number in (3, 4):
        block = network.get_submodule(f"features.denseblock{number}.denselayer2.layers.conv2")
        block.register_forward_hook(lambda *given, n=number: kinds.update({str(n): given[2].dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(torch.randn(2, 1, 64, 64, 64)).float().square().mean()
    loss.backward()
    assert kinds == {"3": torch.bfloat16, "4": torch.float32}
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", RUNNING)
def test_untrained_network_finds_few_lesions(name: str) -> None:
    torch.manual_seed(0)
    network = segmentation_network(name, small=True).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 32, 32, 32)).median().item() < -2


@pytest.mark.slow
@NEEDS_EINOPS
def test_swin_takes_the_crops_of_80_that_training_draws() -> None:
    network = segmentation_network("swin-unetr", small=True).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 80, 80, 80)).shape == (1, 1, 80, 80, 80)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_network_gives_two_logits_and_learns(name: str) -> None:
    torch.manual_seed(0)
    network = classification_network(name, small=True).train()
    volume = torch.randn(2, 1, 40, 40, 40)
    logits = network(volume)
    assert logits.shape == (2, 2)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    optimiser.step()
    assert len(moved(network, before)) > len(before) // 2
    with torch.inference_mode():
        assert network.eval()(volume[:1]).shape == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RUNNING, *CLASSIFICATION])
def test_full_network_has_the_size_that_is_documented(name: str) -> None:
    # Parameters are counted, not drawn; MONAI's SwinUNETR asks one of its own for its value.
    with torch.device("cpu" if name == "swin-unetr" else "meta"):
        network = segmentation_network(name) if name in SEGMENTATION else classification_network(name)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], rel=0.01)


def test_first_convolution_of_a_resnet_halves() -> None:
    assert classification_network("resnet50", small=True).conv1.stride == (2, 2, 2)


def test_fire_joins_two_expansions_of_the_squeezed_features() -> None:
    fire = Fire(2, 1, 1)
    for parameter in fire.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        fire.squeeze.weight[0, :, 0, 0, 0] = torch.tensor([1.0, 2.0])
        fire.expand_one.weight.fill_(10.0)
        fire.expand_three.weight.fill_(1.0)
    out = fire(torch.ones(1, 2, 3, 3, 3))
    assert out.shape == (1, 2, 3, 3, 3)
    assert out[0, 0].unique().tolist() == [30.0]  # (1 + 2) * 10
    assert out[0, 1, 1, 1, 1].item() == 81.0  # 27 neighbours of 3
    assert out[0, 1, 0, 0, 0].item() == 24.0  # 8 at a corner


def test_squeezenet_halves_four_times() -> None:
    with torch.device("meta"):
        network = SqueezeNet()
        assert network.features(torch.empty(1, 1, 80, 80, 80)).shape == (1, 512, 5, 5, 5)


@pytest.mark.parametrize("build", [segmentation_network, classification_network])
def test_unknown_name_lists_those_that_there_are(build) -> None:
    with pytest.raises(PipelineError, match="called 'unet4d'; there are"):
        build("unet4d")


def test_swin_without_einops_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "einops", None)
    with pytest.raises(PipelineError, match=r'package einops, .*: pip install "dicom-node\[train\]"'):
        segmentation_network("swin-unetr", small=True)


@pytest.mark.slow
def test_names_are_known_without_monai() -> None:
    code = "import sys; import pipelines.training.papers.networks; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
