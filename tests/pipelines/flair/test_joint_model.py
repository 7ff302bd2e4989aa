from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.model import JointModel
from pipelines.flair.joint.network import JointNetwork
from pipelines.training.export import export, sources_of


def test_saved_and_loaded_network_gives_the_same_answer(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = JointNetwork().eval()
    network.half().float()  # what half precision storage keeps
    export(
        network, tmp_path, provenance="synthetic", sources=[], figures={"synthetic cases": {}}, threshold=0.4
    )
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


def test_sources_are_those_that_the_data_hold(tmp_path: Path) -> None:
    assert len(sources_of(None, (), 0)) == 1
    masks = tmp_path / "open_ms" / "lesions_mni"
    masks.mkdir(parents=True)
    for name in ("patient01", "patient07"):
        (masks / f"{name}.nii.gz").touch()
    said = [source["what"] for source in sources_of(tmp_path, ("patient07",), 0)]
    assert len(said) == 2
    assert said[1].startswith("1 consensus lesion masks")
    assert said[1].endswith("none of patient07")
