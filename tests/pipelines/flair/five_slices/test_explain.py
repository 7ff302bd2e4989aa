"""The maps follow the network and what it saw: a tiny network, trained here, on slices whose classes differ in one place."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from scipy import ndimage
from torch import nn

from pipelines.flair.five_slices.explain import attributions, enlarged, grad_cam, slice_maps
from pipelines.flair.five_slices.network import five_slice_network
from pipelines.flair.five_slices.slices import brain_of
from pipelines.flair.intensity import BACKGROUND
from tests.kept import kept

BLOCK = 8
ROWS, COLUMNS = np.mgrid[:128, :128]
BRAIN = ((ROWS - 60) / 56) ** 2 + ((COLUMNS - 63.5) / 44) ** 2 < 1
TELLING_SLICE = (1, 3)
"""The slice that shows the lesions of MS and of NMOSD."""


def case(rng: np.random.Generator, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return slices and where their lesions are: beside the midline in slice 1 (MS), lateral in slice 3 (NMOSD)."""
    texture = ndimage.gaussian_filter(rng.normal(0, 2, (5, 128, 128)), (0, 1.5, 1.5))
    images = np.where(BRAIN, texture, BACKGROUND).astype(np.float32)
    truth = np.zeros(images.shape, dtype=bool)
    for _ in range(4):
        aside = (rng.uniform(10, 16), rng.uniform(24, 32))[label] * rng.choice([-1, 1])
        lesion = (ROWS - 60 - rng.uniform(-20, 20)) ** 2 + (COLUMNS - 63.5 - aside) ** 2 < 12
        truth[TELLING_SLICE[label]] |= lesion
    images[truth] = 2.2
    return images, truth


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return kept(train)


