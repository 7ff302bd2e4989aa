import pytest
import torch

from pipelines.flair.joint.blocks import BrainNorm, BrainWeights
from pipelines.flair.joint.classification import ClassificationBranch, LesionGuidance
from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.flair.joint.segmentation import mix_scales
from pipelines.flair.joint.sharing import CrossUnit, GlobalBranch, LocalBranch
from pipelines.flair.joint.swin import from_windows, shift_mask, windows_of

SMALL = JointConfig(
    shared=4, segmentation=(4, 6, 8), last=4, classification=(4, 6, 8), embedding=6, heads=3, window=2
)


def volume(edge: int, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, 1, edge, edge, edge)


def test_published_network_has_the_papers_shapes_and_size() -> None:
    with torch.device("meta"):
        network = JointNetwork()
        cube = torch.empty(1, 1, 160, 160, 160)
    assert 4.5e6 < sum(p.numel() for p in network.parameters()) < 6e6
    brain = BrainWeights(cube, -5.0)
    local = network.local(cube, brain)
    assert local.shape == (1, 32, 80, 80, 80)
    assert network.wide(cube, brain).shape == (1, 32, 80, 80, 80)
    scales = network.segmentation(local, brain)
    assert [tuple(u.shape) for u in scales] == [(1, 1, n, n, n) for n in (20, 40, 80, 160)]
    logit = mix_scales(scales)
    assert logit.shape == (1, 1, 160, 160, 160)
    guided = network.guidance(torch.sigmoid(logit), local, brain)
    assert guided.shape == (1, 32, 80, 80, 80)
    classes, features = network.classification(guided, brain)
    assert classes.shape == (1, 2)
    assert [tuple(f.shape[1:3]) for f in features] == [(256, 20), (128, 40), (64, 80)]
    assert network.classification.linear.in_features == 448


def test_global_branch_makes_ten_cubed_tokens_of_160() -> None:
    with torch.device("meta"):
        branch = GlobalBranch(32, 96, 3, 5)
        patches = branch.patches(torch.empty(1, 1, 160, 160, 160))
    assert torch.nn.functional.avg_pool3d(patches, 2).shape == (1, 96, 10, 10, 10)


def test_local_branch_has_three_convolutions_of_strides_2_1_1() -> None:
    convolutions = [m for m in LocalBranch(32).modules() if isinstance(m, torch.nn.Conv3d)]
    assert [c.stride[0] for c in convolutions] == [2, 1, 1]
    assert [c.out_channels for c in convolutions] == [32, 32, 32]


def test_lesion_map_is_the_weighted_mix_of_four_scales() -> None:
    scales = [torch.full((1, 1, n, n, n), v) for n, v in ((1, 4.0), (2, 8.0), (4, 2.0), (8, -1.0))]
    # 0.25 * 4 + 0.25 * 8 + 0.5 * 2 + 1 * -1 = 3
    assert torch.allclose(mix_scales(scales), torch.full((1, 1, 8, 8, 8), 3.0))


def test_coarse_scales_are_enlarged_by_repetition() -> None:
    coarse = torch.tensor([0.0, 4.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 2).contiguous()
    zeros = [torch.zeros(1, 1, n, n, n) for n in (2, 4, 8)]
    mixed = mix_scales([coarse, *zeros])
    assert mixed[0, 0, :, 0, 0].tolist() == [0.0] * 4 + [1.0] * 4


def test_cross_unit_starts_at_nine_to_one() -> None:
    for_mask, for_class = CrossUnit()(torch.tensor(10.0), torch.tensor(20.0))
    assert for_mask.item() == pytest.approx(0.9 * 10 + 0.1 * 20)
    assert for_class.item() == pytest.approx(0.1 * 10 + 0.9 * 20)


def test_closed_gate_lets_no_feature_through() -> None:
    guidance = LesionGuidance(4)
    torch.nn.init.zeros_(guidance.halve.weight)
    torch.nn.init.constant_(guidance.halve.bias, -100.0)
    probability = torch.zeros(1, 1, 8, 8, 8)
    brain = BrainWeights(probability + 1, 0.0)
    one, other = (guidance(probability, f * torch.ones(1, 4, 4, 4, 4), brain) for f in (1.0, 5.0))
    assert torch.allclose(one, other)


def test_localisation_is_the_features_weighted_by_the_class() -> None:
    branch = ClassificationBranch(2, (1, 2, 1), 2)
    with torch.no_grad():
        branch.linear.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    features = [
        torch.full((1, 1, 1, 1, 1), 10.0),
        torch.ones(1, 2, 2, 2, 2),
        torch.full((1, 1, 4, 4, 4), 3.0),
    ]
    eighth, quarter, half = branch.localise(features, torch.tensor([1]))
    assert eighth.unique().item() == 80.0  # 8 * 10: the last channels of the linear layer belong to D/8
    assert quarter.unique().item() == 13.0  # 6 + 7
    assert half.unique().item() == 15.0  # 5 * 3


def test_brain_norm_ignores_how_much_air_surrounds_the_brain() -> None:
    brain = volume(16).clamp(-3, 3)
    padded = torch.full((1, 1, 24, 24, 24), -5.0)
    inner = (..., slice(4, 20), slice(4, 20), slice(4, 20))
    padded[inner] = brain
    norm = BrainNorm(1)
    alone = norm(brain, BrainWeights(brain, -5.0))
    inside = norm(padded, BrainWeights(padded, -5.0))[inner]
    plain = torch.nn.functional.instance_norm(padded)[inner]
    # Three volumes of air for one of brain: an air voxel weighs 0.02 of a brain voxel.
    assert (alone - inside).abs().mean() < 0.5
    assert (alone - plain).abs().mean() > 4 * (alone - inside).abs().mean()


def test_brain_norm_has_zero_mean_and_unit_variance_over_brain() -> None:
    x = volume(8) * 3 + 2
    y = BrainNorm(1)(x, BrainWeights(torch.ones_like(x), 0.0))
    assert y.mean().item() == pytest.approx(0, abs=1e-4)
    assert y.var(unbiased=False).item() == pytest.approx(1, abs=1e-3)


def test_windows_put_together_are_what_was_cut() -> None:
    x = torch.arange(2 * 4**3 * 3.0).reshape(2, 4, 4, 4, 3)
    assert torch.equal(from_windows(windows_of(x, 2), 2, 4), x)


def test_shifted_windows_keep_opposite_faces_apart() -> None:
    mask = shift_mask(10, 5, 2)
    assert mask.shape == (8, 125, 125)
    assert (mask[0] == 0).all()
    assert (mask[-1] == -100).any()


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        JointNetwork(SMALL)(volume(48))


def test_small_network_runs_on_two_sizes_and_localises_the_predicted_class() -> None:
    network = JointNetwork(SMALL).eval()
    for edge in (32, 64):
        output = network(volume(edge))
        assert output.probability.shape == (1, 1, edge, edge, edge)
        assert [u.shape[-1] for u in output.scales] == [edge // 8, edge // 4, edge // 2, edge]
        assert [v.shape[-1] for v in output.localisation] == [edge // 8, edge // 4, edge // 2]
        predicted = output.classes.argmax(1)
        again = network(volume(edge), classes=predicted)
        assert torch.equal(again.localisation[0], output.localisation[0])


def test_segmentation_alone_gives_the_same_mask() -> None:
    network = JointNetwork(SMALL).eval()
    alone = network(volume(32), segmentation_only=True)
    assert alone.classes is None
    assert torch.equal(alone.logit, network(volume(32)).logit)
