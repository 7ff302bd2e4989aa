from dataclasses import replace

import pytest
import torch

from pipelines.errors import PipelineError
from pipelines.flair.joint import blocks
from pipelines.flair.joint.blocks import BrainNorm, BrainWeights
from pipelines.flair.joint.classification import ClassificationBranch, LesionGuidance, PlainGuidance
from pipelines.flair.joint.network import ABLATIONS, JointConfig, JointNetwork, JointOutput
from pipelines.flair.joint.segmentation import mix_scales
from pipelines.flair.joint.sharing import CrossUnit, GlobalBranch, LocalBranch
from pipelines.flair.joint.swin import from_windows, shift_mask, windows_of
from pipelines.weights import load_weights

SMALL = JointConfig(
    shared=4, segmentation=(4, 6, 8), last=4, classification=(4, 6, 8), embedding=6, heads=3, window=2
)


def volume(edge: int, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, 1, edge, edge, edge)


@pytest.mark.slow
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


PUBLISHED = {
    "volume_norm": (1, 160),
    "local.layers.0": (32, 80),
    "local.layers.2": (32, 80),
    "wide.patches": (96, 20),
    "wide": (32, 80),
    "segmentation.encode_half": (32, 80),
    "segmentation.encode_quarter": (64, 40),
    "segmentation.encode_eighth": (128, 20),
    "segmentation.decode_quarter": (64, 40),
    "segmentation.decode_half": (32, 80),
    "segmentation.decode_full": (16, 160),
    "guidance.halve": (32, 80),
    "guidance": (32, 80),
    "classification.at_half": (64, 80),
    "classification.at_quarter": (128, 40),
    "classification.at_eighth": (256, 20),
}


def test_every_part_of_a_whole_pass_has_the_published_shape() -> None:
    with torch.device("meta"):
        network = JointNetwork()
        cube = torch.empty(1, 1, 160, 160, 160)
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
    output = network(cube)
    for name, (channels, edge) in PUBLISHED.items():
        assert tuple(seen[name].shape) == (1, channels, edge, edge, edge), name
    # tokens have their channels last; ten to an edge are two windows of five
    for name in ("wide.norm", "wide.layers.0", "wide.layers.1"):
        assert tuple(seen[name].shape) == (1, 10, 10, 10, 96), name
    assert [layer.shifted for layer in network.wide.layers] == [False, True]
    assert [tuple(x.shape) for x in seen["cross"]] == [(1, 32, 80, 80, 80)] * 2
    assert output.logit.shape == (1, 1, 160, 160, 160)
    assert output.classes.shape == (1, 2)
    assert [tuple(v.shape) for v in output.localisation] == [(1, 1, n, n, n) for n in (20, 40, 80)]


def test_shipped_weights_are_those_of_the_default_network() -> None:
    JointNetwork().load_state_dict(load_weights("joint")[0], strict=True)


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


def test_probability_is_the_sigmoid_of_the_mix() -> None:
    scales = [torch.full((1, 1, n, n, n), v) for n, v in ((1, 2.0), (2, -6.0), (4, 1.0), (8, 1.0))]
    scales[3][0, 0, 0, 0, 0] = -2.5
    # 0.25 * 2 + 0.25 * -6 + 0.5 * 1 = -0.5, and 1 or -2.5 of full size: sigmoid(0.5) and sigmoid(-3)
    probability = JointOutput(mix_scales(scales), scales, None, []).probability
    assert probability[0, 0, 7, 7, 7].item() == pytest.approx(0.622459, abs=1e-6)
    assert probability[0, 0, 0, 0, 0].item() == pytest.approx(0.047426, abs=1e-6)


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


class Untouched(torch.nn.Module):
    def forward(self, x: torch.Tensor, brain: BrainWeights) -> torch.Tensor:
        return x


def test_gate_of_the_lesion_guidance_by_hand() -> None:
    guidance = LesionGuidance(1)
    guidance.norm = Untouched()
    for parameter in guidance.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        guidance.halve.weight[0, 0, 1, 1, 1] = 2.0
        guidance.of_map.weight[0, 0, 1, 1, 1] = 1.0
        guidance.of_features.weight[0, 0, 1, 1, 1] = 1.0
        guidance.join.weight[0, :, 0, 0, 0] = torch.tensor([10.0, 1.0])
    probability = torch.zeros(1, 1, 4, 4, 4)
    probability[0, 0, 2, 2, 2] = 0.4
    features = torch.full((1, 1, 2, 2, 2), 3.0)
    joined = guidance(probability, features, BrainWeights(probability + 1, 0.0))
    # where the map is 0.4: halved 0.8, gate sigmoid(0.8) = 0.689974, times 3, and 10 * 0.8 of the map itself
    assert joined[0, 0, 1, 1, 1].item() == pytest.approx(8 + 3 * 0.689974, abs=1e-5)
    # where it is 0: gate a half
    assert joined[0, 0, 0, 0, 0].item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("product", [0.75, 1.25]),
        ("addition", [3.25, 5.25]),
        ("concatenation", [3 + 20 * 0.25, 5 + 30 * 0.25]),
    ],
)
def test_plain_guidance_by_hand(operation: str, expected: list[float]) -> None:
    guidance = PlainGuidance(2, operation)
    if operation == "concatenation":
        with torch.no_grad():
            guidance.join.weight[:, :, 0, 0, 0] = torch.tensor([[1.0, 0.0, 20.0], [0.0, 1.0, 30.0]])
            guidance.join.bias.zero_()
    probability = torch.zeros(1, 1, 2, 2, 2)
    probability[0, 0, 0] = 0.5  # the mean of the eight is 0.25
    features = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1, 1)
    assert guidance.combine(probability, features).flatten().tolist() == pytest.approx(expected)


