from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipelines.flair.joint.classification import weighted_maps
from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.flair.joint.swin import relative_index, shift_mask
from pipelines.training.data_sets.sample import UNKNOWN_KIND, Sample, kinds_in, pack_sample, unpack
from pipelines.training.flair.batches import draw_batch
from pipelines.training.flair.case_pool import pack, ready
from pipelines.training.flair.cells import CHANNELS, PRESENT_WEIGHT, RARE, cells_of, kinds_known, kinds_loss
from pipelines.training.flair.last_layer import (
    Seen,
    common_row,
    fit_last_layer,
    kind_columns,
    regression,
    see,
)
from pipelines.training.flair.loop import Trainer
from pipelines.training.flair.losses import cross_task_loss
from pipelines.training.flair.mask_tasks import SMALL_JOINT
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.phase import Phase
from pipelines.training.synthetic.anatomy import from_template
from pipelines.training.synthetic.generator import Generator
from pipelines.training.synthetic.priors import KINDS, PRIORS
from tests.kept import kept

CROPS = Phase("crops", 32, 2, 24, 5.0, 5e-3, joint=False, schedule="constant", epoch=8)


def test_cell_holds_the_kinds_of_its_voxels() -> None:
    kinds = torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    kinds[0, 0, 1, 3] = 1
    kinds[0, 1, 0, 2] = 3
    kinds[1, 3, 3, 3] = UNKNOWN_KIND
    cells = cells_of(kinds, (2, 2, 2))
    assert cells.shape == (2, CHANNELS, 2, 2, 2)
    assert cells[0, :, 0, 0, 1].nonzero().flatten().tolist() == [0, 1, 3]
    assert cells[0].sum() == 3
    assert cells[1].nonzero().tolist() == [[0, 1, 1, 1]]
    assert kinds_known(kinds).tolist() == [True, False]


def test_loss_of_kinds_is_summed_over_kinds_and_maps_and_leaves_out_unknown_ones() -> None:
    kinds = torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    rare = KINDS.index("pons") + 1
    kinds[0, 0, 0, 0] = rare
    coarse, fine = torch.zeros(2, CHANNELS, 2, 2, 2), torch.zeros(2, CHANNELS, 4, 4, 4)
    # A logit of 0 costs ln 2 in each cell, and its weight times that in the one that holds the lesion.
    once, weights = np.log(2), PRESENT_WEIGHT * (1 + RARE["pons"])
    expected = sum(once * (CHANNELS + (weights - 2) / cells / 2) for cells in (8, 64))
    assert kinds_loss([coarse, fine], kinds).item() == pytest.approx(expected, rel=1e-5)
    kinds[1, 3, 3, 3] = UNKNOWN_KIND
    alone = sum(once * (CHANNELS + (weights - 2) / cells) for cells in (8, 64))
    assert kinds_loss([coarse, fine], kinds).item() == pytest.approx(alone, rel=1e-5)
    told = torch.where(cells_of(kinds[:1], (2, 2, 2)) > 0, 20.0, -20.0)
    assert kinds_loss([told], kinds[:1]).item() < 1e-6
    assert kinds_loss([coarse[1:]], kinds[1:]).item() == 0


def test_kinds_come_back_and_move_with_the_lesions(kinds_pool: Path) -> None:
    files = ready(kinds_pool)
    sample = unpack(files[1])
    assert set(np.unique(kinds_in(sample))) == {0, 2}
    for seed in range(6):
        _, lesions, _, target, kinds = draw_batch(files, 2, 24, np.random.default_rng(seed))
        assert kinds.dtype == torch.uint8
        assert torch.equal(kinds > 0, lesions[:, 0] > 0)
        assert all(
            set(k.unique().tolist()) <= {0, 1 + t} for k, t in zip(kinds, target.tolist(), strict=True)
        )


@pytest.mark.slow
def test_generated_lesion_has_the_kind_that_was_drawn(tmp_path: Path) -> None:
    generator = Generator([kept(from_template)])
    case = generator.case(np.random.default_rng(5), "MS")
    assert case.kinds is not None
    assert np.array_equal(case.kinds > 0, case.lesions)
    found = {KINDS[number - 1] for number in np.unique(case.kinds[case.lesions])}
    assert found >= {"periventricular", "deep"}
    assert found <= {*PRIORS["MS"].sites, "periventricular", "deep", "extensive", "periependymal", "tract"}
    pack(case, tmp_path / "case.npz")
    assert np.array_equal(kinds_in(unpack(tmp_path / "case.npz")), case.kinds)
    free = generator.case(np.random.default_rng(5), "none")
    assert free.kinds is not None
    assert not free.kinds.any()


