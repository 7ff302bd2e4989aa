from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.brain.grid import Grid
from pipelines.flair import differential
from pipelines.flair.differential import UNCALIBRATED, Calibration
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.network import JointNetwork
from pipelines.flair.pipeline import load_flair
from pipelines.flair.preprocess import Cube
from pipelines.training.cards import sources_of
from pipelines.training.flair.export import export


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.7, Calibration(1.7, fitted=True)), (None, UNCALIBRATED)]
)
def test_saved_and_loaded_network_gives_the_same_answer(
    tmp_path: Path, temperature: float | None, expected: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differential, "computes_in_bfloat16", lambda device: False)
    torch.manual_seed(3)
    network = JointNetwork().eval()
    network.half().float()  # what half precision storage keeps
    export(
        network,
        tmp_path,
        provenance="synthetic",
        sources=[],
        figures={"synthetic cases": {}},
        temperature=temperature,
        calibrated_on="fitted on 2 synthetic cases",
    )
    joint = load_flair("cpu", tmp_path).models.joint
    assert joint.calibration == expected
    values = np.random.default_rng(0).normal(0, 1, (80, 80, 80)).astype(np.float32)
    values[:20] = BACKGROUND
    mask = values > BACKGROUND
    answer = joint(Cube(values, mask, Grid((80, 80, 80), np.diag([1.2, 1.2, 1.2, 1.0]))))
    with torch.inference_mode():
        output = network(torch.from_numpy(values)[None, None])
    np.testing.assert_allclose(answer.lesion[mask], output.probability[0, 0].numpy()[mask], atol=1e-4)
    assert output.classes is not None
    np.testing.assert_allclose(answer.logits, output.classes[0].numpy(), atol=1e-3)
    assert not answer.localisation[~mask].any()


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