def train() -> nn.Module:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = five_slice_network(small=True).train()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    target = torch.tensor([0, 1] * 5)
    for _ in range(40):
        images = torch.from_numpy(np.stack([case(rng, int(label))[0] for label in target]))
        loss = nn.functional.cross_entropy(network(images), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for module in network.modules():  # running means of so short a training lag behind
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for _ in range(4):
            network(torch.from_numpy(np.stack([case(rng, int(label))[0] for label in target])))
    return network.eval().requires_grad_(False)


@pytest.fixture
def cases() -> list[tuple[int, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(7)
    return [(label, *case(rng, label)) for label in (0, 1, 0, 1, 0, 1)]


@torch.inference_mode()
def shares(network: nn.Module, images: np.ndarray, label: int) -> np.ndarray:
    """Return the probability of a class for a stack of slices, (n, 5, 128, 128)."""
    return torch.softmax(network(torch.from_numpy(images.astype(np.float32))), dim=1)[:, label].numpy()


def deletion(network: nn.Module, images: np.ndarray, label: int, order_by: np.ndarray) -> float:
    """Return the mean probability of a class while the first 20 % of the brain's blocks are set to its mode."""
    blocks = (5, 128 // BLOCK, BLOCK, 128 // BLOCK, BLOCK)
    inside = brain_of(images).reshape(blocks).any(axis=(2, 4)).ravel()
    order = np.argsort(-order_by.reshape(blocks).mean(axis=(2, 4)).ravel(), kind="stable")
    order = order[inside[order]]
    stack = []
    for share in np.linspace(0.0, 0.2, 9):
        gone = np.zeros(inside.size, dtype=bool)
        gone[order[: int(share * order.size)]] = True
        gone = np.kron(gone.reshape(5, 128 // BLOCK, -1), np.ones((1, BLOCK, BLOCK))) > 0
        stack.append(np.where(gone & brain_of(images), 0.0, images))
    return float(shares(network, np.stack(stack), label).mean())


def correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(np.corrcoef(a[where], b[where])[0, 1])


@pytest.mark.slow
def test_network_learnt_the_classes(trained: nn.Module, cases: list) -> None:
    assert all(shares(trained, images[None], label)[0] > 0.5 for label, images, _ in cases)


@pytest.mark.slow
def test_deletion_by_the_map_is_faster_than_at_random(trained: nn.Module, cases: list) -> None:
    rng = np.random.default_rng(1)
    by_map = [deletion(trained, im, c, slice_maps(trained, im, c)) for c, im, _ in cases]
    at_random = [deletion(trained, im, c, rng.random(im.shape)) for c, im, _ in cases for _ in range(2)]
    assert np.mean(by_map) < 0.6 * np.mean(at_random)


@pytest.mark.slow
def test_randomised_weights_change_the_maps(trained: nn.Module, cases: list) -> None:
    """Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018."""
    torch.manual_seed(11)
    random = five_slice_network(small=True).eval()
    brains = [brain_of(images) for _, images, _ in cases]
    of_slices = [
        correlation(slice_maps(trained, im, c), slice_maps(random, im, c), brain)
        for (c, im, _), brain in zip(cases, brains, strict=True)
    ]
    assert np.mean(of_slices) < 0.5


@pytest.mark.slow
def test_last_layer_randomised_changes_the_grad_cam(trained: nn.Module, cases: list) -> None:
    torch.manual_seed(11)
    changed = copy.deepcopy(trained)
    nn.init.normal_(changed.get_submodule("fc").weight)
    pairs = [(grad_cam(trained, im, c), grad_cam(changed, im, c)) for c, im, _ in cases]
    assert np.mean([np.abs(a - b).mean() for a, b in pairs]) > 0.1


@pytest.mark.slow
def test_energy_stays_in_the_brain_and_points_at_the_lesions(trained: nn.Module, cases: list) -> None:
    in_slice, in_lesions = [], []
    for label, images, truth in cases:
        maps = slice_maps(trained, images, label)
        assert maps.dtype == np.float32
        assert maps.min() == 0.0
        assert maps.max() == 1.0
        assert not maps[~brain_of(images)].any()
        in_slice.append(maps[TELLING_SLICE[label]].sum() / maps.sum())
        near = ndimage.binary_dilation(truth, np.ones((1, 3, 3)), iterations=2)
        in_lesions.append((maps[near].sum() / maps.sum()) / (near.sum() / brain_of(images).sum()))
    assert np.mean(in_slice) > 0.35  # a fifth by chance
    assert np.mean(in_lesions) > 5.0  # 1 by chance


@pytest.mark.slow
def test_attributions_add_up_to_the_change_of_the_score(trained: nn.Module, cases: list) -> None:
    for label, images, _ in cases[:2]:
        plain = np.where(brain_of(images), np.float32(0), images)
        with torch.inference_mode():
            logits = trained(torch.from_numpy(np.stack([images, plain]))).numpy()
        change = np.diff((logits[:, label] - logits[:, 1 - label])[::-1])[0]
        assert attributions(trained, images, label).sum() == pytest.approx(change, rel=0.05, abs=0.1)
        opposite = attributions(trained, images, 1 - label)
        np.testing.assert_allclose(opposite, -attributions(trained, images, label), atol=1e-6)


@pytest.mark.slow
def test_grad_cam_is_that_of_monai(trained: nn.Module, cases: list) -> None:
    theirs = GradCAM(copy.deepcopy(trained).requires_grad_(True), "layer4")
    for (_, images, _), label in itertools.product(cases[:2], (0, 1)):
        expected = theirs.compute_map(torch.from_numpy(images)[None], class_idx=label)[0, 0].detach().numpy()
        ours = grad_cam(trained, images, label)
        assert ours.shape == (4, 4)
        np.testing.assert_allclose(ours * expected.max(), expected, atol=1e-5)
    assert not trained.get_submodule("layer4")._forward_hooks


def test_enlarged_map_keeps_its_place() -> None:
    cam = np.zeros((4, 4), dtype=np.float32)
    cam[1, 2] = 1.0
    large = enlarged(cam)
    assert large.shape == (128, 128)
    np.testing.assert_allclose(ndimage.center_of_mass(large), (47.5, 79.5), atol=0.01)


def test_network_that_sees_nothing_gives_dark_maps(cases: list) -> None:
    network = five_slice_network(small=True).eval()
    nn.init.zeros_(network.get_submodule("fc").weight)
    assert not grad_cam(network, cases[0][1], 1).any()
    assert not slice_maps(network, cases[0][1], 1).any()