def test_lesions_of_a_real_pattern_have_no_known_kind() -> None:
    sample = Sample(np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), bool), -1)
    assert (kinds_in(sample) == UNKNOWN_KIND).all()
    assert not kinds_in(replace(sample, lesions=~sample.lesions)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joint", "joint:no-guidance"])
def test_joint_network_learns_kinds_beside_the_mask_and_leaves_them_out_of_the_weights(
    name: str, kinds_pool: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task = make_task(name, small=True)
    names = set(task.network.state_dict())
    training = Trainer(task, [CROPS], tmp_path / "out", seed=1, device="cpu", report=str)
    training.run(kinds_pool, every=8)
    kinds = [entry["kinds"] for entry in training.state.history]
    assert kinds[-1] < 0.8 * kinds[0]
    assert set(training.best.state_dict()) == names


def test_without_known_kinds_or_without_a_class_nothing_of_them_is_learnt(pool: Path, tmp_path: Path) -> None:
    for name in ("joint", "joint:only-segmentation"):
        training = Trainer(
            make_task(name, small=True), [replace(CROPS, steps=1)], tmp_path / name, seed=1, device="cpu", report=str
        )  # fmt: skip
        training.run(pool)
        assert set(training.state.history[0]) == {"phase", "step", "mask"}


def test_features_that_say_kinds_are_the_means_of_the_first_maps_at_an_eighth() -> None:
    torch.manual_seed(0)
    network = JointNetwork(JointConfig(**SMALL_JOINT)).eval()  # type: ignore[arg-type]
    cube = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    features = see(network, cube, "cpu").pooled
    assert features.shape == (4 + 14 + 16,)
    maps: list[torch.Tensor] = []
    assert network.classification is not None
    network.classification.at_eighth.register_forward_hook(lambda *given: maps.append(given[2]))
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.from_numpy(cube)[None, None])
        expected = maps[0][0, :CHANNELS].float().mean((1, 2, 3))
    torch.testing.assert_close(features[kind_columns(network.config)], expected, atol=1e-5, rtol=1e-4)


def test_regression_finds_the_class_in_one_figure_of_many() -> None:
    rng = np.random.default_rng(0)
    targets = [n % 2 for n in range(200)]
    features = torch.from_numpy(rng.normal(size=(200, 10)).astype(np.float32))
    features[:, 7] += 2.0 * torch.tensor(targets)
    weight, bias = regression(features, targets, list(range(4, 10)))
    logits = features @ weight.T + bias
    assert (logits.argmax(1) == torch.tensor(targets)).float().mean() > 0.8
    assert not weight[:, :4].any()  # what is not read has no part
    assert weight[1].argmax() == 7
    torch.testing.assert_close(weight[0], -weight[1])
    # The mean logit lies between the classes: the regression is balanced.
    assert abs(float((logits[:, 1] - logits[:, 0]).mean())) < 0.3


def test_what_both_rows_have_in_common_shows_the_lesions_and_changes_no_class() -> None:
    torch.manual_seed(0)
    lesions = torch.zeros(1, 1, 8, 8, 8)
    lesions[0, 0, 2:4, 3:6, 1:5] = 1
    sizes = (1, 2, 4)
    # Channel 1 of each map holds the lesions, the others anything.
    maps = [torch.rand(1, 3, 8 // n, 8 // n, 8 // n) for n in reversed(sizes)]
    scales = [functional.avg_pool3d(lesions, n) for n in reversed(sizes)]
    for x, scale in zip(maps, scales, strict=True):
        x[:, 1] = scale[:, 0]
    weight = torch.randn(1, 9) * torch.tensor([[-0.01], [0.01]])
    row = common_row(weight, [Seen(torch.zeros(9), maps, scales)])
    assert float(row[[1, 4, 7]].min()) > 3 * float(row[[0, 2, 3, 5, 6, 8]].abs().max())
    for rows in (weight, weight + row):
        told = (torch.eye(9) @ rows.T).diff(dim=1)
        torch.testing.assert_close(told, (torch.eye(9) @ weight.T).diff(dim=1))
    both = [torch.cat([x, x]) for x in maps], [torch.cat([x, x]) for x in scales]
    before = cross_task_loss(weighted_maps(both[0], weight), both[1])
    assert cross_task_loss(weighted_maps(both[0], weight + row), both[1]) < 0.2 * before


@pytest.mark.slow
def test_network_that_was_asked_first_can_be_trained_afterwards() -> None:
    relative_index.cache_clear()
    shift_mask.cache_clear()
    torch.manual_seed(0)
    network = JointNetwork(JointConfig(**SMALL_JOINT))  # type: ignore[arg-type]
    cube = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    see(network, cube, "cpu")
    network(torch.from_numpy(cube)[None, None]).classes.sum().backward()
    assert network.wide.layers[1].attention.bias.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_last_layer_is_left_alone_where_few_cases_have_a_class(kinds_pool: Path) -> None:
    network = JointNetwork(JointConfig(**SMALL_JOINT)).eval()  # type: ignore[arg-type]
    assert network.classification is not None
    before = network.classification.linear.weight.clone()
    lines: list[str] = []
    samples = [unpack(path) for path in ready(kinds_pool)]
    assert not fit_last_layer(network, samples, device="cpu", report=lines.append)
    assert torch.equal(network.classification.linear.weight, before)
    assert "too few" in lines[0]


@pytest.mark.slow
def test_last_layer_is_fitted_to_the_class_and_the_phase_goes_on_with_it(
    kinds_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.training.flair.last_layer.LEAST_CASES", 10)
    pool = tmp_path / "many" / "ring0"
    pool.mkdir(parents=True)
    for number in range(24):
        pack_sample(unpack(ready(kinds_pool)[number % 4]), pool / f"case{number:05d}.npz")
    lines: list[str] = []
    volumes = replace(CROPS, name="volumes", joint=True, steps=1, rate=1e-9, refit=True)
    torch.manual_seed(0)
    task = make_task("joint", small=True)
    crops = replace(CROPS, steps=72)
    training = Trainer(task, [crops, volumes], tmp_path / "out", seed=1, device="cpu", report=lines.append)
    training.run(pool.parent, every=8)
    assert "the last layer is fitted to 24 cases" in lines
    network = training.best.eval()
    assert isinstance(network, JointNetwork)
    layers = [n.get_submodule("classification.linear").state_dict() for n in (network, training.model)]
    torch.testing.assert_close(*layers)
    assert fit_last_layer(network, map(unpack, ready(pool.parent)), device="cpu", report=str)
    for sample in map(unpack, ready(kinds_pool)):
        assert network.classification is not None
        assert (
            network.classification.linear(see(network, sample.image, "cpu").pooled).argmax() == sample.target
        )