def test_localisation_of_each_case_is_for_its_own_class() -> None:
    branch = ClassificationBranch(2, (1, 1, 2), 2)
    with torch.no_grad():
        branch.linear.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, -1.0], [0.0, 0.0, 0.5, 2.0]]))
    features = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[1.0, 2.0], [3.0, 5.0]]]).view(2, 2, 2, 1, 1)
    others = torch.zeros(2, 1, 2, 2, 2)
    eighth, _, _ = branch.localise([features, others, others], torch.tensor([0, 1]))
    # sum over k of F_ik w_ik: 1 - 3, 2 - 5; and 0.5 * 1 + 2 * 3, 0.5 * 2 + 2 * 5
    assert eighth.flatten(1).tolist() == [[-2.0, -3.0], [6.5, 11.0]]


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


def test_brain_norm_by_pieces_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, brain = volume(8) * 3 + 2, BrainWeights(volume(8).clamp(-3, 3), -5.0)
    norm = BrainNorm(1)
    whole = norm(x, brain)
    monkeypatch.setattr(blocks, "PIECE", 100)
    with torch.inference_mode():
        torch.testing.assert_close(norm(x, brain), whole, atol=1e-5, rtol=1e-5)
        assert norm(x.bfloat16(), brain).dtype == torch.bfloat16


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


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_each_ablation_runs_and_every_parameter_of_it_learns(ablation: str) -> None:
    torch.manual_seed(0)
    network = JointNetwork(replace(SMALL, ablation=ablation)).train()
    output = network(volume(32, batch=2), classes=torch.tensor([0, 1]))
    assert (output.logit is None) == (ablation == "only-classification")
    assert (output.classes is None) == (ablation == "only-segmentation")
    assert len(output.scales) == (0 if output.logit is None else 4)
    assert len(output.localisation) == (0 if output.classes is None else 3)
    parts = [x.square().mean() for x in (output.logit, output.classes) if x is not None]
    sum(parts).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def parts_of(ablation: str) -> set[str]:
    network = JointNetwork(replace(SMALL, ablation=ablation))
    return {name for name, _ in network.named_children()}


def test_ablations_leave_out_what_they_name() -> None:
    whole = {"volume_norm", "local", "wide", "cross", "segmentation", "guidance", "classification"}
    assert parts_of("") == parts_of("no-cross-loss") == parts_of("guidance-product") == whole
    assert parts_of("only-segmentation") == whole - {"guidance", "classification"}
    assert parts_of("only-classification") == whole - {"guidance", "segmentation"}
    assert parts_of("no-sharing") == whole - {"cross"}
    assert parts_of("only-local") == whole - {"cross", "wide"}
    assert parts_of("only-global") == whole - {"cross", "local"}
    assert parts_of("no-guidance") == whole - {"guidance"}


def test_without_sharing_the_mask_does_not_see_the_global_branch() -> None:
    for ablation, same in (("no-sharing", True), ("", False)):
        torch.manual_seed(0)
        network = JointNetwork(replace(SMALL, ablation=ablation)).eval()
        before = network(volume(32))
        with torch.no_grad():
            # a change of one channel alone, which no norm takes back
            network.wide.out_norm.bias[0] += 1.0
        after = network(volume(32))
        assert torch.equal(before.logit, after.logit) == same
        assert not torch.equal(before.classes, after.classes)


def test_without_guidance_the_classes_do_not_see_the_mask() -> None:
    for ablation in ("no-guidance", "guidance-product", "guidance-concatenation", "guidance-addition", ""):
        torch.manual_seed(0)
        network = JointNetwork(replace(SMALL, ablation=ablation)).eval()
        before = network(volume(32)).classes
        with torch.no_grad():
            network.segmentation.project[-1].weight += 1.0
        assert torch.equal(before, network(volume(32)).classes) == (ablation == "no-guidance"), ablation


def test_cross_loss_needs_both_tasks() -> None:
    without = {name for name in ("", *ABLATIONS) if not JointConfig(ablation=name).cross_loss}
    assert without == {"only-segmentation", "only-classification", "no-cross-loss"}


def test_mask_is_not_asked_of_a_network_without_one() -> None:
    network = JointNetwork(replace(SMALL, ablation="only-classification"))
    with pytest.raises(ValueError, match="only-classification does not segment"):
        network(volume(32), segmentation_only=True)
    with pytest.raises(PipelineError, match="draws no lesion map"):
        _ = network(volume(32)).probability


def test_unknown_ablation_lists_those_that_there_are() -> None:
    with pytest.raises(PipelineError, match="no ablation 'no-brain'; there are only-segmentation, "):
        JointConfig(ablation="no-brain")
