import copy
import subprocess
import sys

import pytest
import torch

from pipelines.flair.networks import nnunet


def test_edges_that_do_not_fit_are_padded_with_air_and_cut_back() -> None:
    torch.manual_seed(0)
    network = nnunet(small=True).eval()
    volume = torch.full((1, 1, 48, 48, 48), -5.0)
    volume[..., 4:44, 4:44, 4:44] = torch.randn(40, 40, 40)
    with torch.inference_mode():
        whole, inner = network(volume), network(volume[..., 4:44, 4:44, 4:44])
    assert inner.shape == (1, 1, 40, 40, 40)
    assert torch.allclose(inner, whole[..., 4:44, 4:44, 4:44], atol=1e-5)


def test_network_can_be_copied_after_a_step() -> None:
    network = nnunet(small=True).train()
    heads = network(torch.randn(1, 1, 32, 32, 32))
    average = copy.deepcopy(network)
    heads[0].sum().backward()
    again = average.eval()(torch.zeros(1, 1, 32, 32, 32))
    assert torch.equal(again, network.eval()(torch.zeros(1, 1, 32, 32, 32)))


def test_nnunet_is_the_network_whose_weights_ship() -> None:
    from monai.networks.nets import DynUNet

    bare = DynUNet(
        3,
        1,
        1,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=(16, 32, 64, 128, 192),
        norm_name="BATCH",
        deep_supervision=True,
        deep_supr_num=2,
    )
    network = nnunet()
    assert network.network.output_block.conv.conv.bias.item() == -4.0
    state = {f"network.{key}": value for key, value in bare.state_dict().items()}
    network.load_state_dict(state)
    volume = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(network.eval()(volume), bare.eval()(volume))


@pytest.mark.slow
def test_shipped_weights_load_without_the_networks_of_the_papers_or_monai_at_import() -> None:
    code = (
        "import sys; import pipelines.flair.networks; assert 'monai' not in sys.modules; "
        "from pipelines.flair.segmenter import MaskModel; MaskModel(); "
        "sys.exit(any(name.startswith('pipelines.training') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
