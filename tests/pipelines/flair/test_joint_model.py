from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.model import JointModel, heatmap
from pipelines.flair.joint.network import JointNetwork, JointOutput
from pipelines.training.export import export


def test_saved_and_loaded_network_gives_the_same_answer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = JointNetwork().eval()
    network.half().float()  # what half precision storage keeps
    export(network, tmp_path, provenance="synthetic", figures={"synthetic cases": {}}, threshold=0.4)
    model = JointModel("cpu", tmp_path)
    cube = np.random.default_rng(0).normal(0, 1, (80, 80, 80)).astype(np.float32)
    cube[:20] = BACKGROUND
    answer = model(cube)
    with torch.inference_mode():
        output = network(torch.from_numpy(cube)[None, None])
    expected = output.probability[0, 0].numpy()
    np.testing.assert_allclose(answer.probability[20:], expected[20:], atol=1e-4)
    assert (answer.probability[:20] == 0).all()
    assert answer.ms + answer.nmosd == pytest.approx(1)
    assert model.threshold == 0.4
    assert (answer.mask == (answer.probability > 0.4)).all()
    assert answer.localisation.shape == (80, 80, 80)
    assert answer.class_name in ("MS", "NMOSD")


def test_heatmap_lies_in_the_brain_between_0_and_1() -> None:
    brain = np.zeros((16, 16, 16), bool)
    brain[4:12, 4:12, 4:12] = True
    maps = [torch.randn(1, 1, n, n, n) for n in (2, 4, 8)]
    values = heatmap(JointOutput(torch.zeros(1), [], None, maps), brain)
    assert (values[~brain] == 0).all()
    assert 0.5 < values.max() <= 1
    assert values.min() >= 0
